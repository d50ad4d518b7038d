"""Locks a data directory for one process; the system releases the lock when its holder dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from flowhook.errors import ConflictError
from flowhook.security.private_files import open_private


class DataLock:
    """An exclusive lock on a file that contains its owner's process ID. The constructor takes it.

    Raises:
        ConflictError: another process holds it (`DATA_DIR_IN_USE`).
        OSError: the file can't be opened.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = open_private(path, os.O_RDWR)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._descriptor)
            if not isinstance(error, BlockingIOError):
                raise
            raise ConflictError(
                f"{path.parent} is in use by process {holder}",
                reason="DATA_DIR_IN_USE",
                metadata={"pid": holder},
            ) from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Release the lock. The file stays, because removing it would allow two processes to lock two files."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
