"""A body as a file, written and hashed in chunks. Everything here blocks, and runs on the threads of `bodies`."""

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
from flowhook.security.private_files import open_private
from router.storage.sqlite.blobs import BlobDirectory, sync_directory
from router.storage.sqlite.errors import storage_full

SYNC_BYTES: Final = 16 * limits.MIB
"""Bytes written between two syncs: one large sync at the end would delay the commits of events."""

RESERVE_BYTES: Final = 64 * limits.MIB
"""Disk space that bodies leave free, so that accepted executions can still end."""


class BodyFile:
    """A file written by one thread at a time. `remove` may be called at any time; the file then stays removed.

    Methods may raise OSError; those that write raise UnavailableError when there is no room (`STORAGE_FULL`), or it
    can't be published.
    """

    def __init__(self, directory: BlobDirectory, name: str) -> None:
        self._directory = directory
        self._name = name
        self._descriptor = -1
        self._hash = hashlib.sha256()
        self._unsynced = 0
        self._complete = False
        self._removed = False
        self._lock = threading.Lock()

    def open(self, size: int) -> None:
        """Create the file, for `size` bytes; 0: unknown."""
        with self._writing():
            path = self._directory.prepare(self._name)
            check_room(path.parent, size)
            self._descriptor = open_private(path, os.O_WRONLY | os.O_EXCL)

    def write(self, data: bytes) -> None:
        """Append data."""
        with self._writing():
            view = memoryview(data)
            while view:
                view = view[os.write(self._descriptor, view) :]
            self._hash.update(data)
            self._unsynced += len(data)
            if self._unsynced >= SYNC_BYTES:
                os.fdatasync(self._descriptor)
                self._unsynced = 0
                check_room(self._directory.path(self._name).parent, 0)

    def finish(self) -> bytes:
        """Make the file durable, close it, and return its SHA-256."""
        with self._writing():
            os.fsync(self._descriptor)
            sync_directory(self._directory.path(self._name).parent)
            self._close()
            self._complete = True
            digest = self._hash.digest()
        self._directory.publish(self._name)
        with self._writing():
            return digest

    def remove(self) -> None:
        """Close and remove the file, as far as possible; the rest is swept when storage is next opened."""
        with self._lock, contextlib.suppress(OSError):
            self._removed = True
            self._close()
        if self._complete:
            self._directory.remove([self._name])
        else:
            self._directory.remove_file(self._name)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with self._lock:
            if self._removed:
                raise OSError(errno.ECANCELED, "the upload was aborted")
            yield

    def _close(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)


class OpenBody:
    """A file that several threads may read at a time; `size` in bytes.

    Raises:
        OSError: it can't be read; FileNotFoundError: it does not exist.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        self._lock = threading.Lock()
        self.size = os.fstat(self._file.fileno()).st_size

    def read(self, offset: int, size: int) -> bytes:
        """Return a slice."""
        with self._lock:  # a concurrent `close` could give the descriptor's number to another file
            return os.pread(self._file.fileno(), size, offset)

    def close(self) -> None:
        """Close the file, once no thread is reading it."""
        with self._lock:
            self._file.close()


def check_room(directory: Path, size: int) -> None:
    """Raise StorageError (`STORAGE_FULL`) when the disk has no room for `size` bytes beside the reserve."""
    found = os.statvfs(directory)
    if found.f_bavail * found.f_frsize - size < RESERVE_BYTES:
        raise storage_full()
