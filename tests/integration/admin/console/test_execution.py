"""The views of one execution: timeline, data before and after each task, journal, and their twin in the API."""

from __future__ import annotations

import hashlib
import re
import time
from html import unescape

import orjson
import pytest
import pytest_asyncio
from support.browsers import log_in
from support.consoles import running_console
from support.effects import effects_of
from support.routers import flow
from support.runners import attached
from support.started_flows import next_assignment
from support.uploads import uploaded

from flowhook.events import ids
from flowhook.security import callback_tokens
from flowhook.v1.envelope_pb2 import Event
from flowhook.wire import convert

pytestmark = pytest.mark.asyncio(loop_scope="session")

SCRIPT = "<script>alert(1)</script>"
FLOW = b"""
document: {dsl: 1.0.3, namespace: default, name: traced, version: 1.0.0}
use: {secrets: [traced-key]}
do:
  - order:
      if: .id > 0
      set: {id: '${ .id }', html: '<script>alert(1)</script>'}
      export: {as: '{order: .id}'}
  - <b>charge</b>:
      call: http
      with:
        method: post
        endpoint: https://api.example.com/v1/charges
        headers: {Authorization: '${ "Bearer \\($secrets["traced-key"])" }'}
        body: {order: '${ .id }', sum: '${ $workflow.input.sum }'}
  - done: {set: {charge: '${ .id }'}}
"""
BODY = b'{"id": "o-1", "sum": 12.5}'


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def executions(router, client):
    """Executions of one flow, by what became of them: its call succeeded, failed, or has no result yet."""
    await client.secrets.set("traced-key", b"hunter22-hunter22")
    await client.flows.apply([FLOW])
    ids = {}
    history = orjson.dumps(
        [
            [1, "/do/0/order", 1_800_000_000_100, 1_800_000_000_101, 1, ""],
            [2, "/do/1/<b>charge<~1b>", 1_800_000_000_101, 1_800_000_000_901, 1, ""],
        ]
    )
    async with attached(router, credit=3) as runner:
        for name in ("completed", "faulted", "running"):
            ids[name] = await client.ingest("traced", BODY)
            [assignment] = await runner.assignments(1)
            key = "/do/1/<b>charge<~1b>#0"
            if name == "completed":
                answer = orjson.dumps({"id": "ch_1", "html": SCRIPT})
                await runner.checkpoint(assignment, 0, key, answer, history=history)
                await runner.complete(assignment, b'{"charge":"ch_1"}')
            elif name == "faulted":
                error = {"type": "about:blank", "status": 402, "title": "Refused", "instance": "/do/1/<b>charge<~1b>"}
                await runner.settle({"lease": assignment.lease, "faulted": error, "history": history})
        yield ids


async def page(browser, execution_id, query):
    answer = await browser.get(f"/executions/{execution_id}?{query}")
    assert answer.status == 200, answer.text
    assert "<script>" not in answer.text
    assert "hunter22" not in answer.text
    return unescape(answer.text)


async def test_the_timeline_has_a_bar_and_the_data_of_each_task(viewer, executions):
    text = await page(viewer, executions["completed"], "view=timeline")
    assert text.count("<rect ") == 4
    assert "runner attempt 1: completed" in text
    assert '<td class="wide">its execution ended</td>' in text
    assert 'class="bar queued waits"' in text
    assert 'class="bar completed"' in text
    assert "POST https://api.example.com/v1/charges" in text
    assert "Bearer •••" in text
    assert '"sum": 12.5' in text
    assert '"id": "ch_1"' in text


async def test_the_path_is_drawn_on_the_picture_of_the_flow(viewer, executions):
    text = (await viewer.get(f"/executions/{executions['faulted']}")).text
    [picture] = re.findall(r'<svg[^>]*class="diagram path".*?</svg>', text, re.DOTALL)
    found = re.findall(r'<g class="([^"]*)" id="[^"]*" data-task="([^"]*)"', picture)
    assert {pointer: classes.split()[2:] for classes, pointer in found} == {
        "/do/0/order": ["conditional", "visited", "completed"],
        "/do/1/&lt;b&gt;charge&lt;~1b&gt;": ["visited", "completed"],
        "/do/2/done": [],
    }
    assert ">800 ms</text>" in picture
    answer = await viewer.get(f"/api/executions/{executions['faulted']}/picture")
    assert orjson.loads(answer.body)["svg"] == picture + "\n"


