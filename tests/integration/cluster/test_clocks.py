"""Two routers whose clocks are a minute apart: one owns the shard after the other."""

from __future__ import annotations

import asyncio
import time

from support.patience import PATIENCE
from support.replicated_routers import running_edge
from support.router_processes import CLOCK_SHIFT
from support.runners import attached
from support.systems import document

from flowhook.model import Status
from flowhook.v1.envelope_pb2 import Event

DELIVERY = {"X-Delivery": "1"}


def deduplicated(name, window):
    key = "'${ .headers[\"x-delivery\"] }'"
    return document(name, webhook=f"{{auth: none, dedupe: {{key: {key}, window: {window}}}}}")


async def assigned_to(runner, ids):
    """Wait until the runner got these executions, and return their assignments."""
    found = {}
    while not ids <= found.keys():
        found |= {Event.FromString(each.event).id: each for each in await runner.assignments(1)}
    return found


async def test_a_minute_between_clocks_moves_timers_and_dedupe_windows_by_a_minute_and_nothing_else(processes):
    first, ahead = processes.routers
    if (await processes.roles())[0] is ahead:
        await processes.move()
    async with processes.client() as client, running_edge(processes) as post:
        await client.flows.apply([document("clock"), deduplicated("short", "PT30S"), deduplicated("long", "PT90S")])
        short, long = [(await post(flow_id, {}, DELIVERY))[2]["id"] for flow_id in ("short", "long")]
        soon, late = [await client.ingest("clock", b"{}") for _ in range(2)]
        async with attached(first, credit=4) as runner:
            assigned = await assigned_to(runner, {short, long, soon, late})
            await runner.park(assigned[soon], time.time() + CLOCK_SHIFT / 2)
            await runner.park(assigned[late], time.time() + 2 * CLOCK_SHIFT)
            await runner.complete(assigned[short])
            await runner.complete(assigned[long])

        assert (await processes.move())[0] is ahead
        again = (await post("short", {}, DELIVERY))[2]["id"]
        assert again != short
        assert (await post("long", {}, DELIVERY))[2]["id"] == long
        async with attached(ahead, credit=4) as runner:
            assigned = await assigned_to(runner, {soon, again})
            await runner.complete(assigned[soon])
        assert (await client.executions.get(late)).execution.status is Status.WAITING

        assert (await processes.move())[0] is first
        async with first.client() as direct:
            last = await direct.ingest("clock", b"{}")
            found = {each.id: each.status async for each in direct.executions.list(flow_id="clock")}
        assert found == {soon: Status.COMPLETED, late: Status.WAITING, last: Status.PENDING}


async def test_routers_whose_clocks_differ_say_by_how_much(processes):
    async with processes.client() as client, asyncio.timeout(PATIENCE):
        while True:
            warnings = {each.name: each.warnings for each in await client.cluster.processes() if each.warnings}
            if any(f"the clock is {CLOCK_SHIFT} s" in text for texts in warnings.values() for text in texts):
                break
            await asyncio.sleep(0.1)
