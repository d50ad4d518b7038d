"""The export of spans: whatever a collector does, it costs spans, which are counted, and nothing else."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from support.otlp import running_collector
from support.patience import PATIENCE

from flowhook.tracing import tracer as tracers
from flowhook.tracing.configuration import configured
from flowhook.tracing.tracer import MAX_TEXT, SpanKind, running_tracer

PROTOCOLS = ("grpc", "http/protobuf")


@pytest.fixture
def silent_port():
    """A port that accepts connections, and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def variables_of(protocol, port, **more):
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_BSP_SCHEDULE_DELAY": "1",
        **more,
    }


def running(variables, registry=None):
    return running_tracer(configured(variables, enabled=True), "edge", "edge-1", registry or CollectorRegistry())


def metrics(registry):
    lines = generate_latest(registry).decode().splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_collector_that_hangs_costs_spans_only(silent_port, protocol):
    registry = CollectorRegistry()
    variables = variables_of(protocol, silent_port, OTEL_BSP_MAX_QUEUE_SIZE="10")
    async with running(variables, registry) as tracer:
        began = time.thread_time()
        for _ in range(1000):
            tracer.end(tracer.start("work", SpanKind.INTERNAL))
        spent = time.thread_time() - began
        dropped = metrics(registry)['flowhook_spans_dropped_total{reason="queue_full"}']
        stopping = time.monotonic()
    assert spent < 0.5
    assert dropped >= 900  # all that do not fit into the queue and a request
    assert time.monotonic() - stopping < tracers.FLUSH_SECONDS + PATIENCE / 2


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_collector_that_refuses_costs_spans_and_is_logged_once(closed_port, protocol, capfd):
    registry = CollectorRegistry()
    async with running(variables_of(protocol, closed_port, OTEL_EXPORTER_OTLP_TIMEOUT="1"), registry) as tracer:
        async with asyncio.timeout(PATIENCE):
            for wanted in (1, 2):
                tracer.end(tracer.start("work", SpanKind.INTERNAL))
                while metrics(registry)['flowhook_spans_dropped_total{reason="export_failed"}'] < wanted:
                    await asyncio.sleep(0.01)
    said = "".join(capfd.readouterr())
    assert said.count("spans can't be exported") == 1
    assert "Traceback" not in said
    assert "Failed to export" not in said


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_the_last_spans_are_exported_when_a_process_stops(protocol):
    registry = CollectorRegistry()
    async with running_collector() as collector:
        slow = {**collector.variables(protocol), "OTEL_BSP_SCHEDULE_DELAY": "3600000"}
        async with running(slow, registry) as tracer:
            for number in range(700):
                tracer.end(tracer.start(f"work {number}", SpanKind.INTERNAL))
            exported = tracer._exporter
        assert len(collector.spans) == 700
        assert exported.exported == 700
        assert sum(exported.dropped.values()) == 0


async def test_variables_name_the_resource_and_headers_which_the_environment_keeps_no_longer():
    async with running_collector() as collector:
        variables = {
            **collector.variables("http/protobuf"),
            "OTEL_SERVICE_NAME": "front-door",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
            "OTEL_EXPORTER_OTLP_HEADERS": "api-key=very-secret",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
        }
        async with running(variables) as tracer:
            assert not [name for name in os.environ if name.startswith("OTEL_")]
            tracer.end(tracer.start("work", SpanKind.INTERNAL))
            (span,) = await collector.until("work")
    assert span.resource["service.name"] == "front-door"
    assert span.resource["deployment.environment.name"] == "test"
    assert span.resource["service.namespace"] == "flowhook"
    assert collector.headers[0]["api-key"] == "very-secret"
    assert collector.headers[0]["content-encoding"] == "gzip"


async def test_attributes_are_bounded():
    async with running_collector() as collector:
        async with running(collector.variables("grpc")) as tracer:
            span = tracer.start("n" * 5000, SpanKind.CLIENT, attributes={"url.full": "x" * 100_000})
            tracer.end(span, "timeout")
        (received,) = collector.spans
    assert len(received.name) == len(received.attributes["url.full"]) == MAX_TEXT
    assert received.attributes["error.type"] == "timeout"
    assert received.failed


PROGRAM = """
import sys
from cli.roles import ROLES
for role in ROLES.values():
    role.preload()
import edge.app, runner.app, runner.worker.app, router.process.app, admin.app
from flowhook.tracing.configuration import configured
assert configured(enabled=False) is None
print([name for name in sys.modules if name.partition(".")[0] == "opentelemetry"])
"""


def test_processes_that_export_nothing_import_nothing_of_it():
    done = subprocess.run([sys.executable, "-P", "-c", PROGRAM], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
