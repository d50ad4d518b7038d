"""Test events: signed by the router, sent to a real edge by the admin process, on the page and by the API."""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
import shlex
from asyncio.subprocess import DEVNULL, PIPE
from html import unescape

import orjson
import pytest
import pytest_asyncio
from aiohttp import test_utils, web
from axe_playwright_python.async_playwright import Axe
from jsonschema import Draft202012Validator
from support.browsers import log_in
from support.certificates import Authority
from support.consoles import running_console
from support.reporting_edges import reporting_edge
from support.routers import flow, running_router

from admin.api import openapi
from flowhook.providers import sample_files
from flowhook.security.tokens import TokenScope, create_token

pytestmark = pytest.mark.asyncio(loop_scope="session")

SECRET = "hush-0123456789-abcdefghijklmnopqrst"
HEX_SECRET = "abcdef0123456789" * 4
SCRIPT = "<script>alert(1)</script>"

FLOW = """
document: {{dsl: 1.0.3, namespace: default, name: {name}, version: 1.0.0}}
webhook: {{auth: {auth}}}
do: [{{keep: {{set: {{seen: "${{ . }}"}}}}}}]
"""

SCHEDULE = b"schedule: {cron: '0 3 * * *'}"

HMAC = {"header": "X-Sig", "secret": "hush", "content": "{timestamp}.{body}", "timestamp": {"header": "X-Time"}}
COMPLETE = {
    "github": ({"github": {"secret": "hush"}}, "github/push"),
    "stripe": ({"stripe": {"secret": "hush"}}, "stripe/payment-succeeded"),
    "standard-webhooks": ({"standard-webhooks": {"secret": "hush"}}, "standard-webhooks/user-created"),
    "square": ({"square": {"secret": "hush"}}, "square/payment-created"),
    "linear": ({"linear": {"secret": "hush"}}, "linear/issue-created"),
    "mailgun": ({"mailgun": {"secret": "hush"}}, "mailgun/delivered"),
    "adyen": ({"adyen": {"secret": "hex-hush"}}, "adyen/authorisation"),
    "twilio": ({"twilio": {"secret": "hush"}}, "twilio/message-received"),
    "hmac": ({"hmac": HMAC}, ""),
    "jwt": ({"jwt": {"secret": "hush"}}, ""),
    "none": ("none", ""),
}
"""Flows whose requests the router signs, and a sample for each."""

INCOMPLETE = {
    "basic": ({"basic": {"username": "bank", "secret": "hush"}}, ["--user", "bank:$SECRET"]),
    "api-key": ({"api_key": {"header": "X-Api-Key", "secret": "hush"}}, ["--header", "X-Api-Key: $SECRET"]),
    "gitlab": ({"gitlab": {"secret": "hush"}}, ["--header", "X-Gitlab-Token: $SECRET"]),
}


def document(name, auth):
    return FLOW.format(name=name, auth=orjson.dumps(auth).decode()).encode()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def edge(router):
    async with reporting_edge(router) as url:
        yield url


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def flows(client, edge):
    await client.secrets.set("hush", SECRET.encode())
    await client.secrets.set("hex-hush", HEX_SECRET.encode())
    auths = {name: auth for name, (auth, _) in (COMPLETE | INCOMPLETE).items()}
    await client.flows.apply([document(f"test-{name}", auth) for name, auth in auths.items()])
    key = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    await client.flows.apply(
        [
            document("test-discord", {"discord": {"public_key": key}}),
            document("test-unset", {"github": {"secret": "missing"}}),
            document("test-both", [{"api_key": {"query": "key", "secret": "hush"}}, {"github": {"secret": "hush"}}]),
            document("test-query", {"api_key": {"query": "the key", "secret": "hush"}}),
        ]
    )


def assert_no_secret(*answers):
    for answer in answers:
        for secret in (SECRET, HEX_SECRET):
            assert secret not in answer.text


