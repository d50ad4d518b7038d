"""Executions of a shard that hold no lease: ready, blocked by an order key, waiting for a time, or suspended.

Ready executions are drawn round-robin. Each flow has a queue in order of arrival. Flows that have a ready execution,
are not paused and are below their concurrency limit form a ring; each draw takes one execution of the flow in front,
which then goes to the back. So a flow with a backlog of a million delays another flow's next execution by one turn of
the ring, not by its backlog. A queue holds only sequence numbers (40 bytes each), so that millions fit in memory.

Wake times are Unix milliseconds, because a flow waits for a wall-clock time, which stays the same across a restart.
Unlike the other times of the core they belong to a clock that can be set back or forward; it is read again each time,
so that only the current reading counts.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import Final, NamedTuple

from flowhook.attach.send_pacing import QUIET
from flowhook.events.keys import ShapingKeys
from router.scheduling.groups import GroupPolicy
from router.scheduling.lines import WaitingLine
from router.scheduling.outages import DEFAULT_BREAKER_POLICY, BreakerPolicy
from router.scheduling.places import KeyedPlaces
from router.scheduling.rates import RateLines, RatePolicy


@dataclass(frozen=True, slots=True)
class FlowPolicy:
    """Limits of a flow."""

    # executions under lease at a time, including those that may be after a restart; None: no limit
    concurrency: int | None = None
    paused: bool = False  # its executions are not assigned
    # the flow is deleted; the policy applies to its remaining executions and is dropped with the last one
    retired: bool = False
    keeps_turns: bool = False  # executions that fault keep the turn of their order key
    rate: RatePolicy | None = None  # how often its executions are assigned; None: as often as there is room
    key_concurrency: int | None = None  # executions of one key that may run at a time; None: no limit
    by_priority: bool = False  # whether its executions may have priorities
    group: GroupPolicy | None = None  # how its events are debounced or batched; None: each is run
    weight: int = 1  # executions that it has in one turn of the ring
    outage: BreakerPolicy | None = DEFAULT_BREAKER_POLICY  # when its calls park; None: never


DEFAULT_POLICY = FlowPolicy()


def _lines_of(policy: FlowPolicy) -> tuple[bool | None, int | None, bool]:
    """Return what decides in which lines the executions of a flow wait."""
    return None if policy.rate is None else policy.rate.keyed, policy.key_concurrency, policy.by_priority


def _drain(line: deque[int] | WaitingLine) -> Iterator[int]:
    while line:
        yield line.popleft()


STATES: Final = ("ready", "delayed", "leased", "waiting", "suspended")


class FlowLoad(NamedTuple):
    """Unfinished executions, by what they do: those of `STATES`, then more about a flow."""

    ready: int = 0  # those that wait for a runner
    delayed: int = 0  # by their rate, a place or the turn of their key, or their group
    running: int = 0  # those under lease, or about to end, wait or return
    waiting: int = 0  # those that wait for a time or an event
    suspended: int = 0  # those that an operator suspended
    retrying: int = 0  # those of the waiting ones that failed, and wait for another try
    # sequence number of the pending execution that runs next, perhaps once its rate lets it; None: there is none. In
    # the first seconds after a start it may be an earlier one of the flow, which runs already or has ended.
    next: int | None = None
    paused: bool = False  # then that one runs only once the flow is resumed

    @property
    def due(self) -> int | None:
        """That one if nothing but a lack of runners, or of places, keeps it from running."""
        return self.next if self.ready and not self.paused else None

    @property
    def pending(self) -> int:
        return self.ready + self.delayed

    @property
    def total(self) -> int:
        return sum(self[:5])

    def by_state(self) -> Iterator[tuple[str, int]]:
        return zip(STATES, self[:5], strict=True)

    def without(self, other: FlowLoad) -> FlowLoad:
        """Return what is left of all flows without one."""
        left = [max(0, mine - its) for mine, its in zip(self[:5], other[:5], strict=True)]
        ready, delayed, running, waiting, suspended = left
        return FlowLoad(ready, delayed, running, waiting, suspended)


MAX_MOVED: Final = 1000  # executions of flows whose lines change that one call moves, so that it takes milliseconds


@dataclass(slots=True)
class LineChange:
    """Executions of a flow that move to other lines: first all are taken out of theirs, then they enter the others.

    What comes from several lines is in no order; they enter in order of arrival, and those that arrive meanwhile, too.
    """

    earlier: list[deque[int] | WaitingLine] = field(default_factory=list)  # ready ones that were not taken yet
    sources: Iterator[int] | None = None  # takes the next one out of its line; None: all are taken
    taken: list[int] = field(default_factory=list)  # a heap; those that are not in `seqs` were removed since
    seqs: set[int] = field(default_factory=set)

    def add(self, seq: int) -> None:
        self.seqs.add(seq)
        heapq.heappush(self.taken, seq)

    def remove(self, seq: int) -> bool:
        """Remove an execution, in time linear in the ready ones that were not taken yet; false: it is not here."""
        if seq in self.seqs:
            self.seqs.discard(seq)
            return True
        for line in self.earlier:
            if seq in line:
                line.remove(seq)
                return True
        return False


@dataclass(slots=True)
class FlowQueue:
    """One flow's ready executions, and counts of the others."""

    flow_id: str
    policy: FlowPolicy = DEFAULT_POLICY
    ready: deque[int] | WaitingLine = field(default_factory=deque)
    running: int = 0  # executions under lease, or about to end, wait or return
    held: int = 0  # executions found at a start that a runner may still be working on, and may claim when it reattaches
    first_held: int = 0  # sequence number of the first of them, which may have been claimed since
    waiting: int = 0  # executions that wait for a time or an event
    retrying: int = 0  # those among them that wait for another try
    suspended: int = 0  # executions that an operator suspended
    unfinished: int = 0  # accepted executions that have not ended
    in_ring: bool = False
    drawn: int = 0  # executions that it had in the present turn of the ring
    is_shaped: bool = False  # whether its executions get a place and a time before they are ready
    change: LineChange | None = None  # while its executions move to other lines; then `is_shaped`, too

    @property
    def eligible(self) -> bool:
        return bool(self.ready) and not self.policy.paused and (self.policy.concurrency is None or self.has_room)

    @property
    def has_room(self) -> bool:
        """Whether one more execution may run besides the running and the held ones."""
        concurrency = self.policy.concurrency
        return concurrency is None or self.running + self.held < concurrency


