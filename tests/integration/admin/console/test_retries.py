"""A call that fails for a while, from the runner that makes it to the button that tries it now."""

from __future__ import annotations

import orjson
import pytest
import pytest_asyncio
from aiohttp import web
from support.browsers import log_in
from support.ends import ended
from support.http_servers import http_server
from support.jobs import until
from support.served import running_runner

from flowhook.model import Status

pytestmark = pytest.mark.asyncio(loop_scope="session")

FLOW = """
document: {dsl: 1.0.3, namespace: default, name: charges, version: 1.0.0}
webhook: {auth: none}
do:
  - before: {wait: {milliseconds: 1}}
  - charge:
      call: http
      with: {method: post, endpoint: "%s/charge", body: "${ .body }"}
      metadata: {retry: {delay: PT1H, limit: {attempt: {count: 3}}}}
"""


class Shop:
    """A service that is down until `answers` says otherwise."""

    def __init__(self):
        self.keys = []
        self.is_up = False

    async def answer(self, request):
        self.keys.append(request.headers["Idempotency-Key"])
        if self.is_up:
            return web.json_response({"charged": True})
        return web.json_response({"why": "<b>maintenance</b>"}, status=503)


@pytest_asyncio.fixture(loop_scope="session")
async def shop(router, client):
    shop = Shop()
    async with http_server(shop.answer) as address, running_runner(router, "runner-1"):
        await client.flows.apply([(FLOW % address).encode()])
        yield shop


async def test_a_call_that_is_tried_again_in_an_hour_is_tried_now(tab, router, client, shop):
    execution_id = await client.ingest("charges", {"sum": 1})
    waiting = await until(lambda: client.executions.get(execution_id), lambda found: found.execution.retry is not None)
    assert (waiting.execution.status, waiting.execution.retry.tries) == (Status.WAITING, 1)
    await log_in(tab, router.token("admin"))
    await tab.goto(f"/executions/{execution_id}")
    await tab.get_by_text("Tried once so far").wait_for()
    assert await tab.locator("#retry pre.answer").text_content() == '{\n  "why": "<b>maintenance</b>"\n}'
    await tab.goto(f"/executions/{execution_id}?view=timeline")
    await tab.get_by_text("charge", exact=True).last.click()
    assert "<b>maintenance</b>" in await tab.locator("details[open] pre.answer").first.text_content()
    await tab.goto(f"/executions/{execution_id}")
    await tab.get_by_role("button", name="Try now").click()
    await tab.get_by_text("Tried 2 times so far").wait_for()  # it failed again, and the page says so by itself
    shop.is_up = True
    await tab.get_by_role("button", name="Try now").click()
    await ended(client, execution_id)
    found = await client.executions.get(execution_id)
    assert (found.execution.status, orjson.loads(found.output)) == (Status.COMPLETED, {"charged": True})
    assert (found.execution.attempts, found.execution.retry) == (1, None)
    assert shop.keys == [f"{execution_id}:/do/1/charge#0"] * 3
    [run] = [each for each in found.history if each.task == "/do/1/charge"]
    assert run.tries == 3
