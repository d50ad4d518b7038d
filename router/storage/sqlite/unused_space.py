"""Overwrites the parts of the database file that SQLite does not use, a few pages at a time.

Deleting a row does not delete its bytes. Those of a page that becomes free stay in it until the page is used again, and
then at its end (`secure_delete = FAST`). When SQLite splits a page of a b-tree, copies of the cells that move stay in
the gap of the old page, even with `secure_delete = ON`. VACUUM would remove all of them, but nobody could write until
the whole file is written again.

`overwrite` looks at a range of pages, and overwrites with zeros what is not in use: free pages, the rest of the pages
that list them, gaps and free blocks of pages of b-trees, and the ends of long values' last pages. It reads and writes
the file itself. So the file must be complete: the write-ahead log is emptied first. And it must not change meanwhile: a
transaction keeps other writers out, and with them checkpoints. Readers go on, as no byte that any of them uses changes.
The transaction changes a row, so that all connections discard the pages that they have cached with the old bytes.

Source: https://www.sqlite.org/fileformat2.html, sections 1.5 ("The Freelist"), 1.6 ("B-tree Pages") and 1.7 ("Cell
Payload Overflow Pages"); https://www.sqlite.org/pragma.html#pragma_secure_delete.
"""

from __future__ import annotations

import struct
import sys
import time
from array import array
from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

import apsw

HEADER_BYTES: Final = 100
"""Header of the file, at the beginning of its first page."""
MAX_PAGES: Final = 0x0200_0000
"""Pages with greater numbers are not looked at, unless free: from here on, the first byte of a page that continues a
long value, which is part of a page number, may look like that of a b-tree page."""
LOCK_BYTE: Final = 0x4000_0000
"""Offset of the page that SQLite never uses, because some systems lock bytes of it."""

_TABLE_INTERIOR: Final = 5
_TABLE_LEAF: Final = 13
_INDEX_INTERIOR: Final = 2
_INDEX_LEAF: Final = 10
_BLOCK_HEADER: Final = 4
"""Bytes at the beginning of a free block that are in use."""
_KINDS: Final = frozenset({_TABLE_INTERIOR, _TABLE_LEAF, _INDEX_INTERIOR, _INDEX_LEAF})


class Overwritten(NamedTuple):
    """The result of one step.

    Attributes:
        next_page: the page to continue with; 0: all were looked at.
        bytes: number of bytes that were overwritten.
    """

    next_page: int
    bytes: int


class LongValue(NamedTuple):
    """The part of a value that is not in its cell: the first page of it, and its size in bytes."""

    page: int
    size: int


class TreePage(NamedTuple):
    """What a page of a b-tree has.

    Attributes:
        unused: ranges [start, stop) that are not in use.
        long_values: values that continue on other pages.
    """

    unused: list[tuple[int, int]]
    long_values: list[LongValue]


class _Freelist(NamedTuple):
    """The free pages within a range: those that list others, with the number of bytes they use for it, and the rest."""

    trunks: dict[int, int]
    leaves: Collection[int]


def overwrite(path: Path, connection: apsw.Connection, first: int, *, pages: int, seconds: float) -> Overwritten:
    """Overwrite what is not in use in a range of pages. Blocks.

    Args:
        path: the file.
        connection: it has begun a transaction, and there is nothing in the write-ahead log.
        first: number of the first page, from 1.
        pages: most pages to look at.
        seconds: time after which no further page is looked at.

    Raises:
        apsw.Error: the file can't be read or written, or is damaged.
    """
    until = time.monotonic() + seconds
    page_bytes: int = connection.execute("PRAGMA page_size").get
    count: int = connection.execute("PRAGMA page_count").get
    # through SQLite: closing the file in any other way would release all locks that this process has on it
    file = apsw.VFSFile("", str(path), [apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_READWRITE, 0])
    try:
        step = _Step(file, page_bytes, count, range(first, min(first + pages, count + 1)))
        number = first
        while number < step.numbers.stop and (number == first or time.monotonic() < until):
            step.look_at(number)
            number += 1
        if step.overwritten:
            file.xSync(apsw.SQLITE_SYNC_NORMAL)
    finally:
        file.xClose()
    return Overwritten(number if number <= count else 0, step.overwritten)


