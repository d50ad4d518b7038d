"""Answers that arrive after their call was ended."""

from __future__ import annotations

import asyncio

import pytest
from support.patience import PATIENCE

from edge.router.client import EventStream
from flowhook.errors import UnavailableError
from flowhook.v1.ingest_service_pb2 import IngestResult, StreamEventsRequest, StreamEventsResponse


class Call:
    """A call whose responses are in `responses`, also those that were on their way when it was cancelled."""

    def __init__(self):
        self.responses = asyncio.Queue()

    async def write(self, request):
        del request

    async def read(self):
        return await self.responses.get()

    def cancel(self):
        return True


async def test_a_late_response_answers_no_request_of_the_next_call():
    calls = []

    def begin():
        calls.append(Call())
        return calls[-1]

    stream = EventStream(begin)
    with pytest.raises(UnavailableError):
        await stream.send(StreamEventsRequest(), 0.001)
    late, right = StreamEventsResponse(), StreamEventsResponse(results=[IngestResult()])
    sending = asyncio.create_task(stream.send(StreamEventsRequest(), PATIENCE))
    await asyncio.sleep(0)
    calls[0].responses.put_nowait(late)
    for _ in range(5):  # turns of the loop, in which it would be read
        await asyncio.sleep(0)
    calls[1].responses.put_nowait(right)
    assert await sending == right
