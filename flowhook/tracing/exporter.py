"""Exports spans over OTLP, in a thread of its own. The only module that imports `opentelemetry`.

The SDK's `BatchSpanProcessor` is not used: it does not count what it drops, and wakes every few seconds with nothing to
do. Neither is its tracer, since `SpanTracer` costs the event loop less. Encoding, compression, TLS, retries
and all variables of the exporters are OpenTelemetry's.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module

from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

import flowhook
from flowhook.process import logs
from flowhook.tracing.configuration import EXPORTERS, TracesConfiguration
from flowhook.tracing.context import TraceContext
from flowhook.tracing.tracer import Span

_SCHEMA = "https://opentelemetry.io/schemas/1.44.0"

log = logs.get_logger(__name__)


class OtlpExporter:
    """Exports spans; `put` is called by the event loop."""

    def __init__(self, configuration: TracesConfiguration, role: str, process: str) -> None:
        """Start the thread. `role` and `process` name the resource, unless `OTEL_*` does."""
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL + 1)  # it logs each failure; see `_said`
        self.exported = 0  # spans that the collector took
        self.dropped: dict[str, int] = {"queue_full": 0, "export_failed": 0}  # spans that it did not, by reason
        self._configuration = configuration
        self._queue: deque[Span] = deque()
        self._waiting = threading.Event()  # there is a span
        self._due = threading.Event()  # there are enough for a request, or the process ends
        self._closing = False
        self._failing = False
        with _environment(configuration.variables):
            exporters = import_module(f"{EXPORTERS[configuration.protocol]}.trace_exporter")
            self._exporter: SpanExporter = exporters.OTLPSpanExporter()
            given = Resource(
                {
                    "service.namespace": "flowhook",
                    "service.name": f"flowhook-{role}",
                    "service.instance.id": process,
                    "service.version": flowhook.__version__,
                },
                _SCHEMA,
            )
            self._resource = given.merge(OTELResourceDetector().detect())
        self._scope = InstrumentationScope("flowhook", flowhook.__version__, _SCHEMA)
        self._thread = threading.Thread(target=self._run, name="export spans", daemon=True)
        self._thread.start()

    def put(self, span: Span) -> None:
        if len(self._queue) >= self._configuration.queue_size or self._closing:
            self.dropped["queue_full"] += 1
            return
        self._queue.append(span)
        if not self._waiting.is_set():
            self._waiting.set()
        if len(self._queue) >= self._configuration.batch_size and not self._due.is_set():
            self._due.set()

    def close(self, seconds: float) -> None:
        """Export what is there, for at most so long. Blocking."""
        self._closing = True
        self._waiting.set()
        self._due.set()
        until = time.monotonic() + seconds
        self._thread.join(seconds / 2)
        # cancels a request that hangs; in a thread, since a transport may wait for that
        stop = threading.Thread(target=self._exporter.shutdown, name="stop to export spans", daemon=True)
        stop.start()
        for each in (stop, self._thread):
            each.join(max(0.0, until - time.monotonic()))
        self.dropped["export_failed"] += len(self._queue)

    def _run(self) -> None:
        batch = self._configuration.batch_size
        while self._waiting.wait():
            self._due.wait(self._configuration.delay)
            self._waiting.clear()
            self._due.clear()
            while self._queue:
                self._export([self._queue.popleft() for _ in range(min(batch, len(self._queue)))])
            if self._closing:
                return

    def _export(self, spans: Sequence[Span]) -> None:
        try:
            done = self._exporter.export([self._readable(each) for each in spans]) is SpanExportResult.SUCCESS
        except Exception:  # noqa: BLE001 - of a library: what it can't send is dropped
            done = False
        if done:
            self.exported += len(spans)
        else:
            self.dropped["export_failed"] += len(spans)
        self._said(done)

    def _said(self, done: bool) -> None:  # noqa: FBT001 - its only argument
        if done and self._failing:
            log.info("spans are exported again")
        elif not (done or self._failing or self._closing):
            log.warning("spans can't be exported, and are dropped until that is possible")
        self._failing = not done

    def _readable(self, span: Span) -> ReadableSpan:
        return ReadableSpan(
            name=span.name,
            context=_context(span.context),
            parent=None if span.parent is None else _context(span.parent),
            resource=self._resource,
            attributes=span.attributes,
            links=[Link(_context(each)) for each in span.links],
            kind=SpanKind(span.kind),
            status=Status(StatusCode.ERROR if span.error else StatusCode.UNSET),
            start_time=span.began_ns,
            end_time=span.ended_ns,
            instrumentation_scope=self._scope,
        )


def _context(context: TraceContext) -> SpanContext:
    flags = TraceFlags(TraceFlags.SAMPLED if context.sampled else TraceFlags.DEFAULT)
    return SpanContext(int(context.trace_id, 16), int(context.span_id, 16), is_remote=False, trace_flags=flags)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Let the exporter read its variables, in a process whose environment has none, and must not have them later.

    Expressions are evaluated in runners, and could read the environment: none is evaluated meanwhile.
    """
    missing = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ.update(missing)
    try:
        yield
    finally:
        for name in missing:
            del os.environ[name]
