"""Assigns ready executions to runners: sends those in the memory cache at once, and has the others loaded.

They are loaded from storage in chunks, with one task for each runner. So no runner's work waits for another's, for a
runner that is slow to receive, or for an execution that can't be read; and the amount that was read and is not sent yet
is bounded. When a runner detaches, the assignments it has not received are released, uncharged.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final

import attrs

from flowhook import limits
from flowhook.attach.messages import Assignment
from flowhook.errors import FlowhookError, UnavailableError
from flowhook.events.keys import rate_fingerprint
from flowhook.process import logs
from flowhook.wire.event_body import with_batch
from router.dispatch.effects import ASSIGN_READY
from router.dispatch.parts import Alarm, ShardParts
from router.dispatch.runners import RunnerPort
from router.dispatch.transitions import TransitionWriter
from router.scheduling.leases import Lease
from router.storage.model import RateReserved, Started, Work

EXECUTIONS_PER_READ: Final = 128  # most executions in one read
# executions queued for one runner beyond which it is assigned no more: another runner may take them sooner
MAX_QUEUED_ASSIGNMENTS: Final = 2 * EXECUTIONS_PER_READ
READ_RETRY_SECONDS: Final = 0.5  # seconds between tries to read while storage is unavailable
# largest event with its journal, in bytes; a larger one does not fit into a message
MAX_ASSIGNMENT_BYTES: Final = limits.MAX_MESSAGE_BYTES - limits.MIB
log = logs.get_logger(__name__)


@attrs.define(eq=False, repr=False)
class AssignmentLoader:
    """Loads assignments; runs one task for each runner with assignments to load."""

    _parts: ShardParts
    _transitions: TransitionWriter
    _queued: dict[RunnerPort, deque[Lease]] = attrs.field(init=False, factory=dict)

    def full(self, runner: RunnerPort) -> bool:
        """Whether so much is queued for a runner that it should be assigned no more for now."""
        return len(self._queued.get(runner, ())) >= MAX_QUEUED_ASSIGNMENTS

    def add(self, runner: RunnerPort, assigned: Sequence[Lease]) -> None:
        queued = self._queued.get(runner)
        if queued is None:
            self._queued[runner] = deque(assigned)
            self._parts.writer.spawn(self._load(runner, self._queued[runner]))
        else:
            queued.extend(assigned)

    def leave(self, runner: RunnerPort) -> None:
        """Release the assignments that a runner has not received: its stream ended, or is about to."""
        queued = self._queued.pop(runner, ())
        for item in queued:
            self._parts.shard.refund(item.seq)
        self._transitions.lose(
            [
                loss
                for item in queued
                if (loss := self._parts.shard.losses.release(item.token, charged=False)) is not None
            ]
        )

    def leave_all(self) -> None:
        for runner in list(self._queued):
            self.leave(runner)

    async def _load(self, runner: RunnerPort, queued: deque[Lease]) -> None:
        """Read and send the assignments queued for a runner, until there are none or the runner has left."""
        alone = 0
        while queued:
            # a runner that reads slowly delays only its own task
            await runner.room()
            chunk = [queued[position] for position in range(1 if alone else min(EXECUTIONS_PER_READ, len(queued)))]
            alone = max(0, alone - 1)
            try:
                found = await self._read(chunk)
            except FlowhookError as error:
                log.warning("work can't be read", reason=error.reason, executions=len(chunk))
                if isinstance(error, UnavailableError):
                    await asyncio.sleep(READ_RETRY_SECONDS)
                if self._queued.get(runner) is not queued:
                    return
                if len(chunk) > 1:
                    alone = len(chunk)  # read one at a time, to find the one that can't be read
                elif isinstance(error, UnavailableError):
                    queued.rotate(-1)
                else:
                    self._transitions.fault(queued.popleft(), "what is stored of it can't be read")
                continue
            if self._queued.get(runner) is not queued:
                return
            self._send(runner, queued, [queued.popleft() for _ in chunk], found)
            self._parts.effects.add(ASSIGN_READY)
        if self._queued.get(runner) is queued:
            del self._queued[runner]

    async def _read(self, chunk: Iterable[Lease]) -> dict[int, Work]:
        good = [item for item in chunk if self._parts.shard.leases.seq_of(item.token) is not None]
        # an execution found at the start may have crashed the router: an attempt at it is stored before it begins, so
        # that it counts whatever happens, and no runner resumes an attempt from before it
        begun = [
            Started(item.seq, item.attempt, self._parts.shard.leases.term_of(item.seq))
            for item in good
            if self._parts.shard.leases.is_recovered(item.seq)
        ]
        rates = self._parts.shard.queues.rates
        unreserved = [item.seq for item in good if item.seq in rates.unreserved] if rates.unreserved else ()
        lines = rates.reserve(unreserved)
        if begun or lines:
            ahead_ms = self._parts.now_ms() - self._parts.clock() * 1000
            reserved = [(rate_fingerprint(*line.id), math.ceil(until * 1000 + ahead_ms)) for line, until in lines]
            await self._parts.writer.write_once([*map(RateReserved._make, reserved), *begun])
            rates.reserved(unreserved, lines)
        found = await self._parts.state.work([item.seq for item in good]) if good else {}
        batches = self._parts.shard.batched(found)
        return await self._with_batches(found, batches) if batches else found

    async def _with_batches(self, found: dict[int, Work], batches: Sequence[int]) -> dict[int, Work]:
        """Return what was found, with the other events of its batches: always the same, at each attempt."""
        read = await self._parts.state.batched(batches)
        complete = {seq: work for seq, work in found.items() if seq not in batches}
        for seq, events in read.items():
            if 1 + len(events) == self._parts.shard.events_of(seq):
                complete[seq] = found[seq]._replace(payload=with_batch(found[seq].payload, events))
            else:  # its other events were removed, which retention and operators can't do
                complete[seq] = found[seq]._replace(payload=b"")
        return complete

    def _send(self, runner: RunnerPort, queued: deque[Lease], chunk: Sequence[Lease], found: dict[int, Work]) -> None:
        assignments: list[Assignment] = []
        unread: list[Lease] = []
        for item in chunk:
            work = found.get(item.seq)
            if self._parts.shard.leases.seq_of(item.token) is None:
                self._parts.shard.runners.return_credit(runner.runner_id)  # cancelled meanwhile, and never sent
            elif work is None:
                unread.append(item)
            elif not work.payload:
                self._transitions.fault(item, "events of its batch are missing from storage")
            elif _size(work) > MAX_ASSIGNMENT_BYTES:
                self._transitions.fault(item, "its event and its journal together are larger than a message may be")
            else:
                _, revision, payload, journal, start, scope = work
                permits = self._parts.outages.permits
                permit = permits.pop(item.seq, None) if permits else None
                allowed = ("", "") if permit is None else permit[1:3]
                resumed = self._parts.shard.leases.term_of(item.seq) > 0
                assignments.append(
                    Assignment(item.token, item.attempt, revision, payload, journal, start, scope, *allowed, resumed)
                )
        if assignments:
            runner.assign(assignments, urgent=any(item.is_quiet for item in chunk))
        if found:
            queued.extendleft(reversed(unread))  # storage bounds the bytes of one read: read the rest next
        else:
            for item in unread:
                self._transitions.fault(item, "its event is missing from storage")


def _size(work: Work) -> int:
    journal = sum(128 + len(entry.key) + len(entry.output or b"") for entry in work.journal)
    return len(work.payload) + journal


ASSIGN_RETRY_SECONDS: Final = 0.1  # between two tries to assign while that is not permitted
MIN_TURN_SECONDS: Final = 0.001  # between two looks at whose turn it is by the rates of flows


@attrs.define(eq=False, repr=False)
class AssignmentDispatcher:
    """Passes on what the scheduling core assigns, until it is stopped, and only while `may_assign` permits it."""

    _parts: ShardParts
    _loader: AssignmentLoader
    _may_assign: Callable[[], bool]
    _alarm: Alarm = attrs.field(init=False)  # for the next turn of an execution with a rate, or the next try
    _stopped: bool = attrs.field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self._alarm = Alarm(partial(self._parts.effects.add, ASSIGN_READY))

    def stop(self) -> None:
        self._stopped = True
        self._alarm.cancel()
        self._loader.leave_all()

    def assign(self) -> None:
        """Assign at most one batch to each runner; if more is ready, `AssignReady` is queued for the next one."""
        if self._stopped:
            return
        if not self._may_assign():
            self._alarm.set(ASSIGN_RETRY_SECONDS)
            return
        self._parts.runners.send_wanted_types()
        queues = self._parts.shard.queues
        if not queues.may_assign:
            return
        full = [runner.runner_id for runner in self._parts.runners if runner.full or self._loader.full(runner)]
        granted = self._parts.shard.assign(full, self._parts.now_ms(), self._parts.clock())
        due = queues.next()
        if due is not None:
            self._alarm.set(max(due - self._parts.clock(), MIN_TURN_SECONDS))
        if granted:
            self._send(granted)
            self._granted(granted)

    def _send(self, granted: Sequence[Lease]) -> None:
        """Send the runners what is in the cache, and have the rest loaded."""
        unreserved, runners = self._parts.shard.queues.rates.unreserved, self._parts.runners
        cached: dict[str, list[Assignment]] = {}
        stored: dict[str, list[Lease]] = {}
        urgent: set[str] = set()
        for item in granted:
            runner_id, event = item.runner.id, self._parts.cache.pop(item.seq)
            # a second attempt needs the journal of the first, which only storage has
            if event is None or item.attempt > 1 or item.seq in unreserved:
                stored.setdefault(runner_id, []).append(item)
                continue
            assignment = Assignment(item.token, item.attempt, event.flow_revision, event.payload)
            cached.setdefault(runner_id, []).append(assignment)
            if item.is_quiet:
                urgent.add(runner_id)
        for runner_id, assignments in cached.items():
            runners[runner_id].assign(assignments, urgent=runner_id in urgent)
        for runner_id, items in stored.items():
            self._loader.add(runners[runner_id], items)

    def _granted(self, granted: Sequence[Lease]) -> None:
        if self._parts.shard.queues.ready:
            self._parts.effects.add(ASSIGN_READY)
        self._parts.attempt_log.add(item.seq for item in granted)
        self._parts.metrics.granted += len(granted)
        first = ((item.seq, item.queue.flow_id) for item in granted if self._parts.shard.is_first(item))
        self._parts.statistics.assigned(first, self._parts.clock())
        self._parts.watchers.changed(item.seq for item in granted)
