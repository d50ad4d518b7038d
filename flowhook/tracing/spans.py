"""Spans, as the processes make them: plain values, from which the exporter makes OpenTelemetry's.

Source: https://opentelemetry.io/docs/specs/otel/trace/api/#span; names of attributes: semantic conventions 1.44.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from enum import IntEnum
from typing import Final

import attrs

from flowhook.tracing.context import TraceContext

MAX_TEXT: Final = 1024  # characters of an attribute or a name
METHODS: Final = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"})
"""The methods that HTTP spans name; others are `_OTHER`."""

Value = str | bool | int | Sequence[int]


class SpanKind(IntEnum):
    """Kind of a span, with the numbers of OpenTelemetry's API."""

    INTERNAL = 0
    SERVER = 1
    CLIENT = 2
    PRODUCER = 3
    CONSUMER = 4


@attrs.define(eq=False, repr=False)
class Span:
    """A span that is recorded; it is exported by `SpanTracer.end`."""

    name: str
    kind: SpanKind
    context: TraceContext
    parent: TraceContext | None = None
    links: tuple[TraceContext, ...] = ()
    attributes: dict[str, Value] = attrs.field(factory=dict)
    began_ns: int = attrs.field(factory=time.time_ns)  # Unix time
    ended_ns: int = 0
    error: str = ""  # class of the error that it ended with (`error.type`); empty: none

    def restart(self) -> None:
        """Let it begin now: it was made before, so that its context was known."""
        self.began_ns = time.time_ns()


def method_of(method: str) -> str:
    """Return an HTTP method as attributes have it."""
    return method if method in METHODS else "_OTHER"


def span_name_of(method: str, route: str = "") -> str:
    """Return the name of an HTTP span: method, and route if it is known."""
    known = method if method in METHODS else "HTTP"
    return f"{known} {route}" if route else known
