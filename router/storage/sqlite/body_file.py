"""One body as a file: written and hashed as it comes. Everything here blocks, and runs on the threads of `bodies`."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from flowhook import limits
from flowhook.private_files import create
from router.storage.sqlite.blobs import BlobDirectory, sync_directory
from router.storage.sqlite.errors import storage_full

SYNC_BYTES: Final = 16 * limits.MIB
"""Written between two syncs: a large one at the end would hold up the commits of events meanwhile."""

RESERVE_BYTES: Final = 64 * limits.MIB
"""What bodies leave free on the disk, so that what was accepted can still be ended."""


class BodyFile:
    """A file that is written by one thread at a time. `remove` may come at any moment, and then it stays removed.

    Methods may raise OSError; those that write raise StorageError when there is no room (`STORAGE_FULL`).
    """

    def __init__(self, directory: BlobDirectory, name: str) -> None:
        self._directory = directory
        self._name = name
        self._descriptor = -1
        self._hash = hashlib.sha256()
        self._unsynced = 0
        self._removed = False
        self._lock = threading.Lock()

    def open(self, size: int) -> None:
        """Make the file, for so many bytes; 0: nobody knows."""
        with self._writing():
            path = self._directory.prepare(self._name)
            _check_room(path.parent, size)
            self._descriptor = create(path, os.O_WRONLY | os.O_EXCL)

    def write(self, data: bytes) -> None:
        """Append to it."""
        with self._writing():
            view = memoryview(data)
            while view:
                view = view[os.write(self._descriptor, view) :]
            self._hash.update(data)
            self._unsynced += len(data)
            if self._unsynced >= SYNC_BYTES:
                os.fdatasync(self._descriptor)
                self._unsynced = 0
                _check_room(self._directory.path(self._name).parent, 0)

    def finish(self) -> bytes:
        """Make it durable, close it, and return the SHA-256 of it."""
        with self._writing():
            os.fsync(self._descriptor)
            sync_directory(self._directory.path(self._name).parent)
            self._close()
            return self._hash.digest()

    def remove(self) -> None:
        """Close and remove it, as far as possible: what stays is swept later."""
        with self._lock, contextlib.suppress(OSError):
            self._removed = True
            self._close()
        self._directory.remove([self._name])

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with self._lock:
            if self._removed:
                raise OSError(errno.ECANCELED, "the body was given up")
            yield

    def _close(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)


class OpenBody:
    """A file that is read, by several threads at a time; `size` in bytes.

    Raises:
        OSError: it can't be read; FileNotFoundError: there is none.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        self._lock = threading.Lock()
        self.size = os.fstat(self._file.fileno()).st_size

    def read(self, offset: int, size: int) -> bytes:
        """Return a slice."""
        with self._lock:  # or its number may be another file's by now
            return os.pread(self._file.fileno(), size, offset)

    def close(self) -> None:
        """Let go of the file, once nobody reads it."""
        with self._lock:
            self._file.close()


def _check_room(directory: Path, size: int) -> None:
    found = os.statvfs(directory)
    if found.f_bavail * found.f_frsize - size < RESERVE_BYTES:
        raise storage_full()
