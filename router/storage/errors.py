"""Translates errors of SQLite and the operating system: no `apsw.Error` or `OSError` leaves this package."""

from __future__ import annotations

import errno
from typing import Final

import apsw

from flowhook.errors import FlowhookError, InternalError, UnavailableError

STORAGE_FULL: Final = "STORAGE_FULL"
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})


class StorageError(UnavailableError):
    """Storage as a whole can't serve: a call fails because of that, and not because of its arguments."""

    default_reason = "STORAGE_UNAVAILABLE"


class CallRefusedError(StorageError):
    """A call was refused by itself: nothing of it is stored, whatever becomes of the transaction of others."""


def storage_full(kind: type[StorageError] = StorageError) -> StorageError:
    return kind("storage is full; nothing was stored", reason=STORAGE_FULL, retry_after=5)


def translate(error: Exception) -> FlowhookError:
    """Return the error to raise to the caller.

    `StorageError` means a failure of storage itself, any other error a fault of the one call. Messages contain names of
    error codes and classes, never values.
    """
    if isinstance(error, FlowhookError):
        return error
    if isinstance(error, apsw.Error):
        code = getattr(error, "extendedresult", None) or getattr(error, "result", None)
        name = _NAMES.get(code, type(error).__name__) if code else type(error).__name__
        if isinstance(error, apsw.FullError):
            return storage_full()
        if isinstance(error, _STORAGE_WIDE):
            return StorageError(f"the database failed: {name}")
        return InternalError(f"a statement failed: {name}", reason="STORAGE_CALL_FAILED")
    if isinstance(error, OSError):
        if error.errno in _NO_SPACE:
            return storage_full()
        return StorageError(f"the file system failed: {errno.errorcode.get(error.errno or 0, 'unknown error')}")
    if isinstance(error, MemoryError):
        return StorageError("out of memory")
    return InternalError(f"a storage call failed: {type(error).__name__}", reason="STORAGE_CALL_FAILED")


_STORAGE_WIDE = (
    apsw.BusyError,
    apsw.LockedError,
    apsw.NoMemError,
    apsw.ReadOnlyError,
    apsw.InterruptError,
    apsw.IOError,
    apsw.CorruptError,
    apsw.CantOpenError,
    apsw.ProtocolError,
    apsw.NotADBError,
    apsw.PermissionsError,
    apsw.AuthError,
    apsw.NoLFSError,
)
_NAMES: Final[dict[int, str]] = {
    code: str(name)
    for names in (apsw.mapping_result_codes, apsw.mapping_extended_result_codes)
    for code, name in names.items()
    if isinstance(code, int)
}
