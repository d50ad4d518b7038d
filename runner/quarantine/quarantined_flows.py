"""The set of flows in quarantine, with expiry times."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from flowhook.process import logs

SLOW_SECONDS: Final = 60.0  # time that a flow stays in quarantine after an evaluation that was slow but not killed
MAX_FLOWS: Final = 1000  # maximum number of flows in quarantine; the one that expires first is evicted

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
        """Start with the flows in `known`, with their remaining seconds; `clock` returns monotonic seconds.

        `on_added` is called with flow ID and seconds when a flow is added or its time is extended.
        """
        self._clock = clock
        self._on_added = on_added
        now = clock()
        self._until = {flow_id: now + seconds for flow_id, seconds in known.items()}

    def __contains__(self, flow_id: str) -> bool:
        until = self._until.get(flow_id)
        if until is None or until > self._clock():
            return until is not None
        del self._until[flow_id]
        log.info("flow left quarantine", flow=flow_id)
        return False

    def __len__(self) -> int:
        """Return the number of flows, including expired ones that were not removed yet."""
        return len(self._until)

    def add(self, flow_id: str, seconds: float = SLOW_SECONDS) -> None:
        """Put a flow into quarantine for at least `seconds` from now; never shortens its time."""
        until = self._clock() + seconds
        known = self._until.get(flow_id)
        if known is None:
            log.warning("flow put into quarantine", flow=flow_id, seconds=seconds)
            if len(self._until) >= MAX_FLOWS:
                del self._until[min(self._until, key=self._until.__getitem__)]
        if known is None or until > known:
            self._until[flow_id] = until
            self._on_added(flow_id, seconds)
