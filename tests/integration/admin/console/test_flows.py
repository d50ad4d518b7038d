"""The list of flows with their numbers, the first steps, and the secrets of flows."""

from __future__ import annotations

import asyncio
import gzip
import re
import time
from html import unescape

import orjson
import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from support.browsers import log_in
from support.consoles import fresh_console
from support.patience import PATIENCE
from support.routers import flow
from support.runners import attached

from flowhook.client import channel
from flowhook.errors import InvalidFlowError
from flowhook.v1 import cluster_service_pb2, envelope_pb2, ingest_service_pb2
from flowhook.v1.cluster_service_pb2_grpc import ClusterServiceStub
from flowhook.v1.ingest_service_pb2_grpc import IngestServiceStub

pytestmark = pytest.mark.asyncio(loop_scope="session")

UNSIGNED = b"webhook: {auth: none}\n"
SIGNED = b"""
webhook:
  auth: {hmac: {secrets: [fresh, stale], header: X-Signature}}
use: {secrets: [token]}
"""
ROW = re.compile(r"<tr id=[^>]*>\s*<th scope=\"row\"><a href=\"/flows/([^\"]+)\">.*?</tr>", re.DOTALL)


def rows(text):
    """Rows of the table by flow ID, as text without tags."""
    return {
        match[1]: re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", match[0]))).strip()
        for match in ROW.finditer(text)
    }


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shop(router, client):
    """A flow with executions that completed, faulted and are pending; a paused one; one whose secrets are missing."""
    await client.flows.apply([flow("shop", UNSIGNED), flow("shop-paused"), flow("shop-signed", SIGNED)])
    await client.flows.pause("shop-paused")
    await client.secrets.set("stale", b"s")
    for _ in range(8):
        await client.ingest("shop", {})
    async with attached(router, credit=4) as runner:
        done, *broken = await runner.assignments(4)
        await runner.complete(done)
        for assignment in broken:
            await runner.fault(assignment)


async def test_a_flow_that_is_silent_is_marked_in_the_list_and_on_its_page(tmp_path):
    async with fresh_console(tmp_path) as (_, client, browser):
        await client.flows.apply([flow("shop", b"webhook: {auth: none, expect: {every: PT1S}}\n"), flow("other")])
        async with asyncio.timeout(PATIENCE):
            while not (found := rows((await browser.get("/flows?state=silent")).text)):
                await asyncio.sleep(0.05)
        assert list(found) == ["shop"]
        assert "active silent" in found["shop"]
        page = (await browser.get("/flows/shop")).text
        assert re.search(r"none stored <span class=\"bad\">silent since .*</span>, longer than it expects", page)
        assert "silent" not in rows((await browser.get("/flows?name=other")).text)["other"]


