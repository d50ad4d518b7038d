"""A cluster exports the spans of its edges and runners, whose working processes have no environment."""

from __future__ import annotations

import aiohttp
import pytest
from support.otlp import running_collector

from harness.cluster import running_cluster

pytestmark = [pytest.mark.e2e, pytest.mark.release]

FLOW = b"""
document: {dsl: 1.0.3, namespace: default, name: door, version: 1.0.0}
webhook: {auth: none}
do: [{leak: {set: {env: "${ $runtime }"}}}]
"""


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
async def test_a_cluster_exports_spans_as_its_environment_says(protocol):
    async with running_collector() as collector:
        environment = {
            **collector.variables(protocol),
            "FLOWHOOK_TRACES": "true",
            "OTEL_EXPORTER_OTLP_HEADERS": "api-key=very-secret",
        }
        async with running_cluster("--runners", "1", environment=environment) as cluster:
            await cluster.client.flows.apply([FLOW])
            async with aiohttp.ClientSession() as session, session.post(f"{cluster.http}/hook/door") as answer:
                assert answer.status == 202
            (server,) = await collector.until("POST /hook/{flow}")
            (process,) = await collector.until("process door")
            (task,) = await collector.until("leak")
    assert server.trace_id == process.trace_id == task.trace_id
    assert server.resource["service.instance.id"] == "edge-1"
    assert process.resource["service.instance.id"] == process.attributes["messaging.client.id"] == "runner-1"
    assert all(headers["api-key"] == "very-secret" for headers in collector.headers)
    assert b"very-secret" not in b"".join(collector.bodies)
