"""Whether the router serves, as it is told to those who watch."""

from __future__ import annotations

import asyncio

import pytest
from grpc_health.v1 import health_pb2 as pb

from router.services.health import HealthService

SERVING, NOT_SERVING = pb.HealthCheckResponse.SERVING, pb.HealthCheckResponse.NOT_SERVING


class StubServicerContext:
    """Takes what is written once it may."""

    def __init__(self):
        self.reported = asyncio.Queue()
        self.reads = asyncio.Event()
        self.reads.set()

    async def write(self, response):
        await self.reads.wait()
        self.reported.put_nowait(response.status)


@pytest.fixture
async def watched():
    """A service, and a function that has it watched."""
    service = HealthService(["known"])
    tasks = []

    def watch(context, name=""):
        tasks.append(asyncio.create_task(service.Watch(pb.HealthCheckRequest(service=name), context)))

    yield service, watch
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_watcher_gets_the_state_at_once_and_every_change(watched):
    service, watch = watched
    watch(context := StubServicerContext(), "known")
    assert await context.reported.get() == SERVING
    service.set(serving=True)
    service.set(serving=False)
    assert await context.reported.get() == NOT_SERVING
    service.set(serving=True)
    assert await context.reported.get() == SERVING
    assert context.reported.empty()


async def test_a_watcher_that_reads_nothing_keeps_nobody_from_being_notified(watched):
    service, watch = watched
    deaf, other = StubServicerContext(), StubServicerContext()
    deaf.reads.clear()
    watch(deaf)
    watch(other)
    assert await other.reported.get() == SERVING
    service.set(serving=False)
    assert await other.reported.get() == NOT_SERVING
    deaf.reads.set()
    assert [await deaf.reported.get() for _ in range(2)] == [SERVING, NOT_SERVING]


async def test_a_router_that_stops_serves_no_more(watched):
    service, watch = watched
    watch(context := StubServicerContext())
    assert await context.reported.get() == SERVING
    service.stop()
    service.set(serving=True)
    assert await context.reported.get() == NOT_SERVING
    assert (await service.Check(pb.HealthCheckRequest(), None)).status == NOT_SERVING
