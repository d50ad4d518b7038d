"""What pages show, what their buttons do, and that the API has both."""

from __future__ import annotations

import gzip
import re
from html import unescape

import aiohttp
import orjson
import pytest
import pytest_asyncio
from jsonschema import Draft202012Validator
from support.routers import flow
from support.runners import attached

from admin.api import openapi
from flowhook.client import channel
from flowhook.model.execution_filter import ExecutionFilter
from flowhook.model.jobs import JobAction, JobSpec
from flowhook.v1 import rejection_service_pb2 as pb
from flowhook.v1.rejection_service_pb2_grpc import RejectionServiceStub

pytestmark = pytest.mark.asyncio(loop_scope="session")

SCRIPT = "<script>alert(1)</script>"
BODY = orjson.dumps({"html": SCRIPT})[:-1] + b',"big":' + b"7" * 300 + b',"e":1.50e+00}'
FORM = re.compile(r'<form method="(\w+)" action="([^"]+)"')
LINK = re.compile(r'(?:href|hx-sse:connect)="(/[^"]*)"')


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def executions(router, client):
    """Executions of the flow `shown`: one that completed, one that faulted, one that waits for a runner, by status."""
    await client.flows.apply([flow("shown"), flow("other")])
    ids = {}
    headers = [("x-note", SCRIPT.encode()), ("x-raw", b"\xff")]
    async with attached(router, credit=2) as runner:
        ids["completed"] = await client.ingest("shown", BODY, headers=headers)
        [assignment] = await runner.assignments(1)
        await runner.checkpoint(assignment, 0, "/do/0/keep#0", BODY)
        for index in range(1, 103):
            await runner.checkpoint(assignment, index, f"/do/0/keep#{index}", b'"' + b"x" * 10_000 + b'"')
        await runner.complete(assignment, BODY)
        ids["faulted"] = await client.ingest("shown", b"\xff<script>", content_type="text/plain")
        [assignment] = await runner.assignments(1)
        error = {"type": "about:blank", "status": 500, "title": SCRIPT, "detail": f"{SCRIPT} failed"}
        await runner.settle({"lease": assignment.lease, "faulted": error})
    ids["pending"] = await client.ingest("shown", [])
    ids["other"] = await client.ingest("other", {})
    return ids


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def rejection(router):
    """ID of a refused request."""
    async with channel.connect(router.target, router.token("edge")) as connection:
        refused = pb.Rejection(
            id="rej_01999999990000000000000000",
            flow_id="shown",
            status=401,
            reason="SIGNATURE_MISMATCH",
            detail=SCRIPT,
            address="192.0.2.1",
            method="POST",
            path=f"/hook/shown/{SCRIPT}",
            headers=[{"name": "x-note", "value": SCRIPT.encode()}],
            body_size=-1,
        )
        refused.time.GetCurrentTime()
        await RejectionServiceStub(connection).ReportRejections(pb.ReportRejectionsRequest(rejections=[refused]))
    return refused.id


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def job(client, executions):
    """ID of a job that is paused."""
    spec = JobSpec(JobAction.SUSPEND, ExecutionFilter(flow_id="other"), rate=0.001, reason=SCRIPT)
    return (await client.jobs.pause((await client.jobs.create(spec)).id)).id


@pytest.fixture
def every_page(executions, rejection, job):
    return [
        "/flows",
        "/flows/shown",
        "/flows/shown?revision=1",
        "/flows/shown/revisions",
        "/apply?flow=shown",
        "/executions",
        "/executions?status=faulted&live=off",
        *(f"/executions/{execution_id}" for execution_id in executions.values()),
        "/flows/shown/test",
        f"/executions/{executions['completed']}/diff?with={executions['faulted']}",
        f"/executions/{executions['other']}/diff?with={executions['pending']}",
        f"/executions/{executions['faulted']}/replay",
        "/faults",
        "/jobs",
        f"/jobs/{job}",
        "/jobs/new?flow=shown&action=replay",
        "/requests",
        "/rejections",
        f"/rejections/{rejection}",
        "/secrets",
        "/cluster",
    ]


async def test_every_page_is_shown_and_what_senders_wrote_is_text(operator, every_page):
    for path in every_page:
        answer = await operator.get(path)
        assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html; charset=UTF-8"), path
        assert "<script>" not in answer.text
        assert "<h1>" in answer.text
        assert len(gzip.compress(answer.body)) < 60_000


