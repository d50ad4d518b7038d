"""The state of a shard's executions: writes, and reads for the shard's owner."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

import apsw
import attrs
from typing_extensions import override

from flowhook.errors import ConflictError, NotFoundError
from flowhook.model import JournalEntry
from flowhook.model.execution_filter import ALL, ExecutionFilter
from flowhook.model.executions import AttemptHistory
from flowhook.model.random_access import RandomAccess
from flowhook.sharing import INTERNAL, current_principal
from router.storage import activity, execution_list, queries
from router.storage.activity import RecentActivity
from router.storage.blobs import BlobDirectory
from router.storage.changes import StateChangeOperation
from router.storage.erasure import EraseOperation, EraseRequest, EraseResult, Wiping, find_erasure, find_references
from router.storage.event_log import AppendOperation, InboundEventOperation
from router.storage.expiry import DeleteOperation, ExpireOperation, ExpiryStep
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
    StoredInboundEvent,
    StoredLinks,
    UnfinishedExecution,
    UnpublishedEvent,
    Work,
)
from router.storage.readers import Readers
from router.storage.rows import dump_retry, dump_subscriptions
from router.storage.writer import Writer, WriterOperation

T = TypeVar("T")


class AcquireOperation(WriterOperation):
    """Allocates the next epoch (fencing number) of the shard."""

    order = 2

    @override
    def apply(self, connection: apsw.Connection, arguments: Sequence[None]) -> list[int]:
        return [
            connection.execute(
                "INSERT INTO counter (name, value) VALUES ('epoch', 1)"
                " ON CONFLICT (name) DO UPDATE SET value = value + 1 RETURNING value"
            ).get
            for _ in arguments
        ]


@attrs.define(eq=False, repr=False, kw_only=True)
class ShardState:
    """The state of a shard's executions, for the shard's owner."""

    epoch: int
    """The fencing number of this ownership, from 1: each `Storage.own` of the shard gets the next one."""
    _writer: Writer
    _readers: Readers
    _queries: Readers
    _blobs: BlobDirectory
    _append: AppendOperation
    _append_inbound: InboundEventOperation
    _write: StateChangeOperation
    _expire: ExpireOperation
    _delete: DeleteOperation
    _erase: EraseOperation
    _wiping: Wiping
    _limits: StorageLimits
    _lost: bool = attrs.field(init=False, default=False)

    def mark_lost(self) -> None:
        """Refuse writes from now on, because the shard has another owner."""
        self._lost = True

    def follow(self, listener: Callable[[Sequence[LoggedEvent]], None]) -> None:
        """Call `listener` on the event loop with every event that becomes durable from now on.

        Events are reported in log order, each once, before the `append` that stored them returns. Duplicates are not
        reported.
        """
        if not self._lost:
            self._append.listener = listener

    def follow_inbound(self, listener: Callable[[Sequence[StoredInboundEvent]], None]) -> None:
        """Call `listener` on the event loop with every event for running executions that becomes durable from now on.

        They are reported by ascending number, each once, before the `append_inbound` that stored them returns.
        """
        if not self._lost:
            self._append_inbound.listener = listener

    async def write(self, changes: Sequence[StateChange]) -> None:
        """Store changes durably, in order, all of them or none.

        Raises:
            ConflictError: the shard has another owner now (`SHARD_LOST`).
        """
        self._check()
        if changes:
            await self._writer.call(self._write, changes, size=sum(map(approximate_bytes, changes)))

    async def unfinished(self, *, after_seq: int = 0, limit: int = DEFAULT_PAGE) -> list[UnfinishedExecution]:
        """Return executions that have not ended, by ascending `seq`."""
        return await self._readers.run(lambda connection: queries.unfinished(connection, after_seq, limit))

    async def work(self, seqs: Collection[int]) -> dict[int, Work]:
        """Return what runners need to run executions that have not ended; others are missing from the result.

        A large result may be partial, with at least one execution: call again for the others.
        """
        wanted = list(seqs)
        return await self._readers.run(lambda connection: queries.work(connection, self._blobs, wanted))

    async def inbound_events(self, *, after_number: int = 0, limit: int = DEFAULT_PAGE) -> list[StoredInboundEvent]:
        """Return unconsumed events by ascending number, except those addressed to an execution that has ended."""
        return await self._readers.run(lambda connection: queries.unconsumed_after(connection, after_number, limit))

    async def inbound_payloads(self, numbers: Collection[int]) -> dict[int, bytes]:
        """Return payloads of unconsumed events; others are missing from the result.

        A large result may be partial, with at least one payload: call again for the others.
        """
        wanted = list(numbers)
        return await self._readers.run(lambda connection: queries.inbound_payloads(connection, wanted))

    async def journal_sizes(self, seqs: Collection[int]) -> dict[int, JournalSize]:
        """Return the sizes of journals; empty ones are missing from the result."""
        wanted = list(seqs)
        return await self._readers.run(lambda connection: queries.journal_sizes(connection, wanted))

    async def find_by_ids(self, execution_ids: Collection[str]) -> dict[str, ExecutionRecord]:
        """Return executions by ID, except those unknown or past retention. At most `DEFAULT_PAGE` at a time."""
        wanted = list(execution_ids)
        return await self._readers.run(lambda connection: queries.find_by_ids(connection, wanted))

    async def find(self, execution_id: str) -> ExecutionRecord | None:
        """Return an execution, or None when it is unknown or past retention."""
        return await self._queries.run(lambda connection: queries.find(connection, execution_id))

    async def records(self, seqs: Collection[int]) -> dict[int, ExecutionRecord]:
        """Return executions by sequence number, except unknown ones. At most `DEFAULT_PAGE` at a time."""
        wanted = list(seqs)
        return await self._queries.run(lambda connection: queries.records(connection, wanted))

    async def content(self, seq: int, *, with_payload: bool = True) -> ExecutionContent | None:
        """Return the large parts of an execution, or None when it is unknown; without its event if so requested."""
        return await self._queries.run(
            lambda connection: queries.content(connection, self._blobs, seq, with_payload=with_payload)
        )

    async def read_payload(self, seq: int, read: Callable[[RandomAccess], T]) -> T | None:
        """Return what `read` makes of an execution's serialized event, or None when it is unknown.

        `read` is called on another thread, and reads the parts that it needs.
        """
        return await self._queries.run(lambda connection: queries.read_payload(connection, self._blobs, seq, read))

    async def history(self, seq: int) -> tuple[bytes, ...]:
        """Return the task history that runners reported, in order: at most `limits.MAX_READ_HISTORY_BYTES`.

        A longer history is cut in the middle: the first and last pieces, with an empty piece between them.
        """
        return tuple(fragment for _, fragment in await self.located_history(seq))

    async def located_history(self, seq: int) -> tuple[tuple[int, bytes], ...]:
        """Return the same as `history`, each piece with the index of the journal entry that was written next.

        After the last entry that is any index beyond it.
        """
        return await self._queries.run(lambda connection: queries.history(connection, seq, self._limits.history_bytes))

    async def attempts(self, seq: int) -> AttemptHistory:
        """Return the stored attempts of an execution: those of `AttemptInterrupted`, and that of its `Ended`."""
        return await self._queries.run(lambda connection: queries.read_attempts(connection, seq))

    async def deduplicated(self, flow_id: str, dedupe_key: str, *, now_ms: int) -> str | None:
        """Return the ID of the event a flow's dedupe key refers to at `now_ms` (Unix time); None if absent."""
        return await self._readers.run(lambda connection: queries.deduplicated(connection, flow_id, dedupe_key, now_ms))

    async def body_of(self, execution_id: str) -> str | None:
        """Return the ID of the body that an execution's event names; None when it names none or is unknown."""
        return await self._queries.run(lambda connection: queries.body_of(connection, execution_id))

    async def failed_before(self, seq: int) -> str | None:
        """Return the ID of the oldest stored execution of a replay's event that failed before it; None: none is."""
        return await self._queries.run(lambda connection: queries.failed_before(connection, seq))

    async def superseded_by(self, seq: int) -> str | None:
        """Return the ID of the latest replay of an execution's event after it that was not cancelled; None: none is."""
        return await self._queries.run(lambda connection: queries.superseded_by(connection, seq))

    async def unended_run(self, execution_id: str) -> str | None:
        """Return the ID of an execution, or of a replay of its event, that has not ended; None if absent."""
        return await self._queries.run(lambda connection: queries.unended_run(connection, execution_id))

    async def answer(self, seq: int) -> ExecutionResult:
        """Return an execution's output and reply so far; both None when it is unknown."""
        return await self._readers.run(lambda connection: queries.execution_result(connection, seq))

    async def links(self, execution_id: str, *, limit: int) -> StoredLinks:
        """Return which executions caused an execution, and those that it caused last, at most `limit`."""
        return await self._queries.run(lambda connection: queries.links_of(connection, execution_id, limit))

    async def list_executions(
        self,
        execution_filter: ExecutionFilter = ALL,
        *,
        before_seq: int | None = None,
        limit: int = DEFAULT_PAGE,
    ) -> ExecutionListing:
        """Return executions that meet all conditions, newest first, at most `limit`.

        There may be fewer, or none, although the list continues: the time that one call takes is bounded.
        """
        return await self._queries.run(
            lambda connection: execution_list.list_executions(connection, execution_filter, before_seq, limit)
        )

    async def count_executions(self, execution_filter: ExecutionFilter = ALL, *, limit: int) -> tuple[int, bool]:
        """Return how many executions meet all conditions, at most `limit`, and whether there may be more.

        The time that it takes is bounded.
        """
        return await self._queries.run(
            lambda connection: execution_list.count_executions(connection, execution_filter, limit)
        )

    async def payloads(self, seqs: Sequence[int], *, most_bytes: int) -> dict[int, bytes | None]:
        """Return serialized events; None for a large one, which is stored apart, and for an unknown one.

        At most `DEFAULT_PAGE` at a time. The result has as many of the first ones as have `most_bytes` together, at
        least one.
        """
        return await self._queries.run(lambda connection: queries.payloads(connection, seqs, most_bytes))

    async def last_seq(self) -> int:
        """Return the greatest sequence number of a stored execution; 0 if absent."""
        return await self._readers.run(activity.last_seq)

    async def recent_activity(
        self, *, since_ms: int, until_seq: int, ended_before_ms: int, limit: int
    ) -> RecentActivity:
        """Return how many executions of each flow were accepted, and ended, in each recent minute.

        Args:
            since_ms: Unix time from which they are wanted.
            until_seq: executions with a greater sequence number are not counted as accepted.
            ended_before_ms: Unix time; executions that ended at it or later are not counted as ended.
            limit: most executions to read, newest first; the result is complete for a shorter time if there are more.
        """
        return await self._queries.run(
            lambda connection: activity.recent(
                connection, since_ms=since_ms, until_seq=until_seq, ended_before_ms=ended_before_ms, limit=limit
            )
        )

    async def receive_times(self, seqs: Collection[int]) -> dict[int, int]:
        """Return when executions were received, Unix times in ms, except unknown ones."""
        wanted = list(seqs)
        return await self._queries.run(lambda connection: activity.receive_times(connection, wanted))

    async def latest_receive_times(self, flow_ids: Collection[str]) -> dict[str, int]:
        """Return when each flow's latest stored execution was received, Unix times in ms.

        Flows without a stored execution are missing.
        """
        wanted = list(flow_ids)
        return await self._queries.run(lambda connection: activity.latest_receive_times(connection, wanted))

    async def walk_executions(
        self,
        execution_filter: ExecutionFilter,
        *,
        after_seq: int = 0,
        last_seq: int | None = None,
        limit: int = DEFAULT_PAGE,
    ) -> ExecutionWalk:
        """Return executions that meet all conditions, oldest first, at most `limit`, with numbers up to `last_seq`.

        There may be fewer, or none, although the walk continues: the time that one call takes is bounded.
        """
        return await self._queries.run(
            lambda connection: execution_list.walk_executions(connection, execution_filter, after_seq, last_seq, limit)
        )

    async def schedules(self, *, after_id: str = "", limit: int = DEFAULT_PAGE) -> list[Scheduled]:
        """Return the last stored schedule state of each flow, by ascending flow ID."""
        return await self._readers.run(lambda connection: queries.schedules(connection, after_id, limit))

    async def occurrences(self, *, after_number: int = 0, limit: int = DEFAULT_PAGE) -> list[UnpublishedEvent]:
        """Return lifecycle events that are not yet published (the outbox), by ascending number."""
        return await self._readers.run(lambda connection: queries.unpublished_events(connection, after_number, limit))

    async def expire(self, *, ended_before_ms: int, limit: int = DEFAULT_PAGE) -> int:
        """Remove executions that ended before a Unix time, with their events, journals and blobs.

        A body is removed with the last execution whose event names it. Also removed are expired events and dedupe
        keys, the schedules of flows deleted before that time, and these flows' revisions once none of their executions
        is left; and jobs that ended before that time.

        Returns:
            The number of executions removed.
        """
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
        """Remove executions that have ended, as `expire` does, at most `DEFAULT_PAGE`; return their number.

        Others are left alone. Dedupe keys stay for their windows: an event that is sent again still is a duplicate.
        """
        self._check()
        deleted: ExpiryStep = await self._writer.call(self._delete, list(seqs))
        if deleted.blobs:
            await asyncio.to_thread(self._blobs.remove, deleted.blobs)
        return deleted.executions

    async def erase(self, execution_id: str, *, rejections: Collection[str], now_ms: int) -> Erasure:
        """Erase the event of an execution: what is stored of that, of all replays, and what refers to them.

        Unlike `delete`, this leaves nothing in the free space of files either, nor dedupe keys, rejections of the
        request, undelivered events of the executions, and reasons and messages about them in the audit log and jobs.
        It returns when nothing is left in the files of this router. Idempotent: it goes on where it was interrupted.

        Args:
            execution_id: the execution, or a replay of it.
            rejections: IDs of rejections of the same request, besides those that were accepted as the event.
            now_ms: Unix time.

        Raises:
            NotFoundError: it is not stored, and was not erased (`EXECUTION_NOT_FOUND`).
            ConflictError: one of the executions has not ended (`EXECUTION_NOT_ENDED`).
        """
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
        """Return the erasure of an execution; None: it was not erased, or so long ago that this is forgotten."""
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
