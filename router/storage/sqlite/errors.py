"""Translates errors of sqlite3 and the operating system: no sqlite3.Error or OSError leaves this package."""

from __future__ import annotations

import errno
import sqlite3
from typing import Final

from flowhook.errors import FlowhookError, InternalError, UnavailableError

STORAGE_FULL: Final = "STORAGE_FULL"
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})


class StorageError(UnavailableError):
    """Storage as a whole can't serve: a call fails because of that, and not because of its arguments."""

    default_reason = "STORAGE_UNAVAILABLE"


def storage_full() -> StorageError:
    """Return the error for lack of space."""
    return StorageError("storage is full; nothing was stored", reason=STORAGE_FULL, retry_after=5)


def unavailable(message: str) -> StorageError:
    """Return the error for a storage that can't serve now."""
    return StorageError(message)


def translate(error: Exception) -> FlowhookError:
    """Return the error to raise to the caller.

    `StorageError` means a failure of storage itself, any other error a fault of the one call. Messages contain names of
    error codes and classes, never values.
    """
    if isinstance(error, FlowhookError):
        return error
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", None)
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        primary = None if code is None else code & 0xFF
        if primary == sqlite3.SQLITE_FULL:
            return storage_full()
        if primary in _STORAGE_WIDE:
            return unavailable(f"the database failed: {name}")
        return InternalError(f"a statement failed: {name}", reason="STORAGE_CALL_FAILED")
    if isinstance(error, OSError):
        if error.errno in _NO_SPACE:
            return storage_full()
        return unavailable(f"the file system failed: {errno.errorcode.get(error.errno or 0, 'unknown error')}")
    if isinstance(error, MemoryError):
        return unavailable("out of memory")
    return InternalError(f"a storage call failed: {type(error).__name__}", reason="STORAGE_CALL_FAILED")


_STORAGE_WIDE = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_AUTH,
        sqlite3.SQLITE_NOLFS,
    }
)
