"""Writes of a shard's state: retried until they succeed, with the lifecycle events that report them.

Nothing here knows runners, or what follows from a change.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any, Final, TypeVar

import attrs

from flowhook.errors import UnavailableError
from flowhook.events.lifecycle import FROM_RUNNERS, OF_END, LifecycleEvent, WorkflowEventType
from flowhook.model import Status
from flowhook.process import logs
from flowhook.retrying import RETRY_SECONDS
from router.dispatch.effects import SEND_WANTED_TYPES, EffectQueue
from router.scheduling.shard import Shard
from router.storage.model import Ended, LifecycleRecorded, Parked, Requeued, Resumed, Started, StateChange, Suspended
from router.storage.shard_state import ShardState

MAX_PENDING: Final = 100_000  # lifecycle events that may be pending; further ones are dropped
_NONE: Final[frozenset[str]] = frozenset()

log = logs.get_logger(__name__)


@attrs.define(eq=False, repr=False)
class LifecycleOutbox:
    """Transactional outbox for lifecycle events: derives them from changes, with which they are stored.

    `triggers.lifecycle_publisher` publishes them. No event is created unless a flow or an execution wants events of its
    type: without any, a change costs one look-up in a set. `by_executions` is read anew each time.
    """

    _now_ms: Callable[[], int]
    # types that executions wait for, whatever the current revision of their flow
    by_executions: Collection[str] = attrs.field(kw_only=True)
    _effects: EffectQueue = attrs.field(kw_only=True)
    # types that flows want by their current revision
    by_flows: Collection[str] = attrs.field(init=False, factory=frozenset)
    pending: int = attrs.field(init=False, default=0)  # approximate number of events that are stored and not published
    has_pending: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)  # set when further events were stored
    _full: bool = attrs.field(init=False, default=False)

    @property
    def wanted(self) -> bool:
        return bool(self.by_flows or self.by_executions)

    def set_wanted_by_flows(self, types: Collection[str]) -> None:
        self.by_flows = types
        self._effects.add(SEND_WANTED_TYPES)

    def of(self, changes: Sequence[StateChange]) -> list[LifecycleRecorded]:
        """Return the lifecycle events to store with changes, and before them."""
        now_ms = self._now_ms()
        found = [each for change in changes for each in lifecycle_records(change, now_ms) if self._wants(each.type)]
        within = {each.seq: each.time_ms for each in reversed(found) if each.key}
        if within:  # an execution must not start later than events within it, which have the time of a runner's clock
            found = [
                each._replace(time_ms=min(each.time_ms, within[each.seq]))
                if each.first and each.seq in within
                else each
                for each in found
            ]
        # further events are dropped, never changes: an execution must not fail because no flow reads about it
        room = MAX_PENDING - self.pending
        if len(found) > room:
            if not self._full:
                log.warning("too many lifecycle events are pending; dropping further ones", pending=self.pending)
            self._full = True
            return found[:room]
        self._full = False
        return found

    def records_from_runner(self, seq: int, events: Sequence[LifecycleEvent]) -> list[LifecycleRecorded]:
        """Convert events that a runner reported from within an execution, if they are wanted, into changes for `of`."""
        return [
            LifecycleRecorded(seq, type_, time_ms, key=key, data=data)
            for type_, key, time_ms, data in events
            if type_ in FROM_RUNNERS and self._wants(type_)
        ]

    @property
    def from_runners(self) -> frozenset[str]:
        """Wanted types, of those that only runners can report."""
        return FROM_RUNNERS.intersection((*self.by_flows, *self.by_executions)) if self.wanted else _NONE

    def stored(self, count: int) -> None:
        self.pending += count
        self.has_pending.set()

    def _wants(self, type_: str) -> bool:
        return type_ in self.by_flows or type_ in self.by_executions


def lifecycle_records(change: StateChange, now_ms: int) -> Iterator[LifecycleRecorded]:
    """Yield the lifecycle events that a state change of an execution amounts to.

    The start of an execution is recorded with the first change that shows that a runner had it; storage decides whether
    a change is the first.
    """
    if isinstance(change, LifecycleRecorded):
        yield change
    elif isinstance(change, Started):
        yield LifecycleRecorded(change.seq, WorkflowEventType.STARTED, change.time_ms or now_ms, first=True)
    elif isinstance(change, Parked | Requeued):
        yield LifecycleRecorded(change.seq, WorkflowEventType.STARTED, now_ms, first=True)
    elif isinstance(change, Suspended):
        if change.term:
            yield LifecycleRecorded(change.seq, WorkflowEventType.STARTED, now_ms, first=True)
        yield LifecycleRecorded(change.seq, WorkflowEventType.SUSPENDED, now_ms)
    elif isinstance(change, Resumed):
        yield LifecycleRecorded(change.seq, WorkflowEventType.RESUMED, now_ms)
    elif isinstance(change, Ended):
        if not change.attempts and change.status is Status.COMPLETED:
            return  # another one absorbed it: it never began
        if change.attempts:  # else it was cancelled before it was assigned
            yield LifecycleRecorded(change.seq, WorkflowEventType.STARTED, change.end_time_ms, first=True)
        yield LifecycleRecorded(change.seq, OF_END[change.status], change.end_time_ms)


T = TypeVar("T")


@attrs.define(eq=False, repr=False)
class RetryingWriter:
    """Retrying writer of a shard's state, and the shard runtime's task group."""

    _state: ShardState
    _outbox: LifecycleOutbox
    _notified: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)
    _tasks: asyncio.TaskGroup | None = attrs.field(init=False, default=None)
    _closing: bool = attrs.field(init=False, default=False)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.TaskGroup]:
        """Accept tasks in the block, and wait for them when it is left."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                yield tasks
        finally:
            self._tasks = None

    def close(self) -> None:
        """Let the shard runtime stop: a write that fails is not retried any more."""
        self._closing = True

    @property
    def is_running(self) -> bool:
        return self._tasks is not None

    @property
    def is_open(self) -> bool:
        """Whether the shard runtime runs and is not about to stop."""
        return self._tasks is not None and not self._closing

    async def write(self, changes: Sequence[StateChange], *, patient: bool = False) -> None:
        """Store changes, retrying while storage is unavailable: they must not be lost while this process lives."""
        await self.call_with_retry(lambda: self.write_once(changes, patient=patient))

    async def write_once(self, changes: Sequence[StateChange], *, patient: bool = False) -> None:
        """Store changes, with the lifecycle events that report them, without a retry."""
        # the usual case: no flow subscribes to lifecycle events, and nothing is computed for them
        if not self._outbox.wanted:
            await self._state.write(changes, patient=patient)
            return
        occurred = self._outbox.of(changes)
        await self._state.write([*occurred, *(each for each in changes if not isinstance(each, LifecycleRecorded))])
        if occurred:
            self._outbox.stored(len(occurred))

    async def try_write(self, changes: Sequence[StateChange]) -> None:
        """Store changes that may be lost without harm: one try, errors are logged."""
        try:
            await self.write_once(changes)
        except UnavailableError as error:
            log.warning("starts of attempts not stored", reason=error.reason)

    async def call_with_retry(self, call: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                return await call()
            except UnavailableError as error:
                await self.pause(error)

    async def pause(self, error: UnavailableError) -> None:
        """Sleep before a retry; raise the error instead when the shard runtime is closing."""
        log.warning("storage is away; trying again", reason=error.reason)
        if self._closing:
            raise error
        await asyncio.sleep(RETRY_SECONDS)

    def notify(self) -> None:
        self._notified.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition, which is checked again after each `notify`."""
        while not condition():
            self._notified.clear()
            await self._notified.wait()

    async def run_shielded(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` and wait for it; it goes on when the waiting call is cancelled."""
        await asyncio.shield(self.spawn(work))

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` as a task of the shard runtime.

        Raises:
            UnavailableError: the shard runtime does not run, or is shutting down after a failure (`ROUTER_STOPPED`).
        """
        if self._tasks is not None:
            try:
                return self._tasks.create_task(work)
            except RuntimeError:  # the group is shutting down
                pass
        work.close()
        raise UnavailableError("the router is not running", reason="ROUTER_STOPPED")


# seconds after which an attempt that is still under way is stored, at the latest after twice that time; a quicker one
# costs no write of its own
STARTED_DELAY: Final = 0.1


@attrs.define(eq=False, repr=False)
class AttemptLog:
    """Stores the starts of longer attempts, so that they count even if router and runner crash.

    An execution that was woken by a time is still stored as waiting, and a router that restarts would deliver to it
    what it waited for. So its attempt is stored at the latest with its first journal entry: an entry delivered after
    that one would be one that the flow does not ask for.
    """

    _shard: Shard
    _writer: RetryingWriter
    _now_ms: Callable[[], int]
    # by execution, the Unix time (ms) at which a runner got it: what happens within it is never earlier; and the same
    # on the monotonic clock (s). In the order of these times, but for what was taken back.
    _pending: dict[int, tuple[int, float]] = attrs.field(init=False, factory=dict)
    _stored_as_waiting: set[int] = attrs.field(init=False, factory=set)
    _due: bool = attrs.field(init=False, default=False)

    def add(self, seqs: Iterable[int]) -> None:
        """Store the attempts that begin now at these executions, if they still are under way after `STARTED_DELAY`."""
        self._pending.update(dict.fromkeys(seqs, (self._now_ms(), monotonic())))
        self._schedule()

    def restore(self, starts: Collection[Started]) -> None:
        """Take back starts that could not be stored with what they were taken for."""
        self._pending.update((each.seq, (each.time_ms, 0.0)) for each in starts)
        self.woken(each.seq for each in starts)
        self._schedule()

    def _schedule(self) -> None:
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_later(STARTED_DELAY, self._write)

    def woken(self, seqs: Iterable[int]) -> None:
        """Register executions that run again, and may still be stored as waiting."""
        self._stored_as_waiting.update(seqs)

    def begin(self, seq: int, *, woken: bool = False) -> Sequence[Started]:
        """Return the start to store in another write now, if it is not stored already.

        `woken`: only if the execution is stored as waiting.
        """
        if seq not in (self._stored_as_waiting if woken else self._pending):
            return ()
        attempt = self._shard.leases.attempt_of(seq)
        if attempt is None:
            return ()
        time_ms, _ = self._pending.get(seq, (0, 0.0))
        self.drop(seq)
        return (Started(seq, attempt, time_ms=time_ms),)

    def drop(self, seq: int) -> None:
        self._pending.pop(seq, None)
        self._stored_as_waiting.discard(seq)

    def _write(self) -> None:
        self._due = False
        until = monotonic() - STARTED_DELAY
        # younger ones are likely to end soon: they stay for the next time
        pending = list(itertools.takewhile(lambda each: each[1][1] <= until, self._pending.items()))
        for seq, _ in pending:
            del self._pending[seq]
        if self._pending:
            self._schedule()
        changes = [
            Started(seq, attempt, time_ms=time_ms)
            for seq, (time_ms, _) in pending
            if (attempt := self._shard.leases.attempt_of(seq)) is not None
        ]
        if changes and self._writer.is_open:
            self._writer.spawn(self._writer.try_write(changes))
