"""Erases what is stored of an event: the execution that it started, all replays of it, and what refers to them.

The rows go in one transaction, with everything in them. What SQLite leaves of them in the file is overwritten after it,
by each router in its own copy: they find out what to wipe in the table `erasure`. Deleting a row does not delete its
bytes. Those of a page that becomes free stay in it until the page is used again, and then at its end (`secure_delete =
FAST`). When SQLite splits a page of a b-tree, copies of the cells that move stay in the gap of the old page, even with
`secure_delete = ON`. VACUUM would remove all of them, but nobody could write until the whole file is written again.

`overwrite` looks at a range of pages, and overwrites with zeros what is not in use: free pages, the rest of the pages
that list them, gaps and free blocks of pages of b-trees, and the ends of long values' last pages. It reads and writes
the file itself. So the file must be complete: the write-ahead log, which still has former pages, is emptied before each
step. And it must not change meanwhile: a transaction keeps other writers out, and a checkpoint has nothing to copy.
Readers go on, as no byte that any of them uses changes. The transaction changes a row, so that all connections discard
the pages that they have cached with the old bytes. A pass goes through all pages in steps that delay writes by little.
It is repeated until one began after the last erasure, and goes on where it was when the process ended.

Source: https://www.sqlite.org/fileformat2.html, sections 1.5 ("The Freelist"), 1.6 ("B-tree Pages") and 1.7 ("Cell
Payload Overflow Pages"); https://www.sqlite.org/pragma.html#pragma_secure_delete.
"""

from __future__ import annotations

import asyncio
import enum
import struct
import sys
import time
from array import array
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import apsw
import attrs

from flowhook.errors import ConflictError, FlowhookError, NotFoundError
from flowhook.events.keys import ShapingKeys, rate_fingerprint
from flowhook.process import logs
from router.storage.expiry import release_batches, remove_executions
from router.storage.model import Erasure
from router.storage.rows import ROOTS
from router.storage.schema import UNENDED, connect_writer
from router.storage.statements import BatchStatement

HEADER_BYTES: Final = 100  # header of the file, at the beginning of its first page
MAX_PAGES: Final = 0x0200_0000
"""Pages with greater numbers are not looked at, unless free: from here on, the first byte of a page that continues a
long value, which is part of a page number, may look like that of a b-tree page."""
LOCK_BYTE: Final = 0x4000_0000  # offset of the page that SQLite never uses, because some systems lock bytes of it
_TABLE_INTERIOR, _TABLE_LEAF, _INDEX_INTERIOR, _INDEX_LEAF = 5, 13, 2, 10
_BLOCK_HEADER: Final = 4  # bytes at the beginning of a free block that are in use
_KINDS: Final = frozenset({_TABLE_INTERIOR, _TABLE_LEAF, _INDEX_INTERIOR, _INDEX_LEAF})


class LongValue(NamedTuple):
    """The part of a value that is not in its cell: the first page of it, and its size in bytes."""

    page: int
    size: int


class TreePage(NamedTuple):
    """What a page of a b-tree has."""

    unused: list[tuple[int, int]]  # ranges [start, stop) that are not in use
    long_values: list[LongValue]  # values that continue on other pages


