"""The console in a real browser: what only it can tell, such as whether the policy lets htmx do its work."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import orjson
import pytest
from support.browsers import log_in, watched_tab
from support.consoles import running_console
from support.jobs import until
from support.patience import PATIENCE
from support.routers import flow
from support.runners import attached
from support.started_flows import next_assignment

from admin.console.executions import ExecutionStream
from flowhook.errors import UnavailableError

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_an_operator_logs_in_and_sees_an_event_appear_without_reloading(tab, router, client):
    await client.flows.apply([flow("seen")])
    await log_in(tab, router.token("admin"))
    await tab.get_by_role("link", name="Flows", exact=True).click()
    await tab.get_by_role("link", name="seen").click()
    await tab.get_by_role("link", name="Executions", exact=True).last.click()
    await tab.get_by_text("No execution of").wait_for()
    await tab.evaluate("document.title = 'not reloaded'")
    body = b'{"text": "<script>document.title = 1</script>"}'
    execution_id = await client.ingest("seen", body)
    link = tab.get_by_role("link", name=execution_id)
    await link.wait_for()
    assert await tab.title() == "not reloaded"
    await link.click()
    await tab.get_by_text("<script>document.title = 1</script>").first.wait_for()
    assert await tab.title() == f"{execution_id} · Flowhook"


async def test_the_path_of_an_execution_grows_while_it_runs(tab, router, client):
    await client.flows.apply([flow("grows")])
    await log_in(tab, router.token("view"))
    async with attached(router) as runner:
        execution_id = await client.ingest("grows", {})
        assignment = await next_assignment(runner, "grows")
        await tab.goto(f"/executions/{execution_id}")
        assert await tab.locator("svg.path .task").count() == 1
        assert await tab.locator("svg.path .visited").count() == 0
        pointer = await tab.locator("svg.path .task").get_attribute("data-task")
        history = orjson.dumps([[1, pointer, 1_800_000_000_100, 1_800_000_000_900, 1, ""]])
        await runner.checkpoint(assignment, 0, f"{pointer}#0", b"1", history=history)
        await tab.locator("svg.path .visited.completed").get_by_text("800 ms").wait_for()


async def test_a_secret_that_is_needed_is_set_with_two_clicks(tab, router, client):
    needs = flow("needs").rpartition(b"do:")[0] + b"use: {secrets: [needed.key]}\ndo: []"
    await client.flows.apply([needs])
    await log_in(tab, router.token("admin"))
    await tab.goto("/secrets")
    await tab.get_by_role("row", name="needed.key").get_by_role("link", name="Set it").click()
    await tab.wait_for_function("document.activeElement.id === 'value'")
    await tab.keyboard.type("hunter2")
    await tab.keyboard.press("Enter")
    await tab.get_by_text("The secret needed.key was set.").wait_for()


HIDE = """hidden => {
    Object.defineProperty(document, 'hidden', {get: () => hidden, configurable: true});
    document.dispatchEvent(new Event('visibilitychange'));
}"""


async def test_a_hidden_tab_has_no_stream_and_catches_up_when_it_is_shown(tab, router, client):
    await client.flows.apply([flow("hidden")])
    await log_in(tab, router.token("view"))
    ended = asyncio.Event()
    for event in ("requestfailed", "requestfinished"):
        tab.on(event, lambda request: ended.set() if "/executions/stream" in request.url else None)
    async with tab.expect_response("**/executions/stream?*"):
        await tab.goto("/executions?flow=hidden")
    await tab.evaluate(HIDE, True)
    async with asyncio.timeout(PATIENCE):
        await ended.wait()
    execution_id = await client.ingest("hidden", {})
    async with tab.expect_response("**/executions/stream?*"):
        await tab.evaluate(HIDE, False)
    await tab.get_by_role("link", name=execution_id).wait_for()


async def test_a_list_whose_session_ended_meanwhile_leads_to_the_login(tab, router, client):
    await client.flows.apply([flow("ended")])
    await log_in(tab, router.token("view"))
    page = await tab.context.new_page()  # of `tab`, what the browser logs would fail the test
    async with page.expect_response("**/executions/stream?*"):
        await page.goto("/executions?flow=ended")
    await page.context.clear_cookies()
    await page.evaluate(HIDE, True)
    async with page.expect_response("**/executions/stream?*"):
        await page.evaluate(HIDE, False)
    await page.get_by_role("link", name="Log in again").click()
    await page.wait_for_url("**/login?next=%2Fexecutions%3Fflow%3Dended")


async def test_a_list_says_that_the_router_does_not_answer_until_it_does(tab, router, client, monkeypatch):
    load, away = ExecutionStream.load, False

    async def load_unless_away(stream, conditions):
        if away:
            raise UnavailableError("the router does not answer", reason="ROUTER_TIMEOUT")
        return await load(stream, conditions)

    monkeypatch.setattr(ExecutionStream, "load", load_unless_away)
    await client.flows.apply([flow("away")])
    await log_in(tab, router.token("view"))
    async with tab.expect_response("**/executions/stream?*"):
        await tab.goto("/executions?flow=away")
    away = True
    await tab.get_by_text("The router does not answer: trying again.").wait_for()
    away = False
    execution_id = await client.ingest("away", {})
    await tab.get_by_role("link", name=execution_id).wait_for()
    await tab.wait_for_function("document.getElementById('live-state').textContent === ''")


async def test_an_operator_pauses_a_flow_after_a_question(tab, router, client):
    await client.flows.apply([flow("asked")])
    await log_in(tab, router.token("admin"))
    await tab.goto("/flows/asked")
    await tab.get_by_text("Pause …").click()
    await tab.get_by_role("button", name="Pause").click()
    await tab.get_by_role("button", name="Resume").wait_for()
    assert (await client.flows.get("asked")).paused


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        (
            ("text/plain", "Dear Jane  Doe,\n\n  [thank you] {all}"),
            "Dear Jane  Doe,\n\n  [thank you] {all}",
        ),
        (("application/json", '{"n":1.0,"n":12345678901234567890}'), '{\n  "n": 1.0,\n  "n": 12345678901234567890\n}'),
        (("application/xml", "<a><b>two  words</b><c/></a>"), "<a>\n  <b>two  words</b>\n  <c/>\n</a>"),
    ],
)
async def test_a_body_is_indented_as_what_it_is_or_shown_as_it_was_sent(tab, router, client, sent, shown):
    content_type, body = sent
    await client.flows.apply([flow("bodies")])
    execution_id = await client.ingest("bodies", body.encode(), content_type)
    await log_in(tab, router.token("view"))
    await tab.goto(f"/executions/{execution_id}")
    assert await tab.locator("pre").first.text_content() == shown


async def test_no_page_is_wider_than_a_small_screen(tab, router, client):
    await client.flows.apply([flow("narrow")])
    async with attached(router, credit=1) as runner:
        execution_id = await client.ingest("narrow", {}, headers=[("x-" + "n" * 100, b"v" * 500)])
        [assignment] = await runner.assignments(1)
        while execution_id.encode() not in assignment.event:  # that of another test
            await runner.credit(1)
            [assignment] = await runner.assignments(1)
        await runner.checkpoint(assignment, 0, f"/do/0/{'k' * 60}#0", b"1")
        error = {"type": "about:blank", "status": 500, "title": "t" * 200, "detail": "d" * 500}
        await runner.settle({"lease": assignment.lease, "faulted": error})
        await until(lambda: client.executions.get(execution_id), lambda found: found.execution.status.ended)
    await log_in(tab, router.token("admin"))
    execution = f"/executions/{execution_id}"
    own = (
        execution,
        f"{execution}/replay",
        "/flows/narrow",
        "/apply?flow=narrow",
        "/jobs/new?flow=narrow&action=replay",
    )
    for path in ("/flows", "/executions", "/secrets", "/cluster", "/rejections", "/faults", "/jobs", *own):
        await tab.goto(path)
        await tab.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
        assert await tab.evaluate("document.documentElement.scrollWidth") <= 360, path


async def test_the_menu_of_a_small_screen_is_one_line_that_shows_the_present_page(tab, router):
    await log_in(tab, router.token("view"))
    await tab.goto("/audit")
    menu = tab.get_by_role("navigation", name="Pages")
    assert (await menu.bounding_box())["height"] < 50
    header = await tab.locator("header").bounding_box()
    assert header["height"] < 100
    present = await menu.get_by_role("link", name="Audit").bounding_box()
    assert present["x"] + present["width"] <= 360
    await menu.get_by_role("link", name="Cluster").focus()
    for _ in range(8):
        await tab.keyboard.press("Shift+Tab")
    flows = menu.get_by_role("link", name="Flows")
    assert await flows.evaluate("link => link === document.activeElement")
    assert (await flows.bounding_box())["x"] >= 0
    await tab.keyboard.press("Enter")
    await tab.wait_for_url("**/flows")


async def test_a_wide_screen_has_the_menu_at_the_side_and_the_widest_two_columns(tab, router, client):
    await client.flows.apply([flow("wide")])
    execution_id = await client.ingest("wide", {})
    await log_in(tab, router.token("view"))
    await tab.goto(f"/executions/{execution_id}")
    facts, picture = tab.locator("main dl").first, tab.get_by_role("group", name="Path of this execution")
    for width, is_beside in ((1280, False), (2560, True)):
        await tab.set_viewport_size({"width": width, "height": 900})
        menu, main = [await tab.locator(each).bounding_box() for each in ("header", "main")]
        assert menu["x"] + menu["width"] <= main["x"]
        left, right = await facts.bounding_box(), await picture.bounding_box()
        assert (left["x"] + left["width"] <= right["x"]) == is_beside
        assert right["x"] + right["width"] > 0.95 * width


async def test_what_a_list_without_rows_says_is_not_cut_off(tab, router):
    await log_in(tab, router.token("view"))
    for path in ("/executions?flow=none&live=off", "/flows?name=none&live=off"):
        await tab.goto(path)
        words = await tab.locator(".empty").bounding_box()
        assert 0 <= words["x"] < words["x"] + words["width"] <= 360


async def test_a_link_of_another_site_leads_to_its_page_and_does_not_log_out(tab, router, console):
    await log_in(tab, router.token("view"))
    await tab.goto("about:blank")
    await tab.set_content(f'<a href="http://{console.address}/cluster">the cluster</a>')
    await tab.get_by_role("link").click()
    await tab.get_by_role("heading", name="Cluster").wait_for()
    assert tab.url.endswith("/cluster")


async def test_a_live_list_says_that_the_session_has_ended_and_asks_no_more(tab, router, console):
    await log_in(tab, router.token("view"))
    async with tab.expect_response("**/executions/stream*"):
        await tab.goto("/executions")
    other = await tab.context.new_page()
    await other.goto("/flows")
    await other.get_by_role("button", name="Log out").click()
    await tab.get_by_text("Your session has ended").wait_for()
    await tab.get_by_role("link", name="Log in again").click()
    await tab.get_by_label("Token").wait_for()


async def test_a_file_is_checked_seen_as_a_picture_and_applied(tab, router, client):
    await client.flows.apply([flow("drawn")])
    await log_in(tab, router.token("admin"))
    await tab.goto("/flows/drawn")
    await tab.get_by_role("img", name="Flow drawn").wait_for()
    fill = "getComputedStyle(document.querySelector('.diagram .task .box')).stroke"
    assert await tab.evaluate(fill) != "none"
    await tab.get_by_role("link", name="Change").click()
    editor = tab.locator(".code-editor .cm-content")  # the text area until the editor is there
    text = await tab.locator("#document").input_value()
    await editor.fill(text.replace("do:", "doo:"))
    await tab.get_by_role("button", name="Check").click()
    await tab.get_by_role("alert").get_by_role("link").first.click()
    assert "#line-" in tab.url
    await editor.fill(text + "  - another: {wait: PT5M}\n")
    await tab.get_by_role("button", name="Check").click()
    await tab.locator("svg.diagram [data-task$='/another']").wait_for()
    assert await tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await tab.get_by_role("button", name="Apply").click()
    await tab.wait_for_url("**/flows/drawn")
    await tab.get_by_role("link", name="all revisions").click()
    await tab.get_by_text("another: {wait: PT5M}").wait_for()
    assert await tab.evaluate("document.documentElement.scrollWidth <= innerWidth")


async def test_the_link_that_up_prints_logs_in_and_leaves_no_code_behind(chrome, router):
    async with running_console(router, login_code="a-code") as console:
        async with watched_tab(chrome, f"http://{console.address}") as tab:
            await tab.goto("/login#a-code")
            await tab.get_by_role("heading", name="Overview").wait_for()
            await tab.get_by_text("operator").wait_for()
            assert "a-code" not in tab.url
        async with console.browser() as browser:
            again = await browser.request("POST", "/login", data={"code": "a-code"})
            assert again.status == 401
            assert "This link was used before" in again.text


HELP = {
    "/": "Overview",
    "/flows": "Numbers of flows",
    "/flows/helped": "The flow file",
    "/executions": "Finding executions",
    "/faults": "Faults",
    "/jobs": "Bulk jobs",
    "/rejections": "What senders get",
    "/secrets": "Secrets",
    "/cluster": "Processes",
    "/audit": "Audit log",
    "/flows/helped/test": "Test events",
}


async def test_each_page_leads_to_what_explains_it_and_pages_lead_to_one_another(tab, router, client):
    await client.flows.apply([flow("helped")])
    await log_in(tab, router.token("view"))
    for path, heading in HELP.items():
        await tab.goto(path)
        await tab.get_by_role("link", name="Help", exact=True).click()
        await tab.wait_for_url("**/docs/**")
        anchor = tab.url.partition("#")[2]
        shown = tab.locator(f"[id='{anchor}']") if anchor else tab.locator("main h1")
        assert heading in await shown.text_content(), path
    await tab.goto("/docs/readme")
    await tab.locator("main img").first.evaluate("image => image.decode()")
    await tab.locator("main a[href^='/docs/commands']").first.click()
    await tab.wait_for_url("**/docs/commands**")
    assert await tab.evaluate("document.documentElement.scrollWidth") <= 360
    await tab.goto("/docs")
    await tab.get_by_role("link", name="Glossary").click()
    await tab.get_by_role("heading", name="Glossary").wait_for()


async def test_documentation_needs_no_login(tab):
    await tab.goto("/login")
    await tab.get_by_role("link", name="Help", exact=True).click()
    await tab.get_by_role("heading", name="Glossary").wait_for(state="detached")
    assert await tab.locator("main h1").text_content()
    answer = await tab.request.get("/docs/no-such-page")
    assert answer.status == 404
    assert (await tab.request.get("/docs/../../etc/passwd")).status == 404


async def test_an_example_is_a_template_whose_warnings_have_lines(tab, router, client):
    await log_in(tab, router.token("admin"))
    await tab.goto("/apply")
    for path in sorted((Path(__file__).parents[4] / "examples").iterdir()):
        await tab.get_by_role("link", name=path.stem, exact=True).click()
        await tab.wait_for_url(f"**/apply?example={path.stem}")
    await tab.get_by_role("link", name="blog-to-tweet", exact=True).click()
    await tab.get_by_role("button", name="Check").click()
    warnings = tab.locator(".warning")
    await warnings.get_by_text("2 warnings").wait_for()
    line = warnings.get_by_role("link", name=re.compile(r"line \d+")).first
    number = (await line.text_content()).removeprefix("line ")
    assert "secret" in await tab.locator(f"#line-{number} td").text_content()
    colour = await tab.locator(f"#line-{number} + .hint td").last.evaluate("each => getComputedStyle(each).color")
    assert colour != await tab.locator("body").evaluate("each => getComputedStyle(each).color")
