"""Leases lost while their runner was away, retained until the runner can no longer explain the loss.

On a busy machine, a runner whose process died can reattach long after its leases were given to others. The lost leases
were charged to their executions, because the runner might never have returned. If it reattaches and reports which
execution killed it, the executions that merely shared its process get their attempt refunded, and the one that killed
it is held accountable.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from router.scheduling.leases import Lease

EXPLAIN_SECONDS: Final = 60.0
"""Time after a loss in which it can be explained: many times what a runner takes to start, its pauses included."""


@dataclass(slots=True)
class _RunnerLosses:
    until: float
    lost: dict[bytes, int] = field(default_factory=dict)


class LostLeases:
    """Leases charged because their runner was absent: tokens with sequence numbers, by runner.

    Each execution's last such lease is also listed by execution, until the execution is leased again or ends.
    """

    def __init__(self) -> None:
        self._by_runner: dict[str, _RunnerLosses] = {}
        self._last: dict[int, Lease] = {}

    def record(self, lease: Lease, now: float) -> None:
        """Record a loss that was charged."""
        losses = self._by_runner.setdefault(lease.runner.id, _RunnerLosses(now))
        losses.until = now + EXPLAIN_SECONDS
        losses.lost[lease.token] = lease.seq
        self._last[lease.seq] = lease

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

    def take(self, runner_id: str, token: bytes) -> int | None:
        """Remove and return the execution whose loss a runner explains; None when no explanation is expected."""
        losses = self._by_runner.get(runner_id)
        return None if losses is None else losses.lost.pop(token, None)

    def forget(self, now: float) -> None:
        """Drop losses that can't be explained any more."""
        for runner_id in [runner_id for runner_id, losses in self._by_runner.items() if losses.until <= now]:
            del self._by_runner[runner_id]

    def last_of(self, seq: int) -> Lease | None:
        """Return the lease that an execution lost last, if it was not leased since; else None."""
        return self._last.get(seq)

    def forget_execution(self, seq: int) -> None:
        """Record that an execution was leased again, or ended; its losses can still be explained."""
        self._last.pop(seq, None)

    def __len__(self) -> int:
        """Return the number of executions that were not leased since their loss."""
        return len(self._last)
