"""Bulk jobs on the console: from a group of faults to the outcome of each execution."""

from __future__ import annotations

import re
from html import unescape

import orjson
import pytest
from support.browsers import log_in
from support.jobs import until
from support.routers import flow
from support.runners import attached

from flowhook.execution_filter import ExecutionFilter
from flowhook.jobs import JobState
from flowhook.model import Status

pytestmark = pytest.mark.asyncio(loop_scope="session")

HIDDEN = re.compile(r'<input type="hidden" name="(\w+)" value="([^"]*)">')


async def fault(router, client, flow_id, count, *, task="/do/0/keep", title="Communication Error"):
    """Send events whose executions fault, pause the flow, lest a runner get their replays, and return their IDs."""
    await client.flows.apply([flow(flow_id)])
    await client.flows.resume(flow_id)
    async with attached(router) as runner:
        sent = [await client.ingest(flow_id, {"n": number}) for number in range(count)]
        error = {"type": "about:blank", "status": 503, "title": title, "instance": task}
        for _ in range(count):
            await runner.credit(1)
            [assignment] = await runner.assignments(1)
            await runner.settle({"lease": assignment.lease, "faulted": error})

        async def faulted():
            wanted = ExecutionFilter(flow_id=flow_id, error_title=title)
            return [each async for each in client.executions.list(where=wanted)]

        await until(faulted, lambda found: len(found) == count)
    await client.flows.pause(flow_id)
    return sent


def fields(page):
    """Return the hidden fields of the form that creates a job: several of one name are a list."""
    found = {}
    for name, value in HIDDEN.findall(page[page.index('action="/jobs"') :]):
        found.setdefault(name, []).append(unescape(value))
    return found


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
    assert "3 done, 0 skipped, 0 failed" in shown
    assert "the shop was away" in shown
    for execution_id in faulted:
        assert f"/executions/{execution_id}" in shown
    assert "No execution" not in (await operator.get("/faults?flow=grouped")).text
    assert 'value="0"' not in (await operator.get("/jobs")).text


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
    assert (await viewer.post("/jobs", {"action": "replay", "flow": "viewed"})).status == 403
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
    assert (await operator.post(f"{path}/abort")).status == 303
    progress = await viewer.get(f"{path}/progress")
    assert ("hx-trigger" in progress.text, progress.headers.get("HX-Refresh")) == (False, "true")
    assert "Abort" not in (await operator.get(path)).text


async def test_progress_is_for_those_who_are_logged_in(browser):
    answer = await browser.get("/jobs/x/progress")
    assert (answer.status, answer.body) == (401, b"")


async def test_outcomes_are_shown_page_by_page_and_by_kind(operator, router, client, monkeypatch):
    await fault(router, client, "many", 3)
    await client.flows.delete("many")
    form = fields((await operator.get("/jobs/new?flow=many&action=replay")).text)
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
    await tab.get_by_label("At most per second").fill("20")
    await tab.get_by_role("button", name="Replay 40").click()
    await tab.get_by_role("button", name="Pause").wait_for()
    job_id = tab.url.rpartition("/")[2]
    await tab.get_by_text(re.compile(r"[1-9]\d* done")).wait_for()  # without reloading
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
