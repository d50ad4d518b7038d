"""The scheduling core of one shard: accepted executions in, assignments out.

It knows every unfinished execution by its sequence number, in exactly one of these places:

    blocked ──its turn──▶ ready ──assign──▶ leased ──take──▶ ending ──ended──▶ (gone)
                          ▲ ▲ ▲               │  └──take──▶ parking ──parked──▶ waiting ──┐
                          │ │ │               ▼ (released, or its runner lost)     │      │
                          │ │ └──requeued── returning ◀──────────────deliver───────┘      │
                          │ └──────────────────────────────────────────────────────wake───┘
                          └──resume── suspended ◀──suspend── anywhere but ending
    held: accepted before a restart; ready once runners had time to reattach and claim their executions. Until then each
        takes a slot of its flow's concurrency. An execution stored as given back, or as waiting, is not held; a runner
        that got it just before the restart may claim it within the same time, if its flow has a free slot
    blocked: has an order key, and it is the turn of an earlier execution

The caller makes the returned changes durable before it reports them to anyone and before it calls `ended`, `requeued`
or `parked`. The latter two are the fence: until it is stored that a lease is void, no other lease is granted, so
everything written under the old lease precedes the new one. No method fails on a stale token: it returns None, and the
caller revokes the token.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from router.scheduling.changes import AttemptsExhausted, LeaseGranted, LeaseReleased, Removed, RequeuePending
from router.scheduling.execution_state import Transitioning
from router.scheduling.leases import Lease, Runner
from router.scheduling.queues import FlowPolicy, FlowQueue
from router.scheduling.runner_membership import UNCERTAIN_FACTOR, RunnerMembership

MAX_ASSIGNMENTS: Final = 64
"""Most assignments that one runner gets in one batch."""

RESERVE: Final = 4
"""One slot in so many is withheld from each single flow, so that a flow whose calls hang leaves room for others."""

MIN_SHARE: Final = 32
"""Slots that each flow may take, however few there are."""

SOON: Final = 4096
"""Queue positions of a flow whose executions may be assigned soon; those further back are better read later."""

MAX_WAKES: Final = 512
"""Most executions that one call of `wake` wakes, so that it takes no longer than a millisecond."""


def _flow_share(places: int) -> int:
    """Return the number of all runners' slots that one flow may take."""
    return max(MIN_SHARE, places - places // RESERVE)


class Shard(RunnerMembership):
    """The scheduler of a shard. After the `recover` calls, call `begin`.

    Methods take constant time for each execution they concern; parking and waking take logarithmic time; cancelling or
    suspending a ready or blocked execution takes time linear in the flow's backlog.
    """

    # --- flows and events -------------------------------------------------------------------------------------------

    def set_policy(self, flow_id: str, policy: FlowPolicy) -> None:
        """Replace the limits of a flow."""
        self._queues.set_policy(flow_id, policy)

    def retire(self, flow_id: str) -> None:
        """Mark a flow as deleted: its remaining executions end under the limits it had."""
        self._queues.retire(flow_id)

    def accept(self, seq: int, flow_id: str, order_key: str = "") -> bool:
        """Add an execution that has just become durable; return whether it may be assigned soon.

        Args:
            seq: its sequence number, greater than all earlier ones.
            flow_id: its flow.
            order_key: it runs after earlier executions of its flow with the same key; empty: no order.
        """
        queue = self._queues.flow(flow_id)
        queue.unfinished += 1
        self.unfinished += 1
        if order_key and not self._lanes.enter(seq, flow_id, order_key):
            return False
        self._queues.put(queue, seq)
        return len(queue.ready) <= SOON and not queue.policy.paused

    def recover(
        self, seq: int, flow_id: str, attempts: int, *, begun: bool = False, term: int = 0, order_key: str = ""
    ) -> AttemptsExhausted | None:
        """Add an execution that was found pending or running at start-up.

        Recover all executions by ascending `seq`, before any is accepted.

        Args:
            seq: its sequence number.
            flow_id: its flow.
            attempts: attempts charged to it, including one that has `begun`.
            begun: whether an attempt is stored that was in progress when the router died.
            term: the stored term: no runner can claim the execution with a lease of an earlier one.
            order_key: see `accept`.

        Returns:
            None, or that the execution used up its attempts, as it was running when too many processes died.
        """
        queue, its_turn = self._recover(seq, flow_id, attempts, term, order_key)
        if attempts - begun >= self._max_attempts * UNCERTAIN_FACTOR:
            if not its_turn:
                self._lanes.leave(seq)
            self._ending[seq] = Transitioning(queue, counted=False)
            return AttemptsExhausted(seq, attempts)
        if its_turn and (begun or not term):
            self._held[seq] = queue
            self._queues.hold(queue)
            if begun:
                self._begun.add(seq)
        elif its_turn:
            self._queues.put(queue, seq)
            self._unclaimed[seq] = queue
        return None

    def recover_waiting(
        self, seq: int, flow_id: str, attempts: int, wake_at_ms: int | None, *, term: int = 0, order_key: str = ""
    ) -> None:
        """Add an execution that was found waiting at start-up; `attempts` includes the one that parked it."""
        queue, _ = self._recover(seq, flow_id, attempts - 1, term, order_key)
        self._waits.add(seq, queue, wake_at_ms)

    def recover_suspended(self, seq: int, flow_id: str, attempts: int, *, term: int = 0, order_key: str = "") -> None:
        """Add an execution that was found suspended at start-up."""
        self._suspended[seq], _ = self._recover(seq, flow_id, attempts, term, order_key)

    # --- work -------------------------------------------------------------------------------------------------------

    def assign(self, full: Collection[str] = ()) -> list[LeaseGranted]:
        """Assign ready executions to runners with credit, fairly across flows and evenly across runners.

        Each runner gets at most one batch; for more, call again until nothing is assigned.

        Args:
            full: runners that can't accept assignments now, even if they have credit.
        """
        assigned: list[LeaseGranted] = []
        flow_share = _flow_share(sum(runner.credit + len(runner.leases) for runner in self._runners.values()))
        able = [runner for runner in self._runners.values() if runner.credit and runner.id not in full]
        while able and self._queues.ready:
            runner = min(able, key=lambda candidate: (len(candidate.leases), -candidate.credit))
            share = -(-self._queues.ready // len(able))
            able.remove(runner)
            if not self._draw(runner, min(runner.credit, share, MAX_ASSIGNMENTS), flow_share, assigned):
                break
        return assigned

    def take(self, token: bytes) -> LeaseReleased | None:
        """Release a lease whose execution is about to end; None when the token is stale."""
        lease = self._leases.get(token)
        if lease is None:
            return None
        self._drop(lease)
        self._ending[lease.seq] = Transitioning(lease.queue, counted=True)
        return LeaseReleased(lease.seq, lease.attempt)

    def park(self, token: bytes) -> LeaseReleased | None:
        """Release a lease whose execution is about to wait: it is *parking*, and `attempt` is not charged.

        Returns:
            The released lease; None when the token is stale.
        """
        lease = self._leases.get(token)
        if lease is None:
            return None
        self._void(lease)
        self._charge(lease.seq, lease.attempt - 1)
        self._parking[lease.seq] = lease.queue
        return LeaseReleased(lease.seq, lease.attempt)

    def parked(self, seq: int, wake_at_ms: int | None) -> None:
        """Move an execution from *parking* to waiting, once that is stored.

        Args:
            seq: the execution; nothing happens if an operator removed it meanwhile.
            wake_at_ms: Unix time at which it becomes ready again; None: no timer wakes it.
        """
        queue = self._parking.pop(seq, None)
        if queue is not None:
            self._waits.add(seq, queue, wake_at_ms)
            self._queues.stopped(queue)

    def requeued(self, seqs: Iterable[int]) -> None:
        """Make *returning* executions ready again, in order of arrival, once that is stored."""
        for seq in sorted(seqs, reverse=True):
            returning = self._returning.pop(seq, None)
            if returning is not None:  # else it was cancelled meanwhile
                put = self._queues.put if returning.to_back else self._queues.put_first
                put(returning.queue, seq)
                if returning.counted:
                    self._queues.stopped(returning.queue)

    def deliver(self, seqs: Iterable[int]) -> list[RequeuePending]:
        """Move waiting executions to *returning*, because the event they wait for has arrived.

        Executions that do not wait, or are still *parking*, are left alone and not in the result.
        """
        delivered: list[RequeuePending] = []
        for seq in seqs:
            queue = self._waits.pop(seq)
            if queue is not None:
                self._returning[seq] = Transitioning(queue, counted=False)
                delivered.append(RequeuePending(seq, self._attempts.get(seq, 0)))
        return delivered

    def ended(self, seq: int) -> None:
        """Remove an execution that was *ending* and whose end is durable."""
        ending = self._ending.pop(seq)
        self._attempts.pop(seq, None)
        self._attributed.pop(seq, None)
        self._voided.pop(seq, None)
        self._terms.pop(seq, None)
        queue = ending.queue
        queue.unfinished -= 1
        self.unfinished -= 1
        turn = self._lanes.leave(seq)
        if turn is not None and turn not in self._suspended:
            self._queues.put(queue, turn)
        if ending.counted:
            self._queues.stopped(queue)
        self._queues.forget_if_idle(queue)

    def cancel(self, seq: int, flow_id: str) -> Removed | None:
        """Remove an execution from its state to end it: it is *ending* from now on.

        Returns:
            Its attempts, including the one in progress or the one that parked it, and its lease; None when it is
            unknown or already ending.
        """
        lease = self._by_seq.get(seq)
        if lease is not None:
            self.take(lease.token)
            return Removed(lease.attempt, lease)
        counted = self._is_counted(seq)
        waits = self.is_waiting(seq)
        queue = self._suspended.pop(seq, None) or self._withdraw(seq, flow_id)
        if queue is None:
            return None
        if self._lanes.is_blocked(seq):
            self._lanes.leave(seq)
        self._ending[seq] = Transitioning(queue, counted=counted)
        return Removed(self._attempts.get(seq, 0) + waits, None)

    def suspend(self, seq: int, flow_id: str) -> Removed | None:
        """Suspend an execution until `resume`; its order key stays blocked. An attempt in progress is not charged.

        Returns:
            Its attempts and its lease; None when it is unknown, or already suspended or ending.
        """
        if seq in self._suspended:
            return None
        lease = self._by_seq.get(seq)
        running = lease is not None or self._is_counted(seq)
        queue: FlowQueue | None
        if lease is not None:
            queue = lease.queue
            self._void(lease)
            self._charge(seq, lease.attempt - 1)
        else:
            queue = self._withdraw(seq, flow_id)
        if queue is None:
            return None
        self._suspended[seq] = queue
        if running:
            self._queues.stopped(queue)
        return Removed(self._attempts.get(seq, 0), lease)

    def resume(self, seq: int) -> bool:
        """Make a suspended execution ready, ahead of its flow's ready executions; false when it is not suspended."""
        queue = self._suspended.pop(seq, None)
        if queue is None:
            return False
        if not self._lanes.is_blocked(seq):
            self._queues.put_first(queue, seq)
        return True

    # --- time -------------------------------------------------------------------------------------------------------

    def next_wake(self) -> int | None:
        """Return the Unix time (ms) at which `wake` next has something to do, or None."""
        return self._waits.next()

    def wake(self, now_ms: int) -> list[int]:
        """Make executions ready that are due to wake, ahead of their flows' others; at most `MAX_WAKES` a call."""
        due = self._waits.due(now_ms, MAX_WAKES)
        for seq, queue in reversed(due):
            self._queues.put_first(queue, seq)
            if self._release_held_at is not None and seq <= self._recovered_up_to:
                self._unclaimed[seq] = queue
        return [seq for seq, _ in due]

    # --- internals --------------------------------------------------------------------------------------------------

    def _draw(self, runner: Runner, count: int, flow_share: int, assigned: list[LeaseGranted]) -> int:
        for number in range(count):
            drawn = self._queues.draw(flow_share)
            if drawn is None:
                return number
            queue, seq = drawn
            self._voided.pop(seq, None)
            self._unclaimed.pop(seq, None)
            token = self._tokens.mint(seq, self.term_of(seq))
            self._lease(Lease(token, seq, queue, runner, self._attempts.get(seq, 0) + 1))
            runner.credit -= 1
            assigned.append(LeaseGranted(runner.id, token, seq, self._by_seq[seq].attempt))
        return count
