"""StreamEvents: batches over one call, answered in their order, until the token or the router ends."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from support.patience import PATIENCE, until
from support.routers import flow, running_router

from flowhook.client import channel
from flowhook.errors import InvalidError, UnauthenticatedError, UnavailableError
from flowhook.events import ids
from flowhook.security.tokens import TokenScope, create_token, revoke_token
from flowhook.v1.envelope_pb2 import Event
from flowhook.v1.ingest_service_pb2 import StreamEventsRequest
from flowhook.v1.ingest_service_pb2_grpc import IngestServiceStub
from flowhook.wire import status
from router.flows.intake import EventIntake
from router.services.ingest import STORED_AT_ONCE


def event(flow_id="hello", **fields):
    return Event(id=ids.mint(ids.slot_of(flow_id)), flow_id=flow_id, body=b"{}", **fields)


class Stream:
    """An open call, and the IDs of executions by which its requests were answered."""

    def __init__(self, call):
        self.call = call

    async def send(self, *events):
        async with asyncio.timeout(PATIENCE):
            await self.call.write(StreamEventsRequest(events=events))

    async def answer(self):
        """Return the next answer: IDs of executions, or reasons of refusals; raise what ended the stream."""
        async with asyncio.timeout(PATIENCE):
            try:
                response = await self.call.read()
            except grpc.aio.AioRpcError as error:
                raise status.from_rpc_error(error) from None
        if response is grpc.aio.EOF:
            return None
        return [each.accepted.execution_id or each.rejected.reason for each in response.results]


@pytest.fixture
async def connect(router, client):
    """Return a function that opens a stream with a token."""
    await client.flows.apply([flow("hello"), flow("other")])
    channels = []

    def connect(token):
        channels.append(channel.connect(router.target, token))
        return Stream(IngestServiceStub(channels[-1]).StreamEvents())

    yield connect
    for each in channels:
        await each.close(None)


@pytest.fixture
def stream(router, connect):
    return connect(router.token("edge"))


async def test_each_batch_is_answered_in_its_order_once_it_is_durable(stream, client):
    batches = [[event() for _ in range(number)] for number in (3, 1, 2)]
    for batch in batches:
        await stream.send(*batch)
    for batch in batches:
        assert await stream.answer() == [each.id for each in batch]
    stored = {execution.id async for execution in client.executions.list()}
    assert stored == {each.id for batch in batches for each in batch}
    await stream.call.done_writing()
    assert await stream.answer() is None


async def test_an_event_that_is_refused_ends_neither_its_batch_nor_the_stream(stream):
    good = event()
    await stream.send(event("unknown"), good)
    assert await stream.answer() == ["FLOW_NOT_FOUND", good.id]
    await stream.send(good)
    assert await stream.answer() == [good.id]


async def test_a_batch_that_is_none_ends_the_stream(stream):
    await stream.send()
    with pytest.raises(InvalidError) as caught:
        await stream.answer()
    assert caught.value.reason == "BATCH_INVALID"


async def test_no_more_is_read_than_is_stored_at_once(stream, client, monkeypatch):
    begun, gate = [], asyncio.Event()

    async def store(self, intakes):
        begun.append(len(intakes))
        await gate.wait()
        for intake in intakes:
            intake.stored(1)

    monkeypatch.setattr(EventIntake, "store", store)
    batches = [[event()] for _ in range(STORED_AT_ONCE + 2)]
    for batch in batches:
        await stream.send(*batch)
    await until(lambda: len(begun) == STORED_AT_ONCE)
    await client.flows.get("hello")  # meanwhile the router would have read more
    assert len(begun) == STORED_AT_ONCE
    gate.set()
    for batch in batches:
        assert await stream.answer() == [batch[0].id]


async def test_a_token_that_is_revoked_ends_its_stream(router, connect):
    token = create_token(router.settings.data_dir, "billing", [TokenScope.INGEST])
    stream, first = connect(token), event()
    await stream.send(first)
    assert await stream.answer() == [first.id]
    revoke_token(router.settings.data_dir, "billing")
    await stream.send(event())
    with pytest.raises(UnauthenticatedError):
        await stream.answer()


async def test_a_token_that_permits_something_else_ends_its_stream_to_be_opened_again(router, connect):
    token = create_token(router.settings.data_dir, "billing", [TokenScope.INGEST], flows=["hello"])
    stream, first = connect(token), event()
    await stream.send(first)
    assert await stream.answer() == [first.id]
    file = router.settings.data_dir / "tokens.json"
    file.write_text(file.read_text().replace('"hello"', '"other"'))
    await stream.send(event())
    with pytest.raises(UnavailableError) as ended:
        await stream.answer()
    assert ended.value.reason == "TOKEN_CHANGED"
    again, second = connect(token), event("other")
    await again.send(second)
    assert await again.answer() == [second.id]


async def test_a_token_for_a_flow_is_good_for_events_of_that_flow(router, connect):
    stream = connect(create_token(router.settings.data_dir, "billing", [TokenScope.INGEST], flows=["hello"]))
    permitted = event()
    await stream.send(permitted, event("other"))
    assert await stream.answer() == [permitted.id, "FLOW_NOT_PERMITTED"]


async def test_a_router_that_stops_answers_what_it_has_read_and_ends_the_stream(tmp_path):
    async with running_router(tmp_path) as router:
        async with router.client() as client:
            await client.flows.apply([flow("hello")])
        async with channel.connect(router.target, router.token("edge")) as connection:
            stream, first = Stream(IngestServiceStub(connection).StreamEvents()), event()
            await stream.send(first)
            assert await stream.answer() == [first.id]
            router.lifecycle.stop.set()
            assert await stream.answer() is None
