"""What was typed in a form whose session has ended survives the login, and is performed when its author agrees."""

from __future__ import annotations

import re
from html import unescape

import pytest
from support.browsers import log_in, watched_tab
from support.routers import flow

from admin.console.page import MAX_ESCAPES, MAX_UNSENT, carry

pytestmark = pytest.mark.asyncio(loop_scope="session")

SCRIPT = '"><script>document.title = 1</script>'
HIDDEN = re.compile(r'<input type="hidden" name="(\w+)" value="([^"]*)">')


def hidden(answer):
    return {name: unescape(value) for name, value in HIDDEN.findall(answer.text)}


@pytest.fixture
def origin(console):
    return {"Origin": f"http://{console.address}"}


async def ended(browser):
    """End the session of a browser as time does: the form on its page has the CSRF token of that session."""
    await browser.get("/secrets")
    browser.session.cookie_jar.clear()


async def test_a_file_survives_the_login_and_is_applied_when_its_author_says_so(operator, router, client, origin):
    await ended(operator)
    text = f"# é {SCRIPT}\n" + flow("survivor").decode()
    form = {"document": text.replace("\n", "\r\n"), "reason": SCRIPT}
    answer = await operator.post("/flows", form, headers=origin)
    assert (answer.status, "Your session has ended, and nothing was done" in answer.text) == (401, True)
    assert "Create a flow, or give it a new revision" in answer.text
    carried = hidden(answer)
    assert carried.keys() == {"path", "form"}
    again = await operator.request("POST", "/login/continue", data={**carried, "token": "fhk_wrong"})
    assert (again.status, hidden(again), "fhk_wrong" in again.text) == (401, carried, False)
    shown = await operator.request("POST", "/login/continue", data={**carried, "token": router.token("admin")})
    assert (shown.status, router.token("admin") in shown.text, "<script>" in shown.text) == (200, False, False)
    [typed] = re.findall(r'<textarea [^>]*name="document"[^>]*>\n(.*?)</textarea>', shown.text, re.DOTALL)
    assert unescape(typed) == text
    assert "survivor" not in [each.id async for each in client.flows.list()]
    sent = {**hidden(shown), "document": unescape(typed)}
    assert sent["reason"] == SCRIPT
    answer = await operator.request("POST", "/flows", data=sent, headers=origin)
    assert (answer.status, answer.headers["Location"]) == (303, "/flows/survivor")
    assert (await client.flows.get("survivor")).document.decode() == text


async def test_a_form_of_an_earlier_session_is_shown_to_the_present_one(operator, router, client, origin):
    await client.flows.apply([flow("earlier")])
    await operator.get("/secrets")
    stale = operator.csrf_token
    await operator.log_in(router.token("admin"))  # in another tab
    form = {"csrf_token": stale, "reason": "night shift"}
    answer = await operator.request("POST", "/flows/earlier/pause", data=form, headers=origin)
    assert (answer.status, "Nothing was done yet" in answer.text, stale in answer.text) == (403, True, False)
    assert not (await client.flows.get("earlier")).paused
    assert hidden(answer)["reason"] == "night shift"
    answer = await operator.request("POST", "/flows/earlier/pause", data=hidden(answer), headers=origin)
    assert answer.status == 303
    assert (await client.flows.get("earlier")).paused


async def test_a_form_that_is_shown_again_names_no_field_that_nobody_entered(operator, origin):
    await operator.get("/secrets")
    form = {"csrf_token": "stale", "request_id": "r1", "previewed": "0f1e", "start": "beginning"}
    answer = await operator.request("POST", "/executions/evt_1/replay", data=form, headers=origin)
    assert (answer.status, {**hidden(answer), **form} == hidden(answer) | {"csrf_token": "stale"}) == (403, True)
    assert set(re.findall(r"<dt>([^<]*)</dt>", answer.text)) == {"to", "start"}


async def test_a_viewer_is_asked_for_another_token_and_keeps_the_text(operator, router, origin):
    await ended(operator)
    carried = hidden(await operator.post("/flows", {"document": "typed"}, headers=origin))
    answer = await operator.request("POST", "/login/continue", data={**carried, "token": router.token("view")})
    assert ("may only view" in answer.text, {**carried, **hidden(answer)}["form"]) == (True, carried["form"])
    answer = await operator.request("POST", "/login/continue", data={**carried, "token": router.token("admin")})
    assert hidden(answer)["document"] == "typed"


async def test_the_value_of_a_secret_is_not_repeated(operator, router, client, origin):
    for status in (401, 403):
        if status == 401:
            await ended(operator)
        else:
            await operator.log_in(router.token("admin"))
            operator.csrf_token = "stale"
        answer = await operator.post("/secrets", {"name": "unsent", "value": "hunter2"}, headers=origin)
        assert (answer.status, "hunter2" in answer.text, hidden(answer).get("form")) == (status, False, None)
    assert "unsent" not in [secret.name for secret in await client.secrets.list()]


