"""Finding executions: conditions in the URL, as chips and in the form, and conditions in jq."""

from __future__ import annotations

import re
from html import unescape
from urllib.parse import quote

import orjson
import pytest
import pytest_asyncio
from support.browsers import log_in
from support.routers import flow
from support.runners import attached

from router.storage import execution_list

pytestmark = pytest.mark.asyncio(loop_scope="session")

SCRIPT = '"><script>alert(1)</script>'
SEARCH = b"execution: {search: {order: .order, note: .note}}\n"
SHOWN = re.compile(r"<code>(evt_[0-9a-z]{26})</code></a></th>")
CHIP = re.compile(r'<a href="([^"]*)" aria-label="Remove the condition ([^"]*)"')
FAULT = {"type": "https://example.com/errors/declined", "status": 402, "title": "Declined", "instance": "/do/0/pay"}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def sent(client, router):
    """IDs of executions of the flow `found`, the oldest first: the first two faulted, differently."""
    await client.flows.apply([flow("found", SEARCH), flow("apart")])
    ids = [await client.ingest("found", {"order": order, "note": SCRIPT, "total": 100 * order}) for order in range(4)]
    async with attached(router, credit=2) as runner:
        for assignment in await runner.assignments(2):
            first = assignment.event[2:32].decode() == ids[0]
            error = FAULT if first else {"type": "about:blank", "status": 500, "title": "Broken"}
            await runner.settle({"lease": assignment.lease, "faulted": error})
    return ids


async def shown(browser, query):
    answer = await browser.get(f"/executions?live=off&{query}")
    assert answer.status == 200, answer.text
    return SHOWN.findall(answer.text), answer.text


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("", [3, 2, 1, 0]),
        ("attribute=order:2", [2]),
        (f"attribute=order:2&attribute={quote('note:' + SCRIPT)}", [2]),
        ("attribute=order:2&attribute=order:1", []),
        ("error_type=declined", [0]),
        ("error_type=https://example.com/errors/declined&error_task=/do/0/pay&error_status=402", [0]),
        ("error_title=Broken", [1]),
        ("min_attempts=2", []),
        ("since=1h", [3, 2, 1, 0]),
        ("since=2001-01-01&until=2002-01-01T00:00Z", []),
        ("status=faulted&status=completed&unresolved=true", [1, 0]),
        ("jq=.total+%3E+100", [3, 2]),
        ("jq=.total+%3E+100&status=faulted", []),
    ],
)
async def test_conditions_in_the_url_hold_on_the_page_and_in_the_api(viewer, sent, query, numbers):
    found, text = await shown(viewer, f"flow=found&{query}")
    assert found == [sent[number] for number in numbers]
    answer = await viewer.get(f"/api/executions?flow=found&{query}")
    assert [each["id"] for each in orjson.loads(answer.body)["executions"]] == found
    if "jq" in query:
        assert '<small class="quiet">' not in text
    else:
        total = await viewer.get(f"/api/executions/count?flow=found&{query}")
        assert orjson.loads(total.body) == {"count": len(found), "more": False}
        assert f'<small class="quiet">{len(found)}</small>' in text


async def test_each_condition_is_a_link_that_removes_it_and_nothing_else(viewer, sent):
    query = f"flow=found&status=faulted&status=pending&attribute={quote('note:' + SCRIPT)}&since=1h&jq=.order%3C9"
    found, text = await shown(viewer, query)
    assert found == sent[::-1]
    assert "<script>alert" not in text
    chips = {unescape(label): unescape(href) for href, label in CHIP.findall(text)}
    assert list(chips) == ["flow found", "faulted", "pending", f"note = {SCRIPT}", "since 1h", "jq .order<9"]
    assert chips["faulted"].count("status=") == 1
    rest = {label: chip for label, chip in chips.items() if label != "faulted"}
    _, text = await shown(viewer, rest["flow found"].partition("?")[2])
    assert [unescape(label) for _, label in CHIP.findall(text)] == [label for label in chips if label != "flow found"]


async def test_the_form_has_every_condition_and_keeps_those_that_hold(viewer, sent):
    query = "flow=found&attribute=order:2&since=24h&until=2999-01-01&error_type=a&error_task=/b&error_status=402"
    query += f"&error_title=c&min_attempts=7&caused_by={sent[0]}&jq=.d&status=faulted&unresolved=true"
    _, text = await shown(viewer, query)
    for name, value in [
        ("flow", "found"),
        ("attribute", "order:2"),
        ("since", "24h"),
        ("until", "2999-01-01"),
        ("error_type", "a"),
        ("error_task", "/b"),
        ("error_status", "402"),
        ("error_title", "c"),
        ("min_attempts", "7"),
        ("caused_by", sent[0]),
        ("jq", ".d"),
    ]:
        assert re.search(f'<input name="{name}"[^>]* value="{value}"', text), name
    assert 'value="faulted" checked' in text
    assert '<details class="more" open>' in text
    assert '<a href="/executions?' in text
    assert 'aria-current="true">last day</a>' in text


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("attribute=order", "attribute.0: write NAME:VALUE, such as order:4711"),
        ("attribute=:4711", "write NAME:VALUE"),
        ("&".join(f"attribute=a{number}:1" for number in range(9)), "at most 8"),
        ("since=yesterday", "since: write a time such as 2026-11-27T16:00Z, or 15m, 1h or 7d"),
        ("until=999999d", "write a time"),
        ("since=0001-01-01", "`receive_from` must be in the years 1970 to 9999"),
        ("min_attempts=-1", "min_attempts: "),
        ("error_status=x", "error_status: "),
        ("caused_by=4711", "caused_by: write the ID of an execution: an event ID is evt_ and 26 characters"),
        ("jq=.order+%7C", "the expression ends too early"),
        ("jq=env", "can&#39;t read the environment"),
        ("jq=def+f:+f;+f", "it takes more than 2 s of CPU time; does it end?"),
        ("order=4711", "there is no parameter"),
    ],
)
async def test_a_condition_that_is_none_is_refused_with_what_to_write(viewer, sent, query, message):
    for path in ("/executions", "/api/executions"):
        answer = await viewer.get(f"{path}?{query}")
        text = answer.text.replace("'", "&#39;")
        assert (answer.status, message in text) == (400, True), answer.text


