"""The list of requests has what somebody sent, and nothing that started by itself."""

from __future__ import annotations

import asyncio

from support.effects import effects_of
from support.patience import PATIENCE
from support.routers import flow

from flowhook.model.rejections import RequestOutcome


async def test_what_a_schedule_or_another_flow_starts_is_no_request(router, client):
    await client.flows.apply([flow("often", b"schedule: {every: PT1S}\n"), flow("caller")])
    caller = await client.ingest("caller", {})
    sent = await client.ingest("often", {})
    async with effects_of(router) as effects:
        child = await effects.start("often", key=f"{caller}:/do/0/run#0", caller=caller)
    started = set()
    async with asyncio.timeout(PATIENCE):
        while not started:
            started = {each.id async for each in client.executions.list(flow_id="often")} - {sent, child}
    listed = [each async for each in client.rejections.requests(outcome=RequestOutcome.ACCEPTED)]
    assert [each.execution_id for each in listed] == [sent, caller]


async def test_a_page_is_not_empty_because_executions_before_it_are_no_requests(router, client):
    await client.flows.apply([flow("caller"), flow("child")])
    caller = await client.ingest("caller", {})
    async with effects_of(router) as effects:
        for number in range(3):
            await effects.start("child", key=f"{caller}:/do/0/run#{number}", caller=caller)
    page = await client.rejections.requests_page(page_size=1)
    assert [each.execution_id for each in page.items] == [caller]
