"""Who may see and do what: logins, sessions, origins, roles."""

from __future__ import annotations

import asyncio

import orjson
import pytest
import pytest_asyncio
from support.consoles import running_console
from support.patience import PATIENCE
from support.routers import flow

from admin.security import router_clients, sessions
from flowhook.security.tokens import TokenScope, create_token, revoke_token

pytestmark = pytest.mark.asyncio(loop_scope="session")

PAGES = [
    "/flows",
    "/flows/x",
    "/executions",
    "/executions/x",
    "/faults",
    "/jobs",
    "/jobs/new",
    "/jobs/x",
    "/rejections",
    "/requests",
    "/rejections/x",
    "/secrets",
    "/cluster",
    "/apply",
]


async def test_signed_out_the_console_sends_to_the_login(browser):
    answer = await browser.get("/")
    assert (answer.status, answer.headers["Location"]) == (303, "/login")


@pytest.mark.parametrize("path", PAGES)
async def test_no_page_is_shown_without_a_login(browser, path):
    answer = await browser.get(path)
    assert (answer.status, answer.headers["Location"]) == (303, f"/login?next={path.replace('/', '%2F')}")
    assert answer.text == ""


@pytest.mark.parametrize("path", [*PAGES, "/openapi.json", "/nope", "/executions/x/body"])
async def test_the_api_answers_nobody_without_a_token(browser, path):
    answer = await browser.get(f"/api{path}")
    assert (answer.status, answer.headers["Content-Type"]) == (401, "application/problem+json")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="flowhook"'


async def test_a_login_sets_a_cookie_that_no_script_and_no_other_site_gets(browser, router):
    answer = await browser.log_in(router.token("admin"))
    assert answer.headers["Location"] == "/"
    cookie = answer.headers["Set-Cookie"]
    for attribute in ("HttpOnly", "SameSite=Strict", "Path=/", "Max-Age="):
        assert attribute in cookie
    assert "Secure" not in cookie
    assert router.token("admin") not in cookie
    assert (await browser.get("/flows")).status == 200


@pytest.mark.parametrize("headers", [{"X-Forwarded-Proto": "https"}, {"Origin": "https://HOST"}])
async def test_under_tls_the_cookie_is_secure(browser, console, router, headers):
    headers = {name: value.replace("HOST", console.address) for name, value in headers.items()}
    answer = await browser.request("POST", "/login", data={"token": router.token("admin")}, headers=headers)
    assert answer.status == 303
    assert "Secure" in answer.headers["Set-Cookie"]


async def test_a_login_leads_to_the_page_that_was_asked_for(browser, router):
    answer = await browser.request("POST", "/login?next=%2Fcluster", data={"token": router.token("view")})
    assert answer.headers["Location"] == "/cluster"


@pytest.mark.parametrize("target", ["https://evil.example", "//evil.example", "/\\evil.example", "evil"])
async def test_a_login_leads_nowhere_else(browser, router, target):
    answer = await browser.request("POST", "/login", params={"next": target}, data={"token": router.token("view")})
    assert answer.headers["Location"] == "/"


@pytest.mark.parametrize(
    ("token", "status"), [("fhk_unknown", 401), ("", 400), ("snow ☃", 401), ("x" * 600, 401), ("a\nb", 401)]
)
async def test_a_token_that_is_none_begins_no_session(console, token, status):
    async with console.browser() as browser:
        answer = await browser.request("POST", "/login", data={"token": token})
        assert answer.status == status
        assert "Set-Cookie" not in answer.headers
        assert 'name="token"' in answer.text


async def test_a_token_of_an_edge_may_not_log_in(browser, router):
    answer = await browser.request("POST", "/login", data={"token": router.token("edge")})
    assert answer.status == 403
    assert "neither the scope view nor the scope admin" in answer.text


