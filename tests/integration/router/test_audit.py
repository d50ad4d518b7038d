"""Every call that changes something on behalf of an operator stands in the audit log, with its token and its reason."""

from __future__ import annotations

import grpc
import pytest
from support.routers import flow

from flowhook.client import AsyncClient, channel
from flowhook.errors import NotFoundError, PermissionDeniedError
from flowhook.model.audit import audit_reason, client_address
from flowhook.model.replays import ReplayOptions
from flowhook.security.tokens import TokenScope, create_token
from flowhook.v1 import (
    audit_service_pb2,
    cluster_service_pb2,
    execution_service_pb2,
    flow_service_pb2,
    incident_service_pb2,
    ingest_service_pb2,
    job_service_pb2,
    rejection_service_pb2,
    runner_service_pb2,
    secret_service_pb2,
    shard_service_pb2,
)
from flowhook.wire import status
from router.calls.audit_recorder import AUDITED
from router.calls.authorization import required_scopes

MODULES = (
    audit_service_pb2,
    cluster_service_pb2,
    execution_service_pb2,
    flow_service_pb2,
    incident_service_pb2,
    ingest_service_pb2,
    job_service_pb2,
    rejection_service_pb2,
    runner_service_pb2,
    secret_service_pb2,
    shard_service_pb2,
)
UNRECORDED: dict[str, str] = {}
"""Methods for the scope `admin` alone that change nothing, and why they are not for viewers."""


async def entries(client, **conditions):
    return [each async for each in client.audit.list(**conditions)]


def test_every_method_that_only_operators_may_call_is_recorded():
    methods = {
        f"{service.name}/{method.name}"
        for module in MODULES
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
        if required_scopes(f"/{service.full_name}/{method.name}") == {TokenScope.ADMIN}
    }
    assert methods == AUDITED.keys() | UNRECORDED.keys()


async def test_a_call_is_recorded_with_its_token_its_target_and_its_reason(client, router):
    token = create_token(router.settings.data_dir, "ann", [TokenScope.ADMIN])
    async with AsyncClient(router.target, token=token) as ann:
        with audit_reason("maintenance für Ann"):
            await ann.flows.apply([flow("orders"), flow("payments")])
        await ann.flows.pause("orders")
    pause, apply = await entries(client)
    assert (apply.actor, apply.action, apply.target) == ("ann", "FlowService/ApplyFlows", "orders 1, payments 1")
    assert (apply.reason, apply.error) == ("maintenance für Ann", "")
    assert (pause.actor, pause.action, pause.target, pause.reason) == ("ann", "FlowService/PauseFlow", "orders", "")
    assert pause.number > apply.number


async def test_what_was_refused_is_recorded_with_the_reason_of_the_refusal(client):
    with pytest.raises(NotFoundError):
        await client.flows.pause("none")
    [entry] = await entries(client)
    assert (entry.action, entry.target, entry.error) == ("FlowService/PauseFlow", "none", "FLOW_NOT_FOUND")


async def test_refusals_that_repeat_are_one_entry_with_their_number_and_times(client):
    for name in ("a", "b", "c"):
        with pytest.raises(NotFoundError):
            await client.flows.pause(name)
    [entry] = await entries(client)
    assert (entry.target, entry.calls, entry.error) == ("c", 3, "FLOW_NOT_FOUND")
    assert entry.time <= entry.last_time


async def test_an_entry_says_where_a_call_came_from(client):
    await client.flows.apply([flow("orders")])
    for reported in ("2001:db8::7", "no address", "x" * 1000):
        token = client_address.set(reported)
        await client.flows.pause("orders")
        client_address.reset(token)
    found = [each.address for each in await entries(client)]
    assert found == ["127.0.0.1", "127.0.0.1", "2001:db8::7 via 127.0.0.1", "127.0.0.1"]


async def test_a_job_with_an_unknown_action_is_refused_and_recorded(client, router):
    request = job_service_pb2.CreateJobRequest(spec={"action": 99, "filter": {"flow_id": "orders"}, "rate": 1})
    async with channel.connect(router.target, router.token()) as connection:
        call = connection.unary_unary("/flowhook.v1.JobService/CreateJob")
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await call(request.SerializeToString())
    assert status.from_rpc_error(failed.value).reason == "JOB_INVALID"
    [entry] = await entries(client)
    assert (entry.action, entry.target, entry.error) == ("JobService/CreateJob", "99", "JOB_INVALID")


async def test_what_changes_nothing_is_not_recorded(client):
    await client.flows.apply([flow("orders")], dry_run=True)
    await client.flows.apply([flow("orders")])
    await client.flows.apply([flow("orders")])
    assert [entry.target for entry in await entries(client)] == ["orders 1"]


async def test_values_of_secrets_are_not_recorded(client):
    await client.secrets.set("api-key", b"hunter2")
    [entry] = await entries(client)
    assert entry.target == "api-key"
    assert "hunter2" not in repr(entry)


async def test_a_replay_is_recorded_with_what_it_differs_in(client):
    await client.flows.apply([flow("replayed")])
    execution_id = await client.ingest("replayed", {})
    await client.executions.cancel(execution_id)
    replay = await client.executions.replay(execution_id, ReplayOptions(latest=True, body=b"{}"))
    entry, *_ = await entries(client)
    assert entry.target == f"{execution_id} as {replay.id} with edited input on the latest revision"


async def test_long_texts_are_cut(client):
    with audit_reason("r" * 2000), pytest.raises(NotFoundError):
        await client.flows.pause("f" * 2000)
    [entry] = await entries(client)
    assert (len(entry.reason), len(entry.target)) == (500, 500)


async def test_viewers_read_the_log_and_others_do_not(client, router):
    await client.flows.apply([flow("orders")])
    async with router.client("view") as viewer:
        assert len(await entries(viewer)) == 1
    token = create_token(router.settings.data_dir, "sender", [TokenScope.INGEST])
    async with AsyncClient(router.target, token=token) as sender:
        with pytest.raises(PermissionDeniedError):
            await entries(sender)


async def test_conditions_select_entries(client):
    await client.flows.apply([flow("orders"), flow("payments")])
    await client.flows.pause("orders")
    await client.flows.pause("payments")
    assert len(await entries(client, action="FlowService/PauseFlow")) == 2
    assert len(await entries(client, action="FlowService/PauseFlow", target="pay")) == 1
    assert await entries(client, actor="nobody") == []
