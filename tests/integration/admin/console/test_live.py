"""Lists and pages that update themselves: what is sent, and when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import re
from functools import partial
from html import unescape

import aiohttp
import pytest
from support.browsers import log_in
from support.consoles import running_console
from support.patience import PATIENCE
from support.routers import flow
from support.runners import attached

from admin.console import live

pytestmark = pytest.mark.asyncio(loop_scope="session")

STREAM = re.compile(r'hx-sse:connect="(/[^"]*)"')


async def next_event(response):
    lines = []
    while (line := (await response.content.readline()).decode()).startswith("data: "):
        lines.append(line.removeprefix("data: "))
    assert lines, "the stream ended"
    return "".join(lines)


async def answer(status, route):
    await route.fulfill(status=status)


async def test_a_new_execution_appears_by_itself(viewer, client):
    await client.flows.apply([flow("live")])
    page = await viewer.get("/executions?flow=live")
    [stream] = map(unescape, STREAM.findall(page.text))
    async with asyncio.timeout(PATIENCE), viewer.session.get(stream) as response:
        assert response.headers["Content-Type"] == "text/event-stream; charset=UTF-8"
        assert "No execution of" in await next_event(response)
        execution_id = await client.ingest("live", {})
        rows = await next_event(response)
        assert execution_id in rows
        assert rows.count("<tr ") == 1
        await client.executions.cancel(execution_id)
        assert 'class="status cancelled"' in await next_event(response)


async def test_a_stream_ends_with_its_session(operator):
    async with asyncio.timeout(PATIENCE), operator.session.get("/executions/stream") as response:
        await next_event(response)
        await operator.post("/logout")
        while await response.content.readline():
            pass


async def test_a_process_that_stops_ends_its_streams(router):
    async with asyncio.timeout(PATIENCE):
        async with running_console(router) as console, console.browser() as browser:
            await browser.log_in(router.token("view"))
            async with browser.session.get("/executions/stream") as response:
                await next_event(response)
                console.stop()
                with contextlib.suppress(aiohttp.ClientPayloadError):
                    while await response.content.readline():
                        pass


async def test_a_stream_that_begins_while_the_router_is_away_shows_the_list_once_it_answers(
    viewer, client, monkeypatch
):
    await client.flows.apply([flow("later")])
    monkeypatch.setattr(live, "LOAD_SECONDS", 0.0)
    async with asyncio.timeout(PATIENCE), viewer.session.get("/executions/stream?flow=later") as response:
        assert response.status == 200
        assert [await response.content.readline() for _ in range(3)] == [b"event: away\n", b"data:\n", b"\n"]
        monkeypatch.undo()
        assert "No execution of" in await next_event(response)


async def test_a_condition_that_is_none_begins_no_stream(viewer):
    assert (await viewer.get("/executions/stream?status=broken")).status == 400


async def test_switched_off_there_is_no_stream_and_no_htmx(viewer):
    text = (await viewer.get("/executions?live=off")).text
    assert "/executions/stream" not in text
    assert "htmx.min.js" not in text


async def test_rows_that_appear_leave_the_focus_where_it_is(tab, router, client):
    await client.flows.apply([flow("focused")])
    await client.flows.pause("focused")
    ids = [await client.ingest("focused", {}) for _ in range(2)]
    await log_in(tab, router.token("view"))
    await tab.goto("/executions?flow=focused")
    await tab.keyboard.press("j")
    newer = await client.ingest("focused", {})
    await tab.get_by_role("link", name=newer).wait_for()
    await tab.keyboard.press("j")
    await tab.keyboard.press("Enter")
    await tab.wait_for_url(f"**/executions/{ids[0]}")


async def test_the_page_of_an_execution_follows_it_until_it_ends(tab, router, client):
    await client.flows.apply([flow("followed")])
    execution_id = await client.ingest("followed", {})
    await log_in(tab, router.token("admin"))
    await tab.goto(f"/executions/{execution_id}")
    await tab.locator(".status.pending").wait_for()
    await tab.evaluate("document.title = 'not reloaded'")
    async with attached(router, credit=10) as runner:  # other tests left executions, too
        assignments = []
        while not (own := [each for each in assignments if execution_id.encode() in each.event]):
            assignments += await runner.assignments(1)
        await tab.locator(".status.running").wait_for()
        assert await tab.title() == "not reloaded"  # a form on the page may be open
        await runner.complete(own[0], b'{"by": "itself"}')
        await tab.get_by_text('"by": "itself"').wait_for()
    assert await tab.locator("[hx-trigger]").count() == 0


async def test_the_page_of_an_execution_says_that_it_is_not_updated(chrome, console, router, client):
    await client.flows.apply([flow("unanswered")])
    execution_id = await client.ingest("unanswered", {})
    context = await chrome.new_context(base_url=f"http://{console.address}")  # it complains of the statuses
    page = await context.new_page()
    await log_in(page, router.token("view"))
    await page.goto(f"/executions/{execution_id}")
    for status, text in ((503, "The router does not answer"), (401, "session has ended")):
        await page.route("**/progress*", partial(answer, status))
        await page.get_by_text(text).wait_for()
        await page.evaluate("() => new Promise(requestAnimationFrame)")
        assert text in await page.locator("#live-state").inner_text()
        await page.unroute("**/progress*")
    await page.locator("#live-state:empty").wait_for(state="attached")
    await context.close()


async def test_the_parts_that_change_are_those_of_the_page(viewer, client):
    await client.flows.apply([flow("parts")])
    path = f"/executions/{await client.ingest('parts', {})}"
    for view in ("", "?view=timeline", "?view=journal", "?view=trace"):
        page = await viewer.get(path + view)
        [update] = map(unescape, re.findall(r'hx-get="([^"]*)"', page.text))
    parts = await viewer.get(update)
    assert (parts.status, "HX-Refresh" in parts.headers) == (200, False)
    assert '<span id="status" hx-swap-oob="true">' in parts.text
    await client.executions.suspend(path.rpartition("/")[2])
    assert (await viewer.get(update)).headers["HX-Refresh"] == "true"
    assert (await viewer.get("/executions/evt_none/progress")).status == 404
