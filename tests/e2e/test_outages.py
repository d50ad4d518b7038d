"""A destination that dies, hangs, asks for time or goes up and down, for three flows, two of which are ordered.

Nothing faults, the order is exact, one call at a time tries again, and whatever is killed meanwhile, all goes on.
`OUTAGE_EVENTS` is the number of events of each flow.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter, defaultdict
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from support.patience import PATIENCE
from support.systems import kill

from flowhook.model import Status
from harness.cluster import running_cluster

pytestmark = pytest.mark.e2e

EVENTS = int(os.environ.get("OUTAGE_EVENTS", "60"))
KEYS = 10
PROBE = 2.0
DRAIN = 10.0
FLOW = """
document: {{dsl: 1.0.3, namespace: default, name: {name}, version: 1.0.0}}
execution: {{outage: {{failures: 5, probe: PT2S}}{order}}}
do:
  - pay: {{call: http, with: {{method: post, endpoint: "{url}", body: {{flow: {name}, n: "${{ .n }}"}}}}}}
"""
ORDERED = ("ordered-1", "ordered-2")
FLOWS = (*ORDERED, "unordered")


class Target:
    """What flows call: `mode` says how it fails, empty: it does not."""

    def __init__(self, mode):
        self.mode = mode
        self.taken = []
        self.refused = []

    async def handle(self, request):
        body = await request.json()
        flapped = self.mode == "flaps" and int(time.monotonic() / 10) % 2
        if not self.mode or flapped:
            self.taken.append((body["flow"], body["n"]))
            return web.json_response({})
        self.refused.append(time.monotonic())
        if self.mode == "hangs":
            await asyncio.sleep(PATIENCE)
        if self.mode == "dies":
            request.transport.abort()
        headers = {"Retry-After": "1"} if self.mode == "asks" else {}
        return web.Response(status=503, headers=headers)


@asynccontextmanager
async def serving(target):
    application = web.Application()
    application.router.add_post("/", target.handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


async def until(condition):
    async with asyncio.timeout(PATIENCE):
        while not await condition():
            await asyncio.sleep(0.1)


async def statuses(client):
    return Counter([each.status async for each in client.executions.list()])


async def send(client):
    for number in range(EVENTS):
        await asyncio.gather(*(client.ingest(each, {"n": number, "key": f"k{number % KEYS}"}) for each in FLOWS))


@pytest.mark.parametrize(
    "mode", ["dies", *(pytest.param(mode, marks=pytest.mark.release) for mode in ("hangs", "asks", "flaps"))]
)
async def test_nothing_faults_the_order_is_exact_and_what_is_killed_goes_on(mode):
    target = Target(mode)
    environment = {"FLOWHOOK_HTTP_TIMEOUT": "2"}
    async with (
        serving(target) as url,
        running_cluster("--allow-private-addresses", environment=environment) as cluster,
    ):
        client = cluster.client
        order = ', order_by: "${ .key }"'
        await client.flows.apply(
            [FLOW.format(name=each, url=url, order=order if each in ORDERED else "").encode() for each in FLOWS]
        )
        await send(client)

        async def all_wait():
            """Whether all executions of the unordered flow wait, and one for each key of the ordered ones."""
            found = [each async for each in client.incidents.list(open_only=True)]
            return sum(each.waiting for each in found) >= EVENTS + len(ORDERED) * min(KEYS, EVENTS) - len(FLOWS)

        if mode != "flaps":
            await until(all_wait)
            before, began = len(target.refused), time.monotonic()
            await asyncio.sleep(2 * PROBE)
            # one probe at a time for all flows, each later than the one before
            assert len(target.refused) - before <= (time.monotonic() - began) / PROBE + 1
        await kill(cluster, "runner-1", "runner-2", "router-1", "edge-1")
        if mode != "flaps":
            await until(all_wait)
        target.mode = "" if mode != "flaps" else mode
        for incident in [each async for each in client.incidents.list(open_only=True)] if mode != "flaps" else ():
            await client.incidents.probe(incident.id)
        began = time.monotonic()

        async def all_completed():
            return await statuses(client) == {Status.COMPLETED: EVENTS * len(FLOWS)}

        await until(all_completed)
        assert time.monotonic() - began < PATIENCE
    assert set(target.taken) == {(flow, number) for flow in FLOWS for number in range(EVENTS)}
    by_key = defaultdict(list)
    for flow, number in dict.fromkeys(target.taken):
        if flow in ORDERED:
            by_key[flow, number % KEYS].append(number)
    for numbers in by_key.values():
        assert numbers == sorted(numbers)
