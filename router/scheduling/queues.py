"""Ready executions by flow, drawn fairly.

Each flow has a queue in order of arrival. Flows that have something to run, are not paused and are below their
concurrency stand in a ring; each draw takes one execution of the flow in front, which then goes to the back. So a flow
with a backlog of a million delays another's next execution by one turn of the ring, not by its backlog.

A queue holds nothing but sequence numbers (40 bytes each), so that a backlog of millions fits in memory.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class FlowPolicy:
    """What limits a flow.

    Attributes:
        concurrency: executions under lease at a time, those that may be after a restart included; None: no limit.
        paused: nothing of it is handed out.
        retired: the flow is deleted; the policy holds for what it left behind and is forgotten with the last of it.
    """

    concurrency: int | None = None
    paused: bool = False
    retired: bool = False


DEFAULT_POLICY = FlowPolicy()


@dataclass(slots=True)
class FlowQueue:
    """One flow's executions.

    Attributes:
        running: under lease, or about to end, wait or return.
        held: found at a start, and maybe under way at a runner that is yet to come back for them.
        unfinished: all that were accepted and have not ended.
    """

    flow_id: str
    policy: FlowPolicy = DEFAULT_POLICY
    ready: deque[int] = field(default_factory=deque)
    running: int = 0
    held: int = 0
    unfinished: int = 0
    in_ring: bool = False

    @property
    def eligible(self) -> bool:
        """Whether something of this flow may run now."""
        return bool(self.ready) and not self.policy.paused and self.has_room

    @property
    def has_room(self) -> bool:
        """Whether one more may run beside those that do, and those that may."""
        concurrency = self.policy.concurrency
        return concurrency is None or self.running + self.held < concurrency


class FairQueues:
    """All flows of a shard. A flow without unfinished executions and with the default policy takes no memory."""

    def __init__(self) -> None:
        self._flows: dict[str, FlowQueue] = {}
        self._ring: deque[FlowQueue] = deque()
        self.ready = 0
        """Executions that wait for a runner, of paused and limited flows too."""

    def flow(self, flow_id: str) -> FlowQueue:
        """Return the queue of a flow, made when missing."""
        queue = self._flows.get(flow_id)
        if queue is None:
            queue = self._flows[flow_id] = FlowQueue(flow_id)
        return queue

    def set_policy(self, flow_id: str, policy: FlowPolicy) -> None:
        """Replace what limits a flow; executions under lease are not touched."""
        queue = self.flow(flow_id)
        queue.policy = policy
        self._admit(queue)
        self.forget_if_idle(queue)

    def retire(self, flow_id: str) -> None:
        """Let what a deleted flow left behind end under the limits it had; a pause ends with the flow."""
        queue = self._flows.get(flow_id)
        if queue is not None:
            self.set_policy(flow_id, replace(queue.policy, paused=False, retired=True))

    def put(self, queue: FlowQueue, seq: int) -> None:
        """Make an execution ready, behind those of its flow that are."""
        queue.ready.append(seq)
        self.ready += 1
        if not queue.in_ring:
            self._admit(queue)

    def put_first(self, queue: FlowQueue, seq: int) -> None:
        """Make an execution ready before all others of its flow: its turn came before theirs."""
        queue.ready.appendleft(seq)
        self.ready += 1
        if not queue.in_ring:
            self._admit(queue)

    def draw(self, share: int) -> tuple[FlowQueue, int] | None:
        """Take the next execution, counted as running from here on; None when nothing may run.

        Args:
            share: executions that a flow without a limit of its own may have running.
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
        """Take a ready execution out, in time linear in the flow's backlog; false when it is not ready."""
        try:
            queue.ready.remove(seq)
        except ValueError:
            return False
        self.ready -= 1
        return True

    def stopped(self, queue: FlowQueue) -> None:
        """Count one execution less as running."""
        queue.running -= 1
        if not queue.in_ring:
            self._admit(queue)

    def hold(self, queue: FlowQueue) -> None:
        """Keep a place for an execution that may be under way."""
        queue.held += 1

    def let_go(self, queue: FlowQueue) -> None:
        """Keep the place no longer: it runs, or does not."""
        queue.held -= 1
        if not queue.in_ring:
            self._admit(queue)

    def forget_if_idle(self, queue: FlowQueue) -> None:
        """Free the memory of a flow that has nothing to run and no limits to remember."""
        forgettable = queue.policy == DEFAULT_POLICY or queue.policy.retired
        if queue.unfinished == 0 and forgettable and not queue.in_ring:
            self._flows.pop(queue.flow_id, None)

    def unfinished(self, flow_id: str) -> int:
        """Return how many accepted executions of a flow have not ended."""
        queue = self._flows.get(flow_id)
        return 0 if queue is None else queue.unfinished

    def _admit(self, queue: FlowQueue) -> None:
        if not queue.in_ring and queue.eligible:
            queue.in_ring = True
            self._ring.append(queue)