@pytest.mark.parametrize("name", COMPLETE)
async def test_an_event_is_signed_and_passes_the_edge(operator, client, name, caplog):
    caplog.set_level(logging.DEBUG)
    path = f"/flows/test-{name}/test"
    page = await operator.get(f"{path}?sample={COMPLETE[name][1]}")
    assert page.status == 200
    fields = form_of(page.text)
    answer = await operator.post(path, fields | {"via": "edge"})
    assert "<h2>202 Accepted</h2>" in answer.text, unescape(answer.text)
    [execution_id] = set(re.findall(r'href="/executions/(evt_\w+)"', answer.text))
    detail = await client.executions.get(execution_id)
    assert detail.execution.flow_id == f"test-{name}"
    assert (detail.event.principal and detail.event.principal.scheme) == (None if name == "none" else name)
    assert_no_secret(page, answer)
    assert SECRET not in caplog.text


def form_of(text):
    """Return what a browser sends of the form with the body."""
    areas = dict(re.findall(r'<textarea[^>]* name="(\w+)"[^>]*>\n(.*?)</textarea>', text, re.DOTALL))
    [content_type] = re.findall(r'name="content_type" value="([^"]*)"', text)
    checked = {"new_id": "true"} if re.search(r'name="new_id" value="true" checked', text) else {}
    return {name: unescape(value) for name, value in {**areas, "content_type": content_type}.items()} | checked


class TestCredentials:
    """Kinds whose senders send the secret itself: it does not leave the router."""

    @pytest.mark.parametrize("name", INCOMPLETE)
    async def test_an_event_is_refused_and_the_curl_line_has_a_placeholder(self, operator, name):
        path = f"/flows/test-{name}/test"
        await operator.get(path)
        answer = await operator.post(path, {"body": "{}", "via": "edge"})
        assert answer.status == 400
        assert "CREDENTIAL_NOT_SHARED" in answer.text
        signed = await operator.post(f"{path}/sign", {"body": "{}"})
        [line] = re.findall(r'<pre id="curl"[^>]*>(.*?)</pre>', signed.text, re.DOTALL)
        option, value = INCOMPLETE[name][1]
        arguments = shlex.split(unescape(line))
        assert (option, value) in itertools.pairwise(arguments)
        assert_no_secret(answer, signed)

    async def test_a_key_in_the_query_is_a_placeholder_there(self, operator):
        await operator.get("/flows/test-query/test")
        signed = await operator.post("/flows/test-query/test/sign", {"body": "{}"})
        assert "/hook/test-query?the%20key=" in unescape(signed.text)
        assert "$SECRET" in signed.text
        assert_no_secret(signed)

    async def test_a_kind_that_can_be_signed_is_taken_instead(self, operator):
        await operator.get("/flows/test-both/test")
        answer = await operator.post("/flows/test-both/test", {"body": "{}", "via": "edge"})
        assert "<h2>202 Accepted</h2>" in answer.text
        assert "key=" not in answer.text
        assert_no_secret(answer)


class TestCurl:
    async def test_the_line_sends_the_event_when_a_shell_runs_it(self, operator, client):
        await operator.get("/flows/test-github/test")
        body = '{"it\'s": "`$(touch x)` \\\\ \\"quoted\\" @file"}'
        fields = {"body": body, "headers": "X-GitHub-Event: push\nx-odd: $HOME 'x'", "new_id": "true"}
        signed = await operator.post("/flows/test-github/test/sign", fields)
        [line] = re.findall(r'<pre id="curl"[^>]*>(.*?)</pre>', signed.text, re.DOTALL)
        process = await asyncio.create_subprocess_exec("sh", "-c", unescape(line), stdout=PIPE, stderr=DEVNULL)
        out, _ = await process.communicate()
        if process.returncode == 127:
            pytest.skip("there is no curl")
        detail = await client.executions.get(re.search(rb"evt_\w{26}", out)[0].decode())
        assert detail.event.body == body.encode()
        assert dict(detail.event.headers)["x-odd"] == b"$HOME 'x'"

    async def test_the_page_says_how_long_the_line_is_valid(self, operator):
        await operator.get("/flows/test-stripe/test")
        signed = await operator.post("/flows/test-stripe/test/sign", {"body": '{"id": "x"}'})
        assert "accepted for the next 5.0 min" in signed.text