class FairQueues:
    """The queues of all flows of a shard. An idle flow with the default policy takes no memory."""

    def __init__(self) -> None:
        self._flows: dict[str, FlowQueue] = {}
        self._ring: deque[FlowQueue] = deque()
        self.ready = 0  # number of executions that wait for a runner, including paused and limited flows
        self._now = 0.0
        self.keys: dict[int, ShapingKeys] = {}  # of unfinished executions that have any
        self.places = KeyedPlaces(self.keys)
        self.rates = RateLines(self.keys)  # executions of flows with a rate; the first of each line is ready
        self._changes: dict[str, FlowQueue] = {}  # flows whose executions move to other lines
        self.keeping: set[str] = set()  # flows whose executions keep their turns

    def flow(self, flow_id: str) -> FlowQueue:
        queue = self._flows.get(flow_id)
        if queue is None:
            queue = self._flows[flow_id] = FlowQueue(flow_id)
        return queue

    def policy(self, flow_id: str) -> FlowPolicy:
        queue = self._flows.get(flow_id)
        return DEFAULT_POLICY if queue is None else queue.policy

    def set_policy(self, flow_id: str, policy: FlowPolicy) -> None:
        """Replace the limits of a flow; executions under lease are not affected.

        If they have to move to other lines, `release` goes on with that, until `next` says that it has nothing to do.
        """
        queue = self.flow(flow_id)
        earlier, queue.policy = queue.policy, DEFAULT_POLICY if policy == DEFAULT_POLICY else policy
        if _lines_of(earlier) != _lines_of(policy):
            self._change_lines(queue)
        elif policy.rate is not None and policy.rate != earlier.rate:
            self.rates.set_rate(flow_id, policy.rate)
        (self.keeping.add if policy.keeps_turns else self.keeping.discard)(flow_id)
        self._admit(queue)
        self.forget_if_idle(queue)

    def _change_lines(self, queue: FlowQueue) -> None:
        flow_id = queue.flow_id
        change = queue.change = queue.change or LineChange()
        self._changes[flow_id] = queue
        ready = queue.ready
        change.earlier.append(ready)
        drains = (_drain(ready), self.rates.drain(flow_id), self.places.drain(flow_id))
        change.sources = chain(change.sources or (), *drains)
        self.ready -= len(ready)
        queue.ready = WaitingLine(self.keys) if queue.policy.by_priority else deque()
        queue.is_shaped = True
        self._move(queue, change, MAX_MOVED)

    def _move(self, queue: FlowQueue, change: LineChange, limit: int) -> None:
        for _ in range(limit):
            if change.sources is not None:
                seq = next(change.sources, None)
                if seq is None:
                    change.sources = None
                    change.earlier.clear()
                else:
                    self._take(change, seq)
            elif not change.taken:
                break
            elif (seq := heapq.heappop(change.taken)) in change.seqs:
                change.seqs.discard(seq)
                self._enter(queue, seq)
        if change.sources is None and not change.taken:
            queue.change = None
            del self._changes[queue.flow_id]
            queue.is_shaped = queue.policy.rate is not None or queue.policy.key_concurrency is not None
            self.forget_if_idle(queue)

    def _take(self, change: LineChange, seq: int) -> None:
        """Take an execution out of its line. It does not run: places are given anew, to the first ones."""
        self.rates.withdrawn(seq)
        self.places.leave(seq, None)
        change.add(seq)

    def retire(self, flow_id: str) -> None:
        """Mark a flow as deleted: its remaining executions run under the same limits, except that a pause ends."""
        queue = self._flows.get(flow_id)
        if queue is not None:
            self.set_policy(flow_id, replace(queue.policy, paused=False, retired=True))

    def put(self, queue: FlowQueue, seq: int, *, first: bool = False) -> None:
        """Make an execution ready behind its flow's others, or before them, because it was queued before them.

        Where it needs a place of its key, or a time by a rate, it is ready as soon as it has both.
        """
        if not queue.is_shaped:
            self._put_ready(queue, seq, first=first)
        elif queue.change is not None and not (first and queue.change.sources is None):
            queue.change.add(seq)
        else:
            self._enter(queue, seq, first=first)

    def _enter(self, queue: FlowQueue, seq: int, *, first: bool = False) -> None:
        limit = queue.policy.key_concurrency
        if limit is None or self.places.enter(seq, queue.flow_id, limit, first=first):
            self._put_timed(queue, seq, first=first)

    def put_first(self, found: Sequence[tuple[int, FlowQueue]]) -> None:
        """Make executions ready before their flows' others, in this order."""
        for seq, queue in found:
            if queue.policy.key_concurrency is not None:
                self.places.reserve(seq, queue.flow_id, queue.policy.key_concurrency)
        for seq, queue in reversed(found):
            self.put(queue, seq, first=True)

    def vacate(self, queue: FlowQueue, seq: int) -> None:
        """Give the place of an execution, if it has one, to the next of its key: it ends, or does not run for now."""
        if self.keys:  # else nothing has a place
            for following in self.places.leave(seq, queue.policy.key_concurrency):
                self._put_timed(queue, following)

    def ended(self, queue: FlowQueue, seq: int, *, ran: bool) -> None:
        """Forget an execution, and what shaped it; `ran`: it counted as running until now."""
        if self.keys:
            self.vacate(queue, seq)
            self.keys.pop(seq, None)
        if self.rates.unreserved:
            self.rates.unreserved.pop(seq, None)
        queue.unfinished -= 1
        if ran:
            self.stopped(queue)
        if not queue.unfinished:
            self.forget_if_idle(queue)

    def may_run(self, queue: FlowQueue, seq: int) -> bool:
        """Whether a flow has room for one of its executions, as to its key, too."""
        limit = queue.policy.key_concurrency
        return queue.has_room and (limit is None or self.places.has_place(seq, queue.flow_id, limit))

    def _put_timed(self, queue: FlowQueue, seq: int, *, first: bool = False) -> None:
        if queue.change is not None and queue.change.sources is not None:
            self._take(queue.change, seq)
        elif queue.policy.rate is None:
            self._put_ready(queue, seq, first=first)
        else:
            self.rates.enter(seq, queue.flow_id, queue.policy.rate, first=first)

    def release(self, now: float) -> None:
        """Make the executions ready whose rate lets them be assigned by now, which is the time of the next draws."""
        self._now = now
        for queue in list(self._changes.values()):
            if queue.change is not None:
                self._move(queue, queue.change, max(MAX_MOVED // len(self._changes), 1))
        if self.rates:
            for flow_id, seq in self.rates.release(now):
                queue = self.flow(flow_id)
                if queue.change is not None and queue.change.sources is not None:
                    self._take(queue.change, seq)
                else:
                    self._put_ready(queue, seq)

    @property
    def may_assign(self) -> bool:
        """Whether `release` and `draw` may have something to do now."""
        return bool(self._ring or self._changes or self.rates)

    def next(self) -> float | None:
        """Return when `release` has something to do, or None."""
        return float("-inf") if self._changes else self.rates.next()

    def _put_ready(self, queue: FlowQueue, seq: int, *, first: bool = False) -> None:
        if first:
            queue.ready.appendleft(seq)
        else:
            queue.ready.append(seq)
        self.ready += 1
        if not queue.in_ring:
            self._admit(queue)

    def draw(self, share: int) -> tuple[FlowQueue, int] | None:
        """Remove and return the next execution, counted as running from now on; None when nothing may run.

        A flow without a concurrency limit has at most `share` running executions.
        """
        ring = self._ring
        # Flows a (10,000 ready), b (1) and c (1 ready, at its limit); the ring is a b c:
        #     draw -> a, ring b c a;  draw -> b, ring c a;  draw -> c is not eligible and leaves the ring, then a
        # So b waits for one turn, not for the backlog of a; c comes back to the ring when one of it stops.
        for _ in range(len(ring)):
            queue = ring.popleft()
            policy = queue.policy
            if not queue.eligible:
                queue.in_ring, queue.drawn = False, 0
                self.forget_if_idle(queue)
                continue
            # it has its share of all slots: the others come first, but it stays in the ring
            if queue.running >= share and policy.concurrency is None:
                ring.append(queue)
                continue
            seq = queue.ready.popleft()
            self.ready -= 1
            queue.running += 1
            if policy.rate is not None:
                following = self.rates.assigned(seq, self._now)
                if following is not None:
                    queue.ready.append(following)
                    self.ready += 1
            queue.drawn += 1
            if not queue.ready:
                queue.in_ring, queue.drawn = False, 0
            elif queue.drawn < policy.weight:
                ring.appendleft(queue)
            else:
                queue.drawn = 0
                ring.append(queue)
            return queue, seq
        return None

    def remove(self, queue: FlowQueue, seq: int) -> bool:
        """Remove a ready execution, in time linear in the flow's backlog; false when it is not ready."""
        if self.places.remove(seq) or self.rates.remove(seq):
            return True
        if queue.change is not None and queue.change.remove(seq):
            self.rates.withdrawn(seq)
            return True
        try:
            queue.ready.remove(seq)
        except ValueError:
            return False
        self.ready -= 1
        self.rates.withdrawn(seq)
        return True

    def stopped(self, queue: FlowQueue) -> None:
        queue.running -= 1
        if not queue.in_ring:
            self._admit(queue)

    def hold(self, queue: FlowQueue, seq: int) -> None:
        """Reserve a slot of the flow's concurrency for an execution a runner may be working on."""
        if not queue.held:
            queue.first_held = seq
        queue.held += 1
        self.places.take(seq, queue.flow_id)

    def release_hold(self, queue: FlowQueue) -> None:
        queue.held -= 1
        if not queue.in_ring:
            self._admit(queue)

    def forget_if_idle(self, queue: FlowQueue) -> None:
        """Free the memory of a flow that has no unfinished executions and no limits to retain."""
        if queue.unfinished or queue.in_ring:
            return
        if queue.policy is DEFAULT_POLICY or queue.policy.retired:
            self._flows.pop(queue.flow_id, None)
            self.keeping.discard(queue.flow_id)

    def unfinished(self, flow_id: str) -> int:
        queue = self._flows.get(flow_id)
        return 0 if queue is None else queue.unfinished

    def is_busy(self, flow_id: str) -> bool:
        """Whether a flow has more than `QUIET` executions, besides those that wait, for days perhaps."""
        queue = self._flows.get(flow_id)
        return queue is not None and queue.unfinished - queue.waiting - queue.suspended > QUIET

    def load(self, flow_id: str) -> FlowLoad:
        """Return the unfinished executions of a flow, in constant time."""
        queue = self._flows.get(flow_id)
        if queue is None:
            return FlowLoad()
        following = queue.ready[0] if queue.ready else queue.first_held if queue.held else None
        if following is None and queue.is_shaped:
            following = self.rates.first(flow_id)
        ready, running, waiting, suspended = (
            len(queue.ready) + queue.held,
            queue.running,
            queue.waiting,
            queue.suspended,
        )
        delayed = queue.unfinished - ready - running - waiting - suspended
        return FlowLoad(ready, delayed, running, waiting, suspended, queue.retrying, following, queue.policy.paused)

    def some_flows(self, start: int, number: int) -> list[str]:
        """Return flows that take memory, from a position on, of which there are more if `number` are returned."""
        return list(islice(self._flows, start, start + number))

    def _admit(self, queue: FlowQueue) -> None:
        if not queue.in_ring and queue.eligible:
            queue.in_ring = True
            self._ring.append(queue)


MIN_STALE: Final = 1024  # stale entries the heap may hold, besides one for each waiting execution, before it is rebuilt
# Wake time, sequence number, flow, 1 if it waits for another try. A heap entry is current while it is the identical
# object in the table.
_Wait = tuple[int, int, FlowQueue, int]
NEVER: Final = -1  # wake time of an execution that no timer wakes; it is not in the heap


class TimerQueue:
    """Waiting executions by sequence number, about 200 bytes each; their flows' queues count them."""

    def __init__(self) -> None:
        self._waits: dict[int, _Wait] = {}
        self._heap: list[_Wait] = []

    def __len__(self) -> int:
        return len(self._waits)

    def __contains__(self, seq: int) -> bool:
        return seq in self._waits

    def add(self, seq: int, queue: FlowQueue, wake_at_ms: int | None, *, retries: bool = False) -> None:
        """Add an execution that waits until a time, or (None) until `pop` removes it; `retries`: for another try."""
        wait = (NEVER if wake_at_ms is None else wake_at_ms, seq, queue, int(retries))
        queue.retrying += wait[3]
        self._waits[seq] = wait
        queue.waiting += 1
        if wake_at_ms is not None:
            heapq.heappush(self._heap, wait)

    def get(self, seq: int) -> FlowQueue | None:
        wait = self._waits.get(seq)
        return None if wait is None else wait[2]

    def pop(self, seq: int) -> FlowQueue | None:
        wait = self._waits.pop(seq, None)
        if wait is None:
            return None
        wait[2].waiting -= 1
        wait[2].retrying -= wait[3]
        if len(self._heap) > MIN_STALE + 2 * len(self._waits):
            self._heap = [wait for wait in self._waits.values() if wait[0] != NEVER]
            heapq.heapify(self._heap)
        return wait[2]

    def next(self) -> int | None:
        heap = self._heap
        while heap:
            if self._waits.get(heap[0][1]) is heap[0]:
                return heap[0][0]
            heapq.heappop(heap)
        return None

    def due(self, now_ms: int, limit: int) -> list[tuple[int, FlowQueue]]:
        """Remove and return the executions whose wake time has passed, at most `limit`, earliest first."""
        due: list[tuple[int, FlowQueue]] = []
        while len(due) < limit:
            earliest = self.next()
            if earliest is None or earliest > now_ms:
                break
            seq = heapq.heappop(self._heap)[1]
            if (queue := self.pop(seq)) is not None:
                due.append((seq, queue))
        return due
