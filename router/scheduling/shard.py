"""The scheduling core of one shard: accepted executions in, assignments out.

It knows every unfinished execution by its sequence number, in exactly one of these places:

    blocked ──its turn──▶ ready ──assign──▶ leased ──take──▶ ending ──ended──▶ (gone)
                          ▲ ▲ ▲               │  └──take──▶ parking ──parked──▶ waiting ──┐
                          │ │ │               ▼ (released, or its runner lost)     │      │
                          │ │ └──requeued── returning ◀──────────────deliver───────┘      │
                          │ └──────────────────────────────────────────────────────wake───┘
                          └──resume── suspended ◀──suspend── anywhere but ending
    held: accepted before a restart; ready once runners had time to come back for what they were working on
    blocked: has an order key, and it is the turn of an earlier one

The caller makes durable what the returned values say, before it tells anyone and before it says `ended`, `requeued` or
`parked`. The latter two are the fence: while it is not on record that a lease is void, nobody gets another one, and
what was written under the old one came before. Nothing here fails on a stale token: it is answered with None, and the
caller revokes it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from router.scheduling.absences import Absences
from router.scheduling.lanes import OrderLanes
from router.scheduling.leases import MAX_CREDIT, Lease, LeaseTokens, Runner
from router.scheduling.queues import FairQueues, FlowPolicy, FlowQueue
from router.scheduling.waits import Waits

MAX_ASSIGNMENTS: Final = 64
"""Assignments that one runner gets in one batch."""

RESERVE: Final = 4
"""One place in so many is kept from each single flow, so that one whose calls hang leaves room for the others."""

MIN_SHARE: Final = 64
"""Places that each flow may take however few there are."""

SOON: Final = 4096
"""Executions of one flow whose turn may come soon; what stands further back is better read when it comes."""

MAX_WAKES: Final = 512
"""Executions that one call of `wake` wakes, so that it takes no longer than a millisecond."""

UNCERTAIN_FACTOR: Final = 4
"""Losses nobody can explain count this much less than those an execution is known to have caused."""


class Assigned(NamedTuple):
    """An execution that a runner is to work on."""

    runner_id: str
    token: bytes
    seq: int
    attempt: int


class Requeued(NamedTuple):
    """An execution that is *returning*; `attempts` are those charged so far. Once that is durable: `requeued`."""

    seq: int
    attempts: int


class Exhausted(NamedTuple):
    """An execution that used up its attempts; it is *ending*: the caller faults it, then says `ended`."""

    seq: int
    attempts: int


Loss = Requeued | Exhausted


class Taken(NamedTuple):
    """A lease that was given up for good; its execution is *ending* or *parking*."""

    seq: int
    attempt: int


class Expired(NamedTuple):
    """What time changed: what became of executions, and attached runners that fell silent: end their streams."""

    losses: list[Loss]
    silent: list[str]


class Attached(NamedTuple):
    """What an attachment changed.

    Attributes:
        kept: tokens that are still good.
        losses: what became of the others the runner held.
        pardoned: executions that were charged while it was away, and are not any more.
    """

    kept: list[bytes]
    losses: list[Loss]
    pardoned: list[int]


class Confessed(NamedTuple):
    """An execution that cost its runner the lease, which is learned late.

    Attributes:
        attempts: those charged so far.
        is_ending: whether that was too much: it is *ending*, and the caller faults it, then says `ended`.
    """

    seq: int
    attempts: int
    is_ending: bool


@dataclass(slots=True)
class _Between:
    """An execution that is ending or returning: what becomes of it is being stored."""

    queue: FlowQueue
    counted: bool
    """Whether it still counts as running for its flow."""


class Withdrawn(NamedTuple):
    """An execution that an operator took out: attempts charged to it, and the lease that was broken, if any."""

    attempts: int
    lease: Lease | None


def _flow_share(places: int) -> int:
    """Return how many of all runners' places one flow may take."""
    return max(MIN_SHARE, places - places // RESERVE)


class Shard:
    """See the module.

    Methods take constant time per execution they concern; logarithmic to park and wake; linear in the flow's backlog
    to cancel or suspend one that is ready or blocked.
    """

    def __init__(self, *, epoch: int, lease_seconds: float, max_attempts: int, reattach_seconds: float) -> None:
        """Make an empty shard. After `recover`, call `begin`.

        Args:
            epoch: fencing number of this ownership; grows by one with each.
            lease_seconds: how long a runner may be silent before it is lost.
            max_attempts: attempts charged to an execution before it is exhausted.
            reattach_seconds: how long a detached runner may take to come back, and how long what was accepted before
                a restart is held for runners that work on it.
        """
        self._tokens = LeaseTokens(epoch)
        self._lease_seconds = lease_seconds
        self._max_attempts = max_attempts
        self._reattach_seconds = reattach_seconds
        self._queues = FairQueues()
        self._runners: dict[str, Runner] = {}
        self._leases: dict[bytes, Lease] = {}
        self._by_seq: dict[int, Lease] = {}
        self._ending: dict[int, _Between] = {}
        self._returning: dict[int, _Between] = {}
        self._parking: dict[int, FlowQueue] = {}
        self._waits = Waits()
        self._suspended: dict[int, FlowQueue] = {}
        self._lanes = OrderLanes()
        self._attempts: dict[int, int] = {}
        self._blamed: dict[int, int] = {}
        self._absences = Absences()
        # the lease that an execution lost last by the absence of its runner, until somebody has it again
        self._voided: dict[int, Lease] = {}
        self._held: dict[int, FlowQueue] = {}
        self._release_held_at: float | None = None
        self.unfinished = 0

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
        self, seq: int, flow_id: str, attempts: int, *, requeued: bool = False, order_key: str = ""
    ) -> Exhausted | None:
        """Take in an execution that was found pending or running at start-up.

        All that is found is to be recovered by ascending `seq`, and before anything is accepted.

        Args:
            seq: its sequence number.
            flow_id: its flow.
            attempts: those charged to it, the one included that was under way when the router died.
            requeued: whether it is on record that it lost a lease: then no runner can come back for it.
            order_key: see `accept`.

        Returns:
            None, or that it was there at too many deaths.
        """
        queue, its_turn = self._recover(seq, flow_id, attempts, order_key)
        if attempts >= self._max_attempts * UNCERTAIN_FACTOR:
            if not its_turn:
                self._lanes.leave(seq)
            self._ending[seq] = _Between(queue, counted=False)
            return Exhausted(seq, attempts)
        if its_turn and requeued:
            self._queues.put(queue, seq)
        elif its_turn:
            self._held[seq] = queue
        return None

    def recover_waiting(
        self, seq: int, flow_id: str, attempts: int, wake_at_ms: int | None, *, order_key: str = ""
    ) -> None:
        """Take in an execution that was found waiting at start-up; `attempts` includes the one that parked it."""
        queue, _ = self._recover(seq, flow_id, attempts - 1, order_key)
        self._waits.add(seq, queue, wake_at_ms)

    def recover_suspended(self, seq: int, flow_id: str, attempts: int, *, order_key: str = "") -> None:
        """Take in an execution that was found suspended at start-up."""
        self._suspended[seq], _ = self._recover(seq, flow_id, attempts, order_key)

    def begin(self, now: float) -> None:
        """Give runners time, from now on, to come back for what they worked on."""
        self._release_held_at = now + self._reattach_seconds

    def backlog(self, flow_id: str) -> int:
        """Return how many accepted executions of a flow have not ended."""
        return self._queues.unfinished(flow_id)

    @property
    def ready(self) -> int:
        """Executions that wait for a runner or soon will, or for an earlier one of their order key."""
        elsewhere = len(self._leases) + len(self._ending) + len(self._parking) + len(self._waits) + len(self._suspended)
        return self.unfinished - elsewhere

    @property
    def queued(self) -> int:
        """Executions that `assign` may draw, those of paused and limited flows included."""
        return self._queues.ready

    @property
    def leased(self) -> int:
        """Executions under lease."""
        return len(self._leases)

    @property
    def waiting(self) -> int:
        """Executions that wait for a time, or for something to happen, or are about to."""
        return len(self._waits) + len(self._parking)

    @property
    def suspended(self) -> int:
        """Executions that an operator suspended."""
        return len(self._suspended)

    def is_waiting(self, seq: int) -> bool:
        """Whether an execution waits, or is about to."""
        return seq in self._waits or seq in self._parking

    def is_changing(self, seq: int) -> bool:
        """Whether what became of an execution's lease, or what came for it, is yet to be stored, and it did not end."""
        return seq in self._returning or seq in self._parking

    def is_returning(self, seq: int) -> bool:
        """Whether an execution is to be assigned again once that is on record."""
        return seq in self._returning

    def is_ending(self, seq: int) -> bool:
        """Whether the end of an execution is yet to be stored."""
        return seq in self._ending

    def waiting_flow(self, seq: int) -> str | None:
        """Return the flow of an execution that waits; None when it does not, or is about to only."""
        queue = self._waits.get(seq)
        return None if queue is None else queue.flow_id

    def is_suspended(self, seq: int) -> bool:
        """Whether an operator suspended an execution."""
        return seq in self._suspended

    def is_leased(self, seq: int) -> bool:
        """Whether a runner works on an execution."""
        return seq in self._by_seq

    def attempt_of(self, seq: int) -> int | None:
        """Return the number of the attempt under way, or None when none is."""
        lease = self._by_seq.get(seq)
        return None if lease is None else lease.attempt

    # --- runners ----------------------------------------------------------------------------------------------------

    def attach(self, runner_id: str, held: Iterable[bytes], *, explained: bool, now: float) -> Attached:
        """Take in a runner, new or back again, be it too late to keep its work.

        Args:
            runner_id: unique among runners.
            held: tokens the runner still works on; of this epoch or, after a restart, of the one before.
            explained: whether executions it no longer holds are known not to have caused their loss.
            now: the present.
        """
        held = list(held)
        pardoned = [
            seq for seq in self._absences.end(runner_id, held, explained=explained, now=now) if self._pardon(seq)
        ]
        runner = self._runners.get(runner_id)
        if runner is None:
            runner = self._runners[runner_id] = Runner(runner_id, now + self._lease_seconds)
        runner.attached, runner.credit, runner.deadline = True, 0, now + self._lease_seconds
        kept = [token for token in held if token in runner.leases or self._adopt(runner, token)]
        lost = runner.leases.keys() - kept
        losses = [self._lose(runner.leases[token], charged=not explained, certain=False) for token in lost]
        return Attached(kept, losses, pardoned)

    def detach(self, runner_id: str, now: float) -> None:
        """Note that a runner's stream ended; its leases live on for a while."""
        runner = self._runners.get(runner_id)
        if runner is not None:
            runner.attached, runner.credit = False, 0
            runner.deadline = min(runner.deadline, now + self._reattach_seconds)

    def add_credit(self, runner_id: str, credit: int) -> bool:
        """Allow a runner more assignments; false when it is not attached, or that is more than any may have."""
        runner = self._runners.get(runner_id)
        if runner is None or not runner.attached or credit < 1 or runner.credit + credit > MAX_CREDIT:
            return False
        runner.credit += credit
        return True

    def refund(self, runner_id: str) -> None:
        """Give back the credit for an assignment that never reached the runner, on the stream it was granted on."""
        runner = self._runners.get(runner_id)
        if runner is not None and runner.attached:
            runner.credit = min(runner.credit + 1, MAX_CREDIT)

    def renew(self, runner_id: str, now: float) -> None:
        """Extend all leases of an attached runner."""
        runner = self._runners.get(runner_id)
        if runner is not None and runner.attached:
            runner.deadline = now + self._lease_seconds

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
            runner = max(able, key=lambda candidate: candidate.credit)
            share = -(-self._queues.ready // len(able))
            able.remove(runner)
            if not self._draw(runner, min(runner.credit, share, MAX_ASSIGNMENTS), flow_share, assigned):
                break
        return assigned

    def lease_of(self, token: bytes) -> int | None:
        """Return the execution that a token is good for, or None when it is stale."""
        lease = self._leases.get(token)
        return None if lease is None else lease.seq

    def take(self, token: bytes) -> Taken | None:
        """Give up a lease because its execution is about to end; None when the token is stale."""
        lease = self._leases.get(token)
        if lease is None:
            return None
        self._drop(lease)
        self._ending[lease.seq] = _Between(lease.queue, counted=True)
        return Taken(lease.seq, lease.attempt)

    def park(self, token: bytes) -> Taken | None:
        """Give up a lease because its execution is to wait: it is *parking*, and `attempt` is not charged.

        Returns:
            What it was; None when the token is stale.
        """
        lease = self._leases.get(token)
        if lease is None:
            return None
        self._drop(lease)
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

    def release(self, token: bytes, *, charged: bool) -> Loss | None:
        """Give an execution back unfinished; `charged` when it is known to have caused that. None: stale token."""
        lease = self._leases.get(token)
        return None if lease is None else self._lose(lease, charged=charged, certain=True)

    def confess(self, runner_id: str, token: bytes, *, final: bool) -> Confessed | None:
        """Hold an execution to account for a lease that its runner lost by its absence, and comes to explain.

        Its loss was charged then; from here on it counts as one that it is known to have caused.

        Args:
            runner_id: who had the lease, and attached again since.
            token: of the lease.
            final: whether it is to end for that, if nobody has come to work on it since.

        Returns:
            None when there is nothing to account for.
        """
        seq = self._absences.take(runner_id, token)
        if seq is None or not self._is_charged(seq):
            return None
        blamed = self._blamed[seq] = self._blamed.get(seq, 0) + 1
        is_ending = (final or blamed >= self._max_attempts) and self._end_voided(seq, token)
        return Confessed(seq, self._attempts[seq], is_ending)

    def requeued(self, seqs: Iterable[int]) -> None:
        """Make ready again, in order of arrival, what was *returning* and is on record as such."""
        for seq in sorted(seqs, reverse=True):
            returning = self._returning.pop(seq, None)
            if returning is not None:  # else it was cancelled meanwhile
                self._queues.put_first(returning.queue, seq)
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
                self._returning[seq] = _Between(queue, counted=False)
                delivered.append(Requeued(seq, self._attempts.get(seq, 0)))
        return delivered

    def give_up(self, seq: int) -> bool:
        """Have an execution that is *returning* end instead: it is *ending* from here on; false when it is not."""
        returning = self._returning.pop(seq, None)
        if returning is not None:
            self._ending[seq] = returning
        return returning is not None

    def ended(self, seq: int) -> None:
        """Forget an execution that was *ending* and whose end is durable."""
        ending = self._ending.pop(seq)
        self._attempts.pop(seq, None)
        self._blamed.pop(seq, None)
        self._voided.pop(seq, None)
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
        self._ending[seq] = _Between(queue, counted=counted)
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
            self._drop(lease)
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

    def next_deadline(self) -> float | None:
        """Return when `expire` has something to do next, or None."""
        deadlines = [runner.deadline for runner in self._runners.values()]
        if self._release_held_at is not None:
            deadlines.append(self._release_held_at)
        return min(deadlines, default=None)

    def next_wake(self) -> int | None:
        """Return when `wake` has something to do next (Unix milliseconds), or None."""
        return self._waits.next()

    def wake(self, now_ms: int) -> list[int]:
        """Make ready what waited for a time that has come, before what arrived later; at most `MAX_WAKES` at a time."""
        due = self._waits.due(now_ms, MAX_WAKES)
        for seq, queue in reversed(due):
            self._queues.put_first(queue, seq)
        return [seq for seq, _ in due]

    def expire(self, now: float) -> Expired:
        """Give up runners that were silent for too long, and free what was held for their return."""
        self._absences.forget(now)
        losses: list[Loss] = []
        silent: list[str] = []
        for runner in [runner for runner in self._runners.values() if runner.deadline <= now]:
            losses += [self._lose_absent(lease, now) for lease in list(runner.leases.values())]
            if runner.attached:
                silent.append(runner.id)
            del self._runners[runner.id]
        if self._release_held_at is not None and now >= self._release_held_at:
            self._release_held_at = None
            held, self._held = self._held, {}
            for seq, queue in reversed(held.items()):
                self._queues.put_first(queue, seq)
        return Expired(losses, silent)

    # --- inside -----------------------------------------------------------------------------------------------------

    def _recover(self, seq: int, flow_id: str, attempts: int, order_key: str) -> tuple[FlowQueue, bool]:
        """Count an execution; returns its queue, and whether it is its turn."""
        queue = self._queues.flow(flow_id)
        queue.unfinished += 1
        self.unfinished += 1
        self._charge(seq, attempts)
        return queue, not order_key or self._lanes.enter(seq, flow_id, order_key)

    def _withdraw(self, seq: int, flow_id: str) -> FlowQueue | None:
        """Take out an execution that is returning, parking, held, waiting, blocked or ready."""
        returning = self._returning.pop(seq, None)
        if returning is not None:
            return returning.queue
        for place in (self._parking, self._held):
            queue = place.pop(seq, None)
            if queue is not None:
                return queue
        queue = self._waits.pop(seq)
        if queue is None and seq not in self._ending:
            queue = self._queues.flow(flow_id)
            if not self._lanes.is_blocked(seq) and not self._queues.remove(queue, seq):
                return None
        return queue

    def _is_counted(self, seq: int) -> bool:
        """Whether an execution without a lease counts as running for its flow."""
        returning = self._returning.get(seq)
        return seq in self._parking or (returning is not None and returning.counted)

    def _charge(self, seq: int, attempts: int) -> None:
        if attempts > 0:
            self._attempts[seq] = attempts
        else:
            self._attempts.pop(seq, None)

    def _is_charged(self, seq: int) -> bool:
        """Whether an execution that was charged is still there, and not about to end."""
        return seq in self._attempts and seq not in self._ending

    def _pardon(self, seq: int) -> bool:
        """Take back one attempt that was charged; the number of the one under way, if any, goes down with it."""
        if not self._is_charged(seq):
            return False
        self._charge(seq, self._attempts[seq] - 1)
        lease = self._by_seq.get(seq)
        if lease is not None:
            lease.attempt -= 1
        return True

    def _end_voided(self, seq: int, token: bytes) -> bool:
        """Have an execution end that nobody got since it lost this lease; false when it is not ready or returning."""
        lease = self._voided.get(seq)
        if lease is None or lease.token != token:
            return False
        if self.give_up(seq):
            return True
        if not self._queues.remove(lease.queue, seq):
            return False
        self._ending[seq] = _Between(lease.queue, counted=False)
        return True

    def _draw(self, runner: Runner, count: int, flow_share: int, assigned: list[Assigned]) -> int:
        for number in range(count):
            drawn = self._queues.draw(flow_share)
            if drawn is None:
                return number
            queue, seq = drawn
            self._voided.pop(seq, None)
            token = self._tokens.mint(seq)
            self._lease(Lease(token, seq, queue, runner, self._attempts.get(seq, 0) + 1))
            runner.credit -= 1
            assigned.append(Assigned(runner.id, token, seq, self._by_seq[seq].attempt))
        return count

    def _lease(self, lease: Lease) -> None:
        self._leases[lease.token] = self._by_seq[lease.seq] = lease.runner.leases[lease.token] = lease

    def _drop(self, lease: Lease) -> None:
        del self._leases[lease.token], self._by_seq[lease.seq], lease.runner.leases[lease.token]

    def _adopt(self, runner: Runner, token: bytes) -> bool:
        seq = self._tokens.adoptable(token)
        queue = None if seq is None else self._held.pop(seq, None)
        if seq is None or queue is None:
            return False
        queue.running += 1
        # the attempt under way when the router died may not have been written down: it is the one being adopted
        self._lease(Lease(token, seq, queue, runner, self._attempts.get(seq, 0) or 1))
        return True

    def _lose_absent(self, lease: Lease, now: float) -> Loss:
        """Take a lease away from a runner that stays away, and may yet say why."""
        loss = self._lose(lease, charged=True, certain=False)
        if isinstance(loss, Requeued):
            self._absences.note(lease.runner.id, lease.token, lease.seq, now)
            self._voided[lease.seq] = lease
        return loss

    def _lose(self, lease: Lease, *, charged: bool, certain: bool) -> Loss:
        """Take a lease away; its execution is returning, or exhausted."""
        self._drop(lease)
        seq = lease.seq
        attempts = lease.attempt if charged else lease.attempt - 1
        if charged and certain:
            self._blamed[seq] = self._blamed.get(seq, 0) + 1
        if charged and (
            self._blamed.get(seq, 0) >= self._max_attempts or attempts >= self._max_attempts * UNCERTAIN_FACTOR
        ):
            self._ending[seq] = _Between(lease.queue, counted=True)
            return Exhausted(seq, attempts)
        self._charge(seq, attempts)
        self._returning[seq] = _Between(lease.queue, counted=True)
        return Requeued(seq, attempts)
