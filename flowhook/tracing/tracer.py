"""Spans, as the processes make them, and the tracer of a process, which passes them to the exporter.

Spans are plain values, from which the exporter makes OpenTelemetry's.

Source: https://opentelemetry.io/docs/specs/otel/trace/api/#span; names of attributes: semantic conventions 1.44.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from enum import IntEnum
from typing import TYPE_CHECKING, Final

import attrs
from prometheus_client import CollectorRegistry

from flowhook.process.metrics import expose
from flowhook.tracing.configuration import TracesConfiguration
from flowhook.tracing.context import TraceContext, new_span_id, new_trace_id

if TYPE_CHECKING:
    from flowhook.tracing.exporter import OtlpExporter

FLUSH_SECONDS: Final = 2.0  # time that the last spans have to be exported when a process ends
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


@attrs.define(eq=False, repr=False)
class SpanTracer:
    """Makes the spans of a process."""

    _exporter: OtlpExporter
    _ratio: float = 1.0  # share of new traces that are recorded

    def draw(self) -> bool:
        """Decide whether a new trace is recorded.

        Not by the trace ID, as other samplers do: a sender chooses that.
        """
        return random.random() < self._ratio  # noqa: S311 - a share, nothing to be guessed

    def start(
        self,
        name: str,
        kind: SpanKind,
        parent: TraceContext | None = None,
        *,
        links: tuple[TraceContext, ...] = (),
        attributes: dict[str, Value] | None = None,
    ) -> Span:
        """Return a span that begins now: a child of `parent`, or the first one of a trace."""
        trace_id = new_trace_id() if parent is None else parent.trace_id
        context = TraceContext(trace_id, new_span_id(), sampled=True)
        return Span(name, kind, context, parent, links, attributes or {})

    def end(self, span: Span, error: str = "") -> None:
        """End a span, with the class of an error if there was one, and have it exported."""
        span.ended_ns = max(time.time_ns(), span.began_ns)
        span.error = error
        if error:
            span.attributes["error.type"] = error
        for name, value in span.attributes.items():
            if isinstance(value, str) and len(value) > MAX_TEXT:
                span.attributes[name] = value[:MAX_TEXT]
        span.name = span.name[:MAX_TEXT]
        self._exporter.put(span)


@asynccontextmanager
async def running_tracer(
    configuration: TracesConfiguration | None, role: str, process: str, registry: CollectorRegistry
) -> AsyncIterator[SpanTracer | None]:
    """Provide the tracer of a process, and export its last spans in the end, within `FLUSH_SECONDS`; None: it is off.

    A process that is forked calls it after that: it starts a thread.
    """
    if configuration is None:
        yield None
        return
    from flowhook.tracing.exporter import OtlpExporter  # noqa: PLC0415 - processes that export nothing don't import it

    exporter = OtlpExporter(configuration, role, process)  # blocks, while nothing is served yet
    hide = expose(
        registry,
        {
            "flowhook_spans_exported_total": lambda: exporter.exported,
            "flowhook_spans_dropped_total": lambda: [((reason,), count) for reason, count in exporter.dropped.items()],
        },
    )
    try:
        yield SpanTracer(exporter, configuration.ratio)
    finally:
        hide()
        await asyncio.to_thread(exporter.close, FLUSH_SECONDS)