async def test_every_link_leads_somewhere(operator, every_page):
    links = {unescape(link) for path in every_page for link in LINK.findall((await operator.get(path)).text)}
    assert len(links) > 10
    for link in sorted(links):
        if "/stream" not in link and not link.endswith(("/test", "/jobs")):  # tested with these pages
            assert (await operator.get(link)).status in (200, 303), link


async def test_every_button_has_a_twin_in_the_api(operator, every_page, client):
    await client.secrets.set("twin", b"x")
    forms = {form for path in [*every_page, "/jobs/new"] for form in FORM.findall((await operator.get(path)).text)}
    actions = {unescape(action) for method, action in forms if method == "post"} - {"/logout"}
    assert len(actions) >= 8
    twins = [
        re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path)))
        for path, methods in openapi.description()["paths"].items()
        if "post" in methods
    ]
    for action in actions:
        assert any(twin.fullmatch(f"/api{action}") for twin in twins), action
    reading = {action for method, action in forms if method == "get" and not action.endswith("/diff")}
    assert reading == {
        "/executions",
        "/faults",
        "/flows",
        "/rejections",
        "/requests",
        "/flows/shown/revisions",
        "/flows/shown/test",
        "/apply",
        "/jobs/new",
    }


async def test_every_page_has_a_twin_whose_answer_is_as_described(browser, router, every_page):
    headers = {"Authorization": f"Bearer {router.token('view')}"}
    description = openapi.description()
    for page in (page for page in every_page if not page.startswith("/apply")):
        path, _, query = page.partition("?")
        answer = await browser.get(f"/api{path}?{query.replace('live=off', '')}", headers=headers)
        assert answer.status == 200, (path, answer.text)
        described, *_ = [
            methods["get"]
            for template, methods in sorted(description["paths"].items(), key=lambda item: "{" in item[0])
            if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), f"/api{path}")
        ]
        schema = described["responses"]["200"]["content"]["application/json"]["schema"]
        Draft202012Validator({**schema, "components": description["components"]}).validate(orjson.loads(answer.body))


async def test_a_problem_is_as_described(browser, router):
    headers = {"Authorization": f"Bearer {router.token('view')}"}
    validator = Draft202012Validator(openapi.description()["components"]["schemas"]["Problem"])
    for path, status, reason in [
        ("/flows/unknown", 404, "FLOW_NOT_FOUND"),
        ("/executions?status=broken", 400, "PARAMETER_INVALID"),
        ("/executions?page_token=x", 400, "PAGE_TOKEN_INVALID"),
        ("/executions?flow=%FF", 400, "QUERY_INVALID"),
        ("/nope", 404, "PATH_UNKNOWN"),
        ("/flows/%FF", 400, "BAD_REQUEST"),
    ]:
        answer = await browser.get(f"/api{path}", headers=headers)
        problem = orjson.loads(answer.body)
        validator.validate(problem)
        assert (answer.status, problem["status"], problem.get("reason")) == (status, status, reason)
        assert answer.headers["Content-Type"] == "application/problem+json"


async def test_the_description_of_the_api_is_served(browser, router):
    answer = await browser.get("/api/openapi.json", headers={"Authorization": f"Bearer {router.token('view')}"})
    assert orjson.loads(answer.body) == openapi.description()


async def test_a_method_that_is_none_is_refused(browser, router):
    headers = {"Authorization": f"Bearer {router.token('admin')}"}
    for path, allowed in [("/flows/shown", "GET, HEAD"), ("/flows", "GET, HEAD, POST"), ("/flows/shown/pause", "POST")]:
        answer = await browser.request("DELETE", f"/api{path}", headers=headers)
        assert (answer.status, answer.headers["Allow"]) == (405, allowed)
        assert orjson.loads(answer.body)["reason"] == "METHOD_NOT_ALLOWED"
    assert (await browser.request("POST", "/api/nope", headers=headers)).status == 404


