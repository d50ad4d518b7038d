"""A disk that fails or fills: SQLite's file operations return errors, as its file system layer does.

The operations are replaced in the C structures of the VFS and of its files, not by a VFS in Python: SQLite ignores some
errors (those of an automatic checkpoint, say), and an exception of a Python VFS would reach the statement all the same.

Source: https://www.sqlite.org/c3ref/vfs.html, https://www.sqlite.org/c3ref/io_methods.html
"""

from __future__ import annotations

import ctypes
from contextlib import contextmanager
from pathlib import Path

import apsw

OPEN, WRITE, SYNC = "open", "write", "sync"

_POINTER = ctypes.sizeof(ctypes.c_void_p)
_VFS_OPEN = 5
"""Index of `xOpen` in `sqlite3_vfs`, in pointers."""
_METHODS = 19
"""Pointers of `sqlite3_io_methods`."""
_WRITE, _TRUNCATE, _SYNC, _SIZE = 3, 4, 5, 6

_Open = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_void_p] * 3, ctypes.c_int, ctypes.c_void_p)
"""The name is a plain pointer: SQLite retains it, so it must not be that of a copy."""
_Write = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int64)
_Truncate = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int64)
_Sync = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
_Size = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int64))


class Disk:
    """Decides which operations fail; without faults until it is given some.

    Attributes:
        failures: operations that have failed.
        on_failed_sync: called with the name of a file that was not synced: the system may forget what was written to it
            (https://lwn.net/Articles/752063/).
    """

    def __init__(self):
        self.failures = 0
        self.on_failed_sync = lambda _name: None
        self.heal()

    def fail(self, operation, number, *, lasting, torn=0.5):
        """Have the `number`-th operation from now on fail, and those after it too if it lasts.

        `torn` is the share of a failed write that is nevertheless done.
        """
        self._operation, self._countdown, self._lasting, self._torn = operation, number, lasting, torn

    def fill(self, free_bytes):
        """Let all files together grow by no more than that."""
        self._free = free_bytes

    def heal(self):
        """Let all operations succeed again; there is space, too."""
        self._operation, self._countdown, self._lasting, self._torn, self._free = "", 0, False, 0.0, None

    def fails(self, operation):
        if operation != self._operation:
            return False
        self._countdown -= 1
        if self._countdown > 0 or (self._countdown < 0 and not self._lasting):
            return False
        self.failures += 1
        return True

    def torn(self, size):
        return int(size * self._torn)

    def is_full(self, grown):
        if self._free is None or grown <= 0:
            return False
        if grown > self._free:
            self.failures += 1
            return True
        self._free -= grown
        return False

    @property
    def limited(self):
        return self._free is not None

    def release(self, size):
        if self._free is not None:
            self._free += max(0, size)


@contextmanager
def failing_disk():
    """Let all files that SQLite opens meanwhile be on a `Disk`, of the VFS that is the default one now."""
    disk = Disk()
    slot = ctypes.c_void_p.from_address(_default_vfs() + _VFS_OPEN * _POINTER)
    original = slot.value
    replaced = _opener(_Open(original), disk)
    _alive.append(replaced)
    slot.value = ctypes.cast(replaced, ctypes.c_void_p).value
    try:
        yield disk
    finally:
        slot.value = original
        disk.heal()


_alive = []
"""What C code may still call: files may be closed later than their disk was in use."""


def _default_vfs():
    connection = apsw.Connection(":memory:")
    pointer = ctypes.c_void_p()
    connection.file_control("main", apsw.SQLITE_FCNTL_VFS_POINTER, ctypes.addressof(pointer))
    connection.close()
    return pointer.value


def _opener(original, disk):
    tables = {}

    def open_file(vfs, name, file, flags, flags_out):
        if disk.fails(OPEN):
            ctypes.c_void_p.from_address(file).value = None  # no methods: not to be closed
            return apsw.SQLITE_CANTOPEN
        result = original(vfs, name, file, flags, flags_out)
        methods = ctypes.c_void_p.from_address(file)
        if result == apsw.SQLITE_OK and methods.value:
            if methods.value not in tables:
                tables[methods.value] = _FileMethods(methods.value, disk)
            table = tables[methods.value]
            table.names[file] = Path(ctypes.string_at(name).decode()).name if name else ""
            methods.value = ctypes.addressof(table.methods)
        return result

    return _Open(open_file)


class _FileMethods:
    """The methods of files of one kind, of which some may fail."""

    def __init__(self, address, disk):
        self.names = {}
        self.methods = (ctypes.c_void_p * _METHODS).from_buffer_copy((ctypes.c_void_p * _METHODS).from_address(address))
        self._disk = disk
        self._originals = {
            index: kind(self.methods[index])
            for index, kind in ((_WRITE, _Write), (_TRUNCATE, _Truncate), (_SYNC, _Sync), (_SIZE, _Size))
        }
        self._replaced = [_Write(self._write), _Truncate(self._truncate), _Sync(self._sync)]
        for index, function in zip((_WRITE, _TRUNCATE, _SYNC), self._replaced, strict=True):
            self.methods[index] = ctypes.cast(function, ctypes.c_void_p).value
        _alive.append(self)

    def _write(self, file, data, size, offset):
        write = self._originals[_WRITE]
        if self._disk.fails(WRITE):
            if torn := self._disk.torn(size):
                write(file, data, torn, offset)
            return apsw.SQLITE_IOERR_WRITE
        if self._disk.limited and self._disk.is_full(offset + size - self._size(file)):
            return apsw.SQLITE_FULL
        return write(file, data, size, offset)

    def _truncate(self, file, size):
        self._disk.release(self._size(file) - size)
        return self._originals[_TRUNCATE](file, size)

    def _sync(self, file, flags):
        if self._disk.fails(SYNC):
            self._disk.on_failed_sync(self.names[file])
            return apsw.SQLITE_IOERR_FSYNC
        return self._originals[_SYNC](file, flags)

    def _size(self, file):
        size = ctypes.c_int64()
        self._originals[_SIZE](file, ctypes.byref(size))
        return size.value
