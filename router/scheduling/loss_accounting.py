"""Takes leases away from runners, and charges the attempts to their executions.

A lost lease is charged if the execution may have caused the loss. What a runner reports of it later corrects that: see
`lost_leases`.
"""

from __future__ import annotations

from collections.abc import Collection

import attrs

from flowhook.model.executions import AttemptEnd
from router.scheduling.attempts import AttemptCounts
from router.scheduling.changes import AttemptsExhausted, LateFailure, Loss, RequeuePending
from router.scheduling.leases import Lease, LeaseTable
from router.scheduling.lost_leases import LostLeases
from router.scheduling.pending_transitions import PendingTransitions
from router.scheduling.queues import FairQueues


@attrs.define(eq=False, repr=False, kw_only=True)
class LossAccounting:
    """Decides what becomes of executions whose lease is lost: they are *returning*, or exhausted and *ending*."""

    _leases: LeaseTable
    _attempts: AttemptCounts
    _pending: PendingTransitions
    _queues: FairQueues
    _lost: LostLeases

    def lose(
        self,
        lease: Lease,
        *,
        charged: bool,
        certain: bool,
        to_back: bool = False,
        end: AttemptEnd | None = None,
        detail: str = "",
    ) -> Loss:
        """Take a valid lease away.

        Args:
            lease: the lease.
            charged: whether the execution may have caused the loss.
            certain: whether it is known to have, if `charged`.
            to_back: whether it is queued behind its flow's other ready executions.
            end: why the attempt ended; None: it had not begun, because the runner did not receive the assignment.
            detail: the reason that the runner gave, if any.
        """
        interrupted = None if end is None else lease.as_attempt(end, detail, charged=charged)
        self._leases.void(lease.token)
        seq = lease.seq
        attempts = lease.attempt if charged else lease.attempt - 1
        if charged and certain:
            self._attempts.attribute(seq)
        if charged and self._attempts.is_exhausted(seq, attempts):
            self._pending.end(seq, lease.queue, counted=True)
            return AttemptsExhausted(seq, attempts, interrupted)
        self._attempts.charge(seq, attempts)
        self._pending.requeue(seq, lease.queue, counted=True, to_back=to_back)
        return RequeuePending(seq, attempts, interrupted)

    def release(
        self,
        token: bytes,
        *,
        charged: bool,
        to_back: bool = False,
        end: AttemptEnd | None = None,
        detail: str = "",
    ) -> Loss | None:
        """Give an execution back unfinished.

        Args:
            token: its lease's token.
            charged: whether the execution is known to have caused the release.
            to_back: see `lose`.
            end: see `lose`.
            detail: see `lose`.

        Returns:
            What became of it; None when the token is stale.
        """
        lease = self._leases.get(token)
        if lease is None:
            return None
        return self.lose(lease, charged=charged, certain=True, to_back=to_back, end=end, detail=detail)

    def lose_absent(self, lease: Lease, now: float) -> Loss:
        """Take a valid lease away from an absent runner, which may still explain the loss."""
        end = AttemptEnd.LEASE_EXPIRED if lease.runner.attached else AttemptEnd.RUNNER_LOST
        loss = self.lose(lease, charged=True, certain=False, end=end)
        if isinstance(loss, RequeuePending):
            self._lost.record(lease, now)
        return loss

    # --- explanations -------------------------------------------------------------------------------------------------

    def reattached(self, runner_id: str, held: Collection[bytes], *, explained: bool, now: float) -> list[int]:
        """Record that a runner is back; return the executions whose charge for its absence is refunded.

        Args:
            runner_id: the runner.
            held: tokens of its executions, valid or not.
            explained: whether executions it no longer holds are known not to have caused their loss.
            now: the current time.
        """
        unrelated = self._lost.end(runner_id, held, explained=explained, now=now)
        return [seq for seq in unrelated if self._refund_attempt(seq)]

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
        seq = self._lost.take(runner_id, token)
        if seq is None or not self._is_charged(seq):
            return None
        self._attempts.attribute(seq)
        attempts = self._attempts.charged(seq)
        if (final or self._attempts.has_caused_too_many(seq)) and self._end_unleased(seq, token):
            return LateFailure(seq, attempts, is_ending=True)
        newer = self._leases.of(seq) if final else None
        if newer is not None:
            self._leases.release(newer.token)
            self._pending.end(seq, newer.queue, counted=True)
        return LateFailure(seq, attempts, newer is not None, newer)

    # --- internals ----------------------------------------------------------------------------------------------------

    def _is_charged(self, seq: int) -> bool:
        """Whether attempts are charged to an execution that is not about to end."""
        return seq in self._attempts and not self._pending.is_ending(seq)

    def _refund_attempt(self, seq: int) -> bool:
        """Refund one charged attempt; an attempt in progress gets a number smaller by one."""
        if not self._is_charged(seq):
            return False
        self._attempts.charge(seq, self._attempts.charged(seq) - 1)
        lease = self._leases.of(seq)
        if lease is not None:
            lease.attempt -= 1
        return True

    def _end_unleased(self, seq: int, token: bytes) -> bool:
        """Move an execution not leased since it lost this lease to *ending*; false unless ready or returning."""
        lease = self._lost.last_of(seq)
        if lease is None or lease.token != token:
            return False
        if self._pending.end_returning(seq):
            return True
        if not self._queues.remove(lease.queue, seq):
            return False
        self._pending.end(seq, lease.queue, counted=False)
        return True
