"""Who may call what, and what can be found out by reflection and health checks."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from support.relays import relayed
from support.routers import flow, running_router

from flowhook import limits
from flowhook.client import AsyncClient, channel
from flowhook.errors import InvalidError, InvalidFlowError, PermissionDeniedError, UnauthenticatedError
from flowhook.limits import MAX_MESSAGE_BYTES, MIB
from flowhook.sharing.table import RouterLimits
from flowhook.v1 import flow_service_pb2, flow_service_pb2_grpc

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
        # no message: if the call is refused before one is written, grpcio says INTERNAL instead
        call = reflection_pb2_grpc.ServerReflectionStub(connection).ServerReflectionInfo()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


LARGE = bytes(MAX_MESSAGE_BYTES - 1024)
SERVING = health_pb2.HealthCheckResponse.SERVING
UNREAD = channel.MAX_UNREAD_BYTES + MIB
"""More than flow control, and sockets between, take of a message that nobody reads."""


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream"])
@pytest.mark.parametrize(
    "method",
    [
        "/flowhook.v1.IngestService/IngestEvents",
        "/flowhook.v1.IngestService/UploadBody",
        "/flowhook.v1.FlowService/WatchFlows",
        "/flowhook.v1.RunnerService/Attach",
        "/flowhook.v1.FlowService/Invent",
    ],
)
async def test_a_message_without_a_valid_token_is_refused_and_not_read(router, method, kind):
    async with relayed(router.target) as relay, channel.connect(relay.target, "wrong") as connection:
        call = getattr(connection, kind)(method)(LARGE)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await (anext(aiter(call)) if kind.endswith("stream") else call)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert relay.taken < UNREAD


async def test_a_message_beyond_the_scope_of_a_token_is_refused_and_not_read(router):
    async with relayed(router.target) as relay, channel.connect(relay.target, router.token("runner")) as connection:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await connection.unary_unary("/flowhook.v1.SecretService/SetSecret")(LARGE)
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert relay.taken < UNREAD


async def test_health_is_reported_without_a_token_and_without_reading_what_was_sent(router):
    async with (
        relayed(router.target) as relay,
        grpc.aio.insecure_channel(relay.target, options=channel.CHANNEL_OPTIONS) as connection,
    ):
        check = connection.unary_unary("/grpc.health.v1.Health/Check")
        for request in (
            b"",
            health_pb2.HealthCheckRequest(service="flowhook.v1.IngestService").SerializeToString(),
            LARGE,
        ):
            assert health_pb2.HealthCheckResponse.FromString(await check(request)).status == SERVING
        assert relay.taken < UNREAD


async def test_health_is_watched_without_a_token(router):
    async with grpc.aio.insecure_channel(router.target) as connection:
        watch = health_pb2_grpc.HealthStub(connection).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == SERVING


async def test_health_is_not_reported_with_a_wrong_token(router):
    async with channel.connect(router.target, "wrong") as connection:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await health_pb2_grpc.HealthStub(connection).Check(health_pb2.HealthCheckRequest())
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_those_without_a_token_take_no_place_of_those_with_one_who_watch_the_health(tmp_path):
    limits = replace(RouterLimits(), anonymous_streams=replace(RouterLimits().anonymous_streams, total=4))
    async with (
        running_router(tmp_path / "data", limits=limits) as router,
        grpc.aio.insecure_channel(router.target) as anyone,
        channel.connect(router.target, router.token("edge")) as known,
    ):
        request, serving = health_pb2.HealthCheckRequest(), health_pb2.HealthCheckResponse(status="SERVING")
        first = health_pb2_grpc.HealthStub(anyone).Watch(request)
        assert await first.read() == serving
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await health_pb2_grpc.HealthStub(anyone).Watch(request).read()
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await health_pb2_grpc.HealthStub(known).Watch(request).read() == serving


async def test_health_of_a_service_that_nobody_knows_is_unknown(router):
    async with channel.connect(router.target, router.token("edge")) as connection:
        stub = health_pb2_grpc.HealthStub(connection)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Check(health_pb2.HealthCheckRequest(service="nobody's"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        watch = stub.Watch(health_pb2.HealthCheckRequest(service="nobody's"))
        assert await watch.read() == health_pb2.HealthCheckResponse(status="SERVICE_UNKNOWN")


async def test_health_is_serving(router):
    connection = channel.connect(router.target, router.token("runner"))
    answer = await health_pb2_grpc.HealthStub(connection).Check(health_pb2.HealthCheckRequest())
    assert answer.status == SERVING
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


async def test_many_faults_in_many_files_are_reported_as_far_as_an_answer_can_hold_them(client):
    bad = b"document: {dsl: 1.0.3, namespace: default, name: A B, version: x}\ndo: [{a: {set: {x: '${ env }'}}}]\n"
    with pytest.raises(InvalidFlowError) as caught:
        await client.flows.apply([bad] * 200)
    first, *_, last = caught.value.faults
    assert (first.file, first.line, first.key) == ("0", 1, "document.name")
    assert last.cause.endswith("more faults")


async def test_the_hash_of_an_empty_value_is_refused_as_a_secret(client):
    for digits in (hashlib.sha256().hexdigest(), hashlib.sha256().hexdigest().upper()):
        with pytest.raises(InvalidError, match="the hash of an empty value") as caught:
            await client.secrets.set("partner", b"$sha256$" + digits.encode())
        assert caught.value.reason == "SECRET_VALUE_INVALID"
    await client.secrets.set("partner", b"$sha256$" + hashlib.sha256(b"x").hexdigest().encode())


async def test_calls_that_are_refused_for_their_token_are_counted_by_reason(tmp_path):
    async with running_router(tmp_path) as router, router.client() as client:
        refused = ("", "ListFlows"), ("mistyped", "ListFlows"), (router.token("runner"), "DeleteFlow")
        for times, (token, method) in enumerate(refused, start=1):
            open_channel = channel.connect(router.target, token) if token else grpc.aio.insecure_channel(router.target)
            async with open_channel as connection:
                for _ in range(times):
                    with pytest.raises(grpc.aio.AioRpcError):
                        await connection.unary_unary(f"/flowhook.v1.FlowService/{method}")(b"")
        [process] = await client.cluster.processes()
    found = dict(re.findall(r'flowhook_token_refusals_total\{.*reason="(\w+)"\} (\S+)', process.metrics.decode()))
    assert found == {"missing": "1.0", "unknown": "2.0", "scope": "3.0"}
