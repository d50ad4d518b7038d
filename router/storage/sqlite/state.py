"""State of executions: writes, and the reads that their owner needs."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Collection, Sequence
from typing import Any, assert_never

from flowhook.errors import ConflictError
from flowhook.model import Status
from router.storage.interface import (
    DEFAULT_PAGE,
    Ended,
    ExecutionAnswer,
    ExecutionContent,
    ExecutionRecord,
    Journaled,
    LoggedEvent,
    Parked,
    Replied,
    Requeued,
    Scheduled,
    Started,
    StateChange,
    Suspended,
    Unfinished,
    Work,
)
from router.storage.sqlite import queries
from router.storage.sqlite.blobs import BlobDirectory
from router.storage.sqlite.expiry import Expired, ExpireOperation
from router.storage.sqlite.log import AppendOperation
from router.storage.sqlite.readers import Readers
from router.storage.sqlite.rows import dump_error
from router.storage.sqlite.schema import CODES
from router.storage.sqlite.statements import Bulk
from router.storage.sqlite.writer import Writer

_INSERT_JOURNAL = Bulk(
    "INSERT INTO journal (seq, position, key, output, error) SELECT * FROM (VALUES {rows})"
    " WHERE EXISTS (SELECT 1 FROM execution WHERE seq = column1 AND end_time_ms = {unended}) ON CONFLICT DO NOTHING",
    5,
)
_UPDATE_PROGRESS = Bulk(
    "UPDATE execution SET status = column2, attempts = column3, requeued = max(requeued, column4) FROM (VALUES {rows})"
    " WHERE seq = column1 AND end_time_ms = {unended}",
    4,
)
_UPDATE_PARKED = Bulk(
    "UPDATE execution SET status = column2, attempts = column3, requeued = 1, wake_time_ms = column4"
    " FROM (VALUES {rows}) WHERE seq = column1 AND end_time_ms = {unended}",
    4,
)
_COMPACT_JOURNAL = Bulk(
    "DELETE FROM journal WHERE (seq, position) IN"
    " (SELECT j.seq, j.position FROM (VALUES {rows}) CROSS JOIN journal j ON j.seq = column1 AND j.position < column2"
    " WHERE EXISTS (SELECT 1 FROM execution WHERE seq = column1 AND end_time_ms = {unended}))",
    2,
)
_INSERT_REPLY = Bulk(
    "INSERT INTO outcome (seq, reply) SELECT * FROM (VALUES {rows})"
    " WHERE EXISTS (SELECT 1 FROM execution WHERE seq = column1 AND end_time_ms = {unended}) ON CONFLICT DO NOTHING",
    2,
)
_INSERT_OUTCOME = Bulk(
    "INSERT INTO outcome (seq, output, reply) SELECT * FROM (VALUES {rows})"
    " WHERE EXISTS (SELECT 1 FROM execution WHERE seq = column1 AND end_time_ms = {unended})"
    " ON CONFLICT (seq) DO UPDATE SET output = excluded.output, reply = coalesce(reply, excluded.reply)",
    3,
)
_UPDATE_ENDED = Bulk(
    "UPDATE execution SET status = column2, attempts = column3, end_time_ms = column4, error = column5"
    " FROM (VALUES {rows}) WHERE seq = column1 AND end_time_ms = {unended}",
    5,
)
_UPSERT_SCHEDULE = Bulk(
    "INSERT INTO schedule (flow_id, due_ms, last_ms) SELECT * FROM (VALUES {rows}) WHERE column1 NOT NULL"
    " ON CONFLICT (flow_id) DO UPDATE SET due_ms = excluded.due_ms, last_ms = excluded.last_ms",
    3,
)


class _Rows:
    """What the changes of a transaction come to."""

    def __init__(self) -> None:
        self._progress: dict[int, tuple[int, int, int]] = {}
        self._requeued: set[int] = set()
        self._parked: dict[int, tuple[int, int, int, int | None]] = {}
        self._journal: list[tuple[Any, ...]] = []
        self._compactions: dict[int, int] = {}
        self._ends: dict[int, tuple[Any, ...]] = {}
        self._replies: list[tuple[int, bytes]] = []
        self._outcomes: list[tuple[Any, ...]] = []
        self._schedules: dict[str, Scheduled] = {}

    def add(self, change: StateChange) -> None:
        """Add a change to those before."""
        match change:
            case Ended():
                self._end(change)
            case Started(seq=seq):
                self._progress[seq] = (seq, CODES[Status.RUNNING], change.attempts)
            case Requeued(seq=seq):
                self._progress[seq] = (seq, CODES[Status.PENDING], change.attempts)
                self._requeued.add(seq)
            case Suspended(seq=seq):
                self._progress[seq] = (seq, CODES[Status.SUSPENDED], change.attempts)
            case Parked(seq=seq):
                self._parked[seq] = (seq, CODES[Status.WAITING], change.attempts, change.wake_at_ms)
                self._progress.pop(seq, None)
            case Journaled(seq=seq, entry=entry):
                self._journal.append((seq, change.index, entry.key, entry.output, dump_error(entry.error)))
                if change.compacts:
                    self._compactions[seq] = max(change.index, self._compactions.get(seq, 0))
            case Replied():
                self._reply(change)
            case Scheduled(flow_id=flow_id):
                self._schedules[flow_id] = change
            case _:
                assert_never(change)

    def _reply(self, reply: Replied) -> None:
        if reply.seq not in self._ends:
            self._replies.append((reply.seq, reply.reply))

    def _end(self, end: Ended) -> None:
        if end.seq in self._ends:
            return
        error = None if end.error is None else dump_error(end.error)
        self._ends[end.seq] = (end.seq, CODES[end.status], end.attempts, end.end_time_ms, error)
        if end.output is not None or end.reply is not None:
            self._outcomes.append((end.seq, end.output, end.reply))

    def write(self, connection: sqlite3.Connection) -> None:
        """Write what they come to."""
        ends = self._ends
        _INSERT_JOURNAL.run(connection, self._journal)
        _COMPACT_JOURNAL.run(connection, list(self._compactions.items()))
        # Before progress: an execution that has both was parked first.
        _UPDATE_PARKED.run(connection, [row for seq, row in self._parked.items() if seq not in ends])
        progress = [(*row, seq in self._requeued) for seq, row in self._progress.items() if seq not in ends]
        _UPDATE_PROGRESS.run(connection, progress)
        _INSERT_REPLY.run(connection, self._replies)
        _INSERT_OUTCOME.run(connection, self._outcomes)
        _UPDATE_ENDED.run(connection, list(ends.values()))
        _UPSERT_SCHEDULE.run(connection, list(self._schedules.values()))


class WriteOperation:
    """Writes the changes of all calls of a transaction.

    Changes of different executions are independent, and of one execution only the last progress, whether it was
    requeued, and the first end count. So the changes are applied kind by kind, a few statements for all of them.
    """

    order = 1

    def reload(self, connection: sqlite3.Connection) -> None:
        """See `Operation`."""

    def apply(self, connection: sqlite3.Connection, arguments: Sequence[Sequence[StateChange]]) -> list[None]:
        """See `Operation`."""
        rows = _Rows()
        for changes in arguments:
            for change in changes:
                rows.add(change)
        rows.write(connection)
        return [None] * len(arguments)

    def committed(self, results: Sequence[None]) -> None:
        """See `Operation`."""


class OwnOperation:
    """Gives out the next fencing number of the shard."""

    order = 2

    def reload(self, connection: sqlite3.Connection) -> None:
        """See `Operation`."""

    def apply(self, connection: sqlite3.Connection, arguments: Sequence[None]) -> list[int]:
        """See `Operation`."""
        return [
            connection.execute(
                "INSERT INTO counter (name, value) VALUES ('epoch', 1)"
                " ON CONFLICT (name) DO UPDATE SET value = value + 1 RETURNING value"
            ).fetchone()[0]
            for _ in arguments
        ]

    def committed(self, results: Sequence[int]) -> None:
        """See `Operation`."""


class SqliteShardState:
    """State of the one shard, for one owner. See `interface.ShardState`."""

    def __init__(
        self,
        writer: Writer,
        readers: Readers,
        queries_: Readers,
        blobs: BlobDirectory,
        *,
        append: AppendOperation,
        write: WriteOperation,
        expire: ExpireOperation,
        epoch: int,
    ) -> None:
        self._epoch = epoch
        self._writer = writer
        self._readers = readers
        self._queries = queries_
        self._blobs = blobs
        self._append = append
        self._write = write
        self._expire = expire
        self._lost = False

    @property
    def epoch(self) -> int:
        """See `interface.ShardState`."""
        return self._epoch

    def lose(self) -> None:
        """Refuse writes from now on, because there is another owner."""
        self._lost = True

    def follow(self, listener: Callable[[Sequence[LoggedEvent]], None]) -> None:
        """See `interface.ShardState`."""
        if not self._lost:
            self._append.listener = listener

    async def write(self, changes: Sequence[StateChange]) -> None:
        """See `interface.ShardState`."""
        self._check()
        if changes:
            await self._writer.call(self._write, changes, size=sum(map(_size, changes)))

    async def unfinished(self, *, after_seq: int = 0, limit: int = DEFAULT_PAGE) -> list[Unfinished]:
        """See `interface.ShardState`."""
        return await self._readers.run(lambda connection: queries.unfinished(connection, after_seq, limit))

    async def work(self, seqs: Collection[int]) -> dict[int, Work]:
        """See `interface.ShardState`."""
        wanted = list(seqs)
        return await self._readers.run(lambda connection: queries.work(connection, self._blobs, wanted))

    async def find(self, execution_id: str) -> ExecutionRecord | None:
        """See `interface.ShardState`."""
        return await self._queries.run(lambda connection: queries.find(connection, execution_id))

    async def records(self, seqs: Collection[int]) -> dict[int, ExecutionRecord]:
        """See `interface.ShardState`."""
        wanted = list(seqs)
        return await self._queries.run(lambda connection: queries.records(connection, wanted))

    async def content(self, seq: int) -> ExecutionContent | None:
        """See `interface.ShardState`."""
        return await self._queries.run(lambda connection: queries.content(connection, self._blobs, seq))

    async def answer(self, seq: int) -> ExecutionAnswer:
        """See `interface.ShardState`."""
        return await self._readers.run(lambda connection: queries.answer(connection, seq))

    async def list_executions(
        self,
        *,
        flow_id: str = "",
        statuses: Collection[Status] = (),
        before_seq: int | None = None,
        limit: int = DEFAULT_PAGE,
    ) -> list[ExecutionRecord]:
        """See `interface.ShardState`."""
        wanted = frozenset(statuses)
        return await self._queries.run(
            lambda connection: queries.list_executions(connection, flow_id, wanted, before_seq, limit)
        )

    async def schedules(self, *, after_id: str = "", limit: int = DEFAULT_PAGE) -> list[Scheduled]:
        """See `interface.ShardState`."""
        return await self._readers.run(lambda connection: queries.schedules(connection, after_id, limit))

    async def expire(self, *, ended_before_ms: int, limit: int = DEFAULT_PAGE) -> int:
        """See `interface.ShardState`."""
        self._check()
        removed = 0
        more = True
        while more and removed < limit:
            step = min(limit - removed, ExpireOperation.STEP)
            expired: Expired = await self._writer.call(self._expire, (ended_before_ms, step))
            if expired.blobs:
                await asyncio.to_thread(self._blobs.remove, expired.blobs)
            removed += expired.executions
            more = expired.more
        return removed

    def _check(self) -> None:
        if self._lost:
            raise ConflictError("the shard has another owner by now", reason="SHARD_LOST")


def _size(change: StateChange) -> int:
    match change:
        case Ended(output=output, reply=reply):
            return 128 + len(output or b"") + len(reply or b"")
        case Replied(reply=reply):
            return 128 + len(reply)
        case Journaled(entry=entry):
            return 128 + len(entry.output or b"")
        case _:
            return 64