class TestExecutions:
    async def ids(self, browser, query):
        text = (await browser.get(f"/executions?{query}")).text
        return re.findall(r'<th scope="row"><a href="/executions/(\w+)"', text)

    async def test_conditions_stand_in_the_url(self, viewer, executions):
        assert await self.ids(viewer, "flow=other") == [executions["other"]]
        assert await self.ids(viewer, "flow=shown&status=completed") == [executions["completed"]]
        both = await self.ids(viewer, "flow=shown&status=faulted&status=pending")
        assert both == [executions["pending"], executions["faulted"]]
        assert await self.ids(viewer, "flow=shown&unresolved=true") == [executions["faulted"]]
        assert await self.ids(viewer, "flow=unknown") == []

    @pytest.mark.parametrize(
        ("query", "what"),
        [
            ("status=broken", "faulted"),
            ("stauts=faulted", "write flow, status, unresolved"),
            ("page_token=x", "next_page_token"),
            ("live=perhaps", "on or off"),
            ("page_size=9", "no page_size"),
            ("flow=a&flow=b", "given once"),
            ("flow=%FF", "UTF-8"),
            ("&".join(f"a{number}=1" for number in range(200)), "at most 100"),
        ],
    )
    async def test_a_condition_that_is_none_is_refused_with_those_there_are(self, viewer, query, what):
        answer = await viewer.get(f"/executions?{query}")
        assert answer.status == 400
        assert what in unescape(answer.text)

    async def test_older_ones_are_on_further_pages(self, viewer, client):
        await client.flows.apply([flow("many")])
        sent = [await client.ingest("many", {}) for _ in range(53)]
        text = (await viewer.get("/executions?flow=many")).text
        [older] = [unescape(link) for link in LINK.findall(text) if "page_token" in link]
        first = await self.ids(viewer, "flow=many")
        rest = await self.ids(viewer, older.partition("?")[2])
        assert [*first, *rest] == sent[::-1]
        assert len(first) == 50
        assert "hx-sse:connect" not in (await viewer.get(older)).text

    async def test_one_shows_its_request_byte_for_byte(self, viewer, executions):
        path = f"/executions/{executions['completed']}"
        page = await viewer.get(path)
        assert BODY.decode() in unescape(page.text)
        assert f'"big": {"7" * 300},' in unescape(page.text)
        assert '"e": 1.50e+00' in unescape(page.text)
        assert f"<code>{'&lt;script&gt;alert(1)&lt;/script&gt;'}</code>" in page.text
        assert "\\xff" in page.text
        for prefix in ("", "/api"):
            body = await viewer.get(f"{prefix}{path}/body")
            assert (body.status, body.body) == (200, BODY)
            assert body.headers["Content-Type"] == "application/octet-stream"
            assert body.headers["Content-Disposition"].startswith("attachment; ")

    async def test_a_long_journal_is_cut_on_the_page_only(self, viewer, executions):
        page = await viewer.get(f"/executions/{executions['completed']}?view=journal")
        assert "There are 3 more entries" in page.text
        assert len(page.body) < 350_000
        answer = await viewer.get(f"/api/executions/{executions['completed']}")
        assert len(orjson.loads(answer.body)["journal"]) == 103

    async def test_bytes_that_are_no_text_are_shown_in_hexadecimal(self, viewer, executions):
        text = (await viewer.get(f"/executions/{executions['faulted']}")).text
        assert "The body is not UTF-8" in text
        assert "00000000  ff 3c 73 63 72 69 70 74 3e" in text

    async def test_a_large_body_is_cut_on_the_page_only(self, viewer, client, executions):
        body = b"[" + b"1," * 50_000 + b"1]"
        execution_id = await client.ingest("other", body)
        page = await viewer.get(f"/executions/{execution_id}")
        assert "the first 64 KiB" in page.text
        assert len(page.body) < 150_000
        assert (await viewer.get(f"/executions/{execution_id}/body")).body == body

    async def test_the_api_passes_outputs_on_verbatim(self, viewer, executions):
        answer = await viewer.get(f"/api/executions/{executions['completed']}")
        assert b"7" * 300 in answer.body
        assert b"1.50e+00" in answer.body

    async def test_an_execution_that_is_none_is_a_page(self, viewer):
        for path in ("/executions/evt_nope", "/executions/%3Cscript%3E"):
            answer = await viewer.get(path)
            assert answer.status == 404
            assert answer.headers["Content-Type"] == "text/html; charset=UTF-8"
            assert "<script>" not in answer.text

    async def test_one_can_be_replayed(self, operator, client, executions):
        await operator.get("/secrets")
        answer = await operator.post(f"/executions/{executions['faulted']}/replay", {"revision": "latest"})
        assert answer.status == 303
        replay = (await client.executions.get(answer.headers["Location"].rpartition("/")[2])).execution
        assert replay.replay_of == executions["faulted"]
        assert executions["faulted"] in (await operator.get(answer.headers["Location"])).text

    async def test_one_that_has_not_ended_can_be_suspended_resumed_and_cancelled(self, operator, client):
        await client.flows.apply([flow("steered")])
        path = f"/executions/{await client.ingest('steered', {})}"
        for action, status in [("suspend", "suspended"), ("resume", "pending"), ("cancel", "cancelled")]:
            answer = await operator.post(f"{path}/{action}")
            assert (answer.status, answer.headers["Location"]) == (303, path)
            assert f'<span class="status {status}">' in (await operator.get(path)).text
        assert (await operator.post(f"{path}/cancel")).status == 409
        assert (await operator.post(f"{path}/resolve", {"reason": SCRIPT})).status == 303
        assert SCRIPT in unescape((await operator.get(path)).text)

    @pytest.mark.parametrize(("form", "done"), [({}, "deleted"), ({"erase": "true"}, "erased")])
    async def test_one_that_has_ended_can_be_deleted_or_erased(self, operator, client, form, done):
        await client.flows.apply([flow("removed")])
        execution_id = await client.ingest("removed", {})
        path = f"/executions/{execution_id}"
        assert f'action="{path}/delete"' not in (await operator.get(path)).text
        assert (await operator.post(f"{path}/delete", form)).status == 409
        await client.executions.cancel(execution_id)
        assert f'action="{path}/delete"' in (await operator.get(path)).text
        answer = await operator.post(f"{path}/delete", form)
        assert (answer.status, answer.headers["Location"]) == (303, "/executions")
        assert f"Executions {done}: {execution_id}." in (await operator.get("/executions")).text
        assert (await operator.get(path)).status == 404


