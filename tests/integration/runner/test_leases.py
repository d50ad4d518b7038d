"""A runner that stood still performs nothing under leases that may be lost by then."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest
from support.counting import CountingService, call
from support.patience import PATIENCE
from support.routers import running_router
from support.served import running_runner

from flowhook.model import Status
from runner.worker.execution_driver import STALL_SECONDS

LEASE = 2.0


@pytest.fixture
async def outside(http_server):
    service = CountingService()
    service.pause = 0.02
    service.base = await http_server(service.handle)
    return service


@asynccontextmanager
async def stopped(pid):
    """Have a process stand still meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(PATIENCE):
            while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
                await asyncio.sleep(0.001)
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.fixture(params=["longer than a lease", "shorter"])
async def stood_still(request, router, served, outside):
    """Have the child stand still for a while, just before it reads that its next effect may begin.

    Returns the stream, the lease, and how often it was renewed before.
    """
    seconds = LEASE if request.param == "longer than a lease" else STALL_SECONDS + 0.1
    router.lease_seconds = LEASE if request.param == "longer than a lease" else 3600.0
    router.acknowledges = False
    router.define("two", [{"first": call(outside.base, "/1")}, {"second": call(outside.base, "/2")}])
    router.define("quick", [{"done": {"set": {"quick": True}}}])
    stream = await router.attached()
    (report,) = await router.until(lambda: router.reports[:1])
    assignment = router.assignment("two")
    router.assign(stream, assignment)
    checkpoints = await router.until(lambda: stream.checkpoints[:1])
    async with stopped(report.pid):
        router.answers_renewals = False
        renewals = stream.renewals
        router.acknowledge(stream, checkpoints)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            await asyncio.sleep(0.01)
    return stream, assignment.lease, renewals


async def test_an_effect_does_not_begin_under_a_lease_that_was_lost_while_the_runner_stood_still(
    router, outside, stood_still
):
    stream, _, renewals = stood_still
    await router.until(lambda: stream.renewals > renewals)
    router.kept = set()
    stream.close()
    second = await router.attached(2)
    assert (await router.run(second, "quick")).WhichOneof("result") == "completed"
    assert outside.paths == ["/1"]


async def test_an_effect_begins_as_soon_as_its_lease_is_known_to_be_good(router, outside, stood_still):
    stream, lease, renewals = stood_still
    await router.until(lambda: stream.renewals > renewals)
    assert outside.paths == ["/1"]
    router.answers_renewals = router.acknowledges = True
    router.renew(stream)
    assert (await router.outcome(lease)).WhichOneof("result") == "completed"
    assert outside.paths == ["/1", "/2"]


async def test_work_that_is_retained_goes_on_after_a_stream_that_broke_while_the_runner_stood_still(
    router, outside, stood_still
):
    stream, lease, _ = stood_still
    router.answers_renewals = router.acknowledges = True
    stream.close()
    outcome = await router.outcome(lease)
    if outcome.WhichOneof("result") == "released":  # it saw the stream's end first, and gave everything back
        assert (outcome.released.charged, outside.paths) == (False, ["/1"])
    else:
        assert outside.paths == ["/1", "/2"]


async def child_of(client, name):
    """Wait for a runner's child to report itself, and return its process ID."""
    async with asyncio.timeout(PATIENCE):
        while True:
            for process in await client.cluster.processes():
                if process.name == name and process.ready:
                    return process.pid
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("after", [3, 11])
async def test_no_more_than_the_call_in_flight_is_made_twice_when_a_runner_stands_still(tmp_path, outside, after):
    document = {
        "document": {"dsl": "1.0.3", "namespace": "default", "name": "calls", "version": "1.0.0"},
        "do": [{"loop": {"for": {"in": "${ [range(30)] }"}, "do": [{"ask": call(outside.base, "/ask")}]}}],
    }
    async with running_router(tmp_path, lease_seconds=LEASE) as router, router.client() as client:
        await client.flows.apply([orjson.dumps(document)])
        async with running_runner(router, "runner-1"):
            pid = await child_of(client, "runner-1")
            execution_id = await client.ingest("calls", {})
            await outside.until(after)
            async with stopped(pid), running_runner(router, "runner-2"):
                async with asyncio.timeout(PATIENCE):
                    while not (await client.executions.get(execution_id)).execution.status.ended:
                        await asyncio.sleep(0.05)
            # what it does now that it goes on is done before what it is asked for next
            another = await client.ingest("calls", {})
            async with asyncio.timeout(PATIENCE):
                while not (await client.executions.get(another)).execution.status.ended:
                    await asyncio.sleep(0.05)
        assert (await client.executions.get(execution_id)).execution.status is Status.COMPLETED
    mine = [key for key in outside.keys if key.startswith(execution_id)]
    assert len(set(mine)) == 30
    assert len(mine) <= 31
