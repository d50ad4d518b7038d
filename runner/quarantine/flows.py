"""Knows which flows are in quarantine, and until when."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from flowhook import logs

SLOW_SECONDS: Final = 60.0
"""How long a flow stays in quarantine after an evaluation of it was slow and was not killed."""

MAX_FLOWS: Final = 1000
"""Flows in quarantine at a time; the one that would leave it first gives way."""

log = logs.get_logger(__name__)


class QuarantinedFlows:
    """Flows by ID, each with the time at which it leaves quarantine."""

    def __init__(
        self,
        clock: Callable[[], float],
        known: Mapping[str, float] = MappingProxyType({}),
        *,
        on_added: Callable[[str, float], None] = lambda _flow_id, _seconds: None,
    ) -> None:
        """Start with those that are known, each for so many seconds.

        Args:
            clock: gives seconds, monotonic.
            known: seconds by flow ID.
            on_added: is called with a flow and how long it stays, when it is to stay for longer than was known.
        """
        self._clock = clock
        self._on_added = on_added
        now = clock()
        self._until = {flow_id: now + seconds for flow_id, seconds in known.items()}

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
        if known is None or until > known:
            self._until[flow_id] = until
            self._on_added(flow_id, seconds)
