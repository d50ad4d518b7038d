"""Large payloads, as files beside the database.

A file is complete and synced before the transaction that refers to it begins. Its name holds a random part, so that
two attempts to store one event never touch each other's file. What no row refers to (a crash, a failed transaction)
is removed when storage is opened.
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
from flowhook.private_files import create, make_directory

_SAFE: Final = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")


class BlobDirectory:
    """Files of a directory, spread over 256 subdirectories. All methods block."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, event_id: str, content: bytes) -> str:
        """Store content durably and return the name it has.

        Raises:
            InvalidError: the event's ID can't be part of a file name (`EVENT_ID_INVALID`).
            OSError: it was not stored; nothing is left of it.
        """
        if not _SAFE.match(event_id):
            raise InvalidError("an event ID is letters, digits, _ and -", reason="EVENT_ID_INVALID")
        token = secrets.token_hex(8)
        name = f"{token[:2]}/{event_id}.{token[2:]}"
        path = self.prepare(name)
        try:
            descriptor = create(path, os.O_WRONLY | os.O_EXCL)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            sync_directory(path.parent)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return name

    def path(self, name: str) -> Path:
        """Return where the file of a name is."""
        return self._path / name

    def prepare(self, name: str) -> Path:
        """Return where the file of a name will be, in a directory that is there.

        Raises:
            OSError: it can't be made.
        """
        path = self._path / name
        self._ensure(path.parent)
        return path

    def read(self, name: str) -> bytes | None:
        """Return the content stored under a name, or None when it was removed.

        Raises:
            OSError: it can't be read.
        """
        try:
            return (self._path / name).read_bytes()
        except FileNotFoundError:
            return None

    def remove(self, names: Iterable[str]) -> None:
        """Remove files, as far as possible: what stays is swept later."""
        for name in names:
            with contextlib.suppress(OSError):
                (self._path / name).unlink()

    def sweep(self, known: Collection[str]) -> int:
        """Remove every file whose name is not known, and return how many there were."""
        orphans = [name for path in self._path.glob("*/*") if (name := f"{path.parent.name}/{path.name}") not in known]
        self.remove(orphans)
        return len(orphans)

    def _ensure(self, directory: Path) -> None:
        if directory.is_dir():
            return
        make_directory(self._path)
        sync_directory(self._path.parent)
        make_directory(directory)
        sync_directory(self._path)


def sync_directory(path: Path) -> None:
    """Make durable which files a directory has."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
