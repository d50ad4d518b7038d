"""Reads parts of stored events: of rows by incremental I/O, of files by their offsets.

SQL could not: `substr` loads the whole value first.
Source: https://www.sqlite.org/c3ref/blob_open.html
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from typing import TypeVar

import apsw

from flowhook.model.random_access import RandomAccess
from router.storage.sqlite.blobs import BlobDirectory

T = TypeVar("T")


def read_payload(
    connection: apsw.Connection, blobs: BlobDirectory, seq: int, read: Callable[[RandomAccess], T]
) -> T | None:
    """Return what `read` makes of an execution's event; None when it is not stored."""
    row = connection.execute(
        "SELECT v.seq, b.name FROM execution e LEFT JOIN event v USING (seq) LEFT JOIN blob b USING (seq)"
        " WHERE e.seq = ?",
        (seq,),
    ).fetchone()
    stored, name = row or (None, None)
    if name is not None:
        try:
            descriptor = os.open(blobs.locate(name), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # expired since the snapshot was taken
            return None
        try:
            return read(_FilePayload(descriptor))
        finally:
            os.close(descriptor)
    if stored is None:
        return None
    with closing(connection.blob_open("main", "event", "payload", seq, False)) as blob:
        return read(_RowPayload(blob))


class _FilePayload:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size

    def read(self, offset: int, size: int) -> bytes:
        return os.pread(self._descriptor, size, offset)


class _RowPayload:
    def __init__(self, blob: apsw.Blob) -> None:
        self._blob = blob
        self.size = blob.length()

    def read(self, offset: int, size: int) -> bytes:
        self._blob.seek(min(offset, self.size))
        return self._blob.read(size)