async def test_many_wrong_tokens_are_too_many(router):
    async with running_console(router) as console, console.browser() as browser:
        statuses = [
            (await browser.request("POST", "/login", data={"token": f"fhk_{number}"})).status for number in range(11)
        ]
        assert statuses == [401] * 10 + [429]
        answer = await browser.get("/api/flows", headers={"Authorization": "Bearer fhk_other"})
        assert (answer.status, int(answer.headers["Retry-After"]) > 0) == (429, True)


async def test_the_wrong_tokens_of_others_at_an_address_refuse_no_session(router, monkeypatch):
    monkeypatch.setattr(router_clients, "MAX_CLIENTS", 1)  # each of them takes the place of the session's client
    async with running_console(router) as console, console.browser() as browser:
        await browser.log_in(router.token("view"))
        statuses = [
            (await browser.get("/api/flows", headers={"Authorization": f"Bearer fhk_{number}"})).status
            for number in range(11)
        ]
        assert statuses == [401] * 10 + [429]
        assert (await browser.get("/flows")).status == 200


async def test_a_login_by_a_form_of_another_site_is_refused(browser, router):
    answer = await browser.request(
        "POST", "/login", data={"token": router.token("admin")}, headers={"Origin": "https://evil.example"}
    )
    assert answer.status == 403
    assert "Set-Cookie" not in answer.headers


async def test_a_body_that_is_too_large_is_not_read(console):
    reader, writer = await asyncio.open_connection(*console.address.split(":"))
    writer.write(b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\n")
    assert (await asyncio.wait_for(reader.readline(), PATIENCE)).startswith(b"HTTP/1.1 413 ")
    writer.close()


async def test_logging_out_ends_the_session(operator):
    cookies = {cookie.key: cookie.value for cookie in operator.session.cookie_jar}
    assert (await operator.post("/logout")).headers["Location"] == "/login"
    again = await operator.get("/flows", cookies=cookies)
    assert again.status == 303


async def test_a_viewer_may_log_out(viewer):
    assert (await viewer.post("/logout")).headers["Location"] == "/login"
    assert (await viewer.get("/flows")).status == 303


async def test_a_token_that_is_revoked_ends_its_session(browser, router):
    token = create_token(router.settings.data_dir, "guest", [TokenScope.VIEW])
    await browser.log_in(token)
    assert (await browser.get("/flows")).status == 200
    revoke_token(router.settings.data_dir, "guest")
    for _ in range(2):
        assert (await browser.get("/flows")).headers["Location"] == "/login?next=%2Fflows"


async def test_an_expired_session_is_none(router, monkeypatch):
    async with running_console(router) as console, console.browser() as browser:
        await browser.log_in(router.token("admin"))
        monkeypatch.setattr(sessions, "MAX_IDLE_SECONDS", 0.0)
        assert (await browser.get("/flows")).headers["Location"] == "/login?next=%2Fflows"
        assert (await browser.post("/secrets", {"name": "a", "value": "b"})).headers["Location"] == "/login"
        answer = await browser.get("/executions/stream")
        assert (answer.status, answer.text) == (401, "")


CROSS_SITE = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}


async def test_a_link_of_another_site_does_not_log_out(console, operator):
    async with console.browser() as without_cookie:  # as browsers follow such a link: SameSite=Strict
        answer = await without_cookie.get("/flows?page_size=5", headers=CROSS_SITE)
    assert "Set-Cookie" not in answer.headers
    login = "/login?next=%2Fflows%3Fpage_size%3D5"
    assert (answer.status, f'content="0; url={login}"' in answer.text) == (200, True)
    answer = await operator.get(login)
    assert (answer.status, answer.headers["Location"]) == (303, "/flows?page_size=5")


@pytest.mark.parametrize("path", ["/executions/stream", "/executions?jq=.", "/api/executions", "/executions/x/body"])
async def test_pages_of_other_origins_fetch_and_embed_nothing(viewer, path):
    for site in ("same-site", "cross-site"):
        for mode, dest in (("no-cors", "image"), ("cors", "empty"), ("navigate", "iframe")):
            headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": dest}
            answer = await viewer.get(path, headers=headers)
            assert (answer.status, "ORIGIN_FOREIGN" in answer.text) == (403, True)


