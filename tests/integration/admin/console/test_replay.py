"""The page of a replay, and its twin in the API: what it says and what it does, with a real runner."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser

import orjson
import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from support.browsers import log_in
from support.ends import ended
from support.served import running_runner

from flowhook.model import Status
from flowhook.model.replays import ReplayOrigin

pytestmark = pytest.mark.asyncio(loop_scope="session")

FLOW = """
document: {dsl: 1.0.3, namespace: default, name: NAME, version: 1.0.0}
webhook: {auth: none}
do:
  - first: {set: {text: "${ .body.text }"}}
  - "<b>\\"x\\"": {set: {text: "${ .text }", marked: true}}
  - last: {set: {seen: "${ . }"}}
"""
FAILING = """
document: {dsl: 1.0.3, namespace: default, name: NAME, version: 1.0.0}
do:
  - kept: {wait: {milliseconds: 1}}
  - fails: {raise: {error: {type: "https://example.com/no", status: 500, title: no}}}
  - last: {set: {done: true}}
"""
MARKED = '/do/1/<b>"x"'
HEADERS = {"Content-Type": "application/json"}


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def runner(router):
    async with running_runner(router, "runner-1"):
        yield


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def executions(client):
    """A completed execution, one whose body is no text, and one that faulted."""
    await client.flows.apply([FLOW.replace("NAME", "page").encode(), FAILING.replace("NAME", "fails").encode()])
    ids = {
        "completed": await client.ingest("page", b'\n{"text": "</textarea><script>1</script>", "n": 1}'),
        "binary": await client.ingest("page", b"\x00\xff", content_type="image/png"),
        "faulted": await client.ingest("fails", {}),
    }
    for execution_id in ids.values():
        await ended(client, execution_id)
    return ids


async def started(client, answer):
    """Return the replay that an answer leads to, once it has ended."""
    assert answer.status == 303, answer.text
    execution_id = answer.headers["Location"].removeprefix("/executions/")
    await ended(client, execution_id)
    return await client.executions.get(execution_id)


class Form(HTMLParser):
    """The fields that a browser sends with the page's form: texts, chosen options, hidden ones."""

    def __init__(self, page):
        super().__init__()
        self.fields, self.name, self.inside = {}, None, False
        self.feed(page)
        del self.fields["csrf_token"]

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.inside = given.get("action", "").endswith("/replay") if tag == "form" else self.inside
        if not self.inside:
            return
        if tag == "input" and (given.get("type") != "radio" or "checked" in given):
            self.fields[given["name"]] = given.get("value", "")
        elif tag in ("select", "textarea"):
            self.name = given["name"]
            self.fields[self.name] = ""
        elif tag == "option" and ("selected" in given or not self.fields[self.name]):
            self.fields[self.name] = given["value"]

    def handle_data(self, data):
        if self.name and self.lasttag == "textarea":
            self.fields[self.name] += data

    def handle_endtag(self, tag):
        if tag == "textarea":
            self.fields[self.name] = self.fields[self.name].removeprefix("\n")
        if tag in ("select", "textarea"):
            self.name = None
        self.inside = self.inside and tag != "form"


def replaying(page):
    """Return what the button that replays sends."""
    return {**Form(page).fields, "step": "replay"}


async def test_the_page_of_an_execution_leads_to_it(operator, executions):
    for status in ("completed", "faulted"):
        path = f"/executions/{executions[status]}"
        page = (await operator.get(path)).text
        assert f'href="{path}/replay"' in page
        assert ("Replay from the failed task" in page) is (status == "faulted")


