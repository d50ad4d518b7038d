"""Index of flows by the events that they want."""

from __future__ import annotations

from collections.abc import Sequence

from router.scheduling.matching import IncomingEvent, filter_types_for
from router.triggers.event_triggers.filters import CompiledFilter


class FlowIndex:
    """Flows by event type; finding those that want an event takes time linear in the flows with its type, or any."""

    def __init__(self) -> None:
        self._filters: dict[str, tuple[CompiledFilter, ...]] = {}
        self._by_type: dict[str, dict[str, None]] = {}

    def __len__(self) -> int:
        return len(self._filters)

    def put(self, flow_id: str, filters: Sequence[CompiledFilter]) -> None:
        """Replace a flow's filters; it wants the events that one of them matches. Empty: it wants none."""
        for each in self._filters.pop(flow_id, ()):
            flows = self._by_type.get(each.type, {})
            flows.pop(flow_id, None)
            if not flows:
                self._by_type.pop(each.type, None)
        if filters:
            self._filters[flow_id] = tuple(filters)
            for each in filters:
                self._by_type.setdefault(each.type, {})[flow_id] = None

    def names(self, type_: str) -> bool:
        """Whether a flow has a filter for exactly this type."""
        return type_ in self._by_type

    def find(self, event: IncomingEvent) -> list[str]:
        """Return the flows that want an event, each once."""
        candidates = {flow: None for type_ in filter_types_for(event.type) for flow in self._by_type.get(type_, ())}
        return [flow_id for flow_id in candidates if any(each.matches(event) for each in self._filters[flow_id])]
