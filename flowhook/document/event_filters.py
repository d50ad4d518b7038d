"""Event filters of a flow, read from its definition in plain JSON types.

Source: dsl-reference.md, "Event Consumption Strategy", "Event Filter".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from flowhook.document.problems import Path
from flowhook.document.walk import walk_everywhere
from flowhook.expressions import is_expression

_PATTERN_CHARACTER: Final = re.compile(r"[\\*+?^$|()\[\]{}]")
"""Characters that make a string a regular expression; a dot alone does not."""


def filters_of(strategy: object, path: Path = ()) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Yield the filters of a strategy and of its `until` strategy, each with its path, which starts with `path`."""
    if not isinstance(strategy, Mapping):
        return
    if isinstance(strategy.get("one"), Mapping):
        yield (*path, "one"), strategy["one"]
    for key in ("any", "all"):
        filters = strategy.get(key)
        for index, each in enumerate(filters if isinstance(filters, list) else ()):
            if isinstance(each, Mapping):
                yield (*path, key, index), each
    yield from filters_of(strategy.get("until"), (*path, "until"))


def is_pattern(value: object) -> bool:
    """Whether an expected attribute may be a regular expression: an event passes if its value is equal, or matches."""
    return isinstance(value, str) and not is_expression(value) and _PATTERN_CHARACTER.search(value) is not None


def literal_attributes(event_filter: Mapping[str, Any]) -> dict[str, str]:
    """Return the attributes of a validated filter, except `data`, that are neither expressions nor patterns."""
    return {
        name: value
        for name, value in event_filter["with"].items()
        if name != "data" and isinstance(value, str) and not is_expression(value) and not is_pattern(value)
    }


def literal_type(event_filter: Mapping[str, Any]) -> str | None:
    """Return the event type that a filter names; None if it has no type, or an expression or a pattern for it."""
    attributes = event_filter.get("with")
    kind = attributes.get("type") if isinstance(attributes, Mapping) else None
    return kind if isinstance(kind, str) and not is_expression(kind) and not is_pattern(kind) else None


def awaited_types(definition: Mapping[str, Any]) -> frozenset[str]:
    """Return the event types that the filters of a flow's `listen` tasks name."""
    return frozenset(
        kind
        for placed in walk_everywhere(definition)
        if placed.kind == "listen" and isinstance(placed.task["listen"], Mapping)
        for _, each in filters_of(placed.task["listen"].get("to"))
        if (kind := literal_type(each)) is not None
    )
