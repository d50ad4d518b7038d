"""A silence of a real router: what operators see of it, and what flows hear, also after the router started again."""

from __future__ import annotations

import asyncio
import re

import orjson
from support.patience import PATIENCE
from support.routers import flow, running_router
from support.runners import attached

from flowhook.model.flows import FlowCondition
from flowhook.wire import convert

ALERTS = b"""
document: {dsl: 1.0.3, namespace: default, name: alerts, version: 1.0.0}
schedule:
  read: envelope
  on: {any: [{with: {type: flowhook.silence.began}}, {with: {type: flowhook.silence.ended}}]}
do:
  - keep: {set: {seen: "${ . }"}}
"""
EXPECTS = b"webhook: {auth: none, expect: {every: PT1S}}\n"


async def heard(runner):
    """Wait for an execution of `alerts`, complete it, and return the type and the data of the event."""
    while True:
        (assignment,) = await runner.assignments(1)
        await runner.complete(assignment)
        event = convert.event_from_bytes(assignment.event)
        if event.flow_id == "alerts":
            (found,) = orjson.loads(event.body)
            return found["type"].removeprefix("flowhook.silence."), found["data"]


async def silent_since(client):
    [found] = (await client.flows.statistics("shop")).items
    return found.silent_since_time_ms


async def silent_flows(client):
    [router] = await client.cluster.processes()
    return float(re.search(rb"^flowhook_silent_flows\S* (\S+)$", router.metrics, re.MULTILINE)[1])


async def test_a_flow_is_silent_until_the_next_event_and_flows_hear_both(tmp_path):
    async with asyncio.timeout(PATIENCE), running_router(tmp_path) as router, router.client() as client:
        [_, applied] = await client.flows.apply([ALERTS, flow("shop", EXPECTS)])
        async with attached(router, credit=9) as runner:
            kind, data = await heard(runner)
            assert (kind, data["flow"], "endedAt" in data, "routerStartedAt" in data) == ("began", "shop", False, False)
            assert await silent_since(client) == applied.flow.update_time_ms
            page = await client.flows.statistics_page(condition=FlowCondition.SILENT)
            assert [each.flow.id for each in page.items] == ["shop"]
            assert await silent_flows(client) == 1
            await client.ingest("shop", {})
            kind, ended = await heard(runner)
            assert (kind, ended["beganAt"], ended["endedAt"] > data["beganAt"]) == ("ended", data["beganAt"], True)
            assert (await heard(runner))[0] == "began"  # another one
    async with (
        asyncio.timeout(PATIENCE),
        running_router(tmp_path) as router,
        router.client() as client,
        attached(router, credit=9) as runner,
    ):
        await client.ingest("shop", {})
        assert (await heard(runner))[0] == "ended"
        kind, data = await heard(runner)
        assert (kind, "routerStartedAt" in data) == ("began", False)
        await client.flows.delete("shop")
        assert (await heard(runner))[0] == "ended"
        assert await silent_flows(client) == 0
