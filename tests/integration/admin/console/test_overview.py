"""The overview, the console's first page: numbers, charts, a table, the first steps."""

from __future__ import annotations

import asyncio
import gzip
import re
from html import unescape

import orjson
import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from support.browsers import log_in, watched_tab
from support.consoles import fresh_console
from support.routers import flow
from support.runners import attached

pytestmark = pytest.mark.asyncio(loop_scope="session")

UNSIGNED = b"webhook: {auth: none}\n"
STAT = re.compile(r'<div class="stat">\s*<dt>([^<]*)</dt>\s*<dd>(.*?)</dd>', re.DOTALL)


def stats(text):
    """The numbers by name, as text without tags."""
    return {
        name: re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", shown))).strip()
        for name, shown in STAT.findall(text)
    }


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def busy(router, client):
    """A flow with executions that completed, faulted and are pending."""
    await client.flows.apply([flow("busy", UNSIGNED)])
    for _ in range(8):
        await client.ingest("busy", {})
    async with attached(router, credit=4) as runner:
        done, *broken = await runner.assignments(4)
        await runner.complete(done)
        for assignment in broken:
            await runner.fault(assignment)


@pytest.mark.usefixtures("busy")
class TestPage:
    async def test_it_has_the_numbers_of_a_flow_and_of_all(self, viewer):
        answer = await viewer.get("/?flow=busy&period=24h")
        shown = stats(answer.text)
        assert (shown["Accepted"], shown["Completed"], shown["Faulted"]) == ("8", "1", "3 75.0 %")
        assert shown["Pending now"].startswith("4 oldest ")
        assert shown["Latency p50"].endswith("s")
        assert "Storage" not in shown
        assert 'aria-current="true">24h</a>' in answer.text
        everything = stats((await viewer.get("/")).text)
        assert int(everything["Accepted"].replace(",", "")) >= 8
        assert everything["Storage"].endswith("iB")
        assert everything["Incidents"].isdigit()
        assert "counted together" in (await viewer.get("/?flow=_other")).text
        assert '<a href="/?flow=busy">Overview</a>' in (await viewer.get("/flows/busy")).text

    async def test_faults_lead_to_the_executions_that_faulted_then(self, viewer):
        text = (await viewer.get("/?flow=busy")).text
        links = {unescape(link) for link in re.findall(r'href="(/executions\?[^"]*)"', text)}
        timed = [link for link in links if "until=" in link]
        assert len(timed) == 1
        for link in links:
            assert (await viewer.get(link)).text.count('<span class="status faulted">') == 3, link

    async def test_the_numbers_stand_in_a_table_too(self, viewer):
        text = (await viewer.get("/?flow=busy")).text
        rows = re.findall(r'<tr><th scope="row">([^<]*)</th>(.*?)</tr>', text)
        assert len(rows) == 60
        assert sorted(rows, reverse=True) == rows
        assert sum(int(re.search(r"<td>(\d+)</td>", cells)[1]) for _, cells in rows) == 8

    async def test_it_is_what_the_api_answers(self, viewer):
        answer = orjson.loads((await viewer.get("/api/overview?flow=busy&period=7d")).body)
        assert (answer["step"], len(answer["points"])) == (7200, 84)
        assert (answer["total"]["accepted"], answer["total"]["faulted"]) == (8, 3)
        assert answer["total"]["storage_bytes"] is None
        assert answer["before"]["latency_p50"] is None

    @pytest.mark.parametrize(
        ("query", "status", "what"),
        [
            ("period=1y", 400, "1h"),
            ("flow=nobody", 404, "nobody"),
            ("flow=a&flow=b", 400, "given once"),
            ("since=1h", 400, "write flow"),
            ("live=perhaps", 400, "on or off"),
            ("flow=%3Cscript%3E", 404, "&lt;script&gt;"),
        ],
    )
    async def test_other_conditions_are_refused(self, viewer, query, status, what):
        for path in ("/", "/stream/overview"):
            answer = await viewer.get(f"{path}?{query}")
            if path == "/":
                assert (answer.status, what in unescape(answer.text) or what in answer.text) == (status, True)
            elif "live" not in query:
                assert answer.status == status

    async def test_the_stream_has_the_numbers(self, viewer):
        assert (
            'hx-sse:connect="/stream/overview?flow=busy&amp;period=24h"'
            in (await viewer.get("/?flow=busy&period=24h")).text
        )
        async with viewer.session.get("/stream/overview?flow=busy") as stream:
            text = ""
            while "</details>" not in text:
                text += (await stream.content.readline()).decode()
        assert stats(re.sub(r"^data: ", "", text, flags=re.MULTILINE))["Accepted"] == "8"


async def test_without_a_flow_or_an_event_it_says_what_to_do_first(tmp_path):
    async with fresh_console(tmp_path) as (_, client, browser):
        text = (await browser.get("/")).text
        assert "There are no flows yet" in text
        assert 'class="chart"' not in text
        await client.flows.apply([flow("open", UNSIGNED)])
        text = (await browser.get("/")).text
        assert "Send your first webhook" in text
        await client.ingest("open", {})
        text = (await browser.get("/")).text
        assert "Send your first webhook" not in text
        assert stats(text)["Accepted"] == "1"


async def test_a_newcomer_sees_the_first_event_arrive(router, client, tab):
    await client.flows.apply([flow("arrives", UNSIGNED)])
    await log_in(tab, router.token("admin"))
    await tab.goto("/?flow=arrives")
    await tab.get_by_text("nothing").first.wait_for(state="attached")
    await client.ingest("arrives", {})
    await tab.locator(".stat", has_text="Accepted").get_by_text("1", exact=True).wait_for()


@pytest.mark.usefixtures("busy")
@pytest.mark.parametrize("width", [360, 768, 1280, 2560])
async def test_it_fits_on_any_screen_and_is_readable_by_everybody(router, console, chrome, width):
    options = {"viewport": {"width": width, "height": 900}, "color_scheme": "dark" if width == 768 else "light"}
    async with watched_tab(chrome, f"http://{console.address}", **options) as tab:
        await log_in(tab, router.token("admin"))
        for path in ("/?live=off", "/?flow=busy&period=30d&live=off"):
            await tab.goto(path)
            await tab.get_by_text("The numbers as a table").click()
            assert (await Axe().run(tab)).response["violations"] == [], path
            assert await tab.evaluate("document.documentElement.scrollWidth") <= width, path
            charts = await tab.locator(".chart").count()
            assert charts == (6 if "flow" in path else 8)


@pytest.mark.usefixtures("busy")
async def test_keys_lead_to_it(router, tab):
    await log_in(tab, router.token("view"))
    await tab.goto("/flows?live=off")
    await tab.keyboard.press("g")
    await tab.keyboard.press("o")
    await tab.get_by_role("heading", name="Overview").wait_for()


async def test_it_costs_little(viewer):
    answers = await asyncio.gather(*(viewer.get(f"/?period={period}") for period in ("1h", "24h", "7d", "30d")))
    assert all(answer.status == 200 for answer in answers)
    assert max(len(gzip.compress(answer.body)) for answer in answers) < 20_000