class TestForm:
    async def test_it_is_filled_from_a_captured_event_whose_text_stays_text(self, operator, client):
        headers = [
            ("x-github-event", "push"),
            ("x-note", SCRIPT),
            ("user-agent", "u"),
            ("x-forwarded-for", "192.0.2.1"),
        ]
        body = b'{"html": "</textarea>' + SCRIPT.encode() + b'", "n": 1.0}'
        execution_id = await client.ingest("test-none", body, headers=headers)
        page = await operator.get(f"/flows/test-github/test?execution={execution_id}")
        assert "<script>" not in page.text
        fields = form_of(page.text)
        assert fields["body"] == body.decode()
        assert fields["headers"] == f"x-github-event: push\nx-note: {SCRIPT}"
        answer = await operator.post("/flows/test-github/test", fields | {"via": "edge"})
        assert "<h2>202 Accepted</h2>" in answer.text
        assert "<script>" not in answer.text

    @pytest.mark.parametrize(
        ("body", "note"), [(b"\xff", "not UTF-8"), (b"a\x00", "zero bytes"), (b"x" * 600_000, "larger than 512 KiB")]
    )
    async def test_a_captured_body_that_no_form_can_hold_is_left_out_with_a_note(self, operator, client, body, note):
        execution_id = await client.ingest("test-none", body, "application/octet-stream")
        page = await operator.get(f"/flows/test-github/test?execution={execution_id}")
        assert (form_of(page.text)["body"], note in page.text) == ("", True)

    async def test_samples_of_the_flows_provider_come_first(self, operator):
        page = await operator.get("/flows/test-stripe/test")
        options = re.findall(r'<option value="([^"]+)"', page.text)
        assert options[0] == "stripe/payment-succeeded"
        assert len(options) == len(sample_files.all_samples())

    async def test_what_was_entered_is_shown_again_with_what_is_wrong(self, operator):
        await operator.get("/flows/test-none/test")
        answer = await operator.post("/flows/test-none/test", {"headers": SCRIPT, "body": SCRIPT, "via": "edge"})
        assert answer.status == 400
        assert "line 1 of the headers" in answer.text
        assert "<script>" not in answer.text
        fields = form_of(answer.text)
        assert (fields["headers"], fields["body"]) == (SCRIPT, SCRIPT)

    @pytest.mark.parametrize(
        ("fields", "reason"),
        [
            ({"headers": "Host: x"}, "HEADER_INVALID"),
            ({"headers": "x y: 1"}, "HEADER_INVALID"),
            ({"headers": "x: a\x7f"}, "HEADER_INVALID"),
            ({"content_type": "a\x00b"}, "HEADER_INVALID"),
            ({"method": "DELETE"}, "METHOD_NOT_ACCEPTED"),
            ({"method": "delete"}, "PARAMETER_INVALID"),
            ({"via": "pigeon"}, "PARAMETER_INVALID"),
            ({"other": "1"}, "PARAMETER_INVALID"),
        ],
    )
    async def test_what_can_not_be_sent_is_refused(self, operator, fields, reason):
        await operator.get("/flows/test-none/test")
        answer = await operator.post("/flows/test-none/test", {"body": "{}", "via": "edge"} | fields)
        assert answer.status == 400
        assert reason in answer.text

    async def test_a_source_that_does_not_exist_is_not_found(self, operator):
        for query in ("sample=github/nope", "execution=evt_00000000000000000000000000"):
            assert (await operator.get(f"/flows/test-none/test?{query}")).status == 404
        assert (await operator.get("/flows/test-none/test?sample=github/push&execution=x")).status == 400
        assert (await operator.get("/flows/nope/test")).status == 404