def overwrite(path: Path, connection: apsw.Connection, first: int, *, pages: int, seconds: float) -> int:
    """Overwrite what is not in use in at most so many pages, from one with a number (from 1) on. Blocks.

    Returns the number of the page to continue with; 0: all were looked at.

    `connection` has begun a transaction, and there is nothing in the write-ahead log. After `seconds`, no further page
    is looked at. Raises apsw.Error, if the file can't be read or written, or is damaged.
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
    return number if number <= count else 0


class _Step:
    """The pages of one step."""

    def __init__(self, file: apsw.VFSFile, page_bytes: int, count: int, numbers: range) -> None:
        self.numbers = numbers
        self.overwritten = False  # whether anything was
        self._file = file
        self._page_bytes = page_bytes
        self._count = count
        self._usable = page_bytes - file.xRead(1, 20)[0]
        self._moves_pages = any(file.xRead(4, 52))  # `auto_vacuum`
        self._trunks: dict[int, int] = {}
        """Free pages that list others, with the number of bytes they use for it."""
        self._leaves: set[int] = set()
        """The other free pages."""
        self._read_freelist()
        self._content = file.xRead(len(numbers) * page_bytes, (numbers.start - 1) * page_bytes)

    def look_at(self, number: int) -> None:
        """Overwrite what a page does not use, and the ends of the values that begin in it."""
        start = (number - self.numbers.start) * self._page_bytes
        page = self._content[start : start + self._page_bytes]
        if number in self._trunks:
            self._clear(number, page, self._trunks[number], self._usable)
        elif number in self._leaves:
            self._clear(number, page, 0, self._usable)
        elif number < MAX_PAGES and not self._lists_pages(number) and (number - 1) * self._page_bytes != LOCK_BYTE:
            found = read_tree_page(page, self._usable, HEADER_BYTES if number == 1 else 0)
            for unused in found.unused:
                self._clear(number, page, *unused)
            for value in found.long_values:
                self._clear_end(value)

    def _lists_pages(self, number: int) -> bool:
        """Whether a page says which page refers to which ("Pointer Map"): it may look like one of a b-tree."""
        listed = self._usable // 5 + 1  # it, and the pages that it lists
        first = (number - 2) // listed * listed + 2
        if (first - 1) * self._page_bytes == LOCK_BYTE:
            first += 1
        return self._moves_pages and number == first

    def _clear_end(self, value: LongValue) -> None:
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
            self.overwritten = True

    def _read_freelist(self) -> None:
        trunk, left = struct.unpack(">II", self._file.xRead(8, 32))
        wanted = set(self.numbers)
        while trunk and left > 0:
            page = self._file.xRead(self._page_bytes, (trunk - 1) * self._page_bytes)
            following, listed = struct.unpack_from(">II", page)
            stop = 8 + 4 * listed
            if stop > self._usable:
                raise apsw.CorruptError("a page of the list of free pages lists too many")
            if trunk in wanted:
                self._trunks[trunk] = stop
            numbers = array("I", page[8:stop])
            if sys.byteorder == "little":
                numbers.byteswap()
            self._leaves.update(wanted.intersection(numbers))
            trunk, left = following, left - 1 - listed


def read_tree_page(page: bytes, usable: int, header: int = 0) -> TreePage:
    """Return what a page of a b-tree has; nothing for any other page, or one that is not as it should be.

    `usable`: bytes of it that SQLite uses. `header`: offset of the page's header.
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
    value = 0
    for index in range(8):
        byte = page[offset + index]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:  # noqa: PLR2004 - the highest bit says whether another byte follows
            return value, offset + index + 1
    return value << 8 | page[offset + 8], offset + 9


MAX_ERASURES: Final = 10_000  # executions of which it stays known that they were erased; the oldest are forgotten
_FAMILY: Final = (
    f"{ROOTS} SELECT e.seq, e.event_id, e.flow, e.end_time_ms, root.id, e.shaping FROM root CROSS JOIN execution e"  # noqa: S608
    " ON e.event_id = root.id UNION ALL"
    " SELECT e.seq, e.event_id, e.flow, e.end_time_ms, root.id, e.shaping FROM root CROSS JOIN execution e"
    " INDEXED BY replay_by_root ON e.replay_root = root.id ORDER BY 1"
)
_KEEPING = BatchStatement("SELECT seq FROM kept_turn WHERE seq IN ({rows})")
_DEDUPE_OF = BatchStatement("SELECT digest FROM dedupe WHERE event_id IN ({rows})")
_INBOUND_OF = BatchStatement(
    "WITH family (seq, id) AS (VALUES {rows}) SELECT number FROM inbound_event"
    " WHERE seq IN (SELECT seq FROM family) OR emitter IN (SELECT id FROM family)",
    2,
)
_ITEMS_OF = BatchStatement(
    "WITH family (id) AS (VALUES {rows}) SELECT job, number FROM job_item"
    " WHERE message <> '' AND (execution_id IN family OR new_execution_id IN family)",
    1,
)
_DELETE_LIFECYCLE = BatchStatement("DELETE FROM lifecycle_event WHERE seq IN ({rows})")
_DELETE_INBOUND = BatchStatement("DELETE FROM inbound_event WHERE number IN ({rows})")
_DELETE_DEDUPE = BatchStatement("DELETE FROM dedupe WHERE digest IN ({rows})")
_DELETE_RATE_LINES = BatchStatement("DELETE FROM rate_line WHERE line IN ({rows})")
_DELETE_REJECTIONS = BatchStatement("DELETE FROM rejection WHERE id IN ({rows})")
DELETE_ACCEPTED = BatchStatement("DELETE FROM rejection WHERE accepted_id IN ({rows})")
_CLEAR_REASONS = BatchStatement("UPDATE audit_entry SET reason = '' WHERE number IN ({rows})")
_CLEAR_MESSAGES = BatchStatement(
    "UPDATE job_item SET message = '' WHERE (job, number) IN (SELECT column1, column2 FROM (VALUES {rows}))", 2
)
_INSERT = BatchStatement.insert("erasure", "number, execution_id, root, flow_id, time_ms", verb="INSERT OR REPLACE")


