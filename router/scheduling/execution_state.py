"""The state of each unfinished execution of a shard, and the attempts charged to it.

An execution is in exactly one state; the docstring of `shard` draws the states and their transitions. This module holds
only what all transitions have in common.
"""

from __future__ import annotations

from dataclasses import dataclass

from flowhook.send_pacing import QUIET
from router.scheduling.leases import Lease
from router.scheduling.ordering_keys import KeyedQueues
from router.scheduling.queues import FairQueues, FlowQueue
from router.scheduling.timer_queue import TimerQueue


@dataclass(slots=True)
class Transitioning:
    """An execution that is ending or returning, while that transition is being stored."""

    queue: FlowQueue
    counted: bool
    """Whether it still counts against its flow's concurrency."""
    to_back: bool = False
    """Whether a returning execution is queued behind its flow's other ready executions instead of before them."""


class ExecutionState:
    """States of executions, with all queries about them; subclasses implement the transitions."""

    def __init__(self) -> None:
        """Start with no executions."""
        self.unfinished = 0
        self._queues = FairQueues()
        self._lanes = KeyedQueues()
        self._held: dict[int, FlowQueue] = {}
        # held executions stored as begun: an attempt is charged to them that a runner may still be working on
        self._begun: set[int] = set()
        # found at a start and made ready at once: a runner may have got them just before the end, without any record
        self._unclaimed: dict[int, FlowQueue] = {}
        self._recovered_up_to = 0
        self._terms: dict[int, int] = {}
        self._leases: dict[bytes, Lease] = {}
        self._by_seq: dict[int, Lease] = {}
        self._ending: dict[int, Transitioning] = {}
        self._returning: dict[int, Transitioning] = {}
        self._parking: dict[int, FlowQueue] = {}
        self._waits = TimerQueue()
        self._suspended: dict[int, FlowQueue] = {}
        self._attempts: dict[int, int] = {}

    @property
    def ready(self) -> int:
        """Executions that wait for a runner, now or soon, or for an earlier execution of their order key."""
        elsewhere = len(self._leases) + len(self._ending) + len(self._parking) + len(self._waits) + len(self._suspended)
        return self.unfinished - elsewhere

    @property
    def queued(self) -> int:
        """Executions in the ready queues that `assign` draws from, including paused and limited flows."""
        return self._queues.ready

    @property
    def leased(self) -> int:
        """Executions under lease."""
        return len(self._leases)

    @property
    def waiting(self) -> int:
        """Executions that wait for a time or an event, or are about to."""
        return len(self._waits) + len(self._parking)

    @property
    def suspended(self) -> int:
        """Executions that an operator suspended."""
        return len(self._suspended)

    def is_waiting(self, seq: int) -> bool:
        """Whether an execution waits, or is about to."""
        return seq in self._waits or seq in self._parking

    def is_changing(self, seq: int) -> bool:
        """Whether a change of an execution other than its end is being stored: a lost lease, an event, or parking."""
        return seq in self._returning or seq in self._parking

    def is_returning(self, seq: int) -> bool:
        """Whether an execution becomes ready again once its lost lease or delivered event is stored."""
        return seq in self._returning

    def is_ending(self, seq: int) -> bool:
        """Whether the end of an execution is still being stored."""
        return seq in self._ending

    def is_concluding(self, seq: int) -> bool:
        """Whether the end of an execution that was running until then is still being stored."""
        between = self._ending.get(seq)
        return between is not None and between.counted

    def waiting_flow(self, seq: int) -> str | None:
        """Return the flow of an execution that waits; None when it does not wait, or is still parking."""
        queue = self._waits.get(seq)
        return None if queue is None else queue.flow_id

    def is_suspended(self, seq: int) -> bool:
        """Whether an operator suspended an execution."""
        return seq in self._suspended

    def is_leased(self, seq: int) -> bool:
        """Whether a runner works on an execution."""
        return seq in self._by_seq

    def attempt_of(self, seq: int) -> int | None:
        """Return the number of the attempt in progress, or None."""
        lease = self._by_seq.get(seq)
        return None if lease is None else lease.attempt

    def charged_to(self, seq: int) -> int:
        """Return the attempts charged to an execution, excluding one in progress."""
        return self._attempts.get(seq, 0)

    def lease_of(self, token: bytes) -> int | None:
        """Return the execution a token is valid for, or None when the token is stale."""
        lease = self._leases.get(token)
        return None if lease is None else lease.seq

    def term_of(self, seq: int) -> int:
        """Return the term of an execution's current or next lease; leases of earlier terms are void."""
        term = self._terms.get(seq)
        return int(seq <= self._recovered_up_to) if term is None else term

    def lease(self, token: bytes) -> Lease | None:
        """Return the lease of a valid token, or None when the token is stale."""
        return self._leases.get(token)

    def is_quiet(self, token: bytes) -> bool:
        """Whether the flow of a token's execution has few executions running (at most `QUIET`)."""
        lease = self._leases.get(token)
        return lease is not None and lease.queue.running <= QUIET

    def backlog(self, flow_id: str) -> int:
        """Return the number of accepted executions of a flow that have not ended."""
        return self._queues.unfinished(flow_id)

    # --- shared by the transitions ------------------------------------------------------------------------------------

    def _recover(self, seq: int, flow_id: str, attempts: int, term: int, order_key: str) -> tuple[FlowQueue, bool]:
        """Count a recovered execution; return its queue, and whether it is its turn."""
        queue = self._queues.flow(flow_id)
        queue.unfinished += 1
        self.unfinished += 1
        self._recovered_up_to = seq
        if term:
            self._terms[seq] = term + 1
        self._charge(seq, attempts)
        return queue, not order_key or self._lanes.enter(seq, flow_id, order_key)

    def _withdraw(self, seq: int, flow_id: str) -> FlowQueue | None:
        """Remove an execution that is returning, parking, held, waiting, blocked or ready; return its queue."""
        self._unclaimed.pop(seq, None)
        returning = self._returning.pop(seq, None)
        if returning is not None:
            return returning.queue
        queue = self._parking.pop(seq, None) or self._release(seq)
        if queue is not None:
            return queue
        queue = self._waits.pop(seq)
        if queue is None and seq not in self._ending:
            queue = self._queues.flow(flow_id)
            if not self._lanes.is_blocked(seq) and not self._queues.remove(queue, seq):
                return None
        return queue

    def _release(self, seq: int) -> FlowQueue | None:
        """Remove a held execution and return its queue; None when it is not held."""
        queue = self._held.pop(seq, None)
        if queue is not None:
            self._queues.release_hold(queue)
        return queue

    def _is_counted(self, seq: int) -> bool:
        """Whether an execution without a lease still counts against its flow's concurrency."""
        returning = self._returning.get(seq)
        return seq in self._parking or (returning is not None and returning.counted)

    def _charge(self, seq: int, attempts: int) -> None:
        if attempts > 0:
            self._attempts[seq] = attempts
        else:
            self._attempts.pop(seq, None)

    def _is_charged(self, seq: int) -> bool:
        """Whether attempts are charged to an execution that is not about to end."""
        return seq in self._attempts and seq not in self._ending

    def _lease(self, lease: Lease) -> None:
        self._leases[lease.token] = self._by_seq[lease.seq] = lease.runner.leases[lease.token] = lease

    def _void(self, lease: Lease) -> None:
        """Take a lease away and start a new term; the next lease may be granted once that is stored."""
        self._drop(lease)
        self._terms[lease.seq] = self.term_of(lease.seq) + 1

    def _drop(self, lease: Lease) -> None:
        del self._leases[lease.token], self._by_seq[lease.seq], lease.runner.leases[lease.token]
