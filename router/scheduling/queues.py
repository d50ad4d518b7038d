"""Ready executions by flow, drawn round-robin.

Each flow has a queue in order of arrival. Flows that have a ready execution, are not paused and are below their
concurrency limit form a ring; each draw takes one execution of the flow in front, which then goes to the back. So a
flow with a backlog of a million delays another flow's next execution by one turn of the ring, not by its backlog.

A queue holds only sequence numbers (40 bytes each), so that a backlog of millions fits in memory.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class FlowPolicy:
    """Limits of a flow.

    Attributes:
        concurrency: executions under lease at a time, including those that may be after a restart; None: no limit.
        paused: its executions are not assigned.
        retired: the flow is deleted; the policy applies to its remaining executions and is dropped with the last one.
    """

    concurrency: int | None = None
    paused: bool = False
    retired: bool = False


DEFAULT_POLICY = FlowPolicy()


class FlowLoad(NamedTuple):
    """A flow's unfinished executions, by what they do.

    Attributes:
        pending: those that wait for a runner, or for an earlier execution of their order key.
        running: those under lease, or about to end, wait or return.
        waiting: those that wait for a time or an event.
        suspended: those that an operator suspended.
        next: sequence number of the pending execution that runs next; None: none is ready. In the first seconds after a
            start it may be an earlier one of the flow, which runs already or has ended.
    """

    pending: int = 0
    running: int = 0
    waiting: int = 0
    suspended: int = 0
    next: int | None = None


@dataclass(slots=True)
class FlowQueue:
    """One flow's ready executions, and counts of the others.

    Attributes:
        running: executions under lease, or about to end, wait or return.
        held: executions found at a start that a runner may still be working on, and may claim when it reattaches.
        first_held: sequence number of the first of them, which may have been claimed since.
        waiting: executions that wait for a time or an event.
        suspended: executions that an operator suspended.
        unfinished: accepted executions that have not ended.
    """

    flow_id: str
    policy: FlowPolicy = DEFAULT_POLICY
    ready: deque[int] = field(default_factory=deque)
    running: int = 0
    held: int = 0
    first_held: int = 0
    waiting: int = 0
    suspended: int = 0
    unfinished: int = 0
    in_ring: bool = False

    @property
    def eligible(self) -> bool:
        """Whether an execution of this flow may run now."""
        return bool(self.ready) and not self.policy.paused and self.has_room

    @property
    def has_room(self) -> bool:
        """Whether one more execution may run besides the running and the held ones."""
        concurrency = self.policy.concurrency
        return concurrency is None or self.running + self.held < concurrency

    def load(self) -> FlowLoad:
        """Return the numbers of unfinished executions, in constant time."""
        following = self.ready[0] if self.ready else self.first_held if self.held else None
        pending = self.unfinished - self.running - self.waiting - self.suspended
        return FlowLoad(pending, self.running, self.waiting, self.suspended, following)


class FairQueues:
    """The queues of all flows of a shard. An idle flow with the default policy takes no memory."""

    def __init__(self) -> None:
        self._flows: dict[str, FlowQueue] = {}
        self._ring: deque[FlowQueue] = deque()
        self.ready = 0
        """Number of executions that wait for a runner, including paused and limited flows."""

    def flow(self, flow_id: str) -> FlowQueue:
        """Return the queue of a flow, created when missing."""
        queue = self._flows.get(flow_id)
        if queue is None:
            queue = self._flows[flow_id] = FlowQueue(flow_id)
        return queue

    def set_policy(self, flow_id: str, policy: FlowPolicy) -> None:
        """Replace the limits of a flow; executions under lease are not affected."""
        queue = self.flow(flow_id)
        queue.policy = policy
        self._admit(queue)
        self.forget_if_idle(queue)

    def retire(self, flow_id: str) -> None:
        """Mark a flow as deleted: its remaining executions run under the same limits, except that a pause ends."""
        queue = self._flows.get(flow_id)
        if queue is not None:
            self.set_policy(flow_id, replace(queue.policy, paused=False, retired=True))

    def put(self, queue: FlowQueue, seq: int) -> None:
        """Make an execution ready, behind its flow's other ready executions."""
        queue.ready.append(seq)
        self.ready += 1
        if not queue.in_ring:
            self._admit(queue)

    def put_first(self, queue: FlowQueue, seq: int) -> None:
        """Make an execution ready before all others of its flow, because it was queued before them."""
        queue.ready.appendleft(seq)
        self.ready += 1
        if not queue.in_ring:
            self._admit(queue)

    def draw(self, share: int) -> tuple[FlowQueue, int] | None:
        """Remove and return the next execution, counted as running from now on; None when nothing may run.

        Args:
            share: running executions allowed for a flow without a concurrency limit.
        """
        ring = self._ring
        for _ in range(len(ring)):
            queue = ring.popleft()
            if not queue.eligible:
                queue.in_ring = False
                self.forget_if_idle(queue)
                continue
            if queue.running >= share and queue.policy.concurrency is None:
                ring.append(queue)
                continue
            seq = queue.ready.popleft()
            self.ready -= 1
            queue.running += 1
            if queue.ready:
                ring.append(queue)
            else:
                queue.in_ring = False
            return queue, seq
        return None

    def remove(self, queue: FlowQueue, seq: int) -> bool:
        """Remove a ready execution, in time linear in the flow's backlog; false when it is not ready."""
        try:
            queue.ready.remove(seq)
        except ValueError:
            return False
        self.ready -= 1
        return True

    def stopped(self, queue: FlowQueue) -> None:
        """Decrement the count of running executions."""
        queue.running -= 1
        if not queue.in_ring:
            self._admit(queue)

    def hold(self, queue: FlowQueue, seq: int) -> None:
        """Reserve a slot of the flow's concurrency for an execution a runner may be working on."""
        if not queue.held:
            queue.first_held = seq
        queue.held += 1

    def release_hold(self, queue: FlowQueue) -> None:
        """Release a slot reserved by `hold`: the execution runs now, or it is known not to."""
        queue.held -= 1
        if not queue.in_ring:
            self._admit(queue)

    def forget_if_idle(self, queue: FlowQueue) -> None:
        """Free the memory of a flow that has no unfinished executions and no limits to retain."""
        forgettable = queue.policy == DEFAULT_POLICY or queue.policy.retired
        if queue.unfinished == 0 and forgettable and not queue.in_ring:
            self._flows.pop(queue.flow_id, None)

    def unfinished(self, flow_id: str) -> int:
        """Return the number of accepted executions of a flow that have not ended."""
        queue = self._flows.get(flow_id)
        return 0 if queue is None else queue.unfinished

    def load(self, flow_id: str) -> FlowLoad:
        """Return the numbers of unfinished executions of a flow."""
        queue = self._flows.get(flow_id)
        return FlowLoad() if queue is None else queue.load()

    def _admit(self, queue: FlowQueue) -> None:
        if not queue.in_ring and queue.eligible:
            queue.in_ring = True
            self._ring.append(queue)