async def test_pages_of_the_same_site_may_link_here(viewer):
    headers = {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert (await viewer.get("/executions", headers=headers)).status == 200


async def test_a_login_ends_the_session_that_the_browser_had(browser, router):
    await browser.log_in(router.token("admin"))
    before = {cookie.key: cookie.value for cookie in browser.session.cookie_jar}
    await browser.log_in(router.token("view"))
    browser.session.cookie_jar.clear()
    assert (await browser.get("/flows", cookies=before)).status == 303


async def test_the_login_says_that_the_session_has_ended(console, router, monkeypatch):
    async with console.browser() as browser:
        assert "has ended" not in (await browser.get("/login?next=/cluster")).text
        await browser.log_in(router.token("view"))
        monkeypatch.setattr(sessions, "MAX_IDLE_SECONDS", 0.0)
        login = (await browser.get("/cluster")).headers["Location"]
        assert "Your session has ended: log in again." in (await browser.get(login)).text


async def test_an_open_live_list_does_not_prolong_a_session(router, monkeypatch):
    async with running_console(router) as console, console.browser() as browser:
        await browser.log_in(router.token("view"))
        async with asyncio.timeout(PATIENCE), browser.session.get("/executions/stream") as response:
            await response.content.readline()
            monkeypatch.setattr(sessions, "MAX_IDLE_SECONDS", 1.0)
            text = await response.text()
            assert "Your session has ended" in text
            assert text.endswith("event: ended\ndata:\n\n")


async def test_a_page_that_updates_itself_does_not_prolong_a_session(browser, router, monkeypatch):
    await browser.log_in(router.token("view"))
    used, find = [], sessions.LoginSessions.find

    def observed(*values, use=True):
        used.append(use)
        return find(*values, use=use)

    monkeypatch.setattr(sessions.LoginSessions, "find", observed)
    by_htmx = {"HX-Request": "true"}
    assert (await browser.get("/jobs", headers=by_htmx)).status == 200
    assert (await browser.get("/jobs/x/progress", headers=by_htmx)).status == 404
    assert (await browser.get("/jobs")).status == 200
    assert used == [False, False, True]
    browser.session.cookie_jar.clear()
    answer = await browser.get("/jobs", headers=by_htmx)
    assert (answer.status, answer.body) == (401, b"")


class TestForms:
    """A form counts only if a page of this session sent it."""

    @pytest_asyncio.fixture(loop_scope="session")
    async def paused(self, client):
        await client.flows.apply([flow("forms")])
        await client.flows.resume("forms")

        async def paused():
            return (await client.flows.get("forms")).paused

        return paused

    async def test_one_of_this_session_is_performed(self, operator, paused):
        answer = await operator.post("/flows/forms/pause")
        assert (answer.status, answer.headers["Location"]) == (303, "/flows/forms")
        assert await paused()

    @pytest.mark.parametrize("token", ["", "wrong", "☃"])
    async def test_one_without_the_csrf_token_is_refused(self, operator, paused, token):
        answer = await operator.request("POST", "/flows/forms/pause", data={"csrf_token": token})
        assert answer.status == 403
        assert not await paused()

    async def test_the_csrf_token_of_another_session_is_none(self, operator, viewer, paused):
        await viewer.get("/flows")
        answer = await operator.request("POST", "/flows/forms/pause", data={"csrf_token": viewer.csrf_token})
        assert answer.status == 403
        assert not await paused()

    @pytest.mark.parametrize(
        "headers", [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}]
    )
    async def test_one_of_another_origin_is_refused_even_with_the_token(self, operator, paused, headers):
        answer = await operator.post("/flows/forms/pause", headers=headers)
        assert answer.status == 403
        assert not await paused()

    async def test_one_of_this_origin_is_performed(self, operator, console, paused):
        headers = {"Origin": f"http://{console.address}", "Sec-Fetch-Site": "same-origin"}
        assert (await operator.post("/flows/forms/pause", headers=headers)).status == 303
        assert await paused()

    async def test_a_viewer_changes_nothing(self, viewer, paused):
        await viewer.get("/flows/forms")
        answer = await viewer.post("/flows/forms/pause")
        assert answer.status == 403
        assert not await paused()

    async def test_a_viewer_is_shown_no_buttons(self, viewer, operator, paused):
        assert "/flows/forms/pause" not in (await viewer.get("/flows/forms")).text
        assert "/flows/forms/pause" in (await operator.get("/flows/forms")).text

    async def test_a_get_changes_nothing(self, operator, paused):
        assert (await operator.get("/flows/forms/pause")).status == 404
        assert not await paused()


