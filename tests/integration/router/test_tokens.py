"""What tokens with less than a whole scope open, and that their use is seen."""

from __future__ import annotations

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from support.routers import flow, running_router
from support.runners import attached

from flowhook.client import AsyncClient, channel
from flowhook.errors import PermissionDeniedError, UnauthenticatedError
from flowhook.security.tokens import TokenScope, create_token, last_uses, list_tokens, revoke_token, rotate_token
from flowhook.v1 import cluster_service_pb2 as cluster
from flowhook.v1 import cluster_service_pb2_grpc
from flowhook.wire import status
from router.calls.authorization import required_scopes

CHANGING = {
    "Apply", "Cancel", "Delete", "Pause", "Replay", "Report", "Resume", "Set", "Suspend",
    "Ingest", "Invoke", "Upload", "Attach", "Renew", "Emit", "Start",
    "Abort", "Accept", "Create", "Resolve", "Sign",
}  # fmt: skip
"""What methods that change something begin with."""


@pytest.fixture
async def orders(router, client):
    """A client whose token is for the flow `orders` only; there is another flow."""
    await client.flows.apply([flow("orders"), flow("other")])
    token = create_token(router.settings.data_dir, "billing", [TokenScope.INGEST], flows=["orders"])
    async with AsyncClient(router.target, token=token) as limited:
        yield limited


async def test_a_token_for_a_flow_hands_in_events_to_it_and_to_no_other(orders, client):
    execution_id = await orders.ingest("orders", {})
    assert (await client.executions.get(execution_id)).execution.flow_id == "orders"
    for call in (orders.ingest("other", {}), orders.invoke("other", {}), orders.ingest("none", {})):
        with pytest.raises(PermissionDeniedError) as caught:
            await call
        assert caught.value.reason == "FLOW_NOT_PERMITTED"
    assert [each.flow_id async for each in client.executions.list()] == ["orders"]


async def test_a_token_for_a_flow_opens_nothing_else(router, orders):
    for call in (orders.flows.get("orders"), orders.executions.get("evt_x"), orders.cluster.processes()):
        with pytest.raises(PermissionDeniedError) as caught:
            await call
        assert caught.value.reason == "SCOPE_MISSING"
    token = create_token(router.settings.data_dir, "other", [TokenScope.INGEST], flows=["orders"])
    async with channel.connect(router.target, token) as connection:
        for method in ("UploadBody", "GetReply"):
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await connection.unary_unary(f"/flowhook.v1.IngestService/{method}")(b"")
            assert status.from_rpc_error(failed.value).reason == "SCOPE_MISSING"


async def test_a_token_for_a_flow_reads_the_health_and_the_services_as_any_other(router, orders):
    token = create_token(router.settings.data_dir, "probe", [TokenScope.INGEST], flows=["orders"])
    async with channel.connect(router.target, token) as connection:
        stub = health_pb2_grpc.HealthStub(connection)
        assert (await stub.Check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING
        assert (await stub.Watch(health_pb2.HealthCheckRequest()).read()) == health_pb2.HealthCheckResponse(status=1)
        reflection = reflection_pb2_grpc.ServerReflectionStub(connection)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        answers = [answer async for answer in reflection.ServerReflectionInfo(iter([request]))]
        assert answers[0].list_services_response.service


async def test_a_token_that_views_reads_everything_and_no_value_of_a_secret(router, client):
    await client.flows.apply([flow("hello")])
    await client.secrets.set("bank", b"hunter2")
    execution_id = await client.ingest("hello", {})
    async with router.client("view") as view:
        assert [each.id async for each in view.flows.list()] == ["hello"]
        assert (await view.flows.get("hello")).id == "hello"
        assert [each.name for each in await view.secrets.list()] == ["bank"]
        assert (await view.executions.get(execution_id)).execution.id == execution_id
        assert [each.id async for each in view.executions.list()] == [execution_id]
        assert await view.cluster.processes()
        assert [each async for each in view.rejections.list()] == []
        for call in (
            view.secrets.resolve(["bank"]),
            view.secrets.resolve(["bank"], flow_id="hello"),
            view.secrets.set("bank", b"x"),
            view.flows.delete("hello"),
            view.flows.pause("hello"),
            view.executions.cancel(execution_id),
            view.ingest("hello", {}),
        ):
            with pytest.raises(PermissionDeniedError):
                await call


async def test_a_token_that_views_opens_no_method_that_changes_anything(router):
    reported = "/flowhook.v1.ClusterService/ReportProcess"  # that admin is there, which is kept for a minute
    services = cluster.DESCRIPTOR.pool
    for name in ("Ingest", "Flow", "Secret", "Execution", "Runner", "Cluster", "Rejection", "Job", "Audit"):
        for method in services.FindServiceByName(f"flowhook.v1.{name}Service").methods:
            path = f"/flowhook.v1.{name}Service/{method.name}"
            if TokenScope.VIEW in required_scopes(path) and path != reported:
                assert not any(method.name.startswith(verb) for verb in CHANGING), path


async def test_a_token_that_views_reports_for_admin_only(router):
    async with channel.connect(router.target, router.token("view")) as connection:
        stub = cluster_service_pb2_grpc.ClusterServiceStub(connection)
        await stub.ReportProcess(cluster.ReportProcessRequest(process=cluster.Process(name="a", role="admin")))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ReportProcess(cluster.ReportProcessRequest(process=cluster.Process(name="r", role="runner")))
    assert status.from_rpc_error(caught.value).reason == "SCOPE_MISSING"


async def test_both_values_of_a_rotated_token_are_good_and_the_earlier_one_only_during_the_overlap(router, client):
    await client.flows.apply([flow("hello")])
    data_dir = router.settings.data_dir
    values = [create_token(data_dir, "billing", [TokenScope.INGEST])]
    values.append(rotate_token(data_dir, "billing", overlap=3600))
    for value in values:
        async with AsyncClient(router.target, token=value) as caller:
            await caller.ingest("hello", {})
    values.append(rotate_token(data_dir, "billing", overlap=0))
    async with AsyncClient(router.target, token=values[1]) as caller:
        with pytest.raises(UnauthenticatedError):
            await caller.ingest("hello", {})


async def test_when_a_token_was_used_last_is_on_disk_when_the_router_has_stopped(tmp_path):
    async with running_router(tmp_path / "data") as router, router.client() as client:
        await client.flows.apply([flow("hello")])
    names = {info.sha256: info.name for info in list_tokens(tmp_path / "data")}
    assert [names[sha256] for sha256 in last_uses(tmp_path / "data")] == ["admin"]


async def test_a_runner_whose_token_is_revoked_is_detached_by_its_next_message(router, client):
    async with attached(router) as runner:
        revoke_token(router.settings.data_dir, "runner")
        await runner.credit(1)
        assert await runner.call.code() is grpc.StatusCode.UNAUTHENTICATED
