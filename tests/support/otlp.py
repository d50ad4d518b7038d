"""A collector of OpenTelemetry on free ports, over gRPC and HTTP: it keeps the spans that it receives."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from aiohttp import web
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from support.patience import PATIENCE


@dataclass
class ReceivedSpan:
    """A span, with IDs in hexadecimal digits."""

    name: str
    kind: str  # such as `SERVER`
    trace_id: str
    span_id: str
    parent_id: str  # empty: none
    links: list[tuple[str, str]]  # trace and span
    attributes: Mapping[str, Any]
    failed: bool
    began_ns: int
    ended_ns: int
    resource: Mapping[str, Any]


@dataclass
class Collector:
    """What was received."""

    grpc_url: str = ""
    http_url: str = ""
    spans: list[ReceivedSpan] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)  # of requests
    bodies: list[bytes] = field(default_factory=list)  # of requests, serialized
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def variables(self, protocol: str) -> dict[str, str]:
        """Return the variables by which a process exports to it, at once."""
        url = self.grpc_url if protocol == "grpc" else self.http_url
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": url,
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_BSP_SCHEDULE_DELAY": "10",
        }

    def named(self, name: str) -> list[ReceivedSpan]:
        return [span for span in self.spans if span.name == name]

    async def until(self, name: str, count: int = 1) -> list[ReceivedSpan]:
        """Wait for so many spans of a name, and return them in the order in which they began."""
        async with asyncio.timeout(PATIENCE):
            while len(found := self.named(name)) < count:
                self._changed.clear()
                await self._changed.wait()
        return sorted(found, key=lambda span: span.began_ns)

    def take(self, request: trace_service_pb2.ExportTraceServiceRequest) -> None:
        self.bodies.append(request.SerializeToString())
        for resource in request.resource_spans:
            of = _attributes(resource.resource.attributes)
            for scope in resource.scope_spans:
                self.spans += [_read(span, of) for span in scope.spans]
        self._changed.set()


def _read(span, resource):
    return ReceivedSpan(
        span.name,
        span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        [(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
        _attributes(span.attributes),
        span.status.code == span.status.STATUS_CODE_ERROR,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        resource,
    )


def _attributes(given):
    return {each.key: _value(each.value) for each in given}


def _value(value):
    kind = value.WhichOneof("value")
    return [_value(each) for each in value.array_value.values] if kind == "array_value" else getattr(value, kind)


class _Service(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self, collector):
        self.collector = collector

    async def Export(self, request, context):  # noqa: N802 - the name of the method
        self.collector.headers.append({name: value for name, value in context.invocation_metadata()})  # noqa: C416
        self.collector.take(request)
        return trace_service_pb2.ExportTraceServiceResponse()


@asynccontextmanager
async def running_collector():
    """Run a collector until the block is left."""
    collector = Collector()
    server = grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(_Service(collector), server)
    collector.grpc_url = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()

    async def handle(request):
        body = await request.read()
        if request.headers.get("Content-Encoding") == "gzip" and body[:2] == b"\x1f\x8b":
            body = gzip.decompress(body)
        collector.headers.append({name.lower(): value for name, value in request.headers.items()})
        collector.take(trace_service_pb2.ExportTraceServiceRequest.FromString(body))
        return web.Response(
            body=trace_service_pb2.ExportTraceServiceResponse().SerializeToString(),
            content_type="application/x-protobuf",
        )

    application = web.Application()
    application.router.add_post("/v1/traces", handle)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        collector.http_url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield collector
    finally:
        await runner.cleanup()
        await server.stop(None)
