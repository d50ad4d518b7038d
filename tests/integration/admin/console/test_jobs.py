"""Bulk jobs on the console: from a group of faults to the outcome of each execution."""

from __future__ import annotations

import re
from html import unescape
from urllib.parse import parse_qs

import orjson
import pytest
from support.browsers import log_in
from support.jobs import until
from support.routers import flow
from support.runners import attached

from flowhook.model import Status
from flowhook.model.execution_filter import ExecutionFilter
from flowhook.model.jobs import JobState

pytestmark = pytest.mark.asyncio(loop_scope="session")

HIDDEN = re.compile(r'<input type="hidden" name="(\w+)" value="([^"]*)">')


async def fault(router, client, flow_id, count, *, task="/do/0/keep", title="Communication Error", journaled=False):
    """Send events whose executions fault, pause the flow, lest a runner get their replays, and return their IDs.

    `journaled`: whether the result of their task is stored.
    """
    await client.flows.apply([flow(flow_id)])
    await client.flows.resume(flow_id)
    async with attached(router) as runner:
        sent = [await client.ingest(flow_id, {"n": number}) for number in range(count)]
        error = {"type": "about:blank", "status": 503, "title": title, "instance": task}
        for _ in range(count):
            await runner.credit(1)
            [assignment] = await runner.assignments(1)
            if journaled:
                await runner.checkpoint(assignment, 0, f"{task}#0", b"1")
                await runner.next("checkpointed")
            await runner.settle({"lease": assignment.lease, "faulted": error})

        async def faulted():
            wanted = ExecutionFilter(flow_id=flow_id, error_title=title)
            return [each async for each in client.executions.list(where=wanted)]

        await until(faulted, lambda found: len(found) == count)
    await client.flows.pause(flow_id)
    return sent


def fields(page):
    """Return the hidden fields of the form that creates a job, and its conditions: several of one name are a list."""
    found = {}
    for name, value in HIDDEN.findall(page[page.index('action="/jobs"') :]):
        found.setdefault(name, []).append(unescape(value))
    return {**found, **parse_qs(found["previewed"][0])}


async def test_a_group_of_faults_leads_to_its_replay(operator, router, client):
    title = '<b>"Away"&'
    faulted = await fault(router, client, "grouped", 3, title=title)
    await fault(router, client, "grouped", 2, title="Other")
    page = (await operator.get("/faults?flow=grouped")).text
    links = [unescape(link) for link in re.findall(r'href="(/jobs/new\?[^"]+)">Replay all', page)]
    assert len(links) == 2
    preview = (await operator.get(links[1])).text
    assert "3 executions match" in preview
    assert title not in preview
    answer = await operator.post("/jobs", {**fields(preview), "rate": "1000", "reason": "the shop was away"})
    assert answer.status == 303, answer.text
    job_id = answer.headers["Location"].removeprefix("/jobs/")
    await until(lambda: client.jobs.get(job_id), lambda job: job.state.ended)
    shown = (await operator.get(f"/jobs/{job_id}")).text
    assert "3 started, 0 skipped, 0 failed" in shown
    assert "Of the replays: 3 not ended yet." in words(shown)
    assert "the shop was away" in shown
    for execution_id in faulted:
        assert f"/executions/{execution_id}" in shown
    assert "No execution" not in (await operator.get("/faults?flow=grouped")).text
    assert 'value="0"' not in (await operator.get("/jobs")).text


