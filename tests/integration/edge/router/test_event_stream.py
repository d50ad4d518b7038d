"""The stream of events to a router that is stuck, or not there yet."""

from __future__ import annotations

import asyncio

import grpc.aio
import pytest
from support.patience import PATIENCE
from typing_extensions import override

from edge.router.client import EventStream
from flowhook.client.channel import open_plain
from flowhook.errors import UnavailableError
from flowhook.v1.envelope_pb2 import Event
from flowhook.v1.ingest_service_pb2 import IngestResult, StreamEventsRequest, StreamEventsResponse
from flowhook.v1.ingest_service_pb2_grpc import (
    IngestServiceServicer,
    IngestServiceStub,
    add_IngestServiceServicer_to_server,
)

LARGE = 3_000_000  # bytes of a request, more than gRPC sends to a peer that reads nothing


class Router(IngestServiceServicer):
    """Answers each request with as many results as it has events, once it may."""

    def __init__(self):
        self.may_read = asyncio.Event()

    @override
    async def StreamEvents(self, request_iterator, context):
        await self.may_read.wait()
        async for request in request_iterator:
            await context.write(StreamEventsResponse(results=[IngestResult() for _ in request.events]))


@pytest.fixture
async def server():
    """A server that does not run yet; its port is `server.port`, its service `server.router`."""
    server = grpc.aio.server()
    server.router = Router()
    add_IngestServiceServicer_to_server(server.router, server)
    server.port = server.add_insecure_port("127.0.0.1:0")
    yield server
    await server.stop(None)


@pytest.fixture
async def stream(server):
    async with open_plain(f"127.0.0.1:{server.port}", None) as channel:
        yield EventStream(lambda: IngestServiceStub(channel).StreamEvents(None, wait_for_ready=True))


def request(events, size=0):
    return StreamEventsRequest(events=[Event(body=bytes(size)) for _ in range(events)])


async def test_a_request_that_ends_the_stream_at_its_deadline_cancels_no_task_that_is_writing(server, stream):
    await server.start()
    first = asyncio.create_task(stream.send(request(1, LARGE), 0.5))
    others = [asyncio.create_task(stream.send(request(1, LARGE), PATIENCE)) for _ in range(3)]
    with pytest.raises(UnavailableError):
        await first
    server.router.may_read.set()
    outcomes = await asyncio.gather(*others, return_exceptions=True)
    # those that were sent, or being sent, over the same call may have failed with it
    assert {type(outcome) for outcome in outcomes} <= {UnavailableError, StreamEventsResponse}
    assert len((await stream.send(request(2), PATIENCE)).results) == 2


async def test_a_request_that_is_cancelled_before_it_is_sent_shifts_no_answer(server, stream):
    server.router.may_read.set()
    cancelled = asyncio.create_task(stream.send(request(1), PATIENCE))
    await asyncio.sleep(0)  # it begins to wait for a connection
    await asyncio.sleep(0)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    await server.start()
    for events in (2, 3):
        assert len((await stream.send(request(events), PATIENCE)).results) == events
