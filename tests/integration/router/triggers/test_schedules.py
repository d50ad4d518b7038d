"""Schedules of a real router: what is applied starts by itself, and goes on after a restart."""

from __future__ import annotations

import time

from support.patience import turns
from support.routers import flow, running_router
from support.runners import attached

from flowhook import cron
from flowhook.model import Origin
from flowhook.wire import convert


async def test_a_flow_is_started_every_second_also_after_a_restart(tmp_path):
    times = []

    async def tick():
        async with running_router(tmp_path) as router, router.client() as client, attached(router, credit=9) as runner:
            await client.flows.apply([flow("tick", b"schedule: {every: PT1S}\n")])
            (assignment, *_) = await runner.assignments(1)
            event = convert.event_from_bytes(assignment.event)
            assert (event.flow_id, event.origin, event.body) == ("tick", Origin.SCHEDULE, b"{}")
            times.append(event.receive_time_ms)
            await runner.complete(assignment)

    async with turns() as passed:
        await tick()
        await tick()
    assert times[1] - times[0] >= 900
    assert passed.seconds < 10


async def test_a_flow_reports_when_it_is_started_next_and_a_former_revision_does_not(client):
    [applied] = await client.flows.apply([flow("yearly", b'schedule: {cron: "0 0 1 1 *"}\n')])
    new_year = cron.next_cron("0 0 1 1 *", int(time.time() * 1000))
    await client.flows.apply([flow("plain")])
    listed = {each.id: each.next_time_ms async for each in client.flows.list()}
    assert listed == {"yearly": new_year, "plain": None}
    reported = [applied.flow, await client.flows.get("yearly"), await client.flows.pause("yearly")]
    assert [each.next_time_ms for each in reported] == [new_year] * 3
    assert (await client.flows.get("yearly", revision=1)).next_time_ms is None