def words(page):
    """Return the text of a page."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


async def job_of(client, answer):
    """Return the job that an answer leads to, once it has ended, and its replays."""
    assert answer.status == 303, answer.text
    job_id = answer.headers["Location"].removeprefix("/jobs/")
    job = await until(lambda: client.jobs.get(job_id), lambda found: found.state.ended)
    ids = [item.new_execution_id async for item in client.jobs.items(job_id) if item.new_execution_id]
    return job, [await client.executions.get(each) for each in ids]


async def test_the_page_says_what_will_run_from_a_task_with_its_output_and_then_does_it(operator, router, client):
    await fault(router, client, "from-task", 2, journaled=True)
    page = (await operator.get("/jobs/new?flow=from-task&action=replay")).text
    assert (
        "Each is replayed on the revision that each ran, from the task that failed, with the results before it, or"
        " from the beginning if none did, with the input as it was"
    ) in words(page)
    assert words(page).count("/do/0/keep taken over; no task that ran runs again, on revision 1") == 2
    chosen = {
        "start": "task",
        "task": "/do/0/keep",
        "output": '{"is": "hidden"}',
        "input": "recorded",
        "body": "ignored",
        "content_type": "x",
        "revision": "latest",
    }
    page = (await operator.post("/jobs/new", {**fields(page), **chosen})).text
    said = "on the latest revision, from /do/0/keep (which is not performed: its output is the given one), with the"
    assert said in words(page)
    assert 'name="output" data-chooses="start-task" rows="4" spellcheck="false">\n{&#34;is&#34;' in page
    job, replays = await job_of(client, await operator.post("/jobs", {**fields(page), **chosen, "rate": "1000"}))
    assert (job.done, {each.event.replay.task for each in replays}) == (2, {"/do/0/keep"})
    for path in (f"/jobs/{job.id}", "/jobs", f"/api/jobs/{job.id}", "/audit", "/api/audit"):
        assert '"is"' not in unescape((await operator.get(path)).text)
    shown = words((await operator.get(f"/jobs/{job.id}")).text)
    assert said in shown
    assert "Output given 16 bytes" in shown
    assert f"replay {job.id} with an output given to /do/0/keep on the latest revision" in words(
        (await operator.get("/audit")).text
    )


async def test_the_page_replays_with_edited_input(operator, router, client):
    await fault(router, client, "edited", 2)
    body = '\n{"text": "</textarea>&amp; \u00e9"}'
    chosen = {"start": "beginning", "task": "/do/0/keep", "input": "edited", "body": body, "content_type": ""}
    page = await operator.post("/jobs/new", {"flow": "edited", "action": "replay", **chosen})
    assert (page.status, "with the edited input" in words(page.text)) == (200, True)
    text = re.search(r'<textarea id="body"[^>]*>\n(.*?)</textarea>', page.text, re.DOTALL)[1]
    assert unescape(text) == body
    form = {**fields(page.text), **chosen, "body": unescape(text), "rate": "1000"}
    job, replays = await job_of(client, await operator.post("/jobs", form))
    assert [each.event.body for each in replays] == [body.encode()] * 2
    assert all(each.event.replay.edited_from for each in replays)
    shown = words((await operator.get(f"/jobs/{job.id}")).text)
    assert f"Edited input {len(body.encode())} bytes, with the content type of each request" in shown
    empty = {"input": "edited", "body": "", "again": "true", "rate": "1000"}
    page = await operator.post("/jobs/new", {**fields(page.text), **empty})
    job, _ = await job_of(client, await operator.post("/jobs", {**fields(page.text), **empty}))
    assert job.spec.replay.body == b""


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"start": "task"}, "name a task"),
        ({"start": "task", "task": "do/0/keep"}, "name the task to begin with"),
        ({"start": "task", "task": "/do/0/keep", "output": "{<i>"}, "not JSON"),
        ({"start": "task", "task": "/do/0/keep", "input": "edited", "body": "{}"}, "from the beginning"),
        ({"input": "other"}, "input: write recorded or edited"),
        ({"start": "somewhere"}, "start"),
        ({"action": "cancel", "revision": "latest"}, "for the action replay only"),
    ],
)
async def test_replays_that_make_no_sense_are_refused_with_what_to_write(operator, chosen, said):
    await operator.get("/secrets")
    form = {"flow": "x", "action": "replay", **chosen}
    answer = await operator.post("/jobs", form)
    assert (answer.status, said in unescape(answer.text), "<i>" in answer.text) == (400, True, False)
    if form["action"] == "replay":
        answer = await operator.post("/jobs/new", form)
        assert (answer.status, said in unescape(answer.text)) == (400, True)


async def test_the_api_replays_with_changes_too(browser, router, client):
    await fault(router, client, "twin", 1, journaled=True)
    headers = {"Authorization": f"Bearer {router.token('admin')}"}
    choice = {"flow": "twin", "start": "task", "task": "/do/0/keep", "output": "[1]"}
    query = {name: value for name, value in choice.items() if name != "output"}
    preview = orjson.loads((await browser.request("GET", "/api/jobs/new", params=query, headers=headers)).body)
    assert preview["replays"] == [
        {
            "preview": {
                "revision": 1,
                "taken_over": [],
                "again": [{"task": "/do/0/keep", "kind": "set"}],
                "keeps_idempotency_keys": False,
                "latest_revision": 1,
            },
            "reason": "",
            "message": "",
        }
    ]
    answer = await browser.request("POST", "/api/jobs", json={**choice, "reason": "r"}, headers=headers)
    made = orjson.loads(answer.body)
    assert (answer.status, made["start"], made["task"], made["output_given"], made["data_bytes"]) == (
        200,
        "task",
        "/do/0/keep",
        True,
        3,
    )
    job = await until(lambda: client.jobs.get(made["id"]), lambda found: found.state.ended)
    assert job.done == 1
    shown = orjson.loads((await browser.request("GET", f"/api/jobs/{made['id']}", headers=headers)).body)
    ends = {"completed": 0, "faulted": 0, "cancelled": 0, "unended": 1, "unknown": 0}
    assert shown["replay_ends"] == ends
    items = orjson.loads((await browser.request("GET", f"/api/jobs/{made['id']}/items", headers=headers)).body)
    assert items["items"][0]["new_execution_status"] == "pending"
    for wrong in ({"output": "1"}, {"start": "task"}, {"start": "failed_task", "body": "1"}, {"content_type": "a/b"}):
        answer = await browser.request("POST", "/api/jobs", json={"flow": "twin", **wrong}, headers=headers)
        assert answer.status == 400, wrong


async def test_the_same_form_sent_twice_creates_one_job(operator, router, client):
    await fault(router, client, "twice", 1)
    form = fields((await operator.get("/jobs/new?flow=twice&action=resolve")).text)
    first, second = [await operator.post("/jobs", form) for _ in range(2)]
    assert first.headers["Location"] == second.headers["Location"]


async def test_a_filter_without_a_condition_is_refused(operator, browser, router):
    assert "Give at least one condition" in (await operator.get("/jobs/new")).text
    for answer in (await operator.get("/jobs/new?action=cancel"), await operator.post("/jobs", {"action": "cancel"})):
        assert answer.status == 400
        assert "give at least one" in answer.text
    headers = {"Authorization": f"Bearer {router.token('admin')}"}
    answer = await browser.request("POST", "/api/jobs", json={"action": "cancel"}, headers=headers)
    assert (answer.status, orjson.loads(answer.body)["reason"]) == (400, "FILTER_EMPTY")


@pytest.mark.parametrize(
    "query",
    [
        "flow=x&action=explode",
        "flow=x&rate=0",
        "flow=x&rate=1001",
        "flow=x&since=now",
        "attribute=x",
        "color=x",
    ],
)
async def test_what_a_job_can_not_be_is_refused_with_what_to_write(operator, query):
    answer = await operator.get(f"/jobs/new?{query}")
    assert answer.status == 400
    assert query.rpartition("&")[2].partition("=")[0] in answer.text


async def test_a_viewer_sees_jobs_and_may_not_change_them(viewer, browser, router, client):
    await fault(router, client, "viewed", 1)
    page = (await viewer.get("/jobs/new?flow=viewed&action=replay")).text
    assert "1 execution match" in page
    assert 'action="/jobs"' not in page
    assert "Replay all" not in (await viewer.get("/faults?flow=viewed")).text
    await viewer.get("/secrets")
    for path in ("/jobs", "/jobs/new"):
        assert (await viewer.post(path, {"action": "replay", "flow": "viewed"})).status == 403
    headers = {"Authorization": f"Bearer {router.token('view')}"}
    answer = await browser.request("POST", "/api/jobs", json={"action": "replay", "flow": "viewed"}, headers=headers)
    assert (answer.status, orjson.loads(answer.body)["reason"]) == (403, "SCOPE_MISSING")
    assert (await viewer.get("/api/jobs")).status == 200


async def test_an_unknown_job_is_not_found(operator):
    for path in ("/jobs/job_x", "/api/jobs/job_x", "/api/jobs/job_x/items", "/jobs/job_x/progress"):
        assert (await operator.get(path)).status == 404
    assert (await operator.post("/jobs/job_x/abort")).status == 404


async def test_a_job_that_has_ended_is_not_paused(operator, router, client):
    await fault(router, client, "ended", 1)
    form = fields((await operator.get("/jobs/new?flow=ended&action=resolve")).text)
    path = (await operator.post("/jobs", form)).headers["Location"]
    await until(lambda: client.jobs.get(path.removeprefix("/jobs/")), lambda job: job.state.ended)
    answer = await operator.post(f"{path}/pause")
    assert (answer.status, "has ended" in answer.text) == (409, True)


async def test_the_page_asks_for_the_progress_until_the_job_ends(operator, viewer, router, client):
    await fault(router, client, "slow", 3)
    form = fields((await operator.get("/jobs/new?flow=slow&action=replay&rate=0.01")).text)
    path = (await operator.post("/jobs", {**form, "rate": "0.01"})).headers["Location"]
    progress = await viewer.get(f"{path}/progress")
    assert ('hx-trigger="every 1s"' in progress.text, progress.headers.get("HX-Refresh")) == (True, None)
    assert "of 3" in progress.text
    outcomes = f'<div id="outcomes" hx-get="{path}?outcome=done"'
    assert outcomes in (await operator.get(f"{path}?outcome=done")).text
    await until(lambda: client.jobs.get(path.removeprefix("/jobs/")), lambda job: job.done == 1)
    assert (await operator.post(f"{path}/abort")).status == 303
    progress = await viewer.get(f"{path}/progress?seen=running")
    assert ('hx-trigger="every 5s"' in progress.text, progress.headers.get("HX-Refresh")) == (True, "true")
    assert "1 not ended yet" in progress.text
    progress = await viewer.get(f"{path}/progress?seen=aborted")  # only its replays go on
    assert "HX-Refresh" not in progress.headers
    [replay] = [item.new_execution_id async for item in client.jobs.items(path.removeprefix("/jobs/"))]
    await client.executions.cancel(replay)
    ended = (await operator.get(path)).text
    assert ("Abort" in ended, "hx-trigger" in ended, "1 cancelled" in ended) == (False, False, True)


async def test_progress_is_for_those_who_are_logged_in(browser):
    answer = await browser.get("/jobs/x/progress")
    assert (answer.status, answer.body) == (401, b"")


async def test_outcomes_are_shown_page_by_page_and_by_kind(operator, router, client, monkeypatch):
    await fault(router, client, "many", 3)
    await client.flows.delete("many")
    form = fields((await operator.get("/jobs/new?flow=many&action=replay&revision=latest")).text)
    path = (await operator.post("/jobs", {**form, "rate": "1000", "revision": "latest"})).headers["Location"]
    await until(lambda: client.jobs.get(path.removeprefix("/jobs/")), lambda job: job.state.ended)
    first = (await operator.get(f"{path}?outcome=failed&page_size=2")).text
    assert first.count("FLOW_NOT_FOUND") == 2
    further = unescape(re.search(r'href="([^"]+)" rel="next"', first)[1])
    assert (await operator.get(f"{further}&page_size=2")).text.count("FLOW_NOT_FOUND") == 1
    assert "No execution was skipped" in (await operator.get(f"{path}?outcome=skipped")).text


async def test_an_operator_replays_a_group_and_aborts_it_half_way(tab, router, client):
    await fault(router, client, "halved", 40)
    await log_in(tab, router.token("admin"))
    await tab.goto("/faults?flow=halved")
    await tab.get_by_role("link", name="Replay all").click()
    await tab.get_by_role("heading", name="40 executions match").wait_for()
    await tab.get_by_label("At most per second").fill("0.1")  # so that it can't end before it is aborted
    await tab.get_by_role("button", name="Replay 40").click()
    await tab.get_by_role("button", name="Pause").wait_for()
    job_id = tab.url.rpartition("/")[2]
    await tab.get_by_text(re.compile(r"[1-9]\d* started")).wait_for()  # without reloading
    await tab.get_by_text("Abort …").click()
    await tab.get_by_role("button", name="Abort").click()
    await tab.get_by_text("aborted", exact=True).first.wait_for()
    job = await client.jobs.get(job_id)
    assert job.state is JobState.ABORTED
    assert 0 < job.done < 40
    replays = [each async for each in client.executions.list(flow_id="halved", statuses=[Status.PENDING])]
    assert len(replays) == len({each.replay_of for each in replays}) == job.done


async def test_a_page_of_a_job_reloads_by_itself_when_the_job_has_ended(tab, router, client):
    await fault(router, client, "awaited", 3)
    await log_in(tab, router.token("admin"))
    await tab.goto("/jobs/new?flow=awaited&action=resolve")
    await tab.get_by_label("At most per second").fill("2")
    await tab.get_by_role("button", name="Resolve 3").click()
    await tab.get_by_text("completed", exact=True).first.wait_for()
    await tab.get_by_role("button", name="Pause").wait_for(state="detached")
    assert await tab.get_by_role("row").count() == 4


async def test_in_a_browser_a_group_is_replayed_from_a_task_whose_output_is_given(tab, router, client):
    await fault(router, client, "chosen", 2, journaled=True)
    await log_in(tab, router.token("admin"))
    await tab.goto("/jobs/new?flow=chosen&action=replay")
    await tab.get_by_text("Task, its output, edited input").click()
    await tab.get_by_label("Body").fill("{}")
    assert await tab.locator("select[name=input]").input_value() == "edited"
    await tab.locator("select[name=input]").select_option("recorded")
    await tab.locator("input[name=task]").fill("/do/0/keep")
    assert await tab.locator("select[name=start]").input_value() == "task"
    await tab.get_by_label("Output of this task").fill("[1]")
    await tab.get_by_role("button", name="Show what will run").click()
    await tab.get_by_text("its output is the given one").wait_for()
    assert await tab.get_by_text("is not used").count() == 1
    await tab.get_by_label("At most per second").fill("1000")
    await tab.get_by_role("button", name="Replay 2").click()
    await tab.get_by_text("completed", exact=True).first.wait_for()
    job = await client.jobs.get(tab.url.rpartition("/")[2])
    assert (job.done, job.spec.replay.from_task, job.data_bytes) == (2, "/do/0/keep", 3)


async def test_other_conditions_are_previewed_with_the_choices_below_them(tab, router, client):
    await fault(router, client, "kept-choice", 2, journaled=True)
    await log_in(tab, router.token("admin"))
    await tab.goto("/jobs/new?flow=kept-choice&action=replay")
    await tab.get_by_text("Task, its output, edited input").click()
    await tab.get_by_label("Output of this task").fill("[1]")
    await tab.locator("select[name=start]").select_option("failed_task")
    await tab.get_by_label("At most per second").fill("7")
    await tab.get_by_label("Reason").fill("typed")
    await tab.get_by_label("faulted").check()
    await tab.get_by_label("Flow", exact=True).press("Enter")
    await tab.get_by_role("heading", name="2 executions match").wait_for()
    assert await tab.get_by_label("faulted").is_checked()
    await tab.get_by_label("completed").check()
    await tab.get_by_label("faulted").uncheck()
    await tab.get_by_role("button", name="Preview").click()
    await tab.get_by_text("Nothing to do").wait_for()  # and what was chosen stays there, too
    assert await tab.get_by_role("button", name="Replay").count() == 0
    await tab.get_by_label("completed").uncheck()
    await tab.get_by_role("button", name="Preview").click()
    await tab.get_by_role("heading", name="2 executions match").wait_for()
    assert await tab.locator("select[name=start]").input_value() == "failed_task"
    assert await tab.get_by_label("Output of this task").input_value() == "[1]"
    assert await tab.get_by_label("At most per second").input_value() == "7"
    assert await tab.get_by_label("Reason").input_value() == "typed"


async def test_no_job_is_created_for_conditions_that_were_not_previewed(operator, router, client):
    await fault(router, client, "previewed-a", 1)
    await fault(router, client, "previewed-b", 2)
    form = fields((await operator.get("/jobs/new?flow=previewed-a&action=resolve")).text)
    for changed in ({"flow": "previewed-b"}, {"status": "completed"}, {"action": "delete"}, {"until": "1h"}):
        answer = await operator.post("/jobs", {**form, "reason": "typed", **changed})
        assert (answer.status, "No job was created" in answer.text, 'value="typed"' in answer.text) == (409, True, True)
    assert "flow=previewed-b" not in (await operator.get("/api/jobs")).text
    answer = await operator.post("/jobs", {**form, "flow": "previewed-b"})
    job, _ = await job_of(client, await operator.post("/jobs", {**fields(answer.text), "rate": "1000"}))
    assert (job.done, job.spec.filter.flow_id) == (2, "previewed-b")


async def test_what_was_entered_and_is_not_used_is_said_before_a_job_is_created(operator, router, client):
    await fault(router, client, "not-used", 1)
    entered = {"task": "/do/0/keep", "output": "[1]", "input": "recorded", "body": "{<i>}", "content_type": ""}
    page = await operator.get("/jobs/new?flow=not-used&action=replay")
    assert "is not used" not in page.text
    page = await operator.post("/jobs", {**fields(page.text), **entered})
    assert (page.status, "No job was created: you changed" in page.text) == (409, True)
    for name in ("task that you gave", "output that you gave", "input that you edited"):
        assert f"The {name} below is not used: choose" in page.text
    assert "{&lt;i&gt;}</textarea>" in page.text
    assert "not-used" not in (await operator.get("/api/jobs")).text
    invalid = await operator.post("/jobs", {**fields(page.text), **entered, "rate": "0", "body": "other"})
    assert invalid.status == 400
    assert (await operator.post("/jobs", {**fields(invalid.text), **entered, "body": "other"})).status == 409
    job, _ = await job_of(client, await operator.post("/jobs", {**fields(page.text), **entered, "rate": "1000"}))
    assert (job.done, job.spec.replay.body, job.spec.replay.output, job.spec.replay.from_task) == (1, None, None, "")


async def test_a_relative_time_stays_that_of_the_preview(operator, router, client):
    await fault(router, client, "relative", 1)
    page = (await operator.get("/jobs/new?flow=relative&since=1h&action=resolve")).text
    form = fields(page)
    assert [form["since"][0]] == re.findall(r'<input name="since"[^>]* value="([^"]*)"', page)
    job, _ = await job_of(client, await operator.post("/jobs", form))
    assert f"{form['since'][0]}" in (await operator.get(f"/jobs/{job.id}")).text


async def test_in_a_browser_a_title_of_several_lines_is_a_condition(tab, router, client):
    await fault(router, client, "lines", 1, title="Away\nfor lunch")
    await log_in(tab, router.token("admin"))
    await tab.goto("/faults?flow=lines")
    await tab.get_by_role("link", name="Resolve all").click()
    await tab.get_by_role("button", name="Preview").click()
    await tab.get_by_role("heading", name="1 execution match").wait_for()
    await tab.get_by_role("button", name="Resolve 1").click()
    await tab.get_by_text("completed", exact=True).first.wait_for()
    assert (await client.jobs.get(tab.url.rpartition("/")[2])).done == 1
