"""What operators and internal services see of a whole cluster."""

from __future__ import annotations

import asyncio
import re

import grpc
import pytest
import pytest_asyncio
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from support.clients import KINDS, Either, close
from support.patience import PATIENCE
from support.systems import EVENT_ID, document, until

from operations.edges import EdgeAccess

pytestmark = pytest.mark.e2e

PROCESSES = ["admin-1", "edge-1", "router-1", "runner-1", "runner-2"]
SERVICES = ["Ingest", "Flow", "Secret", "Execution", "Runner", "Cluster"]


async def test_the_admin_port_reports_that_all_is_well(system):
    assert (await system.admin("/healthz")).status == 200
    ready = await system.admin("/readyz")
    assert (ready.status, ready.json) == (200, {"ready": True, "reasons": [], "warnings": []})


async def test_health_shows_every_process(system):
    async def complete():
        shown = [process for process in (await system.admin("/health")).json["processes"] if process["ready"]]
        return shown if sorted(process["name"] for process in shown) == PROCESSES else None

    processes = await until(complete, "every process has reported")
    for process in processes:
        if process["role"] != "runner":  # a runner's child reports, its parent is in the file
            assert process["pid"] == system.cluster.pid(process["name"])


async def test_an_edge_reports_where_senders_reach_it(system):
    assert await until(lambda: EdgeAccess().url(system.client), "an edge has reported") == system.cluster.http


async def test_metrics_show_every_process_and_what_it_did(system):
    await system.apply(document("counted"))
    await system.completed((await system.send("counted", {})).id)

    async def complete():
        text = (await system.admin("/metrics")).body.decode()
        up = set(re.findall(r'^flowhook_up\{process="([^"]+)",role="\w+"\} 1\.0$', text, re.MULTILINE))
        return up == set(PROCESSES) and all(counted(text, role) for role in ("edge", "router", "runner"))

    await until(complete, "every process has reported")


def counted(text, role):
    """Tell whether a role counted anything but that it is there."""
    counts = re.findall(rf'^flowhook_(?!up)\w+_total\{{.*role="{role}".*\}} ([\d.]+)$', text, re.MULTILINE)
    return any(float(count) > 0 for count in counts)


async def test_admin_says_nothing_on_the_public_port_and_the_edge_nothing_on_the_admin_port(system):
    for path in ("/health", "/metrics", "/"):
        assert (await system.request("GET", path)).status == 404
    assert [(await system.request("GET", path)).body for path in ("/healthz", "/readyz")] == [b"ok\n", b"ready\n"]
    assert (await system.admin("/hook/counted")).status == 404


@pytest_asyncio.fixture(params=KINDS, loop_scope="session")
async def either(system, request):
    token = (system.cluster.data_dir / "admin.token").read_text().strip()
    client = request.param(system.cluster.grpc, token=token)
    yield Either(client)
    await close(client)


async def test_an_internal_service_ingests_events_lists_flows_and_gets_answers(system, either):
    await either("flows.apply", [document("internal", do="- double: {set: {n: '${ .body.n * 2 }'}}")])
    assert "internal" in [flow.id for flow in await either("flows.list")]
    execution_id = await either("ingest", "internal", {"n": 2})
    assert EVENT_ID.fullmatch(execution_id)
    assert await system.completed(execution_id) == {"n": 4}
    reply = await either("invoke", "internal", {"n": 3})
    assert (reply.status, reply.body) == (200, b'{"n":6}')
    found = await either("executions.list", flow_id="internal", limit=2)
    assert execution_id in [execution.id for execution in found]
    assert {"admin", "edge", "router", "runner"} == {process.role for process in await either("cluster.processes")}


def services_found(target, metadata):
    # not with grpc.aio: there a refusal that comes before the request is written looks like a failed write (INTERNAL)
    with grpc.insecure_channel(target) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        answers = stub.ServerReflectionInfo(iter([request]), metadata=metadata, timeout=PATIENCE)
        return [service.name for answer in answers for service in answer.list_services_response.service]


async def test_services_are_found_by_reflection_with_a_token_and_not_without(system):
    token = (system.cluster.data_dir / "admin.token").read_text().strip()
    found = await asyncio.to_thread(services_found, system.cluster.grpc, [("authorization", f"Bearer {token}")])
    assert {f"flowhook.v1.{name}Service" for name in SERVICES} <= set(found)
    for metadata in ([], [("authorization", "Bearer fhk_guessed-guessed-guessed")]):
        with pytest.raises(grpc.RpcError) as refused:
            await asyncio.to_thread(services_found, system.cluster.grpc, metadata)
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
