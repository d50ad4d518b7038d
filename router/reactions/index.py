"""Finds the flows that an event concerns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flowhook.model import EventFilter
from router.reactions.matching import passes


class FlowIndex:
    """Flows by the events that they want. An event costs what flows cost that want one of its type, or of any."""

    def __init__(self) -> None:
        self._filters: dict[str, tuple[EventFilter, ...]] = {}
        self._by_type: dict[str, dict[str, None]] = {}

    def __len__(self) -> int:
        return len(self._filters)

    def put(self, flow_id: str, filters: Sequence[EventFilter]) -> None:
        """Have a flow want events that pass one of `filters`, and no others; none: no event."""
        for event_filter in self._filters.pop(flow_id, ()):
            flows = self._by_type.get(event_filter.type, {})
            flows.pop(flow_id, None)
            if not flows:
                self._by_type.pop(event_filter.type, None)
        if filters:
            self._filters[flow_id] = tuple(filters)
            for event_filter in filters:
                self._by_type.setdefault(event_filter.type, {})[flow_id] = None

    def find(self, event: Mapping[str, Any]) -> list[str]:
        """Return the flows that want an event, each once."""
        candidates = {**self._by_type.get(event["type"], {}), **self._by_type.get("", {})}
        return [
            flow_id
            for flow_id in candidates
            if any(passes(event_filter, event) for event_filter in self._filters[flow_id])
        ]