class TestApi:
    async def test_a_viewers_token_reads_and_does_not_write(self, browser, client, router):
        await client.flows.apply([flow("api")])
        headers = {"Authorization": f"Bearer {router.token('view')}"}
        assert (await browser.get("/api/flows/api", headers=headers)).status == 200
        answer = await browser.request("POST", "/api/flows/api/pause", headers=headers)
        assert (answer.status, orjson.loads(answer.body)["reason"]) == (403, "SCOPE_MISSING")
        assert not (await client.flows.get("api")).paused

    async def test_an_admins_token_writes(self, browser, client, router):
        await client.flows.apply([flow("api")])
        headers = {"Authorization": f"Bearer {router.token('admin')}"}
        answer = await browser.request("POST", "/api/flows/api/pause", headers=headers)
        assert (answer.status, orjson.loads(answer.body)["paused"]) == (200, True)
        assert (await browser.request("POST", "/api/flows/api/resume", headers=headers)).status == 200

    @pytest.mark.parametrize("value", ["Bearer", "Basic eDp5", "Bearer fhk_unknown", "Bearer a b"])
    async def test_another_token_is_none(self, browser, value):
        answer = await browser.get("/api/flows", headers={"Authorization": value})
        assert answer.status == 401

    async def test_bytes_of_a_stranger_are_not_parsed(self, browser):
        headers = {"Authorization": "Bearer fhk_unknown", "Content-Type": "application/json"}
        answer = await browser.request("POST", "/api/flows", data=b"{", headers=headers)
        assert answer.status == 401

    async def test_a_session_needs_the_csrf_token_to_write(self, operator, client):
        await client.flows.apply([flow("api")])
        assert (await operator.get("/api/flows/api")).status == 200
        answer = await operator.request("POST", "/api/flows/api/pause")
        assert (answer.status, orjson.loads(answer.body)["reason"]) == (403, "CSRF_TOKEN_INVALID")
        answer = await operator.request("POST", "/api/flows/api/resume", headers={"X-CSRF-Token": operator.csrf_token})
        assert answer.status == 200

    async def test_a_viewers_session_does_not_write(self, viewer, client):
        await client.flows.apply([flow("api")])
        answer = await viewer.request("POST", "/api/flows/api/pause", headers={"X-CSRF-Token": viewer.csrf_token})
        assert answer.status == 403


@pytest.mark.parametrize("path", ["/login", "/flows", "/executions", "/cluster", "/flows/unknown", "/api/flows"])
async def test_no_response_permits_inline_scripts_or_frames(operator, path):
    headers = (await operator.get(path)).headers
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert (headers["X-Content-Type-Options"], headers["Cache-Control"]) == ("nosniff", "no-store")


async def test_pages_have_no_inline_script_or_style(operator):
    for path in ("/login", "/flows", "/executions", "/rejections", "/secrets", "/cluster"):
        text = (await operator.get(path)).text
        assert "<script>" not in text
        assert "<style" not in text
        assert " style=" not in text
        assert " on" not in [part[:3] for part in text.split("<")]