async def test_it_says_what_will_run_and_then_does_it_without_scripts(operator, client, executions):
    path = f"/executions/{executions['completed']}/replay"
    page = await operator.get(path)
    assert page.status == 200
    words = " ".join(re.sub(r"<[^>]+>", "", page.text).split())
    assert "Revision 1 runs with the input as it was, from the beginning." in words
    assert "/do/0/first (set) runs again" in words
    # the first line break of the body is kept
    assert '<textarea id="body" name="body" data-chooses="input-edited" rows="12" spellcheck="false">\n\n{' in page.text
    chosen = {"step": "preview", "start": "task", "task": MARKED, "output": '{"text": "given"}', "input": "recorded"}
    page = await operator.post(path, {**chosen, "body": "ignored", "content_type": "x", "revision": "latest"})
    assert page.status == 200
    assert "<b>" not in page.text
    words = " ".join(unescape(re.sub(r"<[^>]+>", "", page.text)).split())
    assert f"Revision 1, the latest, runs with the input as it was, at {MARKED}." in words
    assert f"{MARKED} is not performed: its output is the given one." in words
    assert "/do/2/last (set) runs again" in words
    before = [each.id async for each in client.executions.list(flow_id="page")]
    replay = await started(client, await operator.post(path, replaying(page.text)))
    assert replay.execution.id not in before
    assert orjson.loads(replay.output) == {"seen": {"text": "given"}}
    page = (await operator.get(f"/executions/{replay.execution.id}")).text
    words = " ".join(unescape(re.sub(r"<[^>]+>", "", page)).split())
    assert f"{executions['completed']}, at task {MARKED}, whose output was given" in words
    assert "<b>" not in page


async def test_edited_input_arrives_as_it_is_and_is_marked(operator, client, executions):
    path = f"/executions/{executions['completed']}/replay"
    body = '\r\n{"text": "</textarea>&amp;\r\n \u00e9"}'
    fields = {"step": "preview", "input": "edited", "body": body.replace("\r\n", "\\n"), "start": "beginning"}
    refused = await operator.post(path, {**fields, "content_type": "application/json", "task": "/do/0/first"})
    assert refused.status == 400
    assert "BODY_INVALID" in refused.text or "not JSON" in refused.text
    assert "</textarea>&amp;amp;" not in refused.text.partition("Change it")[0]
    fields["body"] = '\n{"text": "</textarea>&amp; \u00e9"}'
    page = await operator.post(path, {**fields, "content_type": "application/json", "task": "/do/0/first"})
    assert page.status == 200
    assert replaying(page.text)["body"] == fields["body"]
    replay = await started(client, await operator.post(path, replaying(page.text)))
    assert replay.event.body == fields["body"].encode()
    assert replay.event.replay == ReplayOrigin(edited_from=executions["completed"])
    page = (await operator.get(f"/executions/{replay.execution.id}")).text
    assert "edited copy of the request of" in page
    assert "with edited input" in page


async def test_what_was_changed_after_the_preview_is_shown_before_it_is_replayed(operator, client, executions):
    path = f"/executions/{executions['completed']}/replay"
    fields = replaying((await operator.get(path)).text)
    before = [each.id async for each in client.executions.list(flow_id="page")]
    edited = {**fields, "input": "edited", "body": '{"text": "other"}', "reason": "as asked"}
    page = await operator.post(path, edited)
    assert (page.status, "Nothing was replayed: you changed" in page.text) == (409, True)
    assert "edited input (17 characters of application/json)" in " ".join(page.text.split())
    assert [each.id async for each in client.executions.list(flow_id="page")] == before
    shown = replaying(page.text)
    assert shown["reason"] == "as asked"
    replay = await started(client, await operator.post(path, shown))
    assert orjson.loads(replay.output)["seen"]["text"] == "other"


async def test_a_revision_that_is_applied_after_the_preview_is_shown_before_it_is_replayed(operator, client):
    await client.flows.apply([FLOW.replace("NAME", "revised").encode()])
    execution_id = await client.ingest("revised", {"text": "a"})
    await ended(client, execution_id)
    path = f"/executions/{execution_id}/replay"
    fields = replaying((await operator.get(f"{path}?revision=latest")).text)
    await client.flows.apply([FLOW.replace("NAME", "revised").replace("seen", "changed").encode()])
    page = await operator.post(path, fields)
    assert (page.status, "or the flow has a new revision" in page.text) == (409, True)
    assert "Revision 2, the latest, runs" in " ".join(page.text.split())
    replay = await started(client, await operator.post(path, replaying(page.text)))
    assert replay.execution.flow_revision == 2