async def test_an_execution_of_a_deleted_flow_has_no_picture(viewer, client):
    await client.flows.apply([flow("undrawn")])
    execution_id = await client.ingest("undrawn", {})
    await client.executions.cancel(execution_id)
    await client.flows.delete("undrawn")
    answer = await viewer.get(f"/executions/{execution_id}")
    assert answer.status == 200


async def test_attempts_are_bars_with_their_reasons_beside_them(viewer, router, client, executions):
    execution_id = await client.ingest("traced", BODY)
    async with attached(router, "r-<b>", credit=1) as runner:
        [assignment] = await runner.assignments(1)
        await runner.settle({"lease": assignment.lease, "released": {"reason": "DRAINING", "charged": False}})
    async with attached(router, "r-2", credit=1) as runner:
        [assignment] = await runner.assignments(1)
        text = await page(viewer, execution_id, "view=timeline")
        assert "runner attempt 1: under way, " in text
        await runner.complete(assignment)
    text = await page(viewer, execution_id, "view=timeline")
    assert '<rect class="bar cancelled attempt"' in text
    assert "<title>runner attempt 1: released (DRAINING), " in text
    assert '<rect class="bar completed attempt"' in text
    assert "<code>r-<b></code>" in text
    assert '<td class="wide">released by the runner (DRAINING)</td>\n      <td>no</td>' in text
    assert "its execution ended" in text
    first, last = orjson.loads((await viewer.get(f"/api/executions/{execution_id}")).body)["attempt_history"]
    assert (first["end"], first["runner"], first["charged"]) == ("released", "r-<b>", False)
    assert (last["end"], last["runner"], last["charged"]) == ("execution_ended", "r-2", True)
    assert first["ended_at"] <= last["assigned_at"] <= last["ended_at"]
    assert "the last one on <code>r-2</code>" in await page(viewer, execution_id, "view=compact")


async def test_each_task_has_a_page_with_the_data_before_and_after_it(viewer, executions):
    text = await page(viewer, executions["completed"], "view=trace")
    assert 'rel="next"' in text
    assert 'rel="prev"' not in text
    assert '<span class="added">+   "html": "<script>alert(1)</script>"' in text
    assert '"order": "o-1"' in text
    text = await page(viewer, executions["completed"], "view=trace&task=3")
    assert '"charge": "ch_1"' in text
    assert 'rel="next"' not in text


async def test_a_condition_that_compared_a_text_with_a_number_is_told(viewer, executions):
    text = await page(viewer, executions["completed"], "view=trace")
    assert "if: `.id` is a text, and is compared with a number" in text
    trace = orjson.loads((await viewer.get(f"/api/executions/{executions['completed']}/trace")).body)
    assert [len(task["notes"]) for task in trace["tasks"]] == [1, 0, 0]


async def test_a_call_that_failed_shows_its_request_and_the_error(viewer, executions):
    text = await page(viewer, executions["faulted"], "view=trace")  # without a number: the one that failed
    assert "POST https://api.example.com/v1/charges" in text
    assert "<strong>Refused</strong> · 402" in text
    assert "none is recorded" not in text


async def test_a_call_without_a_result_says_so(viewer, executions):
    text = await page(viewer, executions["running"], "view=trace&task=2")
    assert "none is recorded" in text
    assert "No runner has reported this task" in text


@pytest.mark.parametrize(
    ("query", "status", "what"),
    [
        ("view=nope", 400, "compact, timeline, journal, trace"),
        ("veiw=trace", 400, "view, task"),
        ("view=trace&task=x", 400, "number"),
        ("view=timeline&task=1", 400, "view=trace"),
        ("view=trace&view=trace", 400, "given once"),
        ("view=trace&task=99", 404, "no task 99"),
    ],
)
async def test_another_view_or_task_is_refused_with_those_there_are(viewer, executions, query, status, what):
    answer = await viewer.get(f"/executions/{executions['completed']}?{query}")
    assert answer.status == status
    assert what in unescape(answer.text)


