"""What runners lost by staying away, for as long as they may still say why.

A runner whose process died comes back as late as the machine is busy, long after its leases were given to others. They
were charged then, for it might never have come back. If it does, and knows what it died of, what merely shared its
process is pardoned, and what it died of can be held to account.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

EXPLAIN_SECONDS: Final = 60.0
"""How long after a loss it can be explained: many times what a runner takes to start, its pauses included."""


@dataclass(slots=True)
class _Absence:
    until: float
    lost: dict[bytes, int] = field(default_factory=dict)


class Absences:
    """Leases that were charged because their runner stayed away: tokens with sequence numbers, by runner."""

    def __init__(self) -> None:
        self._of: dict[str, _Absence] = {}

    def note(self, runner_id: str, token: bytes, seq: int, now: float) -> None:
        """Note a loss that was charged."""
        absence = self._of.setdefault(runner_id, _Absence(now))
        absence.until = now + EXPLAIN_SECONDS
        absence.lost[token] = seq

    def end(self, runner_id: str, held: Collection[bytes], *, explained: bool, now: float) -> list[int]:
        """Note that a runner is back; returns executions that are known not to have caused their loss.

        What it still holds it has yet to account for, be it what its process died of or work that it never stopped.
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
        """Return whose loss a runner accounts for, once; None when nobody waits for that."""
        absence = self._of.get(runner_id)
        return None if absence is None else absence.lost.pop(token, None)

    def forget(self, now: float) -> None:
        """Forget what can't be explained any more."""
        for runner_id in [runner_id for runner_id, absence in self._of.items() if absence.until <= now]:
            del self._of[runner_id]