async def test_what_nothing_meets_says_what_to_do(viewer, sent):
    assert "No execution of" in (await shown(viewer, "flow=unknown"))[1]
    assert "Remove one above" in (await shown(viewer, "flow=unknown&status=faulted"))[1]
    _, text = await shown(viewer, "flow=found&jq=.order+%3D%3D+9")
    assert "Remove one above" in text
    assert "4 scanned, back to" in text
    assert "that is all" in text


async def test_the_url_has_only_the_conditions_that_were_entered(viewer):
    answer = await viewer.get("/executions?flow=found&attribute=&status=faulted&since=&jq=&live=off")
    assert (answer.status, answer.headers["Location"]) == (303, "/executions?flow=found&status=faulted&live=off")
    assert (await viewer.get("/executions?flow=&jq=")).headers["Location"] == "/executions"
    assert (await viewer.get("/executions?nope=1&flow=")).status == 400


async def test_what_is_under_way_is_not_counted(viewer, sent):
    found, text = await shown(viewer, "flow=found&status=pending")
    assert found == [sent[3], sent[2]]
    assert '<small class="quiet">' not in text


async def test_failures_of_a_condition_are_said(viewer, sent):
    _, text = await shown(viewer, "flow=found&jq=.note+%2B+1")
    assert "The condition failed on 4, first with" in text
    assert "<script>" not in text


async def test_a_list_with_jq_does_not_update_by_itself(viewer, sent):
    answer = await viewer.get("/executions?flow=found&jq=.order")
    assert "/executions/stream" not in answer.text
    assert "Update by itself" not in answer.text
    assert (await viewer.get("/executions/stream?jq=.order")).status == 400


async def test_nobody_evaluates_a_condition_without_a_token(browser):
    assert (await browser.get("/executions?jq=.a")).status == 303
    assert (await browser.get("/api/executions?jq=.a")).status == 401
    unknown = {"Authorization": "Bearer fhk_unknown"}
    assert (await browser.get("/api/executions?jq=nope", headers=unknown)).status == 401


async def test_an_execution_shows_its_attributes_as_links_to_all_that_have_them(viewer, sent):
    answer = await viewer.get(f"/executions/{sent[2]}")
    assert "<script>alert" not in answer.text
    link = re.search(r'<dt>note</dt><dd><a href="([^"]*)">', answer.text)[1]
    found, _ = await shown(viewer, unescape(link).partition("?")[2])
    assert found == sent[::-1]
    detail = orjson.loads((await viewer.get(f"/api/executions/{sent[2]}")).body)
    assert detail["attributes"] == {"note": SCRIPT, "order": "2"}


async def test_a_page_of_a_search_continues_where_the_one_before_ended(viewer, sent):
    headers, token, found = {}, "", []
    for expected in (1, 1, 1):
        answer = await viewer.get(
            f"/api/executions?flow=found&jq=.order&page_size=1&page_token={token}", headers=headers
        )
        page = orjson.loads(answer.body)
        assert len(page["executions"]) == expected
        found += [each["id"] for each in page["executions"]]
        token = page["next_page_token"]
        assert page["scan"]["scanned"] == len(found)
    assert found == sent[:0:-1]
    for wrong in ("1", "x-1", "1-x", "1-" + "9" * 30):
        answer = await viewer.get(f"/api/executions?flow=found&jq=.order&page_token={wrong}")
        assert (answer.status, orjson.loads(answer.body)["reason"]) == (400, "PAGE_TOKEN_INVALID")


async def test_a_list_that_takes_long_shows_what_it_found_and_continues(viewer, sent, monkeypatch):
    monkeypatch.setattr(execution_list, "SCAN_SECONDS", 0)
    monkeypatch.setattr(execution_list, "FIRST_WINDOW", 2)
    found, text = await shown(viewer, "flow=found&error_title=Broken")
    assert found == []
    assert "None so far" in text
    link = unescape(re.search(r'<a href="([^"]*)">Continue</a>', text)[1])
    text = (await viewer.get(link)).text
    assert SHOWN.findall(text) == [sent[1]]


async def test_somebody_narrows_a_list_down_and_removes_a_condition(tab, router, sent):
    await log_in(tab, router.token("view"))
    await tab.goto("/executions?live=off")
    await tab.get_by_label("Flow", exact=True).fill("found")
    await tab.get_by_label("Attribute", exact=True).fill("order:3")
    await tab.get_by_text("More conditions").click()
    await tab.get_by_label("jq on the event").fill(".total > 100")
    await tab.get_by_role("button", name="Show").click()
    await tab.get_by_role("link", name=sent[3]).wait_for()
    assert await tab.locator("#rows tr").count() == 1
    await tab.get_by_role("link", name="Remove the condition order = 3").click()
    await tab.get_by_role("link", name=sent[2]).wait_for()
    assert await tab.locator("#rows tr").count() == 2
    assert await tab.evaluate("document.documentElement.scrollWidth") <= 360