async def test_the_api_has_the_trace(viewer, executions):
    answer = await viewer.get(f"/api/executions/{executions['completed']}/trace")
    trace = orjson.loads(answer.body)
    assert (answer.status, trace["outcome"], trace["diverged"]) == (200, "completed", "")
    assert [task["name"] for task in trace["tasks"]] == ["order", "<b>charge</b>", "done"]
    (request,) = trace["tasks"][1]["requests"]
    assert '"sum":12.5' in trace["values"][request["arguments"]]["text"]
    assert (await viewer.get("/api/executions/evt_nope/trace")).status == 404


MULTIPART = (
    b'--x\r\nContent-Disposition: form-data; name="note"\r\n\r\nhello\r\n'
    b'--x\r\nContent-Disposition: form-data; name="f"; filename="../<b>\xc3\xa4.sh"\r\n'
    b"Content-Type: text/html\r\n\r\n<script>alert(1)</script>\r\n"
    b"--x--\r\n"
)


async def test_attachments_are_listed_and_downloaded_as_files_that_no_browser_shows(viewer, executions, client):
    execution_id = await client.ingest("traced", MULTIPART, content_type="multipart/form-data; boundary=x")
    listed = orjson.loads((await viewer.get(f"/api/executions/{execution_id}/parts")).body)["parts"]
    digest = hashlib.sha256(SCRIPT.encode()).hexdigest()
    assert [(each["index"], each["field"], each["size"], each["sha256"]) for each in listed] == [(0, "f", 25, digest)]
    answer = await viewer.get(f"/executions/{execution_id}")
    assert "<script>" not in answer.text
    assert digest in answer.text
    for prefix in ("", "/api"):
        part = await viewer.get(f"{prefix}/executions/{execution_id}/parts/0")
        assert (part.status, part.body) == (200, SCRIPT.encode())
        assert part.headers["Content-Type"] == "application/octet-stream"
        assert part.headers["X-Content-Type-Options"] == "nosniff"
        assert re.fullmatch(r'attachment; filename="[A-Za-z0-9_.-]+\.sh"', part.headers["Content-Disposition"])
    for index, status in [("1", 404), ("-1", 400), ("x", 400)]:
        assert (await viewer.get(f"/api/executions/{execution_id}/parts/{index}")).status == status


async def test_attachments_of_a_body_that_is_stored_apart_are_slices_of_it(viewer, executions, router):
    body = b"head" + bytes(range(256)) * 5000 + b"small"
    parts = [
        {"offset": 4, "size": 1_280_000, "name": "large", "sha256": bytes(32)},
        {"offset": 1_280_004, "size": 5, "name": "small", "sha256": bytes(32)},
    ]
    execution_id = await uploaded(router, "traced", body, content_type="multipart/form-data; boundary=x", parts=parts)
    assert "1.2 MiB" in (await viewer.get(f"/executions/{execution_id}")).text
    assert (await viewer.get(f"/executions/{execution_id}/parts/0")).body == body[4:-5]
    assert (await viewer.get(f"/executions/{execution_id}/parts/1")).body == b"small"
    trace = orjson.loads((await viewer.get(f"/api/executions/{execution_id}/trace")).body)
    assert trace["body_missing"]
    assert "its attachments is left out" in await page(viewer, execution_id, "view=trace")


async def test_the_page_says_what_started_an_execution_and_what_it_started(viewer, router, client):
    await client.flows.apply([flow("parent"), flow("child")])
    async with attached(router, credit=100) as runner:
        parent = await client.ingest("parent", {})
        assigned = {}
        while parent not in assigned:
            assigned |= {Event.FromString(each.event).id: each for each in await runner.assignments(1)}
        assignment = assigned[parent]
        async with effects_of(router) as effects:
            child = await effects.start(flow_id="child", key=f"{parent}:/do/0/run#0", caller=parent)
        await runner.checkpoint(assignment, 0, "/do/0/run#0", orjson.dumps({"execution": child}))
        await runner.complete(assignment)
    text = (await viewer.get(f"/executions/{parent}")).text
    assert f'href="/executions/{child}"' in text
    assert "started by a run task" in text
    assert "<code>/do/0/run#0</code>" in text
    text = (await viewer.get(f"/executions/{child}")).text
    assert f'a <code>run</code> task of <a href="/executions/{parent}">' in text
    assert "its run task started this one" in text
    assert orjson.loads((await viewer.get(f"/api/executions/{child}")).body)["request"]["parent"] == parent


