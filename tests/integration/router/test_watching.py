"""Watches over gRPC: nothing after the first word is missed, and a client that reads nothing harms nobody."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from support.routers import flow
from support.runners import attached

from flowhook.client import channel
from flowhook.errors import OutOfRangeError
from flowhook.model import Status
from flowhook.v1 import execution_service_pb2 as executions_pb
from flowhook.v1 import execution_service_pb2_grpc, flow_service_pb2_grpc
from flowhook.v1 import flow_service_pb2 as flows_pb
from flowhook.wire import status


@pytest.fixture
async def connection(router):
    connection = channel.connect(router.target, router.token())
    yield connection
    await connection.close(None)


async def test_a_watcher_of_executions_gets_all_that_happens_after_the_first_message(router, client):
    await client.flows.apply([flow("hello")])
    changes = client.executions.watch(flow_id="hello")
    assert await anext(changes) is None
    execution_id = await client.ingest("hello", {})
    async with attached(router, credit=1) as runner:
        (assignment,) = await runner.assignments(1)
        await runner.complete(assignment)
    seen = []
    while Status.COMPLETED not in seen:
        change = await anext(changes)
        assert (change.execution.id, change.missed) == (execution_id, 0)
        seen.append(change.execution.status)
    assert seen == sorted(seen, key=[Status.PENDING, Status.RUNNING, Status.COMPLETED].index)
    await changes.aclose()


async def test_a_watcher_of_executions_is_told_what_they_wait_for(router, client):
    await client.flows.apply([flow("ordered", b"execution: {order_by: '${ .account }'}\n")])
    changes = client.executions.watch(flow_id="ordered")
    assert await anext(changes) is None
    first = await client.ingest("ordered", {"account": "A"})
    second = await client.ingest("ordered", {"account": "A"})
    told = {}
    while second not in told:
        change = await anext(changes)
        told[change.execution.id] = change.execution.blocked_by
    assert (told[first], told[second].execution_id) == (None, first)
    await changes.aclose()


async def test_a_watcher_of_flows_that_knows_a_later_revision_than_there_is_has_to_start_anew(client, connection):
    await client.flows.apply([flow("hello")])
    stub = flow_service_pb2_grpc.FlowServiceStub(connection)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await anext(aiter(stub.WatchFlows(flows_pb.WatchFlowsRequest(start_revision=1000))))
    error = status.from_rpc_error(caught.value)
    assert isinstance(error, OutOfRangeError)
    assert (error.reason, error.metadata["revision"]) == ("REVISION_COMPACTED", "1")


async def test_clients_that_read_nothing_of_their_watches_hold_up_nobody(router, client, connection):
    await client.flows.apply([flow("hello")])
    executions = execution_service_pb2_grpc.ExecutionServiceStub(connection)
    flows = flow_service_pb2_grpc.FlowServiceStub(connection)
    deaf = [executions.WatchExecutions(executions_pb.WatchExecutionsRequest()) for _ in range(20)]
    deaf += [flows.WatchFlows(flows_pb.WatchFlowsRequest()) for _ in range(20)]
    async with attached(router, credit=300) as runner:
        for _ in range(20):
            await asyncio.gather(*(client.ingest("hello", {}) for _ in range(10)))
        left = 200
        while left:  # they come in parts of any size: one flow gets no more than its share of a runner's places
            for assignment in await runner.assignments(1):
                await runner.complete(assignment)
                left -= 1
    assert len([execution async for execution in client.executions.list(statuses=[Status.COMPLETED])]) == 200
    for call in deaf:
        call.cancel()
