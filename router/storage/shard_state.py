"""The state of a shard's executions: writes, and reads for the shard's owner."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from functools import partial, wraps
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import apsw
import attrs

from flowhook.errors import ConflictError, NotFoundError
from flowhook.model import JournalEntry, WorkflowError
from flowhook.model.events import RandomAccess
from flowhook.sharing import INTERNAL, current_principal
from router.storage import activity, execution_list, expiry, queries
from router.storage import model as stored
from router.storage.blobs import BlobDirectory
from router.storage.changes import StateChangeOperation
from router.storage.erasure import Wiping, erase, find_erasure, find_references
from router.storage.event_log import AppendOperation, InboundEventOperation
from router.storage.expiry import FIRST, STEP, ExpiryStep
from router.storage.limits import DEFAULT_PAGE, StorageLimits
from router.storage.part import reading
from router.storage.readers import Readers
from router.storage.rows import dump_retry, dump_subscriptions
from router.storage.statements import read_counter, write_counter
from router.storage.writer import Writer

P = ParamSpec("P")
T = TypeVar("T")


def _removing(
    step: Callable[Concatenate[apsw.Connection, P], ExpiryStep],
) -> Callable[Concatenate[ShardState, P], Coroutine[Any, Any, ExpiryStep]]:
    """Make a method of a step that removes executions: it removes their blobs afterwards."""

    @wraps(step)
    async def remove(self: ShardState, /, *arguments: P.args, **keywords: P.kwargs) -> ExpiryStep:
        return await self._remove(lambda connection: step(connection, *arguments, **keywords))

    return remove


@attrs.define(eq=False, repr=False, kw_only=True)
class ShardState:
    """The state of a shard's executions, for the shard's owner."""

    epoch: int
    """The fencing number of this ownership, from 1: each `Storage.own` of the shard gets the next one."""
    fence: int
    """Leases of earlier epochs are void: they were granted before a backup was restored. 0: none was restored."""
    _writer: Writer
    _readers: Readers
    _queries: Readers
    _blobs: BlobDirectory
    _append: AppendOperation
    _append_inbound: InboundEventOperation
    _write: StateChangeOperation
    _wiping: Wiping
    _limits: StorageLimits
    _lost: bool = attrs.field(init=False, default=False)
    _last_flow: str = attrs.field(init=False, default="")  # that `expire` looked at
    _last_past: tuple[int, int] = attrs.field(init=False, default=FIRST)  # see `ExpiryStep.last`
    _removals: Callable[[Sequence[int]], None] = attrs.field(init=False, default=lambda _seqs: None)

    def mark_lost(self) -> None:
        self._lost = True

    def follow(self, listener: Callable[[Sequence[stored.LoggedEvent]], None]) -> None:
        """Call `listener` on the event loop with every event that becomes durable from now on.

        Events are reported in log order, each once, before the `append` that stored them returns. Duplicates are not
        reported.
        """
        if not self._lost:
            self._append.listener = listener

    def follow_inbound(self, listener: Callable[[Sequence[stored.StoredInboundEvent]], None]) -> None:
        """Do the same with events for running executions, by ascending number; `append_inbound` stores them."""
        if not self._lost:
            self._append_inbound.listener = listener

    async def write(self, changes: Sequence[stored.StateChange], *, patient: bool = False) -> None:
        """Store changes durably, in order, all of them or none; `patient`: other executions may be stored with them.

        Raises ConflictError if the shard has another owner now (`SHARD_LOST`).
        """
        self._check()
        if changes:
            await self._writer.call(self._write, changes, size=sum(map(approximate_bytes, changes)), patient=patient)

    # what running executions need
    unfinished = reading(queries.unfinished)
    kept_turns = reading(queries.kept_turns)
    execution_ids = reading(queries.execution_ids)
    inbound_events = reading(queries.unconsumed_events)
    inbound_payloads = reading(queries.inbound_payloads)
    journal_sizes = reading(queries.journal_sizes)
    find_by_ids = reading(queries.find_by_ids)
    deduplicated = reading(queries.deduplicated)
    answer = reading(queries.execution_result)
    schedules = reading(queries.schedules)
    occurrences = reading(queries.unpublished_events)
    last_seq = reading(activity.last_seq)
    rate_lines = reading(queries.rate_lines)
    # what operators ask for
    find = reading(queries.find, by="_queries")
    records = reading(queries.records, by="_queries")
    attempts = reading(queries.read_attempts, by="_queries")
    body_of = reading(queries.body_of, by="_queries")
    failed_before = reading(queries.failed_before, by="_queries")
    superseded_by = reading(queries.superseded_by, by="_queries")
    unended_run = reading(queries.unended_run, by="_queries")
    links = reading(queries.links_of, by="_queries")
    caused = reading(queries.caused, by="_queries")
    payloads = reading(queries.payloads, by="_queries")
    list_executions = reading(execution_list.list_executions, by="_queries")
    count_executions = reading(execution_list.count_executions, by="_queries")
    walk_executions = reading(execution_list.walk_executions, by="_queries")
    recent_activity = reading(activity.recent, by="_queries", max_seconds=activity.MAX_SECONDS)
    receive_times = reading(activity.receive_times, by="_queries")
    latest_receive_times = reading(activity.latest_receive_times, by="_queries")
    latest_requests = reading(activity.latest_requests, by="_queries")
    erased = reading(find_erasure, by="_queries")
    measure_flow = reading(expiry.measure_flow, by="_queries")
    stored_bytes = reading(expiry.stored_bytes, by="_queries")
    counter = reading(read_counter)

    async def work(self, seqs: Collection[int]) -> dict[int, stored.Work]:
        """Return what runners need to run executions that have not ended; others are missing from the result.

        A large result may be partial, with at least one execution: call again for the others.
        """
        return await self._readers.run(lambda connection: queries.work(connection, self._blobs, seqs))

    async def batched(self, seqs: Collection[int]) -> dict[int, list[bytes]]:
        """Return the further events of the batches that executions run for; see `queries.batched`."""
        return await self._readers.run(lambda connection: queries.batched(connection, self._blobs, seqs))

    async def content(self, seq: int, *, with_payload: bool = True) -> stored.ExecutionContent | None:
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

    remove_bytes = _removing(expiry.remove_past)
    remove_past_of_flow = _removing(expiry.remove_past_of_flow)

    async def expire(
        self, *, ended_before_ms: int, limit: int = DEFAULT_PAGE, excepting: Sequence[str] = (), anew: bool = False
    ) -> int:
        """Remove executions that ended before a Unix time, with their events, journals and blobs; return their number.

        A body is removed with the last execution whose event names it. Also removed are expired events and dedupe
        keys, the schedules of flows deleted before that time, and these flows' revisions once none of their executions
        is left; and jobs that ended before that time. Of many flows, each call looks at the next 256.

        `excepting`: IDs of flows whose executions are kept. They are not looked at again before a call with `anew`.
        """
        if anew:
            self._last_past = FIRST
        removed, more = 0, True
        while more and removed < limit:
            step = await self._remove(
                partial(
                    expiry.expire,
                    ended_before_ms=ended_before_ms,
                    limit=min(limit - removed, STEP),
                    after_flow=self._last_flow,
                    after=self._last_past,
                    excepting=excepting,
                )
            )
            removed += len(step.removed)
            more, self._last_flow = step.more, step.last_flow
            self._last_past = step.last if more or excepting else FIRST
        return removed

    async def write_counters(self, counters: Mapping[str, int]) -> None:
        self._check()

        def write(connection: apsw.Connection) -> None:
            for name, value in counters.items():
                write_counter(connection, name, value)

        await self._writer.write(write)

    def follow_removals(self, listener: Callable[[Sequence[int]], None]) -> None:
        """Call `listener` with the numbers of executions that were removed, whoever asked for that."""
        self._removals = listener

    async def delete(self, seqs: Collection[int]) -> int:
        """Remove executions that have ended, as `expire` does, at most `DEFAULT_PAGE`; return their number.

        Others are left alone. Dedupe keys stay for their windows: an event that is sent again still is a duplicate.
        """
        return len((await self._remove(partial(expiry.delete_ended, seqs=list(seqs)))).removed)

    async def _remove(self, remove: Callable[[apsw.Connection], ExpiryStep]) -> ExpiryStep:
        self._check()
        step = await self._writer.write(remove)
        self._removals(step.removed)
        if step.blobs:
            await asyncio.to_thread(self._blobs.remove, step.blobs)
        return step

    async def erase(self, execution_id: str, *, rejections: Collection[str], now_ms: int) -> stored.Erasure:
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
            erasure, blobs, seqs = await self._writer.write(
                partial(erase, execution_id=execution_id, references=references, rejections=rejections, now_ms=now_ms)
            )
            self._removals(seqs)
        except NotFoundError:
            earlier = await self.erased(execution_id)
            if earlier is None:
                raise
            erasure, blobs = earlier, []
        if blobs:
            await asyncio.to_thread(self._blobs.erase, blobs)
        await self._wiping.finish()
        return erasure

    def _check(self) -> None:
        if self._lost:
            raise ConflictError("the shard has a newer owner", reason="SHARD_LOST")


def approximate_bytes(change: stored.StateChange) -> int:
    """Return about how many bytes a change holds while it waits to be written."""
    size = _SIZES.get(type(change))
    return 64 if size is None else 128 + size(change)


def _error_bytes(error: WorkflowError | None) -> int:
    return 0 if error is None else error.size


def _entry_bytes(entry: JournalEntry) -> int:
    return len(entry.output or b"") + _error_bytes(entry.error)


_SIZES: Final[dict[type[stored.StateChange], Callable[[Any], int]]] = {
    stored.Ended: lambda each: (
        len(each.output or b"")
        + len(each.reply or b"")
        + len(each.history)
        + len(each.runner)
        + _error_bytes(each.error)
    ),
    stored.Replied: lambda each: len(each.reply),
    stored.Parked: lambda each: (
        len(each.history)
        + (len(dump_subscriptions(each.subscriptions)) if each.subscriptions else 0)
        + (len(dump_retry(each.retry)) if each.retry else 0)
    ),
    stored.Journaled: lambda each: len(each.history) + _entry_bytes(each.entry),
    stored.Delivered: lambda each: _entry_bytes(each.entry),
    stored.LifecycleRecorded: lambda each: len(each.data),
    stored.GroupLeft: lambda each: 64 * len(each.absorbed),
    stored.Resolved: lambda each: len(each.reason),
}
"""What changes hold beside their numbers, for those that may hold much."""