class References(NamedTuple):
    """Rows that refer to executions, by their keys; found beforehand, because that reads whole tables."""

    dedupe: Sequence[tuple[Any, ...]] = ()  # digests of dedupe keys
    # events addressed to the executions, or emitted by them, that nobody has received yet
    inbound: Sequence[tuple[Any, ...]] = ()
    audit: Sequence[tuple[Any, ...]] = ()  # entries about them
    job_items: Sequence[tuple[Any, ...]] = ()  # items of jobs about them, by job and number


def find_references(connection: apsw.Connection, execution_id: str) -> References:
    family: list[Any] = connection.execute(_FAMILY, (execution_id,)).fetchall()
    if not family:
        return References()
    ids = [(row[1],) for row in family]
    named = {event_id for (event_id,) in ids}
    audit = connection.execute("SELECT number, target FROM audit_entry WHERE reason <> ''")
    return References(
        _DEDUPE_OF.fetch(connection, ids),
        _INBOUND_OF.fetch(connection, [row[:2] for row in family]),
        [(number,) for number, target in audit if not named.isdisjoint(target.replace(",", " ").split())],
        _ITEMS_OF.fetch(connection, ids),
    )


def find_erasure(connection: apsw.Connection, execution_id: str) -> Erasure | None:
    """Return the erasure of an execution; None: it was not erased, or that is forgotten."""
    rows: list[Any] = connection.execute(
        "SELECT execution_id, flow_id, time_ms FROM erasure"
        " WHERE root = (SELECT root FROM erasure WHERE execution_id = ?) ORDER BY number",
        (execution_id,),
    ).fetchall()
    return Erasure(tuple(row[0] for row in rows), rows[0][1], rows[0][2]) if rows else None


def last_erasure(connection: apsw.Connection) -> int:
    number: int = connection.execute("SELECT coalesce(max(number), 0) FROM erasure").get
    return number


def erase(
    connection: apsw.Connection, execution_id: str, references: References, rejections: Collection[str], now_ms: int
) -> tuple[Erasure, list[str], list[int]]:
    """Erase the event of an execution, or of a replay of it, with the rows that refer to it; see `ShardState`.

    Returns what was erased, the blobs that are no longer needed, and the numbers of the executions.
    """
    family: list[Any] = connection.execute(_FAMILY, (execution_id,)).fetchall()
    if not family:
        raise NotFoundError(f"there is no execution {execution_id[:64]}", reason="EXECUTION_NOT_FOUND")
    unended = [event_id for _, event_id, _, end_time_ms, *_ in family if end_time_ms == UNENDED]
    if unended:
        raise ConflictError(f"{unended[0]} has not ended", reason="EXECUTION_NOT_ENDED")
    if _KEEPING.fetch(connection, [(row[0],) for row in family]):  # it faulted since it was looked at
        raise ConflictError(f"{execution_id} keeps the turn of its order key", reason="EXECUTION_KEEPS_TURN")
    seqs, ids = [(row[0],) for row in family], [(row[1],) for row in family]
    root = family[0][4]
    flow_id: str = connection.execute("SELECT flow_id FROM flow_key WHERE key = ?", (family[0][2],)).get
    keys = {ShapingKeys.unpack(row[5]).rate for row in family if row[5] is not None} - {""}
    release_batches(connection, seqs)
    blobs = remove_executions(connection, seqs)
    _DELETE_LIFECYCLE.run(connection, seqs)
    _DELETE_INBOUND.run(connection, references.inbound)
    _DELETE_DEDUPE.run(connection, references.dedupe)
    # of others with this key, too: until it is reserved again, a restart lets them have what the rate permits at first
    _DELETE_RATE_LINES.run(connection, [(rate_fingerprint(flow_id, key),) for key in keys])
    _CLEAR_REASONS.run(connection, references.audit)
    _CLEAR_MESSAGES.run(connection, references.job_items)
    _DELETE_REJECTIONS.run(connection, [(each,) for each in rejections])
    DELETE_ACCEPTED.run(connection, ids)
    first = last_erasure(connection) + 1
    _INSERT.run(connection, [(first + index, event_id, root, flow_id, now_ms) for index, (event_id,) in enumerate(ids)])
    connection.execute("DELETE FROM erasure WHERE number <= ?", (first + len(ids) - 1 - MAX_ERASURES,))
    return Erasure(tuple(event_id for (event_id,) in ids), flow_id, now_ms), blobs, [seq for (seq,) in seqs]


