"""A runner and a router whose clocks differ by an hour: the router's decides, however wrong the other one is.

The router is a process with a clock of its own; the difference is the same as with a wrong clock of the runner. An hour
is longer than any test waits: what depends on the runner's clock never comes, and nothing need be in time.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.patience import PATIENCE
from support.router_processes import RouterProcesses, shifted_clock
from support.systems import document

from flowhook.model import Status
from flowhook.process.process_state import ProcessState
from flowhook.process.settings import RunnerSettings
from runner import app

pytestmark = pytest.mark.release

SKEW = 3600
WAITS = 20
WAIT_SECONDS = 1.0

RETRIED = """- try:
    try: [{boom: {raise: {error: {type: 'https://test.example/boom', status: 503}}}}]
    catch: {retry: {delay: {seconds: 1}, limit: {attempt: {count: 2}}}}"""
TIMED_OUT = "- pause: {wait: {hours: 1}, timeout: {after: {seconds: 1}}}"


@pytest.fixture(params=[SKEW, -SKEW], ids=["the runner's clock is slow", "the runner's clock is fast"])
def processes(request, tmp_path):
    """A router on an embedded storage, whose clock is ahead of the runner's by an hour, or behind."""
    processes = RouterProcesses(tmp_path / "data", "")
    processes.start("r1", **shifted_clock(tmp_path / "clock", request.param))
    yield processes
    processes.close()


@asynccontextmanager
async def running_runner(processes):
    lifecycle = ProcessState(name="runner-1", role="runner")
    settings = RunnerSettings(data_dir=processes.directory, router=processes.target, drain_seconds=0.1)
    serving = asyncio.create_task(app.serve(settings, lifecycle))
    try:
        async with asyncio.timeout(PATIENCE):
            await lifecycle.ready.wait()
        yield
    finally:
        lifecycle.stop.set()
        await serving


async def ends(client, ids):
    """Wait until all executions have ended, and return their status."""
    async with asyncio.timeout(PATIENCE):
        while True:
            found = {each.id: each async for each in client.executions.list() if each.id in ids}
            if len(found) == len(ids) and all(each.status.ended for each in found.values()):
                return {each.status for each in found.values()}
            await asyncio.sleep(0.05)


async def attempts(client, total):
    """Wait until the runner has reported that so many executions completed, and return its attempts by outcome."""
    async with asyncio.timeout(PATIENCE):
        while True:
            found = {}
            for process in await client.cluster.processes():
                for family in text_string_to_metric_families(process.metrics.decode()):
                    for sample in family.samples:
                        if sample.name == "flowhook_attempts_total":
                            found[sample.labels["outcome"]] = int(sample.value)
            if found.get("completed", 0) >= total:
                return found
            await asyncio.sleep(0.1)


async def test_waits_timeouts_and_retries_last_as_long_as_the_flow_says_and_are_parked_once(processes):
    async with processes.client() as client:
        await processes.routers[0].until(lambda shard: shard.owner.serving)
        flow = document("pause", do=f"- pause: {{wait: {{seconds: {WAIT_SECONDS:g}}}}}")
        timeout = document("limit", do=TIMED_OUT)
        await client.flows.apply([flow, timeout, document("retried", do=RETRIED)])
        async with running_runner(processes):
            began = time.monotonic()
            ids = [await client.ingest("pause", b"{}") for _ in range(WAITS)]
            assert await ends(client, ids) == {Status.COMPLETED}
            assert time.monotonic() - began >= WAIT_SECONDS - 0.1
            assert (await attempts(client, WAITS))["parked"] == WAITS
            faulting = [await client.ingest(name, b"{}") for name in ("limit", "retried")]
            assert await ends(client, faulting) == {Status.FAULTED}