class TestOutcomes:
    async def test_a_repeated_delivery_is_said_to_be_one(self, operator):
        await operator.get("/flows/test-github/test")
        fields = {"body": "{}", "headers": "X-GitHub-Delivery: d-1", "via": "edge"}
        first = await operator.post("/flows/test-github/test", fields)
        second = await operator.post("/flows/test-github/test", fields)
        third = await operator.post("/flows/test-github/test", fields | {"new_id": "true"})
        assert ["repeated delivery" in answer.text for answer in (first, second, third)] == [False, True, False]
        found = [set(re.findall(r'href="/executions/(evt_\w+)"', answer.text)) for answer in (first, second, third)]
        assert found[0] == found[1] != found[2]

    async def test_an_execution_is_found_although_the_response_does_not_name_it(self, operator, client):
        webhook = b"{auth: none, respond: {body: {ok: true}}}"
        document = FLOW.format(name="test-quiet", auth="none").encode().replace(b"{auth: none}", webhook)
        await client.flows.apply([document])
        await operator.get("/flows/test-quiet/test")
        answer = await operator.post("/flows/test-quiet/test", {"body": '{"find": "me"}', "via": "edge"})
        [execution_id] = set(re.findall(r'href="/executions/(evt_\w+)"', answer.text))
        assert (await client.executions.get(execution_id)).event.body == b'{"find": "me"}'

    async def test_a_refusal_of_the_edge_is_shown(self, operator):
        await operator.get("/flows/test-none/test")
        answer = await operator.post("/flows/test-none/test", {"body": "{", "via": "edge"})
        assert "<h2>400 Bad Request</h2>" in answer.text
        assert "/rejections?flow=test-none" in answer.text

    async def test_what_only_the_sender_can_sign_is_refused_with_what_to_do(self, operator):
        await operator.get("/flows/test-discord/test")
        answer = await operator.post("/flows/test-discord/test", {"body": "{}", "via": "edge"})
        assert answer.status == 400
        assert "only the sender has: send a test event from the sender" in unescape(answer.text)

    async def test_a_secret_that_is_not_set_is_named(self, operator):
        await operator.get("/flows/test-unset/test")
        answer = await operator.post("/flows/test-unset/test", {"body": "{}", "via": "edge"})
        assert answer.status == 400
        assert "secret missing is not set" in answer.text

    async def test_a_flow_that_is_deleted_meanwhile_is_not_found(self, operator, client):
        await client.flows.apply([document("test-deleted", "none")])
        await operator.get("/flows/test-deleted/test")
        await client.flows.delete("test-deleted")
        answer = await operator.post("/flows/test-deleted/test", {"body": "{}", "via": "edge"})
        assert answer.status == 404

    async def test_it_is_sent_over_grpc_on_request(self, operator, client):
        await operator.get("/flows/test-basic/test")
        answer = await operator.post(
            "/flows/test-basic/test", {"body": '{\r\n"a": 1}', "headers": "x-a: b", "via": "grpc"}
        )
        [execution_id] = set(re.findall(r'href="/executions/(evt_\w+)"', answer.text))
        event = (await client.executions.get(execution_id)).event
        assert (event.body, event.principal, event.headers) == (b'{\n"a": 1}', None, (("x-a", b"b"),))

    async def test_a_flow_without_a_webhook_is_started_over_grpc(self, operator, client):
        await client.flows.apply([flow("test-plain")])
        page = await operator.get("/flows/test-plain/test")
        assert 'value="edge"' not in page.text
        answer = await operator.post("/flows/test-plain/test", {"body": "{}", "via": "grpc"})
        [execution_id] = set(re.findall(r'href="/executions/(evt_\w+)"', answer.text))
        assert (await client.executions.get(execution_id)).execution.flow_id == "test-plain"
        refused = await operator.post("/flows/test-plain/test/sign", {"body": "{}"})
        assert (refused.status, "has no webhook" in refused.text) == (400, True)


