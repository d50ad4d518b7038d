"""The tracer of a process: decides what is recorded, makes spans, and passes them to the exporter."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import attrs
from prometheus_client import CollectorRegistry

from flowhook.process.metrics import expose
from flowhook.tracing.configuration import TracesConfiguration
from flowhook.tracing.context import TraceContext, new_span_id, new_trace_id
from flowhook.tracing.spans import MAX_TEXT, Span, SpanKind, Value

if TYPE_CHECKING:
    from flowhook.tracing.exporter import OtlpExporter

FLUSH_SECONDS: Final = 2.0  # time that the last spans have to be exported when a process ends


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
