"""Filters of events, ready to be asked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from flowhook.model import Correlation, EventFilter
from router.scheduling.matching import ANY_TYPE, IncomingEvent, Shape, types_of, wanted


class Filter(NamedTuple):
    """What an event has to have: a type, unless that is `ANY_TYPE`, and values where a shape looks for them."""

    type: str
    shape: Shape
    values: bytes

    def takes(self, event: IncomingEvent) -> bool:
        """Whether an event passes."""
        return self.type in types_of(event.type) and event.values(self.shape) == self.values


def ready(filters: Iterable[EventFilter]) -> tuple[Filter, ...]:
    """Return filters, ready to be asked.

    Raises:
        InvalidExpression: a path is none.
    """
    return tuple(Filter(each.type, *wanted(each)) for each in filters)


def ready_path(path: str) -> Shape:
    """Return the shape that looks for the value at a path, and `NOTHING` where there is none or null.

    Raises:
        InvalidExpression: the path is none.
    """
    return wanted(EventFilter(callback=False, type=ANY_TYPE, correlations=(Correlation(path, b"null"),)))[0]


_, NOTHING = wanted(EventFilter(callback=False, type=ANY_TYPE, correlations=(Correlation(".", b"null"),)))
"""The values of an event that has null where a shape of one path looks."""

ANY_EVENT = Filter(ANY_TYPE, *wanted(EventFilter(callback=False, type=ANY_TYPE)))
"""The filter that all events pass."""
