"""Compiled event filters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from flowhook.model import Correlation, EventFilter
from router.scheduling.matching import ANY_TYPE, IncomingEvent, Shape, types_of, wanted


class Filter(NamedTuple):
    """A compiled filter: matches events of a type (or of any, `ANY_TYPE`) with certain values at a shape's paths."""

    type: str
    shape: Shape
    values: bytes

    def takes(self, event: IncomingEvent) -> bool:
        """Whether the filter matches an event."""
        return self.type in types_of(event.type) and event.values(self.shape) == self.values


def ready(filters: Iterable[EventFilter]) -> tuple[Filter, ...]:
    """Compile filters.

    Raises:
        InvalidExpression: a path is invalid.
    """
    return tuple(Filter(each.type, *wanted(each)) for each in filters)


def ready_path(path: str) -> Shape:
    """Return the shape of a single path. An event without a value there, or with null, has the values `NOTHING`.

    Raises:
        InvalidExpression: the path is invalid.
    """
    return wanted(EventFilter(callback=False, type=ANY_TYPE, correlations=(Correlation(path, b"null"),)))[0]


_, NOTHING = wanted(EventFilter(callback=False, type=ANY_TYPE, correlations=(Correlation(".", b"null"),)))
"""The values of an event that has null, or nothing, at the path of a shape with one path."""

ANY_EVENT = Filter(ANY_TYPE, *wanted(EventFilter(callback=False, type=ANY_TYPE)))
"""The filter that matches every event."""
