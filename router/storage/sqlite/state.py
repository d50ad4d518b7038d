"""The state of a shard's executions: writes, and reads for the shard's owner."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

import apsw

from flowhook.errors import ConflictError, NotFoundError
from flowhook.model import JournalEntry
from flowhook.model.execution_filter import ALL, ExecutionFilter
from flowhook.model.executions import AttemptHistory
from flowhook.model.random_access import RandomAccess
from flowhook.sharing import INTERNAL, current_principal
from router.storage.activity import RecentActivity
from router.storage.causes import StoredLinks
from router.storage.inbound_events import LoggedInboundEvent, UnconsumedEvent
from router.storage.jobs import ExecutionWalk
from router.storage.limits import DEFAULT_PAGE, StorageLimits
from router.storage.model import (
    Delivered,
    Ended,
    Erasure,
    ExecutionContent,
    ExecutionListing,
    ExecutionRecord,
    ExecutionResult,
    Journaled,
    JournalSize,
    LifecycleRecorded,
    LoggedEvent,
    Parked,
    Replied,
    Resolved,
    Scheduled,
    StateChange,
    UnfinishedExecution,
    UnpublishedEvent,
    Work,
)
from router.storage.sqlite import (
    activity,
    execution_list,
    execution_walk,
    inbound_events,
    links,
    payload_parts,
    queries,
)
from router.storage.sqlite.attempts import read_attempts
from router.storage.sqlite.blobs import BlobDirectory
from router.storage.sqlite.changes import StateChangeOperation
from router.storage.sqlite.erasure import (
    EraseOperation,
    EraseRequest,
    EraseResult,
    find_erasure,
    find_references,
)
from router.storage.sqlite.expiry import DeleteOperation, ExpireOperation, ExpiryStep
from router.storage.sqlite.inbound_events import InboundEventOperation
from router.storage.sqlite.log import AppendOperation
from router.storage.sqlite.readers import Readers
from router.storage.sqlite.rows import dump_retry, dump_subscriptions
from router.storage.sqlite.wiping import Wiping
from router.storage.sqlite.writer import Writer

T = TypeVar("T")


class AcquireOperation:
    """Allocates the next epoch (fencing number) of the shard."""

    order = 2

    def reload(self, connection: apsw.Connection) -> None:
        """See `WriterOperation`."""

    def apply(self, connection: apsw.Connection, arguments: Sequence[None]) -> list[int]:
        """See `WriterOperation`."""
        return [
            connection.execute(
                "INSERT INTO counter (name, value) VALUES ('epoch', 1)"
                " ON CONFLICT (name) DO UPDATE SET value = value + 1 RETURNING value"
            ).get
            for _ in arguments
        ]

    def committed(self, results: Sequence[int]) -> None:
        """See `WriterOperation`."""


class SqliteShardState:
    """The state of the only shard, for one owner; implements `interface.ShardState`."""

    def __init__(
        self,
        writer: Writer,
        readers: Readers,
        queries_: Readers,
        blobs: BlobDirectory,
        *,
        append: AppendOperation,
        arrive: InboundEventOperation,
        write: StateChangeOperation,
        expire: ExpireOperation,
        delete: DeleteOperation,
        erase: EraseOperation,
        wiping: Wiping,
        epoch: int,
        limits: StorageLimits,
    ) -> None:
        self._epoch = epoch
        self._limits = limits
        self._writer = writer
        self._readers = readers
        self._queries = queries_
        self._blobs = blobs
        self._append = append
        self._arrive = arrive
        self._write = write
        self._expire = expire
        self._delete = delete
        self._erase = erase
        self._wiping = wiping
        self._lost = False

    @property
    def epoch(self) -> int:
        """See `interface.ShardState`."""
        return self._epoch

    def mark_lost(self) -> None:
        """Refuse writes from now on, because the shard has another owner."""
        self._lost = True

    def follow(self, listener: Callable[[Sequence[LoggedEvent]], None]) -> None:
        """See `interface.ShardState`."""
        if not self._lost:
            self._append.listener = listener

    def follow_arrivals(self, listener: Callable[[Sequence[LoggedInboundEvent]], None]) -> None:
        """See `interface.ShardState`."""
        if not self._lost:
            self._arrive.listener = listener

    async def write(self, changes: Sequence[StateChange]) -> None:
        """See `interface.ShardState`."""
        self._check()
        if changes:
            await self._writer.call(self._write, changes, size=sum(map(approximate_bytes, changes)))

    async def unfinished(self, *, after_seq: int = 0, limit: int = DEFAULT_PAGE) -> list[UnfinishedExecution]:
        """See `interface.ShardState`."""
        return await self._readers.run(lambda connection: queries.unfinished(connection, after_seq, limit))

    async def work(self, seqs: Collection[int]) -> dict[int, Work]:
        """See `interface.ShardState`."""
        wanted = list(seqs)
        return await self._readers.run(lambda connection: queries.work(connection, self._blobs, wanted))

    async def arrivals(self, *, after_number: int = 0, limit: int = DEFAULT_PAGE) -> list[UnconsumedEvent]:
        """See `interface.ShardState`."""
        return await self._readers.run(
            lambda connection: inbound_events.unconsumed_after(connection, after_number, limit)
        )

    async def arrival_payloads(self, numbers: Collection[int]) -> dict[int, bytes]:
        """See `interface.ShardState`."""
        wanted = list(numbers)
        return await self._readers.run(lambda connection: inbound_events.arrival_payloads(connection, wanted))

    async def journal_sizes(self, seqs: Collection[int]) -> dict[int, JournalSize]:
        """See `interface.ShardState`."""
        wanted = list(seqs)
        return await self._readers.run(lambda connection: inbound_events.journal_sizes(connection, wanted))

    async def find_by_ids(self, execution_ids: Collection[str]) -> dict[str, ExecutionRecord]:
        """See `interface.ShardState`."""
        wanted = list(execution_ids)
        return await self._readers.run(lambda connection: queries.find_by_ids(connection, wanted))

    async def find(self, execution_id: str) -> ExecutionRecord | None:
        """See `interface.ShardState`."""
        return await self._queries.run(lambda connection: queries.find(connection, execution_id))

    async def records(self, seqs: Collection[int]) -> dict[int, ExecutionRecord]:
        """See `interface.ShardState`."""
        wanted = list(seqs)
        return await self._queries.run(lambda connection: queries.records(connection, wanted))

    async def content(self, seq: int, *, with_payload: bool = True) -> ExecutionContent | None:
        """See `interface.ShardState`."""
        return await self._queries.run(
            lambda connection: queries.content(connection, self._blobs, seq, with_payload=with_payload)
        )

    async def read_payload(self, seq: int, read: Callable[[RandomAccess], T]) -> T | None:
        """See `interface.ShardState`."""
        return await self._queries.run(
            lambda connection: payload_parts.read_payload(connection, self._blobs, seq, read)
        )

    async def history(self, seq: int) -> tuple[bytes, ...]:
        """See `interface.ShardState`."""
        return tuple(fragment for _, fragment in await self.located_history(seq))

    async def located_history(self, seq: int) -> tuple[tuple[int, bytes], ...]:
        """See `interface.ShardState`."""
        return await self._queries.run(lambda connection: queries.history(connection, seq, self._limits.history_bytes))

    async def attempts(self, seq: int) -> AttemptHistory:
        """See `interface.ShardState`."""
        return await self._queries.run(lambda connection: read_attempts(connection, seq))

    async def deduplicated(self, flow_id: str, dedupe_key: str, *, now_ms: int) -> str | None:
        """See `interface.ShardState`."""
        return await self._readers.run(lambda connection: queries.deduplicated(connection, flow_id, dedupe_key, now_ms))

    async def body_of(self, execution_id: str) -> str | None:
        """See `interface.ShardState`."""
        return await self._queries.run(lambda connection: queries.body_of(connection, execution_id))

    async def failed_before(self, seq: int) -> str | None:
        """See `interface.ShardState`."""
        return await self._queries.run(lambda connection: queries.failed_before(connection, seq))

    async def superseded_by(self, seq: int) -> str | None:
        """See `interface.ShardState`."""
        return await self._queries.run(lambda connection: queries.superseded_by(connection, seq))

    async def unended_run(self, execution_id: str) -> str | None:
        """See `interface.ShardState`."""
        return await self._queries.run(lambda connection: queries.unended_run(connection, execution_id))

    async def answer(self, seq: int) -> ExecutionResult:
        """See `interface.ShardState`."""
        return await self._readers.run(lambda connection: queries.execution_result(connection, seq))

    async def links(self, execution_id: str, *, limit: int) -> StoredLinks:
        """See `interface.ShardState`."""
        return await self._queries.run(lambda connection: links.links_of(connection, execution_id, limit))

    async def list_executions(
        self,
        conditions: ExecutionFilter = ALL,
        *,
        before_seq: int | None = None,
        limit: int = DEFAULT_PAGE,
    ) -> ExecutionListing:
        """See `interface.ShardState`."""
        return await self._queries.run(
            lambda connection: execution_list.list_executions(connection, conditions, before_seq, limit)
        )

    async def count_executions(self, conditions: ExecutionFilter = ALL, *, limit: int) -> tuple[int, bool]:
        """See `interface.ShardState`."""
        return await self._queries.run(
            lambda connection: execution_list.count_executions(connection, conditions, limit)
        )

    async def payloads(self, seqs: Sequence[int], *, most_bytes: int) -> dict[int, bytes | None]:
        """See `interface.ShardState`."""
        return await self._queries.run(lambda connection: queries.payloads(connection, seqs, most_bytes))

    async def last_seq(self) -> int:
        """See `interface.ShardState`."""
        return await self._readers.run(activity.last_seq)

    async def recent_activity(
        self, *, since_ms: int, until_seq: int, ended_before_ms: int, limit: int
    ) -> RecentActivity:
        """See `interface.ShardState`."""
        return await self._queries.run(
            lambda connection: activity.recent(
                connection, since_ms=since_ms, until_seq=until_seq, ended_before_ms=ended_before_ms, limit=limit
            )
        )

    async def receive_times(self, seqs: Collection[int]) -> dict[int, int]:
        """See `interface.ShardState`."""
        wanted = list(seqs)
        return await self._queries.run(lambda connection: activity.receive_times(connection, wanted))

    async def latest_receive_times(self, flow_ids: Collection[str]) -> dict[str, int]:
        """See `interface.ShardState`."""
        wanted = list(flow_ids)
        return await self._queries.run(lambda connection: activity.latest_receive_times(connection, wanted))

    async def walk_executions(
        self, conditions: ExecutionFilter, *, after_seq: int = 0, last_seq: int | None = None, limit: int = DEFAULT_PAGE
    ) -> ExecutionWalk:
        """See `interface.ShardState`."""
        return await self._queries.run(
            lambda connection: execution_walk.walk_executions(connection, conditions, after_seq, last_seq, limit)
        )

    async def schedules(self, *, after_id: str = "", limit: int = DEFAULT_PAGE) -> list[Scheduled]:
        """See `interface.ShardState`."""
        return await self._readers.run(lambda connection: queries.schedules(connection, after_id, limit))

    async def occurrences(self, *, after_number: int = 0, limit: int = DEFAULT_PAGE) -> list[UnpublishedEvent]:
        """See `interface.ShardState`."""
        return await self._readers.run(lambda connection: queries.unpublished_events(connection, after_number, limit))

    async def expire(self, *, ended_before_ms: int, limit: int = DEFAULT_PAGE) -> int:
        """See `interface.ShardState`."""
        self._check()
        removed = 0
        more = True
        while more and removed < limit:
            step = min(limit - removed, ExpireOperation.STEP)
            expired: ExpiryStep = await self._writer.call(self._expire, (ended_before_ms, step))
            if expired.blobs:
                await asyncio.to_thread(self._blobs.remove, expired.blobs)
            removed += expired.executions
            more = expired.more
        return removed

    async def delete(self, seqs: Collection[int]) -> int:
        """See `interface.ShardState`."""
        self._check()
        deleted: ExpiryStep = await self._writer.call(self._delete, list(seqs))
        if deleted.blobs:
            await asyncio.to_thread(self._blobs.remove, deleted.blobs)
        return deleted.executions

    async def erase(self, execution_id: str, *, rejections: Collection[str], now_ms: int) -> Erasure:
        """See `interface.ShardState`."""
        self._check()
        principal = current_principal.set(INTERNAL)  # it reads whole tables, whatever that takes
        try:
            references = await self._queries.run(lambda connection: find_references(connection, execution_id))
        finally:
            current_principal.reset(principal)
        try:
            result: EraseResult = await self._writer.call(
                self._erase, EraseRequest(execution_id, references, rejections, now_ms)
            )
        except NotFoundError:
            earlier = await self.erased(execution_id)
            if earlier is None:
                raise
            result = EraseResult(earlier, [])
        if result.blobs:
            await asyncio.to_thread(self._blobs.erase, result.blobs)
        await self._wiping.finish()
        return result.erasure

    async def erased(self, execution_id: str) -> Erasure | None:
        """See `interface.ShardState`."""
        return await self._queries.run(lambda connection: find_erasure(connection, execution_id))

    def _check(self) -> None:
        if self._lost:
            raise ConflictError("the shard has a newer owner", reason="SHARD_LOST")


def approximate_bytes(change: StateChange) -> int:
    """Return about how many bytes a change holds while it waits to be written."""
    match change:
        case Ended(output=output, reply=reply, error=error, history=history, runner=runner):
            large = len(output or b"") + len(reply or b"") + len(history) + (0 if error is None else error.size)
            return 128 + large + len(runner)
        case Replied(reply=reply):
            return 128 + len(reply)
        case Parked(subscriptions=subscriptions, history=history, retry=retry):
            awaited = len(dump_subscriptions(subscriptions)) if subscriptions else 0
            return 128 + len(history) + awaited + (0 if retry is None else len(dump_retry(retry)))
        case Journaled(entry=entry, history=history):
            return 128 + len(history) + _entry_bytes(entry)
        case Delivered(entry=entry):
            return 128 + _entry_bytes(entry)
        case LifecycleRecorded(data=data):
            return 128 + len(data)
        case Resolved(reason=reason):
            return 64 + len(reason)
        case _:
            return 64


def _entry_bytes(entry: JournalEntry) -> int:
    return len(entry.output or b"") + (0 if entry.error is None else entry.error.size)
