"""Runners that come, go and stay away, and what becomes of the executions they had.

A runner is lost when it says nothing for the time of a lease, or does not come back soon after its stream ended. What
it had is charged for that, and assigned again. See `leases` for who may keep what, and `absences` for what is learned
of a loss afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from router.scheduling.absences import Absences
from router.scheduling.changes import Attached, Confessed, Exhausted, Expired, Loss, Requeued
from router.scheduling.leases import MAX_CREDIT, Lease, LeaseTokens, Runner
from router.scheduling.places import Between, Places
from router.scheduling.queues import FlowQueue

UNCERTAIN_FACTOR: Final = 4
"""Losses nobody can explain count this much less than those an execution is known to have caused."""


class Attendance(Places):
    """See the module."""

    def __init__(self, *, epoch: int, lease_seconds: float, max_attempts: int, reattach_seconds: float) -> None:
        """Make it with no runner and nothing accepted.

        Args:
            epoch: fencing number of this ownership; grows by one with each.
            lease_seconds: how long a runner may be silent before it is lost.
            max_attempts: attempts charged to an execution before it is exhausted.
            reattach_seconds: how long a detached runner may take to come back, and how long what was accepted before
                a restart is held for runners that work on it.
        """
        super().__init__()
        self._tokens = LeaseTokens(epoch)
        self._lease_seconds = lease_seconds
        self._max_attempts = max_attempts
        self._reattach_seconds = reattach_seconds
        self._runners: dict[str, Runner] = {}
        self._blamed: dict[int, int] = {}
        self._absences = Absences()
        # the lease that an execution lost last by the absence of its runner, until somebody has it again
        self._voided: dict[int, Lease] = {}
        self._release_held_at: float | None = None

    # --- who is here --------------------------------------------------------------------------------------------------

    def held_by(self, runner_id: str) -> int:
        """Return how many executions a runner works on."""
        runner = self._runners.get(runner_id)
        return 0 if runner is None else len(runner.leases)

    def attach(self, runner_id: str, held: Iterable[bytes], *, explained: bool, now: float) -> Attached:
        """Take in a runner, new or back again, be it too late to keep its work.

        Args:
            runner_id: unique among runners.
            held: tokens the runner still works on; of this epoch or, after restarts, of earlier ones.
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
        adopted = [seq for token in held if (seq := self._adopt(runner, token)) is not None]
        kept = [token for token in held if token in runner.leases]
        lost = runner.leases.keys() - kept
        losses = [self._lose(runner.leases[token], charged=not explained, certain=False) for token in lost]
        return Attached(kept, losses, pardoned, adopted)

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

    # --- what they lost -----------------------------------------------------------------------------------------------

    def release(self, token: bytes, *, charged: bool, to_back: bool = False) -> Loss | None:
        """Give an execution back unfinished.

        Args:
            token: of its lease.
            charged: whether it is known to have caused that.
            to_back: whether those of its flow that are ready go first.

        Returns:
            What became of it; None when the token is stale.
        """
        lease = self._leases.get(token)
        return None if lease is None else self._lose(lease, charged=charged, certain=True, to_back=to_back)

    def give_up(self, seq: int) -> bool:
        """Have an execution that is *returning* end instead: it is *ending* from here on; false when it is not."""
        returning = self._returning.pop(seq, None)
        if returning is not None:
            self._ending[seq] = returning
        return returning is not None

    def confess(self, runner_id: str, token: bytes, *, final: bool) -> Confessed | None:
        """Hold an execution to account for a lease that its runner lost by its absence, and comes to explain.

        Its loss was charged then; from here on it counts as one that it is known to have caused.

        Args:
            runner_id: who had the lease, and attached again since.
            token: of the lease.
            final: whether it is to end for that, also if somebody works on it by now.

        Returns:
            None when there is nothing to account for.
        """
        seq = self._absences.take(runner_id, token)
        if seq is None or not self._is_charged(seq):
            return None
        blamed = self._blamed[seq] = self._blamed.get(seq, 0) + 1
        attempts = self._attempts[seq]
        if (final or blamed >= self._max_attempts) and self._end_voided(seq, token):
            return Confessed(seq, attempts, is_ending=True)
        newer = self._by_seq.get(seq) if final else None
        if newer is not None:
            self._drop(newer)
            self._ending[seq] = Between(newer.queue, counted=True)
        return Confessed(seq, attempts, newer is not None, newer)

    # --- time ---------------------------------------------------------------------------------------------------------

    def begin(self, now: float) -> None:
        """Give runners time, from now on, to come back for what they worked on."""
        self._release_held_at = now + self._reattach_seconds

    def next_deadline(self) -> float | None:
        """Return when `expire` has something to do next, or None."""
        deadlines = [runner.deadline for runner in self._runners.values()]
        if self._release_held_at is not None:
            deadlines.append(self._release_held_at)
        return min(deadlines, default=None)

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
            losses += self._release_held()
        return Expired(losses, silent)

    # --- inside -------------------------------------------------------------------------------------------------------

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
        self._ending[seq] = Between(lease.queue, counted=False)
        return True

    def _adopt(self, runner: Runner, token: bytes) -> int | None:
        """Let a runner go on with what it had before a restart; None when that is not its any more."""
        earlier = self._tokens.earlier(token)
        if earlier is None:
            return None
        seq, term = earlier
        if seq > self._recovered_up_to or term + 1 != self.term_of(seq):
            return None
        queue = self._claim(seq)
        if queue is None:
            return None
        queue.running += 1
        charged = self._attempts.get(seq, 0)
        if seq in self._begun:
            # what is charged is the attempt that is adopted, and it did not end
            self._begun.discard(seq)
            charged -= 1
            self._charge(seq, charged)
        self._lease(Lease(token, seq, queue, runner, charged + 1))
        return seq

    def _claim(self, seq: int) -> FlowQueue | None:
        """Take out an execution that was there at the start and that nobody got since; None when it is none.

        One that is not held has no place: where its flow has none left the next runner gets it.
        """
        queue = self._release(seq)
        if queue is not None:
            return queue
        queue = self._unclaimed.get(seq)
        if queue is not None and queue.has_room:
            del self._unclaimed[seq]
            self._queues.remove(queue, seq)
            return queue
        # it was woken, which leaves no record, and the runner had no time to say anything of it
        queue = self._waits.get(seq)
        return self._waits.pop(seq) if queue is not None and queue.has_room else None

    def _release_held(self) -> list[Loss]:
        """Make ready what no runner came back for; it is charged for that, and may be exhausted."""
        begun, self._begun = self._begun, set()
        self._unclaimed.clear()
        losses: list[Loss] = []
        while self._held:
            seq, queue = self._held.popitem()  # the latest first
            self._queues.let_go(queue)
            attempts = self._attempts.get(seq, 0)
            if seq in begun and attempts >= self._max_attempts * UNCERTAIN_FACTOR:
                self._ending[seq] = Between(queue, counted=False)
                losses.append(Exhausted(seq, attempts))
            else:
                self._queues.put_first(queue, seq)
        return losses

    def _lose_absent(self, lease: Lease, now: float) -> Loss:
        """Take a lease away from a runner that stays away, and may yet say why."""
        loss = self._lose(lease, charged=True, certain=False)
        if isinstance(loss, Requeued):
            self._absences.note(lease.runner.id, lease.token, lease.seq, now)
            self._voided[lease.seq] = lease
        return loss

    def _lose(self, lease: Lease, *, charged: bool, certain: bool, to_back: bool = False) -> Loss:
        """Take a lease away; its execution is returning, or exhausted."""
        self._void(lease)
        seq = lease.seq
        attempts = lease.attempt if charged else lease.attempt - 1
        if charged and certain:
            self._blamed[seq] = self._blamed.get(seq, 0) + 1
        if charged and (
            self._blamed.get(seq, 0) >= self._max_attempts or attempts >= self._max_attempts * UNCERTAIN_FACTOR
        ):
            self._ending[seq] = Between(lease.queue, counted=True)
            return Exhausted(seq, attempts)
        self._charge(seq, attempts)
        self._returning[seq] = Between(lease.queue, counted=True, to_back=to_back)
        return Requeued(seq, attempts)
