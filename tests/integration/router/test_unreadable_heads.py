"""The router stores the heads of requests as edges send them: one that can't be read harms its own event alone."""

from __future__ import annotations

import pytest
from support.edge_heads import UNREADABLE, edge_head
from support.routers import flow
from support.runners import attached

from flowhook.client import channel
from flowhook.errors import InvalidError
from flowhook.events import ids
from flowhook.model import Status
from flowhook.model.replays import ReplayOptions
from flowhook.v1 import envelope_pb2, ingest_service_pb2, ingest_service_pb2_grpc
from flowhook.v1 import execution_service_pb2 as executions
from flowhook.v1.execution_service_pb2_grpc import ExecutionServiceStub
from flowhook.wire import convert

CALLBACKS = b"webhook: {auth: none, callbacks: {paid: {auth: none}}}\n"
HOSTILE = envelope_pb2.Event(flow_id="other", rejection_id="rej_1", depth=9, parent_execution_id="evt_1")


@pytest.fixture
async def edge(router, client):
    await client.flows.apply([flow("hello", CALLBACKS), flow("ordered", b"execution: {order_by: '${ .body.a }'}\n")])
    async with channel.connect(router.target, router.token("edge")) as connection:
        stub = ingest_service_pb2_grpc.IngestServiceStub(connection)

        async def submit(**fields):
            fields = {"flow_id": "hello", "head": UNREADABLE, "body": b'{"a": 1}', "order_key": "", **fields}
            event = envelope_pb2.Event(id=ids.mint(ids.slot_of(fields["flow_id"])), **fields)
            response = await stub.IngestEvents(ingest_service_pb2.IngestEventsRequest(events=[event]))
            (result,) = response.results
            return result.accepted.execution_id or result.rejected.reason

        yield submit


async def test_it_is_stored_and_everything_that_operators_do_works(router, client, edge):
    execution_id = await edge()
    async with attached(router, credit=1) as runner:
        (assignment,) = await runner.assignments(1)
        assert envelope_pb2.Event.FromString(assignment.event).head == UNREADABLE
        await runner.fault(assignment)
    detail = await client.executions.get(execution_id)
    assert (detail.execution.status, detail.event.path, detail.event.body) == (Status.FAULTED, "", b'{"a": 1}')
    assert (await client.executions.get(execution_id, max_body_bytes=2)).event.body == b'{"'
    async with channel.connect(router.target, router.token("admin")) as connection:
        scanned = await ExecutionServiceStub(connection).ScanEvents(executions.ScanEventsRequest())
    assert [each.event.head for each in scanned.events] == [UNREADABLE]
    with pytest.raises(InvalidError) as refusal:
        await client.executions.replay(execution_id, ReplayOptions(body=b"{}"))
    assert refusal.value.reason == "EVENT_UNREADABLE"
    again = await client.executions.replay(execution_id)
    await client.executions.cancel(again.id)
    await client.executions.delete(execution_id, erase=True)
    assert [each.id async for each in client.executions.list()] == []


async def test_it_is_refused_where_the_router_has_to_read_it(edge):
    assert await edge(callback="paid") == "EVENT_UNREADABLE"
    assert await edge(flow_id="ordered", flow_revision=999) == "EVENT_UNREADABLE"


async def test_nothing_in_it_is_what_the_router_says_of_an_event(router, client, edge):
    head = HOSTILE.SerializeToString() + edge_head("/hook/hello")
    execution_id = await edge(head=head)
    async with attached(router, credit=1) as runner:
        (assignment,) = await runner.assignments(1)
    event = convert.event_from_bytes(assignment.event)
    assert (event.id, event.flow_id, event.path) == (execution_id, "hello", "/hook/hello")
    assert (event.rejection_id, event.depth, event.parent) == ("", 0, "")


async def test_its_size_is_limited_as_that_of_the_fields(edge):
    assert await edge(head=edge_head("/" + "x" * 300_000)) == "EVENT_TOO_LARGE"
