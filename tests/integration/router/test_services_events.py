"""What services hand in over gRPC by themselves, without our client: little of it, and not always what it should be."""

from __future__ import annotations

import gzip
import time

import grpc
import pytest
from support.cpu import loop_seconds
from support.edge_heads import edge_head
from support.routers import flow

from flowhook import limits
from flowhook.client import channel
from flowhook.events import ids
from flowhook.v1 import envelope_pb2, ingest_service_pb2, ingest_service_pb2_grpc
from flowhook.wire import convert, status

CALLBACKS = b"webhook: {auth: none, callbacks: {paid: {auth: none}, photo: {auth: none, parse: raw}}}\n"
LOOP_SECONDS = 0.1
"""CPU time of the router's loop for a body that takes twice that to be read."""


@pytest.fixture
async def stub(router, client):
    await client.flows.apply([flow("hello", CALLBACKS), flow("raw", b"webhook: {auth: none, parse: raw}\n")])
    connection = channel.connect(router.target, router.token("admin"))
    yield ingest_service_pb2_grpc.IngestServiceStub(connection)
    await connection.close(None)


def event(body=b"{}", content_type="application/json", flow_id="hello", **fields):
    return envelope_pb2.Event(flow_id=flow_id, body=body, content_type=content_type, **fields)


async def ingest(stub, *events):
    """What becomes of events: their IDs, or why they are refused."""
    response = await stub.IngestEvents(ingest_service_pb2.IngestEventsRequest(events=events))
    return [result.accepted.execution_id or result.rejected.reason for result in response.results]


async def test_an_event_without_id_and_time_gets_both(stub, client):
    before = int(time.time() * 1000)
    first, second = await ingest(stub, event(), event())
    assert first != second
    for execution_id in (first, second):
        detail = await client.executions.get(execution_id)
        assert before <= detail.event.receive_time_ms <= time.time() * 1000
        assert ids.slot_of_event(execution_id) == ids.slot_of("hello")
        assert (detail.event.id, detail.event.method) == (execution_id, "POST")


async def test_so_does_one_that_is_waited_for_and_a_callback(stub):
    request = ingest_service_pb2.InvokeFlowRequest(event=event(), max_wait=convert.duration(0.01))
    assert (await stub.InvokeFlow(request)).execution_id.startswith("evt_")
    [callback_id] = await ingest(stub, event(callback="paid"))
    assert callback_id.startswith("evt_")


async def test_what_an_event_says_of_itself_is_retained(stub, client):
    event_id = ids.mint(ids.slot_of("hello"))
    message = event(id=event_id, receive_time=convert.timestamp(0), method="PUT")
    assert await ingest(stub, message) == [event_id]
    stored = (await client.executions.get(event_id)).event
    assert (stored.receive_time_ms, stored.method) == (0, "PUT")


WRONG = [
    event(b"{"),
    event(b""),
    event(b"<a>", "application/xml"),
    event(b"[" + b"1," * limits.MIB),
    event(b"nothing", "application/json", headers=[envelope_pb2.Header(name="content-encoding", value=b"gzip")]),
    event(b"{", callback="paid"),
]


@pytest.mark.parametrize("wrong", WRONG, ids=range(len(WRONG)))
async def test_a_body_that_is_not_what_its_content_type_says_is_refused_and_nothing_else(stub, wrong):
    first, refused, last = await ingest(stub, event(), wrong, event())
    assert refused == "BODY_INVALID"
    assert first.startswith("evt_")
    assert last.startswith("evt_")


async def test_one_that_is_waited_for_is_refused_as_a_whole(stub):
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await stub.InvokeFlow(ingest_service_pb2.InvokeFlowRequest(event=event(b"{")))
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert status.from_rpc_error(refusal.value).reason == "BODY_INVALID"


@pytest.mark.parametrize(
    "fine",
    [
        event(b"{", flow_id="raw"),
        event(b"{", callback="photo"),
        event(b"{", ""),
        event(b"", "", method="GET"),
        event(b"", method="DELETE"),
        event(gzip.compress(b"{}"), headers=[envelope_pb2.Header(name="content-encoding", value=b"gzip")]),
        envelope_pb2.Event(flow_id="hello", head=edge_head("/hook/hello"), body=b"{"),
    ],
    ids=["raw flow", "raw callback", "no type", "GET", "DELETE", "compressed", "read by an edge"],
)
async def test_what_nobody_parses_or_is_as_it_should_be_is_taken(stub, fine):
    [execution_id] = await ingest(stub, fine)
    assert execution_id.startswith("evt_")


async def test_what_large_bodies_take_to_be_read_the_loop_does_not(stub):
    body = b"<a>" + b"<b c='d'/>" * 95_000 + b"</a>"

    async def send():
        [execution_id] = await ingest(stub, event(body, "application/xml"))
        assert execution_id.startswith("evt_")

    assert await loop_seconds(send, LOOP_SECONDS) < LOOP_SECONDS