async def test_executions_are_linked_with_those_that_their_events_started_or_resumed(viewer, router, client):
    reacting = flow("reacting", b"schedule: {on: {one: {with: {type: linked}}}}\n")
    await client.flows.apply([flow("emitting"), flow("listening"), reacting])
    async with attached(router, credit=100) as runner:
        emitter, waiting = await client.ingest("emitting", {}), await client.ingest("listening", {})
        assigned = {}
        while not {emitter, waiting} <= assigned.keys():
            assigned |= {Event.FromString(each.event).id: each for each in await runner.assignments(1)}
        subscription = {"key": "/do/0/wait#0", "events": {"filters": [{"type": "linked"}]}}
        await runner.park(assigned[waiting], subscriptions=[subscription])
        event = {"specversion": "1.0", "id": "1", "source": "/s", "type": "linked"}
        async with effects_of(router) as effects:
            assert await effects.emit(event, key=f"{emitter}:/do/0/emit#0", caller=emitter) == 2
        resumed = set()
        while waiting not in resumed:
            resumed |= {Event.FromString(each.event).id for each in await runner.assignments(1)}
        [started] = [execution.id async for execution in client.executions.list(flow_id="reacting")]
        text = await page(viewer, emitter, "")
    for execution_id, how in ((started, "started by an event of this one"), (waiting, "received an event of this one")):
        assert f'href="/executions/{execution_id}"' in text
        assert how in text
    for execution_id, how in ((started, "its event started this one"), (waiting, "this one received its event")):
        text_ = await page(viewer, execution_id, "")
        assert f'href="/executions/{emitter}"' in text_
        assert how in text_
    links = orjson.loads((await viewer.get(f"/api/executions/{waiting}")).body)["links"]
    [cause] = links["causes"]
    assert (cause["id"], cause["kinds"], cause["flow"]) == (emitter, ["listen"], "emitting")
    assert (links["caused"], links["more_caused"]) == ([], False)
    assert f'href="/executions?caused_by={emitter}"' in text
    listed = await page_of_list(viewer, f"caused_by={emitter}")
    assert (started in listed, waiting in listed, f"caused by {emitter}" in listed) == (True, True, True)
    assert waiting not in await page_of_list(viewer, f"caused_by={emitter}&flow=reacting")
    assert "No execution meets these conditions" in await page_of_list(viewer, f"caused_by={started}")


async def page_of_list(browser, query):
    answer = await browser.get(f"/executions?live=off&{query}")
    assert answer.status == 200, answer.text
    return unescape(answer.text)


async def test_a_list_of_what_an_unknown_execution_caused_says_that_it_is_unknown(viewer):
    unknown = ids.mint(1)
    for path in ("/executions", "/api/executions", "/api/executions/count"):
        answer = await viewer.get(f"{path}?caused_by={unknown}")
        assert (answer.status, f"there is no execution {unknown}" in answer.text) == (404, True), path


async def test_tokens_of_one_time_urls_are_shown_nowhere(viewer, router, client):
    await client.flows.apply([flow("asking")])
    async with attached(router, credit=100) as runner:
        execution_id = await client.ingest("asking", {})
        token = callback_tokens.issue(bytes(32), execution_id, "approval", 0)
        output = orjson.dumps({"url": f"https://example.com/hook/asking/approval/{token}"})
        assigned = {}
        while execution_id not in assigned:
            assigned |= {Event.FromString(each.event).id: each for each in await runner.assignments(1)}
        await runner.checkpoint(assigned[execution_id], 0, "/do/0/keep#0", output)
        await runner.complete(assigned[execution_id], output)
    for view in ("compact", "timeline", "trace", "journal"):
        text = await page(viewer, execution_id, f"view={view}")
        assert token not in text
    assert "approval/•••" in text
    for path in ("", "/trace", "/body"):
        assert token not in (await viewer.get(f"/api/executions/{execution_id}{path}")).text


async def test_without_a_tracer_the_pages_show_what_is_stored(router, executions):
    async with running_console(router) as console, console.browser() as browser:
        await browser.log_in(router.token("view"))
        for view in ("timeline", "trace"):
            text = await page(browser, executions["completed"], f"view={view}")
            assert "this process computes no traces" in text
            assert "800 ms" in text or "1 ms" in text
        answer = await browser.get(f"/api/executions/{executions['completed']}/trace")
        assert (answer.status, orjson.loads(answer.body)["reason"]) == (503, "TRACER_MISSING")


