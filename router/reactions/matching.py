"""Whether an event has what a filter asks for.

Events are CloudEvents as JSON objects. Source: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md,
"Context Attributes"; json-format.md, "Type System Mapping".
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import orjson

from flowhook.expressions import ExpressionTypeError
from flowhook.expressions.paths import compile_accessor
from flowhook.model import EventFilter

MAX_ACCESSORS: Final = 1024
"""Compiled paths that are kept for the next event."""

_EXACT: Final = float(1 << 53)


def passes(event_filter: EventFilter, event: Mapping[str, Any]) -> bool:
    """Whether an event has the type, the attributes and the correlated values of a filter."""
    return (
        event_filter.type in ("", event.get("type"))
        and all(_text(event.get(name)) == value for name, value in event_filter.attributes)
        and all(
            value_at(correlation.path, event) == canonical(orjson.loads(correlation.expected))
            for correlation in event_filter.correlations
        )
    )


def value_at(path: str, event: Mapping[str, Any]) -> bytes | None:
    """Return what stands at a path of an event, `canonical`; None when that is nothing, or null."""
    try:
        value = _accessor(path)(event)
    except ExpressionTypeError:
        return None
    return None if value is None else canonical(value)


def canonical(value: Any) -> bytes:
    """Return JSON that is the same for values that are equal in jq, and for those alone."""
    return orjson.dumps(_plain(value), option=orjson.OPT_SORT_KEYS)


_accessor: Final = lru_cache(MAX_ACCESSORS)(compile_accessor)


def _text(value: object) -> str | None:
    """Return an attribute as text, as CloudEvents writes it; None when it is none."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int) else None


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return int(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value
