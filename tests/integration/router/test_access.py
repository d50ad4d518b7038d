"""Who may call what, and what can be found out by reflection and health checks."""

from __future__ import annotations

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from support.routers import flow

from flowhook import limits
from flowhook.client import AsyncClient, channel
from flowhook.errors import InvalidFlowError, PermissionDeniedError, UnauthenticatedError
from flowhook.v1 import flow_service_pb2, flow_service_pb2_grpc
from router.services.access import scopes_for

SERVICES = {f"flowhook.v1.{name}Service" for name in ("Ingest", "Flow", "Secret", "Execution", "Runner", "Cluster")}


async def listed_services(connection):
    stub = reflection_pb2_grpc.ServerReflectionStub(connection)
    call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    answers = [answer async for answer in call]
    return {service.name for service in answers[0].list_services_response.service}


async def test_reflection_lists_the_services_to_those_with_a_token(router):
    connection = channel.connect(router.target, router.token("edge"))
    assert await listed_services(connection) >= SERVICES
    await connection.close()


async def test_reflection_says_nothing_without_a_token(router):
    async with grpc.aio.insecure_channel(router.target) as connection:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await listed_services(connection)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_health_is_serving(router):
    connection = channel.connect(router.target, router.token("runner"))
    answer = await health_pb2_grpc.HealthStub(connection).Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    await connection.close()


@pytest.mark.parametrize("token", ["", "wrong", "Bearer", "fhk_" + "x" * 43])
async def test_a_wrong_token_is_unauthenticated(router, token):
    async with AsyncClient(router.target, token=token) as client:
        with pytest.raises(UnauthenticatedError):
            await client.ingest("any", {})
        with pytest.raises(UnauthenticatedError):
            [flow async for flow in client.flows.list()]


async def test_each_scope_opens_its_own_methods_only(router):
    async with router.client("edge") as edge, router.client("runner") as runner:
        with pytest.raises(PermissionDeniedError) as caught:
            await edge.secrets.set("name", b"value")
        assert caught.value.reason == "SCOPE_MISSING"
        with pytest.raises(PermissionDeniedError):
            await runner.ingest("any", {})
        with pytest.raises(PermissionDeniedError):
            await edge.executions.get("evt_x")


async def test_an_edge_reads_only_the_secrets_that_the_webhook_names(router, client):
    document = b"""
document: {dsl: 1.0.3, namespace: default, name: hook, version: 1.0.0}
webhook: {auth: {basic: {username: bank, secret: named}}}
do: [{keep: {set: {a: 1}}}]
"""
    await client.flows.apply([document])
    await client.secrets.set("named", b"v1")
    await client.secrets.set("other", b"v2")
    async with router.client("edge") as edge:
        assert await edge.secrets.resolve(["named"], flow_id="hook") == {"named": b"v1"}
        with pytest.raises(PermissionDeniedError):
            await edge.secrets.resolve(["named", "other"], flow_id="hook")
    async with router.client("runner") as runner:
        assert await runner.secrets.resolve(["named", "other", "missing"]) == {"named": b"v1", "other": b"v2"}


async def test_a_method_that_nobody_knows_is_unimplemented_to_those_with_a_token_only(router):
    method = "/flowhook.v1.FlowService/Invent"
    for token, code in (
        (router.token(), grpc.StatusCode.UNIMPLEMENTED),
        ("wrong", grpc.StatusCode.UNAUTHENTICATED),
    ):
        connection = channel.connect(router.target, token)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await connection.unary_unary(method)(b"")
        assert caught.value.code() is code
        await connection.close(None)


async def test_every_method_of_every_service_asks_for_a_scope(router):
    connection = channel.connect(router.target, router.token())
    for service in await listed_services(connection):
        assert scopes_for(f"/{service}/Any"), service
    await connection.close(None)


async def test_edges_ask_which_flows_there_are_for_many_ids_at_a_time(router, client):
    await client.flows.apply([flow("a"), flow("b")])
    await client.flows.delete("b")
    connection = channel.connect(router.target, router.token("edge"))
    stub = flow_service_pb2_grpc.FlowServiceStub(connection)
    ids = ["a", "b", *(f"made-up-{number}" for number in range(limits.MAX_FOUND_FLOWS - 2))]
    assert list((await stub.FindFlows(flow_service_pb2.FindFlowsRequest(flow_ids=ids))).flow_ids) == ["a"]
    for wrong in ([], [*ids, "x"], ["x" * 128]):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.FindFlows(flow_service_pb2.FindFlowsRequest(flow_ids=wrong))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    await connection.close(None)
    connection = channel.connect(router.target, router.token("runner"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await flow_service_pb2_grpc.FlowServiceStub(connection).FindFlows(flow_service_pb2.FindFlowsRequest())
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    await connection.close(None)


async def test_many_faults_in_many_files_are_told_as_far_as_an_answer_can_hold_them(client):
    bad = b"document: {dsl: 1.0.3, namespace: default, name: A B, version: x}\ndo: [{a: {set: {x: '${ env }'}}}]\n"
    with pytest.raises(InvalidFlowError) as caught:
        await client.flows.apply([bad] * 200)
    first, *_, last = caught.value.faults
    assert (first.file, first.line, first.key) == ("0", 1, "document.name")
    assert last.cause.endswith("more faults")