@pytest.mark.parametrize(
    ("accept", "kind"), [("text/html,*/*;q=0.8", "text/html"), ("*/*", "application/problem+json")]
)
@pytest.mark.parametrize("path", ["/nope", "/stream", "/streams"])
async def test_an_unknown_path_is_answered_with_a_page_for_browsers(browser, operator, path, accept, kind):
    for client in (browser, operator):
        answer = await client.get(path, headers={"Accept": accept})
        assert (answer.status, answer.headers["Content-Type"].partition(";")[0]) == (404, kind)
        assert ("There is no such page." in answer.text) == (kind == "text/html")
        assert ("Log out" in answer.text) == (kind == "text/html" and client is operator)


class TestApplying:
    async def test_a_file_is_applied_and_shown_as_it_was_written(self, operator, client):
        await operator.get("/apply")
        answer = await operator.post("/flows", {"document": flow("typed").decode().replace("\n", "\r\n")})
        assert (answer.status, answer.headers["Location"]) == (303, "/flows/typed")
        assert (await client.flows.get("typed")).document == flow("typed")
        assert flow("typed").decode() in unescape((await operator.get("/apply?flow=typed")).text)

    async def test_faults_stand_beside_the_text_with_their_lines(self, operator):
        await operator.get("/apply")
        answer = await operator.post("/flows", {"document": flow("typed").decode() + f"nope: '{SCRIPT}'\n"})
        assert answer.status == 400
        assert '<a href="#line-5">line 5</a>: <code>nope</code>' in answer.text
        assert f"nope: '{SCRIPT}'" in unescape(answer.text)
        assert "<script>" not in answer.text

    async def test_the_example_is_valid(self, operator):
        answer = await operator.get("/apply")
        [text] = re.findall(r"<textarea[^>]*>\n(.*)</textarea>", answer.text, re.DOTALL)
        answer = await operator.post("/flows", {"document": unescape(text)})
        assert answer.headers["Location"] == "/flows/my-flow"

    async def test_the_api_names_faults(self, browser, router):
        headers = {"Authorization": f"Bearer {router.token('admin')}"}
        body = {"document": "do: []", "dry_run": True}
        answer = await browser.request("POST", "/api/flows", json=body, headers=headers)
        problem = orjson.loads(answer.body)
        Draft202012Validator(openapi.description()["components"]["schemas"]["Problem"]).validate(problem)
        assert (answer.status, problem["reason"]) == (400, "FLOW_INVALID")
        assert "document" in [fault["key"] for fault in problem["faults"]]

    async def test_the_api_checks_without_applying(self, browser, router, client):
        headers = {"Authorization": f"Bearer {router.token('admin')}"}
        body = {"document": flow("dry").decode(), "dry_run": True}
        answer = await browser.request("POST", "/api/flows", json=body, headers=headers)
        assert (answer.status, orjson.loads(answer.body)["change"]) == (200, "created")
        assert "dry" not in [each.id async for each in client.flows.list()]

    async def test_a_viewer_does_not_apply(self, viewer):
        assert "<textarea" not in (await viewer.get("/apply")).text
        assert (await viewer.post("/flows", {"document": flow("viewed").decode()})).status == 403


