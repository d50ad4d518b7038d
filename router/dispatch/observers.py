"""Notifies callers, watchers and readers of ends about durable changes in executions. All queues are bounded."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import Final, NamedTuple

import attrs

from flowhook import limits
from flowhook.errors import ConflictError, FlowhookError, NotFoundError
from flowhook.model import Status
from flowhook.model.execution_filter import ExecutionFilter
from flowhook.model.executions import AttemptHistory, BlockedBy, ShapedBy, Turn
from flowhook.process import logs
from flowhook.sharing import Limit, Principal, SharedLimit, current_principal
from flowhook.sharing.table import RouterLimits
from router.scheduling.order_keys import HeldTurn
from router.scheduling.outages import Outages
from router.scheduling.shard import Shard
from router.storage import model as stored
from router.storage.limits import DEFAULT_PAGE
from router.storage.shard_state import ShardState

# statuses for which the scheduling core is more current than storage
IN_MOTION: Final = frozenset({Status.PENDING, Status.RUNNING, Status.WAITING})


def stored_conditions(execution_filter: ExecutionFilter) -> ExecutionFilter:
    """Return conditions to read from storage with: a stored status of `IN_MOTION` may be any of these by now."""
    if IN_MOTION.isdisjoint(execution_filter.statuses):
        return execution_filter
    return execution_filter._replace(statuses=tuple(IN_MOTION.union(execution_filter.statuses)))


def meets(record: stored.ExecutionRecord, execution_filter: ExecutionFilter) -> bool:
    """Whether the current state of an execution, of which the stored one met conditions, meets them."""
    return (
        not execution_filter.statuses or record.status in execution_filter.statuses
    ) and record.attempts >= execution_filter.min_attempts


@attrs.define(eq=False, repr=False)
class ExecutionRecords:
    """The records of a shard's executions, in their current state. UnavailableError: storage can't serve."""

    _shard: Shard
    _outages: Outages
    _state: ShardState
    _clock: Callable[[], float]
    _now_ms: Callable[[], int]

    async def find(self, execution_id: str) -> stored.ExecutionRecord:
        """Return an execution; NotFoundError: it is unknown or past retention (`EXECUTION_NOT_FOUND`)."""
        record = await self._state.find(execution_id)
        if record is None:
            raise NotFoundError(f"there is no execution {execution_id}", reason="EXECUTION_NOT_FOUND")
        (current,) = await self.current([record])
        return current

    async def attempts(self, seq: int) -> AttemptHistory:
        """Return the interrupted attempts of an execution, and after them the one that ended it or is under way."""
        history = await self._state.attempts(seq)
        lease = self._shard.leases.of(seq)
        return history if lease is None else history._replace(attempts=(*history.attempts, lease.as_attempt()))

    async def current(self, records: Sequence[stored.ExecutionRecord]) -> list[stored.ExecutionRecord]:
        """Return records that were read from storage in their current state. At most `DEFAULT_PAGE` at a time.

        Those that look pending are read again: if they have ended since they were read, the core does not know them any
        more, as if they had not begun.
        """
        found = [self._overlay(record) for record in records]
        pending = [record.seq for record in found if record.status is Status.PENDING]
        again = await self.read(pending) if pending else {}
        return await self._with_blockers(self._with_turns([again.get(record.seq, record) for record in found]))

    async def read_whole(self, seqs: Collection[int]) -> dict[int, stored.ExecutionRecord]:
        """Do the same as `read`, and add what pending executions wait for."""
        found = await self._with_blockers(self._with_turns([*(await self.read(seqs)).values()]))
        return {record.seq: record for record in found}

    async def _with_blockers(self, records: list[stored.ExecutionRecord]) -> list[stored.ExecutionRecord]:
        """Add by which execution those are blocked that wait for the turn of their order key."""
        blockers = {
            record.seq: blocker
            for record in records
            if record.order_key and (blocker := self._shard.order_keys.blocker(record.seq)) is not None
        }
        if not blockers:
            return records
        ids = await self._state.execution_ids({blocker.seq for blocker in blockers.values()})
        return [
            record
            if (blocker := blockers.get(record.seq)) is None or blocker.seq not in ids
            else replace(
                record,
                blocked_by=BlockedBy(ids[blocker.seq], None if blocker.held is None else blocker.held.since_ms),
            )
            for record in records
        ]

    def _with_turns(self, records: list[stored.ExecutionRecord]) -> list[stored.ExecutionRecord]:
        """Add what pending executions wait for by the limits of their flows."""
        pending = [record.seq for record in records if record.status is Status.PENDING]
        queues = self._shard.queues
        timed, placed = queues.rates.waits(pending), queues.places.positions(pending)
        grouped = self._shard.groups.expected(pending)
        if not (timed or placed or grouped):
            return records
        ahead_ms = self._now_ms() - self._clock() * 1000  # the Unix time at which the clock of the core began
        turns = {seq: Turn(ShapedBy.CONCURRENCY, position) for seq, position in placed.items()}
        for seq, (until_ms, events, size) in grouped.items():
            turns[seq] = Turn(ShapedBy.BATCH if size else ShapedBy.DEBOUNCE, 0, until_ms, events, size)
        for seq, (until, place) in timed.items():
            turns[seq] = Turn(ShapedBy.RATE, place or 0, None if until is None else int(until * 1000 + ahead_ms))
        return [replace(record, turn=turns.get(record.seq)) for record in records]

    async def read(self, seqs: Collection[int]) -> dict[int, stored.ExecutionRecord]:
        """Return executions by sequence number, in their current state. At most `DEFAULT_PAGE` at a time."""
        under_way = set(filter(self._is_under_way, seqs))
        found = {seq: self._overlay(record) for seq, record in (await self._state.records(seqs)).items()}
        # these ended after they were read: overlaid with the core's present state they would look pending
        outdated = [seq for seq in under_way & found.keys() if not (found[seq].status.ended or self._is_under_way(seq))]
        return found | await self.read(outdated) if outdated else found

    def _held(self, record: stored.ExecutionRecord) -> HeldTurn | None:
        held = self._shard.order_keys.held_of(record.seq) if record.order_key else None
        return held if held is not None and held.seq == record.seq else None

    def check_turn(self, record: stored.ExecutionRecord) -> None:
        """ConflictError: an execution or a replay of it keeps the turn of its order key (`EXECUTION_KEEPS_TURN`)."""
        if self._shard.order_keys.held_for(record.flow_id, record.order_key, record.root) is not None:
            raise ConflictError(
                f"{record.id} keeps the turn of its order key, and others wait for that: resolve it first",
                reason="EXECUTION_KEEPS_TURN",
            )

    def _is_under_way(self, seq: int) -> bool:
        return self._shard.leases.of(seq) is not None or self._shard.pending.is_stopping(seq)

    def _overlay(self, record: stored.ExecutionRecord) -> stored.ExecutionRecord:
        """Return a record corrected by what only the core knows: whether a runner runs it, or it was woken."""
        if record.status.ended:
            return record if self._held(record) is None else replace(record, keeps_turn=True)
        attempt = self._shard.leases.attempt_of(record.seq)
        if attempt is not None:
            return replace(record, status=Status.RUNNING, attempts=attempt, retry=None)
        if self._shard.pending.is_stopping(record.seq):
            return replace(record, status=Status.RUNNING, retry=None)
        woken = record.status is Status.WAITING and not self._shard.is_waiting(record.seq)
        if woken or record.status is Status.RUNNING:
            return replace(record, status=Status.PENDING, retry=None)
        destinations = self._outages.destinations_of(record.seq)
        return replace(record, destinations=destinations) if destinations else record


@attrs.define(eq=False, repr=False)
class AwaitedEvents:
    """Flows of which the next event that somebody sends is awaited; `changed` is set when some got one."""

    flows: set[str] = attrs.field(init=False, factory=set)
    changed: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)
    _arrived: set[str] = attrs.field(init=False, factory=set)

    def accepted(self, events: Iterable[stored.LoggedEvent]) -> None:
        if arrived := {each.flow_id for _, each in events if each.flow_id in self.flows and each.is_request}:
            self._arrived |= arrived
            self.changed.set()

    def take(self) -> set[str]:
        """Return the flows that got one since the last call."""
        taken, self._arrived = self._arrived, set()
        return taken


# memory of a waiting call beside its request, which stays in memory until the call is answered
CALL_BYTES: Final = 25 * limits.KIB
WaitResult = stored.Replied | stored.Ended  # the result of a wait: a reply, or the end of an execution that gave none


class ReplyWaiters:
    """Callers that wait for executions to reply, or to end without a reply."""

    def __init__(self, limits: RouterLimits) -> None:
        self._of_flow = SharedLimit(limits.replies_of_flow)
        self._of_token = SharedLimit(limits.replies_of_token)
        self._waiters: dict[int, list[asyncio.Future[WaitResult]]] = {}

    @contextmanager
    def place(self, flow_id: str, size: int = 0) -> Iterator[Callable[[int], asyncio.Future[WaitResult]]]:
        """Reserve capacity for a caller of the flow, before any irreversible work; freed when the block is left.

        The value, called once, returns a future of an execution's next reply, or its end; an earlier reply is not seen.
        `size`: bytes of the request.

        Raises:
            ExhaustedError: callers of the flow, or those with the same token, have their share
                (`TOO_MANY_WAITERS`).
            UnavailableError: there is no room for more callers (`WAITERS_FULL`).
        """
        size += CALL_BYTES
        flow, token = Principal("flow", flow_id), current_principal.get()
        with self._of_flow.acquire(flow, size), self._of_token.acquire(token, size):
            waiting: list[tuple[int, asyncio.Future[WaitResult]]] = []

            def wait_for(seq: int) -> asyncio.Future[WaitResult]:
                future: asyncio.Future[WaitResult] = asyncio.get_running_loop().create_future()
                self._waiters.setdefault(seq, []).append(future)
                waiting.append((seq, future))
                return future

            try:
                yield wait_for
            finally:
                for seq, future in waiting:
                    futures = self._waiters.get(seq, [])
                    if future in futures:
                        futures.remove(future)
                        if not futures:
                            del self._waiters[seq]

    def answer(self, answers: Iterable[WaitResult]) -> None:
        """Pass replies and ends, which must be durable, to callers that wait for their executions."""
        for each in answers if self._waiters else ():
            for future in self._waiters.pop(each.seq, ()):
                if not future.done():
                    future.set_result(each)


WATCH_QUEUE: Final = 1000  # changes queued for one watcher; further ones are dropped, and counted as missed
MAX_CHANGED: Final = 10_000  # changed executions that are queued to be read for the watchers
log = logs.get_logger(__name__)


class WatchedChange(NamedTuple):
    """An execution after a change, and the number of changes that were dropped just before it."""

    record: stored.ExecutionRecord
    missed: int


@attrs.define(eq=False, repr=False)
class ExecutionWatcher:
    """One watcher of changes of executions, of one flow or (empty) of all flows."""

    _flow_id: str
    _queue: deque[WatchedChange] = attrs.field(init=False, factory=deque)
    _missed: int = attrs.field(init=False, default=0)
    _woken: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)

    async def next(self) -> WatchedChange:
        while not self._queue:
            self._woken.clear()
            await self._woken.wait()
        return self._queue.popleft()

    def offer(self, record: stored.ExecutionRecord) -> None:
        """Queue a change, or count it as missed when the queue is full."""
        if self._flow_id and record.flow_id != self._flow_id:
            return
        if len(self._queue) >= WATCH_QUEUE:
            self._missed += 1
            return
        self._queue.append(WatchedChange(record, self._missed))
        self._missed = 0
        self._woken.set()

    def miss(self, changes: int) -> None:
        self._missed += changes


class ExecutionWatchers:
    """Publishes changes of executions to watchers; without any watcher, a change costs one test of a set.

    One task reads the changed executions in order: no watcher sees an earlier state after a later one. Changes of an
    execution that follow each other faster than they can be read are merged.
    """

    def __init__(
        self, read: Callable[[list[int]], Awaitable[Mapping[int, stored.ExecutionRecord]]], limit: Limit
    ) -> None:
        """Publish changes; `read` returns executions by sequence number, in their current state."""
        self._read = read
        self._limit = SharedLimit(limit)
        self._watchers: set[ExecutionWatcher] = set()
        self._changed: dict[int, None] = {}
        self._woken = asyncio.Event()

    def changed(self, seqs: Iterable[int]) -> None:
        if not self._watchers:
            return
        for seq in seqs:
            if len(self._changed) < MAX_CHANGED or seq in self._changed:
                self._changed[seq] = None
            else:
                self._miss(1)
        self._woken.set()

    @contextmanager
    def watch(self, flow_id: str) -> Iterator[ExecutionWatcher]:
        """Register a watcher until the block is left: it receives each change from now on, or counts it as missed.

        Raises:
            ExhaustedError: the caller has its share of watchers (`TOO_MANY_WATCHERS`).
            UnavailableError: there is no room for more (`WATCHERS_FULL`).
        """
        with self._limit.acquire(current_principal.get()):
            watcher = ExecutionWatcher(flow_id)
            self._watchers.add(watcher)
            try:
                yield watcher
            finally:
                self._watchers.discard(watcher)

    async def run(self) -> None:
        while True:
            await self._woken.wait()
            self._woken.clear()
            while self._changed:
                seqs = list(islice(self._changed, DEFAULT_PAGE))
                for seq in seqs:
                    del self._changed[seq]
                if self._watchers:
                    await self._publish(seqs)

    async def _publish(self, seqs: list[int]) -> None:
        try:
            records = await self._read(seqs)
        except FlowhookError as error:
            log.debug("changes can't be read", reason=error.reason)
            self._miss(len(seqs))
            return
        for seq in seqs:
            if seq in records:
                for watcher in self._watchers:
                    watcher.offer(records[seq])

    def _miss(self, changes: int) -> None:
        for watcher in self._watchers:
            watcher.miss(changes)


@attrs.define(eq=False, repr=False)
class EndReader:
    """The ends of the executions that one reader awaits; `changed` is set when there are some to collect."""

    _changed: asyncio.Event
    _awaited: set[int] = attrs.field(init=False, factory=set)
    _ended: list[stored.Ended] = attrs.field(init=False, factory=list)

    def await_end(self, seq: int) -> None:
        self._awaited.add(seq)

    def forget(self, seq: int) -> None:
        self._awaited.discard(seq)

    def put(self, ends: Sequence[stored.Ended]) -> None:
        found = [end for end in ends if end.seq in self._awaited] if self._awaited else ()
        if found:
            self._awaited.difference_update(end.seq for end in found)
            self._ended += found
            self._changed.set()

    def collect(self) -> list[stored.Ended]:
        ended, self._ended = self._ended, []
        return ended
