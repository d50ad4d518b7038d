"""Executions found at a start that a runner of the time before may still claim.

A runner that was attached when the router ended may be working on them, and proves it by a lease of an earlier epoch
(see `leases`). They can be claimed from the start until the reattach deadline:

- *held* executions are not assigned meanwhile, and each takes a slot of its flow's concurrency. Some of them have
  *begun*: an attempt is stored and charged that was in progress when the router ended.
- *claimable* ones are ready, and can be claimed until they are assigned to another runner: their runner got them just
  before the end, without any record. The same holds for those that wait for a time.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import attrs

from flowhook.model.executions import Attempt, AttemptEnd
from router.scheduling.leases import LeaseTable, Loss, Runner
from router.scheduling.losses import AttemptCounts
from router.scheduling.pending_transitions import PendingTransitions
from router.scheduling.queues import FairQueues, FlowQueue, TimerQueue

MAX_RELEASED: Final = 1000  # held executions that become ready at once, which takes a millisecond


class _Held(NamedTuple):
    queue: FlowQueue
    begun: bool


@attrs.define(eq=False, repr=False, kw_only=True)
class RecoveredExecutions:
    """The recovered executions of a shard that can still be claimed."""

    _queues: FairQueues
    _timers: TimerQueue
    _leases: LeaseTable
    _attempts: AttemptCounts
    _pending: PendingTransitions
    _held: dict[int, _Held] = attrs.field(init=False, factory=dict)
    claimable: dict[int, FlowQueue] = attrs.field(init=False, factory=dict)  # ready, and assigned to no other runner
    # time until which executions can be claimed; None: it has passed, or was not set
    deadline: float | None = attrs.field(init=False, default=None)

    def __len__(self) -> int:
        return len(self._held) + len(self.claimable)

    def hold(self, seq: int, queue: FlowQueue, *, begun: bool) -> None:
        self._held[seq] = _Held(queue, begun)
        self._queues.hold(queue, seq)

    def expire(self, now: float) -> tuple[list[Loss], list[tuple[int, Attempt]]]:
        """After the deadline, make the held executions ready, ahead of their flows' others, and allow no more claims.

        Of more than `MAX_RELEASED` the latest become ready; call it again, as long as there is a deadline.

        Returns those that used up their attempts instead, as the begun attempt stays charged; they are *ending*. And
        the begun attempts of those that are ready, by execution.
        """
        exhausted: list[Loss] = []
        unclaimed: list[tuple[int, Attempt]] = []
        if self.deadline is None or now < self.deadline:
            return exhausted, unclaimed
        for _ in range(min(len(self._held), MAX_RELEASED)):
            # each is put in front of its flow's queue, so the latest goes first: 3, 2, 1 makes [1, 2, 3, …]
            seq, (queue, begun) = self._held.popitem()  # latest first
            self._queues.release_hold(queue)
            attempts = self._attempts.charged(seq)
            interrupted = Attempt(attempts, end=AttemptEnd.ROUTER_RESTARTED, charged=True)
            # the attempt that the restart interrupted stays charged: an event that kills routers must end, too
            if begun and self._attempts.is_exhausted(seq, attempts):
                self._pending.ending[seq] = queue, False
                exhausted.append(Loss(seq, attempts, interrupted, exhausted=True))
                continue
            self._queues.put(queue, seq, first=True)
            if begun:
                unclaimed.append((seq, interrupted))
        if not self._held:
            self.claimable.clear()
            self.deadline = None
        return exhausted, unclaimed

    def adopt(self, runner: Runner, token: bytes) -> int | None:
        """Let a runner continue an execution that it had before the start, under a lease of an earlier epoch.

        Returns the execution, now under that lease again; None when it can't be claimed by it any more.
        """
        seq = self._leases.claimable_by(token)
        if seq is None:
            return None
        begun = seq in self._held and self._held[seq].begun
        queue = self._claim(seq)
        if queue is None:
            return None
        queue.running += 1
        charged = self._attempts.charged(seq)
        if begun:  # the charged attempt is the one being adopted, and it has not ended
            charged -= 1
            self._attempts.charge(seq, charged)
        self._leases.adopt(token, seq, queue, runner, charged + 1)
        return seq

    def _claim(self, seq: int) -> FlowQueue | None:
        """Remove an execution from where it waits for a runner, and return its queue; None when it can't be claimed.

        One that is not held has no slot reserved: if its flow is at its limit, the next free runner gets it.
        """
        queue = self.release(seq)
        if queue is not None:
            return queue
        queue = self.claimable.get(seq)
        if queue is not None and self._queues.may_run(queue, seq):
            del self.claimable[seq]
            self._queues.remove(queue, seq)
            self._queues.places.take(seq, queue.flow_id)
            return queue
        # it was woken, which leaves no record, and the runner had no time to report anything about it
        queue = self._timers.get(seq)
        if queue is None or not self._queues.may_run(queue, seq):
            return None
        self._queues.places.take(seq, queue.flow_id)
        return self._timers.pop(seq)

    def release(self, seq: int) -> FlowQueue | None:
        held = self._held.pop(seq, None)
        if held is None:
            return None
        self._queues.release_hold(held.queue)
        return held.queue
