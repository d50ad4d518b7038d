"""Two executions side by side: on the page and by the API."""

from __future__ import annotations

import asyncio
import re
from functools import partial
from html import unescape

import orjson
import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from support.browsers import log_in
from support.jobs import until
from support.routers import flow
from support.runners import attached

pytestmark = pytest.mark.asyncio(loop_scope="session")

SCRIPT = "<script>alert(1)</script>"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def ids(router, client):
    """Two executions that differ in everything, a replay of the first one, and two whose bodies are no JSON."""
    await client.flows.apply([flow("compared")])
    found = {}
    async with attached(router, credit=5) as runner:

        async def run(name, body, output, **event):
            found[name] = await client.ingest("compared", body, **event)
            [assignment] = await runner.assignments(1)
            await runner.complete(assignment, output)

        await run("first", b'{"n": 1.0, "html": "a"}', b'{"total":1.0}', headers=[("x-note", "one")])
        html = orjson.dumps({"n": 1, "html": SCRIPT, SCRIPT: 1})
        await run("second", html, b'{"total":1}', headers=[("x-note", SCRIPT)])
        replay = await client.executions.replay(found["first"])
        [assignment] = await runner.assignments(1)
        await runner.complete(assignment, b'{"total":1.0}')
        found["replay"] = replay.id
        await run("text", f"a\n{SCRIPT}\nc".encode(), b"1", content_type="text/plain")
        await run("binary", b"\xff\xfe", b"1", content_type="application/octet-stream")
    return found


async def test_differences_are_shown_as_text(viewer, ids):
    page = await viewer.get(f"/executions/{ids['first']}/diff?with={ids['second']}")
    assert page.status == 200
    assert "<script>" not in page.text
    text = unescape(page.text)
    for part in ("<del><code>1.0</code></del>", "<ins><code>1</code></ins>", f"/{SCRIPT.replace('/', '~1')}", "x-note"):
        assert part in text, part


async def test_durations_have_a_unit(viewer, client, ids):
    pending = await client.ingest("compared", {})
    page = await viewer.get(f"/executions/{ids['first']}/diff?with={pending}")
    await client.executions.cancel(pending)  # or the runner of another test would get it
    assert re.search(r'<th scope="row">duration</th>\s*<td class="wide"><del>[\d.]+ m?s</del></td>', page.text)


async def test_text_and_bytes_are_compared_too(viewer, ids):
    page = await viewer.get(f"/executions/{ids['text']}/diff?with={ids['first']}")
    assert "<del>-&lt;script&gt;alert(1)&lt;/script&gt;</del>" in page.text
    page = await viewer.get(f"/executions/{ids['text']}/diff?with={ids['binary']}")
    assert "They differ from byte 0 on" in page.text
    page = await viewer.get(f"/executions/{ids['first']}/diff?with={ids['replay']}")
    assert "The same: 23 bytes" in page.text


async def test_a_form_asks_for_the_other_one_and_suggests_what_was_replayed(viewer, ids):
    for name, suggested in (("replay", ids["first"]), ("first", ids["replay"]), ("second", "")):
        page = await viewer.get(f"/executions/{ids[name]}/diff")
        assert re.search(r'name="with" value="([^"]*)"', page.text)[1] == suggested


async def test_earlier_executions_of_the_flow_are_offered(viewer, router, client):
    await client.flows.apply([flow("earlier")])
    found = []
    async with attached(router, credit=3) as runner:
        for outcome in ("completed", "faulted", "faulted"):
            found.append(await client.ingest("earlier", {}))
            [assignment] = await runner.assignments(1)
            if outcome == "completed":
                await runner.complete(assignment, b"1")
            else:
                error = {"type": "about:blank", "status": 500, "title": "No", "instance": "/do/0/keep"}
                await runner.settle({"lease": assignment.lease, "faulted": error})
        for execution_id in found:
            await until(partial(client.executions.get, execution_id), lambda found: found.execution.status.ended)
    for offered, execution_id in (((), found[0]), (found[:1], found[1]), ((found[1], found[0]), found[2])):
        page = await viewer.get(f"/executions/{execution_id}/diff")
        assert re.findall(r'href="[?]with=(\w+)"', page.text) == list(offered)
    page = await viewer.get(f"/executions/{found[2]}/diff?with={found[0]}")
    assert page.status == 200


async def test_what_can_not_be_compared_is_refused(viewer, ids):
    path = f"/executions/{ids['first']}/diff"
    assert (await viewer.get(f"{path}?with=evt_00000000000000000000000000")).status == 404
    assert (await viewer.get(f"/executions/nope/diff?with={ids['first']}")).status == 404
    answer = await viewer.get(f"{path}?with={ids['second']}&other=1")
    assert (answer.status, "write with" in answer.text) == (400, True)


async def test_the_api_needs_the_other_one(browser, router, ids):
    headers = {"Authorization": f"Bearer {router.token('view')}"}
    answer = await browser.get(f"/api/executions/{ids['first']}/diff", headers=headers)
    assert (answer.status, orjson.loads(answer.body)["detail"]) == (400, "with: Field required")
    answer = await browser.get(f"/api/executions/{ids['first']}/diff?with={ids['second']}", headers=headers)
    found = orjson.loads(answer.body)
    assert found["diff"]["body"]["differences"][0] == {"kind": "changed", "path": "/n", "first": "1.0", "second": "1"}


async def test_comparisons_wait_for_their_turn(viewer, client, ids):
    large = b"[" + b"1," * 150_000 + b"1]"
    first = await client.ingest("compared", large)
    second = await client.ingest("compared", large.replace(b"1", b"2"))
    answers = await asyncio.gather(*(viewer.get(f"/executions/{first}/diff?with={second}") for _ in range(6)))
    assert {answer.status for answer in answers} == {200}


async def test_a_person_compares_two_executions_on_a_small_screen(tab, router, ids):
    await log_in(tab, router.token("view"))
    await tab.goto(f"/executions/{ids['first']}/diff")
    await tab.get_by_label("with").fill(ids["second"])
    await tab.get_by_role("button", name="Compare").click()
    await tab.get_by_role("rowheader", name="/total changed").wait_for()
    assert await tab.evaluate("document.documentElement.scrollWidth") <= 360
    assert (await Axe().run(tab)).response["violations"] == []
    await tab.goto(f"/executions/{ids['text']}/diff?with={ids['binary']}")
    assert await tab.evaluate("document.documentElement.scrollWidth") <= 360
