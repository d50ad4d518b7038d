"""Runner membership: attachment, loss, and requeueing of a lost runner's executions.

A runner is lost when it sends nothing for the duration of a lease, or does not reattach soon after its stream ended.
Its executions are charged an attempt and assigned again. `leases` defines which leases a reattached runner retains;
`lost_leases` handles what is learned about a loss afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from router.scheduling.changes import AttachResult, AttemptsExhausted, LateFailure, LeasesExpired, Loss, RequeuePending
from router.scheduling.execution_state import ExecutionState, Transitioning
from router.scheduling.leases import MAX_CREDIT, Lease, LeaseTokens, Runner
from router.scheduling.lost_leases import LostLeases
from router.scheduling.queues import FlowQueue

UNCERTAIN_FACTOR: Final = 4
"""Unexplained losses count this many times less than losses an execution is known to have caused."""


class RunnerMembership(ExecutionState):
    """Attaches, detaches and expires runners, and takes leases away from lost ones."""

    def __init__(self, *, epoch: int, lease_seconds: float, max_attempts: int, reattach_seconds: float) -> None:
        """Start with no runner and nothing accepted.

        Args:
            epoch: fencing number of this ownership; each ownership's number is one greater than the last.
            lease_seconds: how long a runner may be silent before it is lost.
            max_attempts: attempts charged to an execution before it is exhausted.
            reattach_seconds: how long a detached runner may take to reattach, and how long executions accepted before
                a restart are held for the runners that work on them.
        """
        super().__init__()
        self._tokens = LeaseTokens(epoch)
        self._lease_seconds = lease_seconds
        self._max_attempts = max_attempts
        self._reattach_seconds = reattach_seconds
        self._runners: dict[str, Runner] = {}
        self._attributed: dict[int, int] = {}
        self._absences = LostLeases()
        # the lease an execution last lost through the absence of its runner, until the execution is leased again
        self._voided: dict[int, Lease] = {}
        self._release_held_at: float | None = None

    # --- attached runners ---------------------------------------------------------------------------------------------

    def lease_count(self, runner_id: str) -> int:
        """Return the number of executions a runner works on."""
        runner = self._runners.get(runner_id)
        return 0 if runner is None else len(runner.leases)

    def attach(self, runner_id: str, held: Iterable[bytes], *, explained: bool, now: float) -> AttachResult:
        """Attach a runner, new or returning, even when it returns too late to retain its leases.

        Args:
            runner_id: unique among runners.
            held: tokens the runner still works on; of this epoch or, after restarts, of earlier ones.
            explained: whether executions it no longer holds are known not to have caused their loss.
            now: the current time.
        """
        held = list(held)
        pardoned = [
            seq
            for seq in self._absences.end(runner_id, held, explained=explained, now=now)
            if self._refund_attempt(seq)
        ]
        runner = self._runners.get(runner_id)
        if runner is None:
            runner = self._runners[runner_id] = Runner(runner_id, now + self._lease_seconds)
        runner.attached, runner.credit, runner.deadline = True, 0, now + self._lease_seconds
        adopted = [seq for token in held if (seq := self._adopt(runner, token)) is not None]
        kept = [token for token in held if token in runner.leases]
        lost = runner.leases.keys() - kept
        losses = [self._lose(runner.leases[token], charged=not explained, certain=False) for token in lost]
        return AttachResult(kept, losses, pardoned, adopted)

    def detach(self, runner_id: str, now: float) -> None:
        """Record that a runner's stream ended; its leases stay valid until the reattach deadline."""
        runner = self._runners.get(runner_id)
        if runner is not None:
            runner.attached, runner.credit = False, 0
            runner.deadline = min(runner.deadline, now + self._reattach_seconds)

    def add_credit(self, runner_id: str, credit: int) -> bool:
        """Grant a runner more assignments; false when it is not attached or the total would exceed `MAX_CREDIT`."""
        runner = self._runners.get(runner_id)
        if runner is None or not runner.attached or credit < 1 or runner.credit + credit > MAX_CREDIT:
            return False
        runner.credit += credit
        return True

    def return_credit(self, runner_id: str) -> None:
        """Restore the credit for an assignment that never reached the runner, on the stream that granted it."""
        runner = self._runners.get(runner_id)
        if runner is not None and runner.attached:
            runner.credit = min(runner.credit + 1, MAX_CREDIT)

    def renew(self, runner_id: str, now: float) -> None:
        """Extend all leases of an attached runner."""
        runner = self._runners.get(runner_id)
        if runner is not None and runner.attached:
            runner.deadline = now + self._lease_seconds

    # --- lost leases --------------------------------------------------------------------------------------------------

    def release(self, token: bytes, *, charged: bool, to_back: bool = False) -> Loss | None:
        """Give an execution back unfinished.

        Args:
            token: its lease's token.
            charged: whether the execution is known to have caused the release.
            to_back: whether it is queued behind its flow's other ready executions.

        Returns:
            What became of it; None when the token is stale.
        """
        lease = self._leases.get(token)
        return None if lease is None else self._lose(lease, charged=charged, certain=True, to_back=to_back)

    def end_returning(self, seq: int) -> bool:
        """Move an execution from *returning* to *ending*; false when it is not returning."""
        returning = self._returning.pop(seq, None)
        if returning is not None:
            self._ending[seq] = returning
        return returning is not None

    def report_late_failure(self, runner_id: str, token: bytes, *, final: bool) -> LateFailure | None:
        """Attribute a lost lease to its execution, when the runner that was absent explains the loss.

        The loss was charged when it happened; from now on it counts as one the execution is known to have caused.

        Args:
            runner_id: the runner that had the lease and has reattached since.
            token: the lease's token.
            final: whether the execution must end because of the loss, even if another runner works on it by now.

        Returns:
            None when the runner has no such loss to explain.
        """
        seq = self._absences.take(runner_id, token)
        if seq is None or not self._is_charged(seq):
            return None
        blamed = self._attributed[seq] = self._attributed.get(seq, 0) + 1
        attempts = self._attempts[seq]
        if (final or blamed >= self._max_attempts) and self._end_voided(seq, token):
            return LateFailure(seq, attempts, is_ending=True)
        newer = self._by_seq.get(seq) if final else None
        if newer is not None:
            self._drop(newer)
            self._ending[seq] = Transitioning(newer.queue, counted=True)
        return LateFailure(seq, attempts, newer is not None, newer)

    # --- time ---------------------------------------------------------------------------------------------------------

    def begin(self, now: float) -> None:
        """Start the period in which runners may reattach and claim the executions held for them."""
        self._release_held_at = now + self._reattach_seconds

    def next_deadline(self) -> float | None:
        """Return the time at which `expire` next has something to do, or None."""
        deadlines = [runner.deadline for runner in self._runners.values()]
        if self._release_held_at is not None:
            deadlines.append(self._release_held_at)
        return min(deadlines, default=None)

    def expire(self, now: float) -> LeasesExpired:
        """Drop runners that were silent for too long, and release executions held for runners to reattach."""
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
        return LeasesExpired(losses, silent)

    # --- internals ----------------------------------------------------------------------------------------------------

    def _refund_attempt(self, seq: int) -> bool:
        """Refund one charged attempt; an attempt in progress gets a number smaller by one."""
        if not self._is_charged(seq):
            return False
        self._charge(seq, self._attempts[seq] - 1)
        lease = self._by_seq.get(seq)
        if lease is not None:
            lease.attempt -= 1
        return True

    def _end_voided(self, seq: int, token: bytes) -> bool:
        """Move an execution not leased since it lost this lease to *ending*; false unless ready or returning."""
        lease = self._voided.get(seq)
        if lease is None or lease.token != token:
            return False
        if self.end_returning(seq):
            return True
        if not self._queues.remove(lease.queue, seq):
            return False
        self._ending[seq] = Transitioning(lease.queue, counted=False)
        return True

    def _adopt(self, runner: Runner, token: bytes) -> int | None:
        """Let a runner continue an execution it had before a restart; None when the lease is no longer valid."""
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
            # the charged attempt is the one being adopted, and it has not ended
            self._begun.discard(seq)
            charged -= 1
            self._charge(seq, charged)
        self._lease(Lease(token, seq, queue, runner, charged + 1))
        return seq

    def _claim(self, seq: int) -> FlowQueue | None:
        """Remove a recovered execution that was not leased since the start from its queue; None when there is none.

        An execution that is not held has no slot reserved: if its flow is at its concurrency limit, it can't be
        claimed, and the next free runner gets it.
        """
        queue = self._release(seq)
        if queue is not None:
            return queue
        queue = self._unclaimed.get(seq)
        if queue is not None and queue.has_room:
            del self._unclaimed[seq]
            self._queues.remove(queue, seq)
            return queue
        # it was woken, which leaves no record, and the runner had no time to report anything about it
        queue = self._waits.get(seq)
        return self._waits.pop(seq) if queue is not None and queue.has_room else None

    def _release_held(self) -> list[Loss]:
        """Make held executions ready that no runner claimed; a begun attempt stays charged and may exhaust them."""
        begun, self._begun = self._begun, set()
        self._unclaimed.clear()
        losses: list[Loss] = []
        while self._held:
            seq, queue = self._held.popitem()  # latest first
            self._queues.release_hold(queue)
            attempts = self._attempts.get(seq, 0)
            if seq in begun and attempts >= self._max_attempts * UNCERTAIN_FACTOR:
                self._ending[seq] = Transitioning(queue, counted=False)
                losses.append(AttemptsExhausted(seq, attempts))
            else:
                self._queues.put_first(queue, seq)
        return losses

    def _lose_absent(self, lease: Lease, now: float) -> Loss:
        """Take a lease away from an absent runner, which may still explain the loss."""
        loss = self._lose(lease, charged=True, certain=False)
        if isinstance(loss, RequeuePending):
            self._absences.record(lease.runner.id, lease.token, lease.seq, now)
            self._voided[lease.seq] = lease
        return loss

    def _lose(self, lease: Lease, *, charged: bool, certain: bool, to_back: bool = False) -> Loss:
        """Take a lease away; its execution becomes *returning*, or is exhausted."""
        self._void(lease)
        seq = lease.seq
        attempts = lease.attempt if charged else lease.attempt - 1
        if charged and certain:
            self._attributed[seq] = self._attributed.get(seq, 0) + 1
        if charged and (
            self._attributed.get(seq, 0) >= self._max_attempts or attempts >= self._max_attempts * UNCERTAIN_FACTOR
        ):
            self._ending[seq] = Transitioning(lease.queue, counted=True)
            return AttemptsExhausted(seq, attempts)
        self._charge(seq, attempts)
        self._returning[seq] = Transitioning(lease.queue, counted=True, to_back=to_back)
        return RequeuePending(seq, attempts)