class _Step:
    """The pages of one step."""

    def __init__(self, file: apsw.VFSFile, page_bytes: int, count: int, numbers: range) -> None:
        self.numbers = numbers
        self.overwritten = 0
        self._file = file
        self._page_bytes = page_bytes
        self._count = count
        self._usable = page_bytes - file.xRead(1, 20)[0]
        self._free = self._read_freelist()
        self._content = file.xRead(len(numbers) * page_bytes, (numbers.start - 1) * page_bytes)

    def look_at(self, number: int) -> None:
        """Overwrite what a page does not use, and the ends of the values that begin in it."""
        start = (number - self.numbers.start) * self._page_bytes
        page = self._content[start : start + self._page_bytes]
        if number in self._free.trunks:
            self._clear(number, page, self._free.trunks[number], self._usable)
        elif number in self._free.leaves:
            self._clear(number, page, 0, self._usable)
        elif number < MAX_PAGES and (number - 1) * self._page_bytes != LOCK_BYTE:
            found = read_tree_page(page, self._usable, HEADER_BYTES if number == 1 else 0)
            for unused in found.unused:
                self._clear(number, page, *unused)
            for value in found.long_values:
                self._clear_end(value)

    def _clear_end(self, value: LongValue) -> None:
        """Overwrite the end of the last page of a value."""
        number, size, room = value.page, value.size, self._usable - 4
        while size > room and 1 < number <= self._count:
            (number,) = struct.unpack(">I", self._file.xRead(4, (number - 1) * self._page_bytes))
            size -= room
        if 1 < number <= self._count and size <= room:
            page = self._file.xRead(self._page_bytes, (number - 1) * self._page_bytes)
            if page.startswith(bytes(4)):  # it is the last one
                self._clear(number, page, 4 + size, self._usable)

    def _clear(self, number: int, page: bytes, start: int, stop: int) -> None:
        if page.count(0, start, stop) < stop - start:
            self._file.xWrite(bytes(stop - start), (number - 1) * self._page_bytes + start)
            self.overwritten += stop - start

    def _read_freelist(self) -> _Freelist:
        trunk, left = struct.unpack(">II", self._file.xRead(8, 32))
        wanted = set(self.numbers)
        trunks: dict[int, int] = {}
        leaves: set[int] = set()
        while trunk and left > 0:
            page = self._file.xRead(self._page_bytes, (trunk - 1) * self._page_bytes)
            following, listed = struct.unpack_from(">II", page)
            stop = 8 + 4 * listed
            if stop > self._usable:
                raise apsw.CorruptError("a page of the list of free pages lists too many")
            if trunk in wanted:
                trunks[trunk] = stop
            numbers = array("I", page[8:stop])
            if sys.byteorder == "little":
                numbers.byteswap()
            leaves.update(wanted.intersection(numbers))
            trunk, left = following, left - 1 - listed
        return _Freelist(trunks, leaves)


def read_tree_page(page: bytes, usable: int, header: int = 0) -> TreePage:
    """Return what a page of a b-tree has; nothing for any other page, or one that is not as it should be.

    Args:
        page: its content.
        usable: bytes of it that SQLite uses.
        header: offset of the page's header.
    """
    nothing = TreePage([], [])
    kind, block, count, start = struct.unpack_from(">BHHH", page, header)
    if kind not in _KINDS:
        return nothing
    pointers = header + (8 if kind in (_TABLE_LEAF, _INDEX_LEAF) else 12)
    gap = pointers + 2 * count
    start = start or 65536
    if not gap <= start <= usable:
        return nothing
    cells = sorted(struct.unpack_from(f">{count}H", page, pointers))
    if cells and not start <= cells[0] <= cells[-1] <= usable - 4:
        return nothing
    unused = [(gap, start)]
    while block:
        if not start <= block <= usable - 4:
            return nothing
        following, size = struct.unpack_from(">HH", page, block)
        if size < _BLOCK_HEADER or block + size > usable or 0 < following < block + size:
            return nothing
        unused.append((block + _BLOCK_HEADER, block + size))
        block = following
    return TreePage(unused, list(_long_values(page, usable, kind, cells)))


def _long_values(page: bytes, usable: int, kind: int, cells: Sequence[int]) -> Iterator[LongValue]:
    """Yield the values of cells, given in ascending order, that continue on other pages."""
    if kind == _TABLE_INTERIOR:  # it has keys only
        return
    most = usable - 35 if kind == _TABLE_LEAF else (usable - 12) * 64 // 255 - 23
    least = (usable - 12) * 32 // 255 - 23
    for cell, following in pairwise((*cells, usable)):
        if following - cell < least:  # a value is cut only after so many bytes
            continue
        size, begin = _read_varint(page, cell + 4 if kind == _INDEX_INTERIOR else cell)
        if kind == _TABLE_LEAF:
            _, begin = _read_varint(page, begin)
        if size <= most:
            continue
        local = least + (size - least) % (usable - 4)
        end = begin + (local if local <= most else least)
        if end + 4 <= following:
            (first,) = struct.unpack_from(">I", page, end)
            yield LongValue(first, size - (end - begin))


def _read_varint(page: bytes, offset: int) -> tuple[int, int]:
    """Return a variable-length integer, and the offset after it."""
    value = 0
    for index in range(8):
        byte = page[offset + index]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:  # noqa: PLR2004 - the highest bit says whether another byte follows
            return value, offset + index + 1
    return value << 8 | page[offset + 8], offset + 9
