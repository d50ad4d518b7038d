"""The scheduling core of one shard: accepted executions in, assignments out.

It knows every unfinished execution by its sequence number, in exactly one of these places:

    blocked ──its turn──▶ ready ──assign──▶ leased ──take──▶ ending ──ended──▶ (gone)
                          ▲ ▲ ▲               │  └──take──▶ parking ──parked──▶ waiting ──┐
                          │ │ │               ▼ (released, or its runner lost)     │      │
                          │ │ └──requeued── returning ◀──────────────deliver───────┘      │
                          │ └──────────────────────────────────────────────────────wake───┘
                          └──resume── suspended ◀──suspend── anywhere but ending
    held: accepted before a restart; ready once runners had time to come back for what they were working on. Until then
        each takes a place of its flow's concurrency. What is on record as given back, or waits, is not held; a runner
        that got it just before may claim it until then, if there is a place
    blocked: has an order key, and it is the turn of an earlier one

The caller makes durable what the returned values say, before it tells anyone and before it says `ended`, `requeued` or
`parked`. The latter two are the fence: while it is not on record that a lease is void, nobody gets another one, and
what was written under the old one came before. Nothing here fails on a stale token: it is answered with None, and the
caller revokes it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from router.scheduling.attendance import UNCERTAIN_FACTOR, Attendance
from router.scheduling.changes import Assigned, Exhausted, Requeued, Taken, Withdrawn
from router.scheduling.leases import Lease, Runner
from router.scheduling.places import Between
from router.scheduling.queues import FlowPolicy, FlowQueue

MAX_ASSIGNMENTS: Final = 64
"""Assignments that one runner gets in one batch."""

RESERVE: Final = 4
"""One place in so many is kept from each single flow, so that one whose calls hang leaves room for the others."""

MIN_SHARE: Final = 32
"""Places that each flow may take however few there are."""

SOON: Final = 4096
"""Executions of one flow whose turn may come soon; what stands further back is better read when it comes."""

MAX_WAKES: Final = 512
"""Executions that one call of `wake` wakes, so that it takes no longer than a millisecond."""


def _flow_share(places: int) -> int:
    """Return how many of all runners' places one flow may take."""
    return max(MIN_SHARE, places - places // RESERVE)


class Shard(Attendance):
    """See the module. After `recover`, call `begin`.

    Methods take constant time per execution they concern; logarithmic to park and wake; linear in the flow's backlog
    to cancel or suspend one that is ready or blocked.
    """

    # --- flows and events -------------------------------------------------------------------------------------------

    def set_policy(self, flow_id: str, policy: FlowPolicy) -> None:
        """Replace what limits a flow."""
        self._queues.set_policy(flow_id, policy)

    def retire(self, flow_id: str) -> None:
        """Let what a deleted flow left behind end under the limits it had."""
        self._queues.retire(flow_id)

    def accept(self, seq: int, flow_id: str, order_key: str = "") -> bool:
        """Take in an execution that has just become durable; tell whether its turn may come soon.

        Args:
            seq: its sequence number, greater than all before.
            flow_id: its flow.
            order_key: it runs after those of its flow with the same key; empty: whenever it can.
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
    ) -> Exhausted | None:
        """Take in an execution that was found pending or running at start-up.

        All that is found is to be recovered by ascending `seq`, and before anything is accepted.

        Args:
            seq: its sequence number.
            flow_id: its flow.
            attempts: those charged to it, one that has `begun` included.
            begun: whether an attempt is on record that was under way when the router died.
            term: the one on record: no runner can come back for what it had under an earlier one.
            order_key: see `accept`.

        Returns:
            None, or that it was there at too many deaths.
        """
        queue, its_turn = self._recover(seq, flow_id, attempts, term, order_key)
        if attempts - begun >= self._max_attempts * UNCERTAIN_FACTOR:
            if not its_turn:
                self._lanes.leave(seq)
            self._ending[seq] = Between(queue, counted=False)
            return Exhausted(seq, attempts)
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
        """Take in an execution that was found waiting at start-up; `attempts` includes the one that parked it."""
        queue, _ = self._recover(seq, flow_id, attempts - 1, term, order_key)
        self._waits.add(seq, queue, wake_at_ms)

    def recover_suspended(self, seq: int, flow_id: str, attempts: int, *, term: int = 0, order_key: str = "") -> None:
        """Take in an execution that was found suspended at start-up."""
        self._suspended[seq], _ = self._recover(seq, flow_id, attempts, term, order_key)

    # --- work -------------------------------------------------------------------------------------------------------

    def assign(self, full: Collection[str] = ()) -> list[Assigned]:
        """Hand ready executions to runners with credit, fairly across flows and evenly across runners.

        Each runner gets one batch at the most; call again, until nothing is assigned, for more.

        Args:
            full: runners that can take nothing just now, credit or not.
        """
        assigned: list[Assigned] = []
        flow_share = _flow_share(sum(runner.credit + len(runner.leases) for runner in self._runners.values()))
        able = [runner for runner in self._runners.values() if runner.credit and runner.id not in full]
        while able and self._queues.ready:
            runner = min(able, key=lambda candidate: (len(candidate.leases), -candidate.credit))
            share = -(-self._queues.ready // len(able))
            able.remove(runner)
            if not self._draw(runner, min(runner.credit, share, MAX_ASSIGNMENTS), flow_share, assigned):
                break
        return assigned

    def take(self, token: bytes) -> Taken | None:
        """Give up a lease because its execution is about to end; None when the token is stale."""
        lease = self._leases.get(token)
        if lease is None:
            return None
        self._drop(lease)
        self._ending[lease.seq] = Between(lease.queue, counted=True)
        return Taken(lease.seq, lease.attempt)

    def park(self, token: bytes) -> Taken | None:
        """Give up a lease because its execution is to wait: it is *parking*, and `attempt` is not charged.

        Returns:
            What it was; None when the token is stale.
        """
        lease = self._leases.get(token)
        if lease is None:
            return None
        self._void(lease)
        self._charge(lease.seq, lease.attempt - 1)
        self._parking[lease.seq] = lease.queue
        return Taken(lease.seq, lease.attempt)

    def parked(self, seq: int, wake_at_ms: int | None) -> None:
        """Have an execution wait that was *parking* and is on record as such.

        Args:
            seq: the execution; nothing happens when an operator took it out meanwhile.
            wake_at_ms: when it is ready again (Unix time); None: no time wakes it.
        """
        queue = self._parking.pop(seq, None)
        if queue is not None:
            self._waits.add(seq, queue, wake_at_ms)
            self._queues.stopped(queue)

    def requeued(self, seqs: Iterable[int]) -> None:
        """Make ready again, in order of arrival, what was *returning* and is on record as such."""
        for seq in sorted(seqs, reverse=True):
            returning = self._returning.pop(seq, None)
            if returning is not None:  # else it was cancelled meanwhile
                put = self._queues.put if returning.to_back else self._queues.put_first
                put(returning.queue, seq)
                if returning.counted:
                    self._queues.stopped(returning.queue)

    def deliver(self, seqs: Iterable[int]) -> list[Requeued]:
        """Take executions that wait out because what they wait for has come; they are *returning* from here on.

        Those that do not wait, or are about to only, are left alone and not returned.
        """
        delivered: list[Requeued] = []
        for seq in seqs:
            queue = self._waits.pop(seq)
            if queue is not None:
                self._returning[seq] = Between(queue, counted=False)
                delivered.append(Requeued(seq, self._attempts.get(seq, 0)))
        return delivered

    def ended(self, seq: int) -> None:
        """Forget an execution that was *ending* and whose end is durable."""
        ending = self._ending.pop(seq)
        self._attempts.pop(seq, None)
        self._blamed.pop(seq, None)
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

    def cancel(self, seq: int, flow_id: str) -> Withdrawn | None:
        """Take an execution out to end it: it is *ending* from here on.

        Returns:
            What it was, the attempt that is under way or made it wait included; None when it is not here or ending
            already.
        """
        lease = self._by_seq.get(seq)
        if lease is not None:
            self.take(lease.token)
            return Withdrawn(lease.attempt, lease)
        counted = self._is_counted(seq)
        waits = self.is_waiting(seq)
        queue = self._suspended.pop(seq, None) or self._withdraw(seq, flow_id)
        if queue is None:
            return None
        if self._lanes.is_blocked(seq):
            self._lanes.leave(seq)
        self._ending[seq] = Between(queue, counted=counted)
        return Withdrawn(self._attempts.get(seq, 0) + waits, None)

    def suspend(self, seq: int, flow_id: str) -> Withdrawn | None:
        """Take an execution out until `resume`; it keeps its order key. An attempt under way is not charged.

        Returns:
            What it was; None when it is not here, suspended or ending already.
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
        return Withdrawn(self._attempts.get(seq, 0), lease)

    def resume(self, seq: int) -> bool:
        """Make a suspended execution ready, before those that came later; false when it is not suspended."""
        queue = self._suspended.pop(seq, None)
        if queue is None:
            return False
        if not self._lanes.is_blocked(seq):
            self._queues.put_first(queue, seq)
        return True

    # --- time -------------------------------------------------------------------------------------------------------

    def next_wake(self) -> int | None:
        """Return when `wake` has something to do next (Unix milliseconds), or None."""
        return self._waits.next()

    def wake(self, now_ms: int) -> list[int]:
        """Make ready what waited for a time that has come, before what arrived later; at most `MAX_WAKES` at a time."""
        due = self._waits.due(now_ms, MAX_WAKES)
        for seq, queue in reversed(due):
            self._queues.put_first(queue, seq)
            if self._release_held_at is not None and seq <= self._recovered_up_to:
                self._unclaimed[seq] = queue
        return [seq for seq, _ in due]

    # --- inside -----------------------------------------------------------------------------------------------------

    def _draw(self, runner: Runner, count: int, flow_share: int, assigned: list[Assigned]) -> int:
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
            assigned.append(Assigned(runner.id, token, seq, self._by_seq[seq].attempt))
        return count
