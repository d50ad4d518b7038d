"""Knows which flows are in quarantine, and until when."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from flowhook import logs
from runner.quarantine import QUARANTINE_SECONDS

SLOW_SECONDS: Final = 60.0
"""How long a flow stays in quarantine after an evaluation of it was slow and was not killed."""

MAX_FLOWS: Final = 1000
"""Flows in quarantine at a time; the one that would leave it first gives way."""

log = logs.get_logger(__name__)


class QuarantinedFlows:
    """Flows by ID, each with the time at which it leaves quarantine."""

    def __init__(self, clock: Callable[[], float], killed: Iterable[str] = ()) -> None:
        """Start with flows of which an expression was killed; `clock` gives seconds, monotonic."""
        self._clock = clock
        self._until: dict[str, float] = {}
        for flow_id in killed:
            self.add(flow_id, QUARANTINE_SECONDS)

    def __contains__(self, flow_id: str) -> bool:
        """Whether expressions of a flow are evaluated apart."""
        if not self._until:
            return False
        until = self._until.get(flow_id)
        if until is None:
            return False
        if until > self._clock():
            return True
        del self._until[flow_id]
        log.info("flow left quarantine", flow=flow_id)
        return False

    def __len__(self) -> int:
        """Return how many there are, those included that are about to leave."""
        return len(self._until)

    def add(self, flow_id: str, seconds: float = SLOW_SECONDS) -> None:
        """Keep a flow in quarantine for so long from now on, or for longer if it was to stay for longer."""
        until = self._clock() + seconds
        known = self._until.get(flow_id)
        if known is None:
            log.warning("flow in quarantine", flow=flow_id, seconds=seconds)
            if len(self._until) >= MAX_FLOWS:
                del self._until[min(self._until, key=self._until.__getitem__)]
        self._until[flow_id] = until if known is None else max(until, known)
