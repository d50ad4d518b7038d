"""Matches events against filters: by flow, by type, and by the values that filters compare.

Filters that compare values at the same locations have the same *shape*: one lookup finds all of them that an event
passes, however many there are. Values are compared as JSON, numbers by numeric value: 1 equals 1.0, as in jq.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

import attrs
import orjson

from flowhook import limits
from flowhook.events import cloud_events
from flowhook.events.lifecycle import is_reserved_type
from flowhook.expressions.paths import Accessor, compile_accessor
from flowhook.expressions.syntax import ExpressionTypeError
from flowhook.model import EventFilter

ANY_TYPE: Final = ""  # the type of a filter that accepts events of every type


def filter_types_for(type_: str) -> tuple[str, ...]:
    """Return the types of filters that accept events of a type: the type itself and `ANY_TYPE`.

    Lifecycle events go only to filters that name their type: an execution that listens for every event would otherwise
    receive events about itself.
    """
    return (type_,) if is_reserved_type(type_) else (type_, ANY_TYPE)


class FilterShape(NamedTuple):
    """Locations of the values a filter compares: context attributes by name, and paths over the whole event."""

    attributes: tuple[str, ...]
    paths: tuple[str, ...]


# largest compared value, as JSON: comparing takes time, and the sender chooses the size
MAX_COMPARED_BYTES: Final = 16 * limits.KIB
ANYTHING: Final = FilterShape((), ())  # the shape of a filter that compares no value


@attrs.define(eq=False, repr=False)
class EventContent:
    """An event's content, shared by all its receivers and parsed when one of its values is first read."""

    payload: bytes  # JSON of CloudEvents 1.0; an object
    _parsed: Mapping[str, Any] | None = attrs.field(init=False, default=None)
    _values: dict[FilterShape, bytes | None] = attrs.field(init=False, factory=dict)

    def values(self, shape: FilterShape) -> bytes | None:
        if shape == ANYTHING:
            return b""
        if shape not in self._values:
            self._values[shape] = self._read(shape)
        return self._values[shape]

    def learn(self, values: Mapping[FilterShape, bytes | None]) -> None:
        self._values.update(values)

    def release(self) -> None:
        """Drop the parsed content, which takes many times the payload's memory; values already read are retained."""
        self._parsed = None

    def _read(self, shape: FilterShape) -> bytes | None:
        if self._parsed is None:
            self._parsed = orjson.loads(self.payload)
        content = self._parsed
        try:
            attributes = [cloud_events.attribute(content, name) for name in shape.attributes]
            found = [_compared(_accessor(path)(content)) for path in shape.paths]
        except (ExpressionTypeError, RecursionError, orjson.JSONEncodeError):
            return None
        return None if None in found else _condensed([*attributes, *found])


EventKind = tuple[str, bool, str]  # flow, whether it is a callback, and type of events (`ANY_TYPE`: every type)


class InboundEvent(NamedTuple):
    """An event on its way to executions of a flow that run already.

    It is *stored* first. Then it is *delivered* to executions that wait for it, or *offered* to one that listens while
    it runs; if there is none, it is *buffered* until one listens, or until it expires. While it is buffered or offered
    its content is in storage only.
    """

    flow_id: str  # the flow whose executions may listen for it
    callback: bool  # whether it was sent to one of the flow's callbacks
    type: str  # its type; with a callback, the callback's name
    content: EventContent | None = None  # what it says, shared with other receivers; None: it is not in memory
    number: int = 0  # its number in storage; 0: it is not stored
    seq: int = 0  # the execution it is addressed to; 0: any that listens
    expire_at_ms: int = 0  # Unix time until which it is buffered
    # for an event addressed to no execution: whether it goes to all that wait for it, or to one of them
    to_all: bool = True

    @property
    def kind(self) -> EventKind:
        return self[:3]

    def values(self, shape: FilterShape) -> bytes | None:
        """Return a fingerprint of the values for a shape; None when it can pass no filter of that shape."""
        if self.content is None:
            raise ValueError("the content of the event is not in memory")
        return self.content.values(shape)


def filter_fingerprint(filter_: EventFilter) -> tuple[FilterShape, bytes]:
    """Return the shape of a filter, and the result of `InboundEvent.values` for an event that passes it.

    Raises:
        InvalidExpression: a path is not valid.
        ValueError: an expected value is not JSON. One above `MAX_COMPARED_BYTES` raises nothing, but never matches.
    """
    if not filter_.attributes and not filter_.correlations:
        return ANYTHING, b""
    correlations = sorted(filter_.correlations)
    shape = FilterShape(tuple(name for name, _ in filter_.attributes), tuple(path for path, _ in correlations))
    for path in shape.paths:
        _accessor(path)
    expected = [cloud_events.canonical_json(orjson.loads(value)) for _, value in correlations]
    return shape, _condensed([*(value for _, value in filter_.attributes), *expected])


@lru_cache(maxsize=4096)
def _accessor(path: str) -> Accessor:
    return compile_accessor(path, variables=())


def _compared(value: Any) -> bytes | None:
    """Return the canonical form a value is compared in; None when it is too large, so that it passes no filter."""
    return cloud_events.canonical_json(value) if len(orjson.dumps(value)) <= MAX_COMPARED_BYTES else None


def _condensed(values: list[str | bytes | None]) -> bytes:
    texts = [value.decode() if isinstance(value, bytes) else value for value in values]
    return hashlib.blake2b(orjson.dumps(texts), digest_size=16).digest()