@pytest.mark.parametrize("headers", [{}, {"Origin": "https://evil.example"}, {"Origin": "null"}])
async def test_what_another_origin_sends_is_never_repeated(operator, console, router, headers):
    await operator.get("/secrets")
    cross = {**headers, "Sec-Fetch-Site": "cross-site"} if headers else {}
    operator.csrf_token = "stale"
    answer = await operator.post("/flows", {"document": "of somebody else"}, headers=cross)
    assert (answer.status, "of somebody else" in answer.text) == (403, False)
    operator.session.cookie_jar.clear()
    answer = await operator.post("/flows", {"document": "of somebody else"}, headers=cross)
    assert (answer.status, answer.headers["Location"], answer.text) == (303, "/login", "")
    carried = {"path": "/flows", "form": carry(b"document=x"), "token": router.token("admin")}
    if headers:
        answer = await operator.request("POST", "/login/continue", data=carried, headers=cross)
        assert (answer.status, "Set-Cookie" in answer.headers) == (403, False)


async def test_a_form_that_is_too_long_is_sent_again_by_reloading(operator, router, origin):
    await ended(operator)
    stale = operator.csrf_token
    form = {"csrf_token": stale, "document": "x" * MAX_UNSENT}
    answer = await operator.request("POST", "/flows", data=form, headers=origin)
    assert (answer.status, "reload this page" in answer.text, len(answer.body) < 10_000) == (401, True, True)
    await operator.log_in(router.token("admin"))
    answer = await operator.request("POST", "/flows", data=form, headers=origin)
    assert (answer.status, form["document"] in answer.text) == (403, True)


@pytest.mark.parametrize(
    "form",
    [
        {"path": "/nope", "form": carry(b"a=1")},
        {"path": "//evil.example/flows", "form": carry(b"a=1")},
        {"path": "/flows", "form": "no base64"},
        {"path": "/flows", "form": carry("é".encode("latin-1") * 3).replace("=", "") + "é"},
        {"path": "/flows", "form": "é" * MAX_ESCAPES},
        {},
    ],
)
async def test_a_login_that_carries_no_form_is_refused(browser, router, form):
    answer = await browser.request("POST", "/login/continue", data={**form, "token": router.token("admin")})
    assert answer.status == 400


async def test_a_login_that_a_browser_sends_again_after_a_logout_opens_no_session(operator, router, origin):
    await ended(operator)
    page = await operator.post("/flows", {"document": "typed"}, headers=origin)
    [button] = re.findall(r'<button name="login" value="(\w+)">', page.text)
    login = {**hidden(page), "token": router.token("admin"), "login": button}
    answer = await operator.request("POST", "/login/continue", data=login, headers=origin)
    assert (answer.status, hidden(answer)["document"], "Set-Cookie" in answer.headers) == (200, "typed", True)
    answer = await operator.request("POST", "/login/continue", data=login, headers=origin)  # a reload
    assert (answer.status, hidden(answer)["document"], "Set-Cookie" in answer.headers) == (200, "typed", False)
    assert (await operator.post("/logout", headers=origin)).status == 303
    answer = await operator.request("POST", "/login/continue", data=login, headers=origin)
    assert (answer.status, "Set-Cookie" in answer.headers, router.token("admin") in answer.text) == (401, False, False)
    assert (await operator.get("/flows")).status == 303
    [another] = re.findall(r'<button name="login" value="(\w+)">', answer.text)
    answer = await operator.request("POST", "/login/continue", data={**login, "login": another}, headers=origin)
    assert (answer.status, hidden(answer)["document"]) == (200, "typed")


async def test_the_address_of_a_login_that_carries_a_form_leads_to_the_login(browser):
    answer = await browser.get("/login/continue")
    assert (answer.status, answer.headers["Location"]) == (303, "/login")


async def test_logging_out_without_a_session_leads_to_the_login(browser, origin):
    answer = await browser.post("/logout", headers=origin)
    assert (answer.status, answer.headers["Location"]) == (303, "/login")


async def test_without_scripts_a_browser_replays_with_what_was_edited_before_the_login(chrome, console, router, client):
    await client.flows.apply([flow("edited-before")])
    execution_id = await client.ingest("edited-before", {"a": 1})
    await client.executions.cancel(execution_id)
    async with watched_tab(chrome, f"http://{console.address}", java_script_enabled=False) as tab:
        await log_in(tab, router.token("admin"))
        page = await tab.context.new_page()  # of `tab`, what the browser logs would fail the test
        await page.goto(f"/executions/{execution_id}/replay")
        await page.get_by_label("edited; only from the beginning").check()
        await page.get_by_label("at the beginning").check()
        await page.get_by_label("Body").fill('{"a": "typed"}\n')
        await page.context.clear_cookies()
        await page.get_by_role("button", name="Show what will run").click()
        await page.get_by_label("Token").fill(router.token("admin"))
        await page.get_by_role("button", name="Log in").click()
        assert await page.get_by_label("body").input_value() == '{"a": "typed"}\n'
        await page.get_by_role("button", name="Send it now").click()
        await page.get_by_role("button", name="Replay").click()
        await page.wait_for_url(lambda url: "/executions/" in url and execution_id not in url)
    replay = await client.executions.get(page.url.rpartition("/")[2])
    assert replay.event.body == b'{"a": "typed"}\n'
