"""Traces: W3C trace contexts, spans, and their export over OTLP, which is off unless `FLOWHOOK_TRACES` says otherwise.

::

    edge/webhook/traced.py        SERVER, PRODUCER        runner/worker/execution_spans.py    CONSUMER, INTERNAL, CLIENT
                    │                                                   │
                    └────────────▶ tracer.SpanTracer ◀──────────────────┘
                                        │ a bounded queue, read by a thread
                                   exporter.OtlpExporter

Spans are values, made on the event loop; the thread makes OpenTelemetry's of them. Only `exporter` imports
`opentelemetry`, and only processes that export import it. `context` is used without any exporter, too: the context of a
request is passed on in the calls of its execution.
"""