@pytest.mark.usefixtures("shop")
class TestList:
    async def test_each_flow_shows_its_state_rate_errors_queue_and_secrets(self, viewer):
        answer = await viewer.get("/flows?name=shop")
        shown = rows(answer.text)
        assert list(shown) == ["shop", "shop-paused", "shop-signed"]
        assert "1.6/min" in shown["shop"]
        assert "8 accepted" in shown["shop"]
        assert "3 75.0 %" in shown["shop"]
        assert re.search(r" 4 oldest (\d+ s ago|now)", shown["shop"])
        assert "paused" in shown["shop-paused"]
        assert "needs fresh , token" in shown["shop-signed"]
        assert 'href="/secrets?name=fresh#value"' in answer.text
        assert "8 accepted, at most" in answer.text

    async def test_conditions_stand_in_the_url(self, viewer):
        for query, expected in [
            ("name=shop&state=paused", ["shop-paused"]),
            ("name=shop&state=failing", ["shop"]),
            ("name=shop&state=needs_secret", ["shop-signed"]),
            ("name=signed&state=", ["shop-signed"]),
            ("name=nothing", []),
        ]:
            assert list(rows((await viewer.get(f"/flows?{query}")).text)) == expected, query

    @pytest.mark.parametrize(
        ("query", "what"),
        [
            ("state=broken", "'paused', 'failing', 'needs_secret' or 'silent'"),
            ("stat=paused", "write name, state"),
            ("live=perhaps", "on or off"),
            ("page_size=9", "no page_size"),
            ("name=a&name=b", "given once"),
            (f"name={'x' * 128}", "127"),
        ],
    )
    async def test_a_condition_that_is_none_is_refused_with_those_there_are(self, viewer, query, what):
        for path in ("/flows", "/stream/flows"):
            if "live" in query and "stream" in path:
                continue
            answer = await viewer.get(f"{path}?{query}")
            assert answer.status == 400
            assert what in unescape(answer.text)

    async def test_the_api_has_the_same_numbers(self, viewer):
        listed = orjson.loads((await viewer.get("/api/flows?name=shop&state=failing")).body)
        [shop] = listed["flows"]
        numbers = orjson.loads((await viewer.get("/api/flows/shop/statistics")).body)
        assert shop["numbers"] == numbers
        assert (shop["id"], numbers["faulted_in_hour"], numbers["error_share"]) == ("shop", 3, 0.75)
        assert len(numbers["accepted"]) == 60
        assert sum(numbers["accepted"]) == numbers["accepted_in_hour"] == 8
        assert numbers["oldest_pending_at"] < numbers["last_event_at"]
        assert (await viewer.get("/api/flows/nobody/statistics")).status == 404

    async def test_the_page_of_a_flow_has_its_numbers_but_that_of_an_old_revision_has_not(self, viewer, client):
        text = re.sub(r"<[^>]*>", "", (await viewer.get("/flows/shop")).text)
        assert re.search(r"8 accepted, 1 completed, 3 faulted \(75.0 %\)", text)
        assert re.search(r"4 pending, the next one received .*; 0 running, 0 waiting, 0 suspended", text, re.DOTALL)
        assert "8 accepted" not in (await viewer.get("/flows/shop?revision=1")).text

    async def test_the_list_updates_itself(self, viewer, client):
        text = (await viewer.get("/flows?name=shop")).text
        assert 'hx-sse:connect="/stream/flows?name=shop"' in text
        async with viewer.session.get("/stream/flows?name=shop") as stream:
            first = await stream.content.readuntil(b"\n\n")
            await client.flows.resume("shop-paused")
            second = await stream.content.readuntil(b"\n\n")
        await client.flows.pause("shop-paused")
        before, after = (rows(re.sub(r"(?m)^data: ?", "", each.decode()))["shop-paused"] for each in (first, second))
        assert " paused" in before
        assert " active" in after

    async def test_further_pages_have_no_stream(self, viewer, client):
        await client.flows.apply([flow(f"page-{number:03}") for number in range(103)])
        text = (await viewer.get("/flows?name=page-")).text
        assert len(rows(text)) == 100
        [following] = re.findall(r'href="([^"]*page_token[^"]*)"', text)
        text = (await viewer.get(unescape(following))).text
        assert list(rows(text)) == ["page-100", "page-101", "page-102"]
        assert "hx-sse" not in text