async def test_it_says_what_was_entered_and_is_not_used(operator, executions):
    path = f"/executions/{executions['completed']}/replay"
    fields = replaying((await operator.get(path)).text)
    changes = {"body": '{"text": "other"}', "output": '{"text": "given"}'}
    page = await operator.post(path, {**fields, **changes})
    assert page.status == 409
    assert "The input that you edited below is not used" in page.text
    assert "The output that you gave below is not used" in page.text
    assert "is not used" not in (await operator.get(path)).text


async def test_a_button_that_is_pressed_twice_starts_one_execution(operator, executions):
    path = f"/executions/{executions['completed']}/replay"
    fields = replaying((await operator.get(path)).text)
    answers = [await operator.post(path, fields) for _ in range(2)]
    assert [answer.status for answer in answers] == [303, 303]
    assert len({answer.headers["Location"] for answer in answers}) == 1
    other = await operator.post(path, replaying((await operator.get(path)).text))
    assert other.headers["Location"] != answers[0].headers["Location"]


async def test_of_a_replay_tasks_that_it_took_over_can_be_chosen_too(operator, client, executions):
    execution_id = executions["completed"]
    await operator.get("/secrets")
    for choice in (
        {"task": "/do/0/first", "output": '{"text": "given"}'},
        {"task": MARKED, "output": '{"marked": true}'},
        {"task": "/do/2/last"},
    ):
        answer = await operator.post(f"/executions/{execution_id}/replay", {"start": "task", **choice})
        execution_id = (await started(client, answer)).execution.id
    page = (await operator.get(f"/executions/{execution_id}/replay")).text
    options = [unescape(each) for each in re.findall(r"<option[^>]*>(.*?)</option>", page)]
    assert options == ["/do/0/first · taken over", f"{MARKED} · completed", "/do/2/last · completed"]
    answer = await operator.post(f"/executions/{execution_id}/replay", {"start": "task", "task": "/do/0/first"})
    assert orjson.loads((await started(client, answer)).output)["seen"]["text"] == "</textarea><script>1</script>"


async def test_an_empty_body_is_an_edited_one(operator, client, executions):
    await operator.get("/secrets")
    path = f"/executions/{executions['binary']}/replay"
    replay = await started(client, await operator.post(path, {"input": "edited", "body": "", "content_type": ""}))
    assert (replay.event.body, replay.event.content_type) == (b"", "")


async def test_a_body_that_is_no_text_is_not_shown(operator, executions):
    page = await operator.get(f"/executions/{executions['binary']}/replay")
    assert "it is not shown" in page.text
    assert (
        '<textarea id="body" name="body" data-chooses="input-edited" rows="12" spellcheck="false">\n</textarea>'
        in page.text
    )


async def test_a_faulted_one_is_replayed_from_the_failed_task_with_one_click(operator, client, executions):
    path = f"/executions/{executions['faulted']}"
    await operator.get(path)
    refused = await operator.post(f"{path}/replay", {"start": "failed_task"})
    assert refused.status == 409  # it would only raise the same again
    assert "no task would run again" in unescape(refused.text)
    page = await operator.post(
        f"{path}/replay", {"step": "preview", "start": "task", "task": "/do/1/fails", "output": "{}"}
    )
    words = " ".join(re.sub(r"<[^>]+>", "", page.text).split())
    assert "/do/0/kept (wait) is taken over" in words
    replay = await started(client, await operator.post(f"{path}/replay", replaying(page.text)))
    assert replay.execution.status is Status.COMPLETED


