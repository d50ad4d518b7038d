"""The page of all requests, with a real edge."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from support.edges import running_edge
from support.patience import PATIENCE

from flowhook.model.rejections import RequestOutcome

pytestmark = pytest.mark.asyncio(loop_scope="session")

FLOW = b"""
document: {dsl: 1.0.3, namespace: default, name: door, version: 1.0.0}
webhook: {auth: none, accept: {filter: '${ .body.wanted }'}}
do: [{keep: {set: '${ .body }'}}]
"""


async def test_the_page_lists_what_arrived_and_what_became_of_it(router, client, operator):
    await client.flows.apply([FLOW])
    async with running_edge(router) as address, aiohttp.ClientSession() as session:
        for body, status in (({"wanted": True}, 202), ({"wanted": False}, 204)):
            async with session.post(f"http://{address}/hook/door", json=body) as answer:
                assert answer.status == status
        async with asyncio.timeout(PATIENCE):
            while not [
                each async for each in client.rejections.requests(flow_id="door", outcome=RequestOutcome.FILTERED)
            ]:
                await asyncio.sleep(0.02)
    [execution] = [each async for each in client.executions.list(flow_id="door")]
    page = await operator.get("/requests?flow=door&outcome=")
    assert "FILTERED" in page.text
    assert f"/executions/{execution.id}" in page.text
    only = await operator.get("/requests?flow=door&outcome=filtered")
    assert execution.id not in only.text
    assert "FILTERED" in only.text
    wrong = await operator.get("/requests?outcome=lost")
    assert wrong.status == 400
