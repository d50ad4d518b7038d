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

EXPLAIN_SECONDS: Final = 60.0
"""Time after a loss in which it can be explained: many times what a runner takes to start, its pauses included."""


@dataclass(slots=True)
class _RunnerLosses:
    until: float
    lost: dict[bytes, int] = field(default_factory=dict)


class LostLeases:
    """Leases charged because their runner was absent: tokens with sequence numbers, by runner."""

    def __init__(self) -> None:
        self._of: dict[str, _RunnerLosses] = {}

    def record(self, runner_id: str, token: bytes, seq: int, now: float) -> None:
        """Record a loss that was charged."""
        absence = self._of.setdefault(runner_id, _RunnerLosses(now))
        absence.until = now + EXPLAIN_SECONDS
        absence.lost[token] = seq

    def end(self, runner_id: str, held: Collection[bytes], *, explained: bool, now: float) -> list[int]:
        """Record that a runner is back; return the executions known not to have caused their loss.

        The runner still has to explain what it holds: either work that killed its process, or work it never stopped.
        """
        self.forget(now)
        absence = self._of.get(runner_id)
        if absence is None:
            return []
        pardoned = [seq for token, seq in absence.lost.items() if token not in held] if explained else []
        absence.lost = {token: seq for token, seq in absence.lost.items() if token in held}
        if not absence.lost:
            del self._of[runner_id]
        return pardoned

    def take(self, runner_id: str, token: bytes) -> int | None:
        """Remove and return the execution whose loss a runner explains; None when no explanation is expected."""
        absence = self._of.get(runner_id)
        return None if absence is None else absence.lost.pop(token, None)

    def forget(self, now: float) -> None:
        """Drop losses that can't be explained any more."""
        for runner_id in [runner_id for runner_id, absence in self._of.items() if absence.until <= now]:
            del self._of[runner_id]