class TestSecrets:
    @pytest.mark.usefixtures("shop")
    async def test_missing_ones_are_first_and_each_shows_its_flows(self, viewer, operator):
        text = (await viewer.get("/secrets")).text
        assert text.index("Needed and not set") < text.index("fresh") < text.index("stale")
        assert text.count('<a href="/flows/shop-signed">') == 3
        assert "Delete" not in text
        text = (await operator.get("/secrets?name=fresh")).text
        assert 'name="name" required maxlength="127" autocomplete="off" value="fresh"' in text
        assert "One flow uses stale (shop-signed)" in text
        assert (await operator.get("/secrets?nam=fresh")).status == 400

    @pytest.mark.usefixtures("shop")
    async def test_the_one_that_matched_last_is_marked(self, router, viewer):
        async with channel.connect(router.target, router.token("edge")) as connection:
            event = envelope_pb2.Event(flow_id="shop-signed", method="GET")
            event.principal.scheme, event.principal.secret = "hmac", "stale"
            await IngestServiceStub(connection).IngestEvents(ingest_service_pb2.IngestEventsRequest(events=[event]))
        text = (await viewer.get("/secrets")).text
        assert re.search(r"shop-signed</a> <span[^>]*>auth, matched last", text)
        uses = orjson.loads((await viewer.get("/api/secrets")).body)
        [stale] = [secret for secret in uses["secrets"] if secret["name"] == "stale"]
        assert stale["matched_at"] == stale["users"][0]["matched_at"] >= uses["matches_since"]
        assert [secret["name"] for secret in uses["missing"]] == ["fresh", "token"]

    async def test_a_name_that_stands_in_the_url_is_text(self, operator, client):
        text = (await operator.get("/secrets?name=%3Cscript%3Ealert(1)%3C/script%3E%22")).text
        assert 'value="&lt;script&gt;alert(1)&lt;/script&gt;&#34;"' in text
        assert "<script>" not in text
        with pytest.raises(InvalidFlowError):  # names in files are no other than those of secrets
            await client.flows.apply([flow("odd", b"use: {secrets: ['<script>']}\n")])


class TestFirstSteps:
    async def test_a_cluster_without_flows_leads_to_an_example(self, tmp_path):
        async with fresh_console(tmp_path) as (router, client, browser):
            text = (await browser.get("/flows")).text
            assert "There are no flows yet" in text
            assert '<a class="button primary" href="/apply">' in text
            assert "hx-sse" not in text
            assert "No flow meets these conditions" in (await browser.get("/flows?name=x")).text

            await client.flows.apply([flow("inner"), flow("signed", SIGNED)])
            assert "flowhook send signed" in (await browser.get("/flows")).text

            async with channel.connect(router.target, router.token("edge")) as connection:
                process = cluster_service_pb2.Process(name="edge-1", role="edge", url="http://hooks.example:8080")
                report = cluster_service_pb2.ReportProcessRequest(process=process)
                await ClusterServiceStub(connection).ReportProcess(report)
            await client.flows.apply([flow("open", UNSIGNED)])
            text = (await browser.get("/flows")).text
            assert "curl -i http://hooks.example:8080/hook/open " in text
            assert 'href="/executions?flow=open"' in text

            await client.ingest("open", {})
            assert "first webhook" not in (await browser.get("/flows")).text


async def test_hundreds_of_flows_are_listed_quickly_and_in_small_pages(tmp_path):
    async with fresh_console(tmp_path) as (_, client, browser):
        await client.flows.apply([flow(f"flow-{number:04}", SIGNED) for number in range(300)])
        for number in range(100):
            await client.ingest(f"flow-{number:04}", {})
        for query in ("", "name=99", "state=needs_secret", "state=failing", "state=paused&name=7"):
            began = time.process_time()  # of the router and the console
            answer = await browser.get(f"/flows?{query}")
            assert answer.status == 200
            assert time.process_time() - began < 1
            assert len(gzip.compress(answer.body)) < 60_000


async def test_a_newcomer_sees_her_first_event_in_the_list(router, client, tab):
    await client.flows.apply([flow("newcomer", UNSIGNED)])
    await log_in(tab, router.token("admin"))
    await tab.goto("/flows?name=newcomer")
    await tab.get_by_role("img", name="nothing in the last hour").wait_for()
    await client.ingest("newcomer", {})
    await tab.get_by_role("img", name="1 accepted").wait_for()


@pytest.mark.usefixtures("shop")
async def test_the_pages_are_readable_on_a_small_screen_and_by_everybody(router, tab):
    await log_in(tab, router.token("admin"))
    for path in ("/flows?name=shop", "/flows/shop", "/secrets", "/cluster"):
        await tab.goto(path)
        assert (await Axe().run(tab)).response["violations"] == [], path
        assert await tab.evaluate("document.documentElement.scrollWidth") <= 360, path
