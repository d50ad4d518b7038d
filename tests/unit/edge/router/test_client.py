from __future__ import annotations

import asyncio
import gc

import pytest

from edge.router.client import EventStream
from flowhook.errors import UnavailableError
from flowhook.v1.ingest_service_pb2 import StreamEventsRequest


class StuckCall:
    """A call that takes some messages, and answers none; gRPC makes a cancellation of what waits when it is ended."""

    def __init__(self, room):
        self.room = room
        self.ended = asyncio.Event()

    async def write(self, _request):
        self.room -= 1
        if self.room < 0:
            await self.read()

    async def read(self):
        await self.ended.wait()
        raise asyncio.CancelledError

    def cancel(self):
        self.ended.set()


@pytest.fixture
def send():
    def begin(stream, seconds):
        return asyncio.ensure_future(stream.send(StreamEventsRequest(), seconds))

    return begin


async def test_a_request_that_waits_while_another_ends_the_call_fails_and_is_not_cancelled(send, settled):
    stream = EventStream(lambda: StuckCall(room=1))
    first = send(stream, 0.01)
    await settled()
    second = send(stream, 60)
    for each in (first, second):
        with pytest.raises(UnavailableError):
            await each


@pytest.mark.parametrize("room", [0, 1])
async def test_nobody_looks_for_the_answer_to_a_request_that_was_given_up(send, settled, room):
    unseen = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: unseen.append(context["message"]))
    with pytest.raises(UnavailableError):
        await send(EventStream(lambda: StuckCall(room)), 0.01)
    await settled()
    gc.collect()
    assert unseen == []


async def test_a_sender_that_is_cancelled_is_cancelled(send, settled):
    sending = send(EventStream(lambda: StuckCall(room=0)), 60)
    await settled()
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
