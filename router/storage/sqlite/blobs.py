"""Large payloads as files beside the database.

A file is complete and synced before the transaction that refers to it begins. Its name has a random part, so that two
attempts to store one event never touch each other's file. Files that no row refers to (after a crash or a failed
transaction) are removed when storage is opened.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final

from flowhook.errors import InvalidError
from flowhook.security.private_files import make_directory, open_private

_SAFE: Final = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")


class BlobDirectory:
    """Blob files of a directory, spread over 256 subdirectories. All methods block, but `settle`."""

    replicated = False
    """Whether the files are copies of objects that other routers read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, event_id: str, content: bytes) -> str:
        """Store content durably and return its name.

        Raises:
            InvalidError: the event's ID can't be part of a file name (`EVENT_ID_INVALID`).
            OSError: it was not stored; no file is left behind.
        """
        if not _SAFE.match(event_id):
            raise InvalidError("an event ID must be letters, digits, _ and -", reason="EVENT_ID_INVALID")
        token = secrets.token_hex(8)
        name = f"{token[:2]}/{event_id}.{token[2:]}"
        path = self.prepare(name)
        try:
            descriptor = open_private(path, os.O_WRONLY | os.O_EXCL)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            sync_directory(path.parent)
            self.publish(name)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return name

    def path(self, name: str) -> Path:
        """Return the path of a file."""
        return self._path / name

    def publish(self, name: str) -> None:
        """Make a complete and synced file as durable as a transaction that names it.

        Raises:
            UnavailableError: it could not be.
        """

    def settle(self, names: Iterable[str]) -> None:
        """Note that no transaction will name these blobs any more, unless one has."""

    def locate(self, name: str) -> Path:
        """Return the path of a file that a row names, to be read.

        Raises:
            UnavailableError: it can't be fetched.
        """
        return self.path(name)

    def prepare(self, name: str) -> Path:
        """Return the path of a file to be created, and create its directory.

        Raises:
            OSError: the directory can't be created.
        """
        path = self._path / name
        self._ensure(path.parent)
        return path

    def read(self, name: str) -> bytes | None:
        """Return the content stored under a name, or None when it was removed.

        Raises:
            OSError: it can't be read.
            UnavailableError: it can't be fetched.
        """
        try:
            return self.locate(name).read_bytes()
        except FileNotFoundError:
            return None

    def remove(self, names: Iterable[str]) -> None:
        """Remove blobs, as far as possible; `sweep` removes the rest when storage is next opened."""
        for name in names:
            self.remove_file(name)

    def erase(self, names: Iterable[str]) -> None:
        """Remove blobs so that not even a power loss brings them back.

        Raises:
            OSError: a file can't be removed; `sweep` removes it when storage is next opened.
            UnavailableError: an object can't be removed; `object_sweep` removes it.
        """
        for name in names:
            path = self._path / name
            path.unlink(missing_ok=True)
            if path.parent.is_dir():
                sync_directory(path.parent)

    def remove_file(self, name: str) -> None:
        """Remove the file of a blob from the directory, as far as possible."""
        with contextlib.suppress(OSError):
            (self._path / name).unlink()

    def sweep(self, known: Collection[str]) -> int:
        """Remove every file whose name is not in `known`, and return their number."""
        orphans = [name for path in self._path.glob("*/*") if (name := f"{path.parent.name}/{path.name}") not in known]
        for name in orphans:
            self.remove_file(name)
        return len(orphans)

    def _ensure(self, directory: Path) -> None:
        if directory.is_dir():
            return
        make_directory(self._path)
        sync_directory(self._path.parent)
        make_directory(directory)
        sync_directory(self._path)


def sync_directory(path: Path) -> None:
    """Make the entries of a directory durable (fsync)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