STEP_PAGES: Final = 1024  # most pages that one step looks at
STEP_SECONDS: Final = 0.01  # time after which a step looks at no further page: writes wait so long
PAUSE_SECONDS: Final = 0.02  # between two steps, for writes
BUSY_MS: Final = 20  # milliseconds for which a step waits for readers who need the write-ahead log
RETRY_SECONDS: Final = 5.0  # before a step that failed is tried again

log = logs.get_logger(__name__)


class Step(enum.Enum):
    """What became of a step."""

    DONE = "done"  # there is nothing to wipe
    MORE = "more"  # further steps are needed
    BUSY = "busy"  # readers need the write-ahead log: try again


def is_pending(connection: apsw.Connection) -> bool:
    return last_erasure(connection) > (connection.execute("SELECT done FROM wipe").get or 0)


def is_under_way(connection: apsw.Connection) -> bool:
    return bool(connection.execute("SELECT page FROM wipe").get)


def wipe_step(path: Path, *, pages: int = STEP_PAGES, seconds: float = STEP_SECONDS) -> Step:
    """Wipe some pages, in a transaction. Blocks, and nobody else writes the file meanwhile. Raises as `overwrite`."""
    # durable, whatever others are: a checkpoint that does not sync could lose what it removes from the log
    with closing(connect_writer(path, durable=True)) as connection:
        if not is_pending(connection):
            return Step.DONE
        connection.set_busy_timeout(BUSY_MS)
        try:
            (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()[0]
            if busy:
                return Step.BUSY
            connection.execute("BEGIN IMMEDIATE")
        except apsw.BusyError:
            return Step.BUSY
        with connection:  # a savepoint: it is rolled back when the step fails
            log_file = path.with_name(f"{path.name}-wal")  # not empty: somebody wrote after the checkpoint
            written = log_file.exists() and log_file.stat().st_size > 0
            step = Step.BUSY if written else _wipe(path, connection, pages, seconds)
        connection.execute("COMMIT")
        return step


def _wipe(path: Path, connection: apsw.Connection, pages: int, seconds: float) -> Step:
    done, target, page = connection.execute("SELECT done, target, page FROM wipe").fetchone() or (0, 0, 0)
    if not page:
        target, page = last_erasure(connection), 1
    page = overwrite(path, connection, page, pages=pages, seconds=seconds)
    if not page:
        done = target
    connection.execute("INSERT OR REPLACE INTO wipe (k, done, target, page) VALUES (1, ?, ?, ?)", (done, target, page))
    return Step.MORE if page or last_erasure(connection) > done else Step.DONE


@attrs.define(eq=False, repr=False)
class Wiping:
    """Wipes the file of an open storage."""

    _path: Path
    _run: Callable[[Callable[[], Step]], Awaitable[Step]]  # runs a function while nobody else writes the file
    _pages: int = attrs.field(default=STEP_PAGES, kw_only=True)
    _wanted: bool = attrs.field(init=False, default=False)
    _task: asyncio.Task[None] | None = attrs.field(init=False, default=None)

    async def finish(self) -> None:
        """Wipe until nothing of what was erased before this call is left; cancelling stops the waiting, not the work.

        Raises FlowhookError if storage can't serve; it is tried again.
        """
        self._wanted = True  # a task that is about to end looks again
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._wipe(), name="wipe what was erased")
        await asyncio.shield(self._task)

    async def run_forever(self) -> None:
        """Finish what was left when the process ended last, as soon as that is possible."""
        while True:
            try:
                await self.finish()
            except FlowhookError as error:
                log.warning("what was erased is not wiped yet; trying again", reason=error.reason)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    async def close(self) -> None:
        """Stop; the rest is wiped when storage is next opened."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _wipe(self) -> None:
        while self._wanted:
            self._wanted = False
            while await self._run(lambda: wipe_step(self._path, pages=self._pages)) is not Step.DONE:  # noqa: ASYNC110 - it is a pause
                await asyncio.sleep(PAUSE_SECONDS)
