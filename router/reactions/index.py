"""Finds the flows that an event concerns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from flowhook.model import EventFilter
from router.scheduling.matching import ANY_TYPE, IncomingEvent, Shape, wanted


class Wanted(NamedTuple):
    """A filter, ready to be asked. `type` may be `ANY_TYPE`."""

    type: str
    shape: Shape
    values: bytes

    def takes(self, event: IncomingEvent) -> bool:
        """Whether an event passes the filter."""
        return self.type in (ANY_TYPE, event.type) and event.values(self.shape) == self.values


def ready(filters: Sequence[EventFilter]) -> tuple[Wanted, ...]:
    """Return filters, ready to be asked."""
    return tuple(Wanted(event_filter.type, *wanted(event_filter)) for event_filter in filters)


class FlowIndex:
    """Flows by the events that they want. An event costs what flows cost that want one of its type, or of any."""

    def __init__(self) -> None:
        self._filters: dict[str, tuple[Wanted, ...]] = {}
        self._by_type: dict[str, dict[str, None]] = {}

    def __len__(self) -> int:
        return len(self._filters)

    def put(self, flow_id: str, filters: Sequence[EventFilter]) -> None:
        """Have a flow want events that pass one of `filters`, and no others; none: no event.

        Raises:
            InvalidError, ValueError: one of them can't be read; then the flow wants no event.
        """
        for each in self._filters.pop(flow_id, ()):
            flows = self._by_type.get(each.type, {})
            flows.pop(flow_id, None)
            if not flows:
                self._by_type.pop(each.type, None)
        if filters:
            self._filters[flow_id] = ready(filters)
            for event_filter in filters:
                self._by_type.setdefault(event_filter.type, {})[flow_id] = None

    def find(self, event: IncomingEvent) -> list[str]:
        """Return the flows that want an event, each once."""
        candidates = {**self._by_type.get(event.type, {}), **self._by_type.get(ANY_TYPE, {})}
        return [flow_id for flow_id in candidates if any(each.takes(event) for each in self._filters[flow_id])]
