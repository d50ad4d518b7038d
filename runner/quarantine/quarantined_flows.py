"""The set of flows in quarantine, with expiry times."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import attrs

from flowhook.process import logs

SLOW_SECONDS: Final = 60.0  # time that a flow stays in quarantine after an evaluation that was slow but not killed
MAX_FLOWS: Final = 1000  # maximum number of flows in quarantine; the one that expires first is evicted

log = logs.get_logger(__name__)


@attrs.define(eq=False, repr=False)
class QuarantinedFlows:
    """Flows by ID, each with the time at which it leaves quarantine."""

    _clock: Callable[[], float]  # monotonic seconds
    _known: Mapping[str, float] = attrs.field(factory=dict)  # remaining seconds of the flows that are in it already
    # called with flow ID and seconds when a flow is added or its time is extended
    _on_added: Callable[[str, float], None] = attrs.field(default=lambda _flow_id, _seconds: None, kw_only=True)
    _until: dict[str, float] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        now = self._clock()
        self._until = {flow_id: now + seconds for flow_id, seconds in self._known.items()}

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