async def test_a_person_goes_from_the_timeline_to_the_data_of_a_task_and_on_to_the_next(tab, router, executions):
    await log_in(tab, router.token("view"))
    await tab.goto(f"/executions/{executions['completed']}")
    await tab.get_by_role("link", name="Timeline").click()
    await tab.get_by_text("The tasks as a table").click()
    await tab.get_by_role("link", name="/do/0/order").click()
    await tab.get_by_role("heading", name="Difference").wait_for()
    await tab.get_by_role("link", name="<b>charge</b>").click()
    await tab.get_by_text("POST https://api.example.com/v1/charges").wait_for()
    for view in ("compact", "timeline", "trace&task=2", "journal"):
        await tab.goto(f"/executions/{executions['completed']}?view={view}")
        await tab.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
        assert await tab.evaluate("document.documentElement.scrollWidth") <= 360, view


ANSWER = {"status": 503, "url": "https://api.example.com", "body": '{"why":"<b>down</b>"}', "size": 21}
AWAY = {"type": "about:blank", "status": 503, "title": "Away", "instance": "/do/1/charge", "response": ANSWER}


@pytest_asyncio.fixture(loop_scope="session")
async def retried(router, client):
    """An execution whose call failed twice and is tried again in an hour, and the runner that had it."""
    await client.flows.apply([flow("retried")])
    execution_id = await client.ingest("retried", {})
    async with attached(router) as runner:
        assignment = await next_assignment(runner, "retried")
        until = time.time() + 3600
        retry = {"error": AWAY, "tries": 2, "next_time": convert.timestamp(int(until * 1000)), "others": 1}
        await runner.park(assignment, until, retry=retry, retry_keys=["/do/1/charge#0:retry"])
        yield execution_id, runner


async def test_a_retry_is_said_on_the_page_in_the_list_and_by_the_api(viewer, operator, retried):
    execution_id, _ = retried
    text = await page(operator, execution_id, "view=compact")
    assert "Tried 2 times so far; the next try is" in text
    assert "1 other waits for a later try." in text
    assert '"why": "<b>down</b>"' in text
    assert "Try now" in text
    assert "Try now" not in await page(viewer, execution_id, "view=compact")
    listed = await viewer.get("/executions?flow=retried")
    assert "Tried 2 times, next" in listed.text
    assert "<span>Away" in listed.text
    shown = orjson.loads((await viewer.get(f"/api/executions/{execution_id}")).body)
    assert (shown["status"], shown["error"], shown["attempts"]) == ("waiting", None, 1)
    assert (shown["retry"]["tries"], shown["retry"]["others"]) == (2, 1)
    assert shown["retry"]["error"]["response"]["body"] == ANSWER["body"]
    [listed] = orjson.loads((await viewer.get("/api/executions?flow=retried&page_size=1")).body)["executions"]
    assert (listed["retry"]["error"]["title"], listed["retry"]["error"]["response"]) == ("Away", None)


async def test_an_operator_lets_it_be_tried_now_and_the_page_says_what_comes_next(tab, router, retried):
    execution_id, runner = retried
    await log_in(tab, router.token("admin"))
    await tab.goto(f"/executions/{execution_id}")
    await tab.get_by_role("button", name="Try now").click()
    await tab.locator("#retry h2").wait_for(state="detached")
    assignment = await next_assignment(runner, "retried")
    assert assignment.journal[-1].key == "/do/1/charge#0:retry"
    error = {**AWAY, "status": 402, "title": "Refused"}
    await runner.settle({"lease": assignment.lease, "faulted": error})
    await tab.get_by_text("Refused").first.wait_for()
    await tab.get_by_text("Answer of https://api.example.com: 503, 21 bytes").wait_for()
    assert await tab.locator("pre.answer").text_content() == '{\n  "why": "<b>down</b>"\n}'


async def test_what_is_not_tried_again_is_refused_with_a_reason(operator, executions):
    await operator.get(f"/executions/{executions['completed']}")
    answer = await operator.post(f"/executions/{executions['completed']}/retry-now")
    assert answer.status == 409
    assert "does not wait for a retry" in answer.text