class TestRights:
    async def test_a_viewer_sends_and_signs_nothing(self, viewer, browser, router):
        page = await viewer.get("/flows/test-none/test")
        assert '<form method="post" action="/flows' not in page.text
        headers = {"Authorization": f"Bearer {router.token('view')}"}
        for path in ("/flows/test-none/test", "/flows/test-none/test/sign"):
            assert (await viewer.post(path, {"body": "{}"})).status == 403
            assert (await browser.request("POST", f"/api{path}", json={}, headers=headers)).status == 403

    async def test_a_form_without_the_sessions_token_is_refused(self, operator):
        for path in ("/flows/test-none/test", "/flows/test-none/test/sign"):
            assert (await operator.request("POST", path, data={"body": "{}"})).status == 403
            foreign = {"Origin": "https://evil.example"}
            assert (await operator.post(path, {"body": "{}"}, headers=foreign)).status == 403

    async def test_a_token_that_may_not_ingest_sends_to_an_edge_and_not_over_grpc(self, router, console):
        token = create_token(router.settings.data_dir, "testing", [TokenScope.ADMIN])
        async with console.browser() as browser:
            await browser.log_in(token)
            assert (await browser.post("/flows/test-none/test", {"body": "{}", "via": "grpc"})).status == 403
            answer = await browser.post("/flows/test-github/test", {"body": "{}", "via": "edge"})
            assert "<h2>202 Accepted</h2>" in answer.text

    async def test_the_api_answers_as_it_is_described_and_without_secrets(self, browser, router):
        headers = {"Authorization": f"Bearer {router.token('admin')}"}
        described = openapi.description()
        for method, path in (("GET", ""), ("POST", ""), ("POST", "/sign")):
            body = {"json": {"body": '{"id": "x"}'}} if method == "POST" else {}
            answer = await browser.request(method, f"/api/flows/test-github/test{path}", headers=headers, **body)
            assert answer.status == 200, answer.text
            operation = described["paths"][f"/api/flows/{{flow_id}}/test{path}"][method.lower()]
            schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
            Draft202012Validator({**schema, "components": described["components"]}).validate(orjson.loads(answer.body))
            assert_no_secret(answer)


async def test_what_is_signed_stands_in_the_audit_log(operator):
    await operator.get("/flows/test-github/test")
    await operator.post("/flows/test-github/test/sign", {"body": "{}", "reason": "a drill"})
    page = await operator.get("/audit?target=test-github&action=FlowService/SignWebhook")
    assert "a drill" in page.text


async def test_an_edge_that_is_away_is_said_to_be(router, client):
    async with (
        running_console(router, public_url="http://127.0.0.1:1") as console,
        console.browser() as browser,
    ):
        await browser.log_in(router.token("admin"))
        answer = await browser.post("/flows/test-none/test", {"body": "{}", "via": "edge"})
        assert answer.status == 503
        assert "no answer from http://127.0.0.1:1" in answer.text
        assert "FLOWHOOK_PUBLIC_URL" in answer.text


async def test_without_an_edge_the_page_says_what_is_missing(tmp_path):
    async with (
        running_router(tmp_path / "data") as router,
        router.client() as client,
        running_console(router) as console,
        console.browser() as browser,
    ):
        await client.flows.apply([document("test-none", "none")])
        await browser.log_in(router.token("admin"))
        answer = await browser.post("/flows/test-none/test", {"body": "{}", "via": "edge"})
        assert (answer.status, "no edge has reported a URL" in answer.text) == (503, True)


async def test_redirects_are_not_followed_and_responses_are_bounded(router):
    async def large(request):
        return web.Response(status=302, headers={"Location": "/x"}, body=b"y" * 200_000)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", large)
    async with (
        test_utils.TestServer(app) as server,
        running_console(router, public_url=f"http://127.0.0.1:{server.port}") as console,
        console.browser() as browser,
    ):
        await browser.log_in(router.token("admin"))
        answer = await browser.post("/flows/test-none/test", {"body": "{}", "via": "edge"})
        assert "<h2>302 Found</h2>" in answer.text
        assert answer.text.count("y" * 65536) == 1
        assert "first 64 KiB" in answer.text


