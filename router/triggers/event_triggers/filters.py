"""Compiled event filters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from flowhook.model import Correlation, EventFilter
from router.scheduling.matching import ANY_TYPE, FilterShape, IncomingEvent, filter_fingerprint, filter_types_for


class CompiledFilter(NamedTuple):
    """A compiled filter: matches events of a type (or of any, `ANY_TYPE`) with certain values at a shape's paths."""

    type: str
    shape: FilterShape
    values: bytes

    def matches(self, event: IncomingEvent) -> bool:
        """Whether the filter matches an event."""
        return self.type in filter_types_for(event.type) and event.values(self.shape) == self.values


def compile_filters(filters: Iterable[EventFilter]) -> tuple[CompiledFilter, ...]:
    """Compile filters.

    Raises:
        InvalidExpression: a path is invalid.
    """
    return tuple(CompiledFilter(each.type, *filter_fingerprint(each)) for each in filters)


def compile_path(path: str) -> FilterShape:
    """Return the shape of a single path. An event without a value there, or with null, has the values `NOTHING`.

    Raises:
        InvalidExpression: the path is invalid.
    """
    return filter_fingerprint(EventFilter(callback=False, type=ANY_TYPE, correlations=(Correlation(path, b"null"),)))[0]


_, NOTHING = filter_fingerprint(EventFilter(callback=False, type=ANY_TYPE, correlations=(Correlation(".", b"null"),)))
"""The values of an event that has null, or nothing, at the path of a shape with one path."""

ANY_EVENT = CompiledFilter(ANY_TYPE, *filter_fingerprint(EventFilter(callback=False, type=ANY_TYPE)))
"""The filter that matches every event."""