async def test_the_form_begins_with_a_replay_that_is_possible(operator, executions):
    page = await operator.get(f"/executions/{executions['faulted']}/replay")
    assert page.status == 200
    assert Form(page.text).fields["start"] == "beginning"
    assert "at the task that failed" in page.text


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [
        ({"start": "task", "task": "/do/9/<i>"}, 404, "did not run the task /do/9/<i>"),
        ({"start": "task"}, 400, "name a task"),
        ({"start": "task", "task": "/do/0/first", "output": "{"}, 400, "not JSON"),
        ({"start": "task", "task": "/do/0/first", "input": "edited", "body": "{}"}, 400, "from the beginning"),
        ({"start": "somewhere"}, 400, "start"),
        ({"input": "other"}, 400, "input: write recorded or edited"),
        ({"start": "failed_task"}, 409, "did not fail"),
        ({"revision": "older"}, 400, "revision"),
        ({"nope": "1"}, 400, "there is no parameter"),
    ],
)
async def test_what_makes_no_sense_is_said_on_the_page(operator, executions, fields, status, said):
    path = f"/executions/{executions['completed']}/replay"
    await operator.get(path)
    for step in ("preview", "replay"):
        answer = await operator.post(path, {"step": step, **fields})
        assert (answer.status, answer.headers["Content-Type"]) == (status, "text/html; charset=UTF-8")
        assert said in unescape(answer.text)
        assert "<i>" not in answer.text
    answer = await operator.post(path, {"step": "other"})
    assert answer.status == 400


async def test_a_viewer_sees_what_would_run_and_changes_nothing(viewer, executions):
    path = f"/executions/{executions['completed']}/replay?start=task&task=/do/2/last"
    page = await viewer.get(path)
    assert (page.status, "Your token may only view" in page.text, "<form method" in page.text) == (200, True, True)
    assert f'action="/executions/{executions["completed"]}/replay"' not in page.text
    for step in ("preview", "replay"):
        answer = await viewer.post(f"/executions/{executions['completed']}/replay", {"step": step})
        assert answer.status == 403


async def test_an_execution_that_is_unknown_or_runs_or_whose_flow_is_deleted_is_answered(operator, client, executions):
    assert (await operator.get("/executions/evt_nope/replay")).status == 404
    await client.flows.apply([FLOW.replace("NAME", "gone").encode()])
    execution_id = await client.ingest("gone", {"text": "a"})
    await ended(client, execution_id)
    await client.flows.delete("gone")
    path = f"/executions/{execution_id}/replay"
    assert (await operator.get(path)).status == 200
    for step in ("preview", "replay"):
        answer = await operator.post(path, {"step": step, "revision": "latest"})
        assert (answer.status, "there is no flow gone" in answer.text) == (404, True)
    replay = await started(client, await operator.post(path, {"start": "task", "task": "/do/2/last"}))
    assert replay.execution.flow_id == "gone"


async def test_the_api_does_the_same(browser, router, client, executions):
    path = f"/api/executions/{executions['completed']}/replay"
    view = {"Authorization": f"Bearer {router.token('view')}"}
    admin = {"Authorization": f"Bearer {router.token('admin')}", **HEADERS}
    answer = await browser.get(f"{path}?start=task&task=/do/2/last", headers=view)
    assert orjson.loads(answer.body) == {
        "revision": 1,
        "taken_over": [],
        "again": [{"task": "/do/2/last", "kind": "set"}],
        "keeps_idempotency_keys": False,
        "latest_revision": 1,
    }
    body = orjson.dumps({"start": "task", "task": "/do/2/last", "output": "[1]", "request_id": "once"})
    assert (await browser.request("POST", path, headers={**view, **HEADERS}, data=body)).status == 403
    made = [orjson.loads((await browser.request("POST", path, headers=admin, data=body)).body) for _ in range(2)]
    assert made[0]["id"] == made[1]["id"]
    await ended(client, made[0]["id"])
    shown = orjson.loads((await browser.get(f"/api/executions/{made[0]['id']}", headers=view)).body)
    assert shown["output"] == [1]
    assert shown["replay"] == {
        "start": "task",
        "task": "/do/2/last",
        "output_given": True,
        "edited_from": "",
    }
    for wrong in ({"start": "task"}, {"body": "{"}, {"output": "1"}, {"step": "preview"}):
        answer = await browser.request("POST", path, headers=admin, data=orjson.dumps(wrong))
        assert answer.status == 400
        assert orjson.loads(answer.body)["reason"] in ("PARAMETER_INVALID", "BODY_INVALID", "TASK_WITHOUT_START")