async def test_only_trusted_certificates_are_accepted(router, tmp_path):
    authority = Authority(tmp_path)
    certificate, key = authority.issue("edge")
    async with reporting_edge(router, name="edge-tls", tls_cert_file=certificate, tls_key_file=key) as url:
        for settings, word in [
            ({}, "not trusted"),
            ({"edge_ca_file": authority.ca_file}, "202 Accepted"),
            ({"edge_ca_file": certificate}, "202 Accepted"),
        ]:
            async with running_console(router, public_url=url, **settings) as console, console.browser() as browser:
                await browser.log_in(router.token("admin"))
                answer = await browser.post("/flows/test-none/test", {"body": "{}", "via": "edge"})
                assert word in answer.text, answer.text


class TestBrowser:
    async def test_an_operator_sends_a_providers_sample_and_sees_its_execution(self, tab, router):
        await log_in(tab, router.token("admin"))
        await tab.goto("/flows/test-github")
        await tab.get_by_role("link", name="Send a test event").click()
        await tab.get_by_label("Sample").select_option("github/push")
        await tab.get_by_role("button", name="Fill in").first.click()
        await tab.get_by_text("Written after").wait_for()
        await tab.get_by_role("button", name="Send", exact=True).click()
        await tab.get_by_role("heading", name="202 Accepted").wait_for()
        await tab.get_by_role("status").get_by_role("link").click()
        await tab.wait_for_url("**/executions/evt_*")
        await tab.get_by_text("refs/heads/main").first.wait_for()
        await tab.get_by_text("github hush").first.wait_for()

    async def test_the_form_and_its_results_fit_a_small_screen(self, tab, router):
        await log_in(tab, router.token("admin"))
        for button in ("Show as curl", "Send"):
            await tab.goto("/flows/test-github/test?sample=github/push")
            await tab.get_by_role("button", name=button, exact=True).click()
            await tab.locator("#curl").wait_for(state="attached")
            await tab.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
            assert await tab.evaluate("document.documentElement.scrollWidth") <= 360
            assert (await Axe().run(tab)).response["violations"] == []


@pytest.mark.parametrize("name", [*sorted((COMPLETE | INCOMPLETE).keys() - {"adyen"}), "discord", "both"])
async def test_the_page_says_at_once_what_can_be_sent(operator, name):
    """As the router would say after the button was pressed; that of Adyen wants a body of its own."""
    page = (await operator.get(f"/flows/test-{name}/test")).text
    signed = await operator.post(f"/flows/test-{name}/test/sign", {"body": "{}", "content_type": "application/json"})
    complete = signed.status == 200 and "set <code>SECRET</code>" not in signed.text
    assert ('value="edge">Send</button>' in page) == complete
    assert ("Show as curl" in page) == (signed.status == 200)
    assert ("sends the secret itself" in page, "Only the sender can make" in page) == (
        name in INCOMPLETE,
        name == "discord",
    )


async def test_the_key_in_the_body_is_written_by_the_sender_alone(operator, client):
    await client.flows.apply([document("test-field", {"api_key": {"field": "key", "secret": "hush"}})])
    page = (await operator.get("/flows/test-field/test")).text
    assert "Only the sender can make" in page
    assert "Show as curl" not in page


async def test_a_schedule_is_run_now(operator, client):
    await client.flows.apply([document("nightly", "none").replace(b'webhook: {auth: "none"}', SCHEDULE)])
    assert "Run now …" in (await operator.get("/flows/nightly")).text
    page = (await operator.get("/flows/nightly/test")).text
    assert "<title>Run nightly now" in page
    assert 'value="grpc"' in page
    assert "Run now</button>" in page
    assert "Send a test event" in (await operator.get("/flows/test-github")).text
