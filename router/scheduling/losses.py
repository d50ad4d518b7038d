"""Lost leases: takes leases away from runners, and decides which attempts that costs the executions.

A lost lease is charged to its execution if the execution may have caused the loss. An execution that is known to have
caused a loss is *attributed* it. Losses without a known cause are charged as well, but only several of them count as
one that is attributed.

On a busy machine, a runner whose process died can reattach long after its leases were given to others. So leases that
were lost while their runner was away are retained until it can no longer explain the loss. If it reattaches and reports
which execution killed it, the executions that merely shared its process get their attempt refunded, and the one that
killed it is held accountable.

Why an attempt ended is `AttemptEnd`, which operators see; `Loss` is what becomes of the execution.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

import attrs

from flowhook.model.executions import AttemptEnd
from router.scheduling.leases import LateFailure, Lease, LeaseTable, Loss
from router.scheduling.pending_transitions import PendingTransitions, ReturningExecution
from router.scheduling.queues import FairQueues

# unexplained losses count this many times less than losses an execution is known to have caused
UNCERTAIN_FACTOR: Final = 4


@attrs.define(eq=False, repr=False)
class AttemptCounts:
    """Charged attempts and attributed losses by execution; those with none take no memory."""

    _max_attempts: int  # attributed losses that exhaust an execution
    _charged: dict[int, int] = attrs.field(init=False, factory=dict)
    _attributed: dict[int, int] = attrs.field(init=False, factory=dict)

    def __contains__(self, seq: int) -> bool:
        return seq in self._charged

    def __len__(self) -> int:
        return len(self._charged.keys() | self._attributed.keys())

    def charged(self, seq: int) -> int:
        return self._charged.get(seq, 0)

    def charge(self, seq: int, attempts: int) -> None:
        if attempts > 0:
            self._charged[seq] = attempts
        else:
            self._charged.pop(seq, None)

    def attribute(self, seq: int) -> None:
        self._attributed[seq] = self._attributed.get(seq, 0) + 1

    def is_exhausted(self, seq: int, attempts: int) -> bool:
        """Whether an execution has used up its attempts, if so many are charged, or by its own losses alone."""
        return self._attributed.get(seq, 0) >= self._max_attempts or attempts >= self._max_attempts * UNCERTAIN_FACTOR

    def forget(self, seq: int) -> None:
        self._charged.pop(seq, None)
        self._attributed.pop(seq, None)


# time after a loss in which it can be explained: many times what a runner takes to start, its pauses included
EXPLAIN_SECONDS: Final = 60.0


@dataclass(slots=True)
class _RunnerLosses:
    until: float
    lost: dict[bytes, int] = field(default_factory=dict)


class LostLeases:
    """Leases charged because their runner was absent: tokens with sequence numbers, by runner."""

    def __init__(self) -> None:
        self._by_runner: dict[str, _RunnerLosses] = {}
        self.last: dict[int, Lease] = {}  # by execution, until that is leased again or ends

    def record(self, lease: Lease, now: float) -> None:
        losses = self._by_runner.setdefault(lease.runner.id, _RunnerLosses(now))
        losses.until = now + EXPLAIN_SECONDS
        losses.lost[lease.token] = lease.seq
        self.last[lease.seq] = lease

    def end(self, runner_id: str, held: Collection[bytes], *, explained: bool, now: float) -> list[int]:
        """Record that a runner is back; return the executions known not to have caused their loss.

        The runner still has to explain what it holds: either work that killed its process, or work it never stopped.
        """
        self.forget(now)
        losses = self._by_runner.get(runner_id)
        if losses is None:
            return []
        unrelated = [seq for token, seq in losses.lost.items() if token not in held] if explained else []
        losses.lost = {token: seq for token, seq in losses.lost.items() if token in held}
        if not losses.lost:
            del self._by_runner[runner_id]
        return unrelated

    def explain(self, runner_id: str, token: bytes) -> int | None:
        """Remove and return the execution whose loss a runner explains; None when no explanation is expected."""
        losses = self._by_runner.get(runner_id)
        return None if losses is None else losses.lost.pop(token, None)

    def forget(self, now: float) -> None:
        for runner_id in [runner_id for runner_id, losses in self._by_runner.items() if losses.until <= now]:
            del self._by_runner[runner_id]


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
        """Take a valid lease away; the execution may have caused that (`charged`), or is known to (`certain`, too).

        `to_back`: queue it behind its flow's other ready executions. `end`: why the attempt ended; None: it had not
        begun, because the runner did not receive the assignment. `detail`: the reason that the runner gave, if any.
        """
        interrupted = None if end is None else lease.as_attempt(end, detail, charged=charged)
        self._leases.void(lease.token)
        seq = lease.seq
        # the number of an attempt counts itself: without a charge the next attempt has the same number
        attempts = lease.attempt if charged else lease.attempt - 1
        if charged and certain:
            self._attempts.attribute(seq)
        if charged and self._attempts.is_exhausted(seq, attempts):
            self._pending.ending[seq] = lease.queue, True
            return Loss(seq, attempts, interrupted, exhausted=True)
        self._attempts.charge(seq, attempts)
        self._pending.returning[seq] = ReturningExecution(lease.queue, True, to_back)
        return Loss(seq, attempts, interrupted)

    def release(
        self, token: bytes, *, charged: bool, to_back: bool = False, end: AttemptEnd | None = None, detail: str = ""
    ) -> Loss | None:
        """Give an execution back unfinished, which it is known to have caused if `charged`; see `lose`.

        None when the token is stale.
        """
        lease = self._leases.get(token)
        if lease is None:
            return None
        return self.lose(lease, charged=charged, certain=True, to_back=to_back, end=end, detail=detail)

    def lose_absent(self, lease: Lease, now: float) -> Loss:
        """Take a valid lease away from an absent runner, which may still explain the loss."""
        # The process of runner r1 evaluates 5, waits for calls of 6 and 7, and is gone for longer than a lease:
        #     lose_absent(5), (6), (7)               each is charged an attempt: any of them may be the cause
        #     reattached("r1", [5], explained=True)  6 and 7 are refunded: r1 knows the cause, and it is none of them
        #     report_late_failure("r1", 5)           the loss is attributed to 5, which ends if it has caused too many
        # If r1 never comes back, all of them keep the charge, which counts a quarter of an attributed one.
        end = AttemptEnd.LEASE_EXPIRED if lease.runner.attached else AttemptEnd.RUNNER_LOST
        loss = self.lose(lease, charged=True, certain=False, end=end)
        if not loss.exhausted:
            self._lost.record(lease, now)
        return loss

    def reattached(self, runner_id: str, held: Collection[bytes], *, explained: bool, now: float) -> list[int]:
        """Record that a runner is back with tokens, valid or not; return the executions that are refunded a charge.

        `explained`: the executions it no longer holds are known not to have caused their loss.
        """
        unrelated = self._lost.end(runner_id, held, explained=explained, now=now)
        return [seq for seq in unrelated if self._refund_attempt(seq)]

    def report_late_failure(self, runner_id: str, token: bytes, *, final: bool) -> LateFailure | None:
        """Attribute a lost lease to its execution, when the runner that was absent explains the loss.

        The loss was charged when it happened; from now on it counts as one the execution is known to have caused. If it
        is `final`, the execution must end because of it, even if another runner works on it by now. None when the
        runner has no such loss to explain.
        """
        seq = self._lost.explain(runner_id, token)
        # refunded or ended since: there is nothing to attribute
        if seq is None or not self._is_charged(seq):
            return None
        self._attempts.attribute(seq)
        attempts = self._attempts.charged(seq)
        if (final or self._attempts.is_exhausted(seq, 0)) and self._end_unleased(seq, token):
            return LateFailure(seq, attempts, is_ending=True)
        # another runner has it by now. Its work is in vain only if the outcome is final, as a fault is
        newer = self._leases.of(seq) if final else None
        if newer is not None:
            self._leases.release(newer.token)
            self._pending.ending[seq] = newer.queue, True
        return LateFailure(seq, attempts, newer is not None, newer)

    def _is_charged(self, seq: int) -> bool:
        return seq in self._attempts and seq not in self._pending.ending

    def _refund_attempt(self, seq: int) -> bool:
        """Refund one charged attempt; an attempt in progress gets a number smaller by one."""
        if not self._is_charged(seq):
            return False
        self._attempts.charge(seq, self._attempts.charged(seq) - 1)
        lease = self._leases.of(seq)
        # its runner was told the higher number; that of the lease counts
        if lease is not None:
            lease.attempt -= 1
        return True

    def _end_unleased(self, seq: int, token: bytes) -> bool:
        """Move an execution not leased since it lost this lease to *ending*; false unless ready or returning."""
        lease = self._lost.last.get(seq)
        if lease is None or lease.token != token:
            return False
        # the loss is still being stored, or it is ready again: in both cases no runner has it
        if self._pending.end_returning(seq):
            return True
        if not self._queues.remove(lease.queue, seq):
            return False
        self._pending.ending[seq] = lease.queue, False
        return True