class TestSecrets:
    async def test_one_is_set_and_deleted_and_never_shown(self, operator, client):
        answer = await operator.post("/secrets", {"name": "signing.key", "value": "hunter2 "})
        assert answer.headers["Location"] == "/secrets"
        text = (await operator.get("/secrets")).text
        assert "signing.key" in text
        assert "The secret signing.key was set." in text
        assert "hunter2" not in text
        assert (await operator.post("/secrets/signing.key/delete")).status == 303
        assert "The secret signing.key was deleted." in (await operator.get("/secrets")).text
        assert "signing.key" not in [secret.name for secret in await client.secrets.list()]

    async def test_one_of_several_lines_is_set_as_it_is(self, operator, client, router):
        await operator.get("/secrets")
        both = await operator.post("/secrets", {"name": "two.lines", "value": "hunter2", "lines": "hunter3"})
        assert (both.status, "leave this empty, or the value above" in both.text) == (400, True)
        assert "hunter" not in both.text
        answer = await operator.post("/secrets", {"name": "two.lines", "value": "", "lines": "a\r\nb\r\n"})
        assert answer.headers["Location"] == "/secrets"
        async with router.client("runner") as runner:
            assert await runner.secrets.resolve(["two.lines"]) == {"two.lines": b"a\nb\n"}

    @pytest.mark.parametrize(("name", "value"), [("", "x"), ("a", ""), (SCRIPT, "hunter2"), ("a" * 200, "hunter2")])
    async def test_what_is_none_is_refused_without_its_value(self, operator, name, value):
        answer = await operator.post("/secrets", {"name": name, "value": value})
        assert answer.status == 400
        assert "hunter2" not in answer.text
        assert "<script>" not in answer.text

    async def test_the_api_sets_one(self, browser, router, client):
        headers = {"Authorization": f"Bearer {router.token('admin')}"}
        answer = await browser.request("POST", "/api/secrets", json={"name": "by.api", "value": "x"}, headers=headers)
        assert (answer.status, orjson.loads(answer.body)["name"]) == (200, "by.api")
        answer = await browser.request("POST", "/api/secrets/by.api/delete", headers=headers)
        assert (answer.status, orjson.loads(answer.body)) == (200, {"name": "by.api"})

    @pytest.mark.parametrize(
        ("body", "kind"), [(b"[]", "application/json"), (b"{", "application/json"), (b"a=b", "text/plain")]
    )
    async def test_a_body_that_is_no_object_is_refused(self, browser, router, body, kind):
        headers = {"Authorization": f"Bearer {router.token('admin')}", "Content-Type": kind}
        answer = await browser.request("POST", "/api/secrets", data=body, headers=headers)
        assert (answer.status, orjson.loads(answer.body)["reason"]) == (400, "BODY_INVALID")


async def test_pages_are_compressed_and_streams_are_not(viewer, console):
    cookies = {cookie.key: cookie.value for cookie in viewer.session.cookie_jar}
    options = {"cookies": cookies, "headers": {"Accept-Encoding": "gzip"}, "auto_decompress": False}
    async with aiohttp.ClientSession(f"http://{console.address}", **options) as session:
        async with session.get("/flows") as response:
            assert response.headers["Content-Encoding"] == "gzip"
            assert b"<h1>" in gzip.decompress(await response.read())
        async with session.get("/executions/stream") as response:
            assert "Content-Encoding" not in response.headers


async def test_static_files_are_stored_by_browsers(browser):
    text = (await browser.get("/login")).text
    links = [link for link in LINK.findall(text) if link.startswith("/static/")]
    assert len(links) >= 2
    for link in links:
        answer = await browser.get(link)
        assert (answer.status, answer.headers["Cache-Control"]) == (200, "public, max-age=31536000, immutable")
    assert (await browser.get("/static/console.css?v=old")).headers["Cache-Control"] == "no-cache"
    for path in ("/static/nope.css", "/static/../app.py", "/static/vendor/manifest.json"):
        assert (await browser.get(path)).status == 404