async def test_in_a_browser_one_replays_from_a_task_with_its_output_overridden(tab, router, client, executions):
    await log_in(tab, router.token("admin"))
    await tab.goto(f"/executions/{executions['completed']}")
    await tab.keyboard.press("r")
    await tab.get_by_label("Task", exact=True).select_option(MARKED)
    await tab.get_by_label("Output of this task").fill('{"by": "hand"}')
    assert await tab.get_by_role("radio", name="at this task").is_checked()
    await tab.get_by_role("button", name="Show what will run").click()
    await tab.get_by_text("is not performed").wait_for()
    assert await tab.evaluate("document.documentElement.scrollWidth <= 360")
    found = await Axe().run(tab)
    assert [each["id"] for each in found.response["violations"] if each["impact"] in ("serious", "critical")] == []
    await tab.get_by_role("button", name="Replay", exact=True).click()
    await tab.get_by_text("whose output was given").wait_for()
    replay = tab.url.rpartition("/")[2]
    await ended(client, replay)
    assert orjson.loads((await client.executions.get(replay)).output) == {"seen": {"by": "hand"}}


async def test_in_a_browser_the_enter_key_replays_nothing(tab, router, executions):
    await log_in(tab, router.token("admin"))
    await tab.goto(f"/executions/{executions['completed']}/replay")
    content_type = tab.get_by_label("Content type")
    await content_type.fill("text/plain")
    await content_type.press("Enter")
    await tab.get_by_text("characters of text/plain").wait_for()
    assert tab.url.endswith("/replay")


async def outdated(client, name):
    """Return an execution that faulted on revision 1 of a flow whose revision 2 does not fault any more."""
    document = FAILING.replace("NAME", name)
    await client.flows.apply([document.encode()])
    execution_id = await client.ingest(name, {})
    await ended(client, execution_id)
    await client.flows.apply([document.replace("raise: {error:", "set: {was:").encode()])
    return execution_id


async def test_a_newer_revision_is_said_and_offered_first(operator, client):
    execution_id = await outdated(client, "mended")
    path = f"/executions/{execution_id}/replay"
    page = (await operator.get(path)).text
    assert "Revision 2 of the flow is newer than revision 1, which this execution ran." in page
    assert page.index("2, the latest") < page.index("1, pinned")
    assert "Revision 2, the latest, runs with the" in " ".join(page.split())
    replay = await started(client, await operator.post(path, replaying(page)))
    assert (replay.execution.flow_revision, replay.execution.status) == (2, Status.COMPLETED)
    assert replay.event.replay.from_failed_task
    page = (await operator.get(f"/executions/{execution_id}")).text
    assert "the latest is 2" in page
    assert page.index('name="revision" value="latest" checked') < page.index('name="revision" value="pinned"')
    answer = await operator.post(path, {"start": "failed_task", "revision": "latest"})
    assert (await started(client, answer)).execution.flow_revision == 2


async def test_a_job_offers_the_newer_revision_first_and_begins_where_each_failed(operator, client):
    await outdated(client, "all-mended")
    page = (await operator.get("/jobs/new?flow=all-mended&action=replay")).text
    assert "Revision 2 of <a" in page
    assert page.index('value="latest" selected') < page.index('value="pinned"')
    assert "on revision 2" in page
    preview = (await operator.get("/api/jobs/new?flow=all-mended&action=replay&revision=latest")).text
    [sampled] = orjson.loads(preview)["replays"]
    assert (sampled["preview"]["revision"], sampled["preview"]["latest_revision"]) == (2, 2)
    assert sampled["preview"]["keeps_idempotency_keys"]  # from the failed task
    page = (await operator.get("/jobs/new?flow=all-mended&action=replay&revision=pinned")).text
    assert "on revision 1" in page
