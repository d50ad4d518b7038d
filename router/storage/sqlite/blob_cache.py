"""Blobs whose durable copies are in an object store; the directory is a cache of them."""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from flowhook.errors import UnavailableError
from router.storage.commit_log.interface import ObjectStore
from router.storage.sqlite.blobs import BlobDirectory
from router.storage.sqlite.body_file import check_room

BODY_SUFFIX: Final = ".body"


class BlobCache(BlobDirectory):
    """Blobs in an object store, by the names `blob/<shard>/<name>` and `body/<shard>/<ID>`, and files that cache them.

    A blob is put into the object store before the transaction that names it begins. Until `settle` it counts as
    unsettled: it is removed by nobody, though no row names it.
    """

    replicated = True

    def __init__(self, path: Path, objects: ObjectStore, *, shard: int = 0) -> None:
        super().__init__(path)
        self._objects = objects
        self._blobs = f"blob/{shard}/"
        self._bodies = f"body/{shard}/"
        self._unsettled: set[str] = set()
        self._lock = threading.Lock()

    def publish(self, name: str) -> None:
        """See `BlobDirectory`."""
        with self._lock:
            self._unsettled.add(name)
        try:
            self._objects.put(self.object_name(name), self.path(name))
        except BaseException:
            self.settle([name])
            raise

    def settle(self, names: Iterable[str]) -> None:
        """See `BlobDirectory`."""
        with self._lock:
            self._unsettled.difference_update(names)

    def locate(self, name: str) -> Path:
        """See `BlobDirectory`; fetches a missing file from the object store.

        Raises:
            UnavailableError: it can't be fetched, or the object is damaged.
            OSError: it can't be written.
        """
        path = self.path(name)
        if path.exists():
            return path
        self.prepare(name)
        check_room(path.parent, 0)
        temporary = path.with_name(f".{secrets.token_hex(8)}")
        try:
            if self._objects.get(self.object_name(name), temporary):
                _sync(temporary)  # else a power loss could leave a file that is torn
                temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        return path

    def remove(self, names: Iterable[str]) -> None:
        """See `BlobDirectory`; `object_sweep` removes the objects that remain."""
        names = list(names)
        super().remove(names)
        with contextlib.suppress(UnavailableError):  # the next ones would only wait for the same timeout
            for name in names:
                self._objects.delete(self.object_name(name))
        self.settle(names)

    def erase(self, names: Iterable[str]) -> None:
        """See `BlobDirectory`."""
        names = list(names)
        super().erase(names)
        for name in names:
            self._objects.delete(self.object_name(name))
        self.settle(names)

    def stored(self) -> set[str]:
        """Return the names of the blobs in the object store."""
        blobs, bodies = self._objects.names(self._blobs), self._objects.names(self._bodies)
        names = {name.removeprefix(self._blobs) for name in blobs}
        return names | {_body_file(name.removeprefix(self._bodies)) for name in bodies}

    def unsettled(self) -> set[str]:
        """Return the names of the blobs that a transaction may still name."""
        with self._lock:
            return set(self._unsettled)

    def object_name(self, name: str) -> str:
        """Return the name of a blob's object."""
        if name.endswith(BODY_SUFFIX):
            return self._bodies + name.removesuffix(BODY_SUFFIX).replace("/", "")
        return self._blobs + name


def _body_file(body_id: str) -> str:
    return f"{body_id[:2]}/{body_id[2:]}{BODY_SUFFIX}"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
