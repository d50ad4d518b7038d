"""axe finds nothing serious on any page, light or dark, and no page is wider than its screen, small or large.

A page that is added to the routes is looked at here as well: its parameters need a sample.
Source: https://github.com/dequelabs/axe-core/blob/develop/doc/rule-descriptions.md
"""

from __future__ import annotations

import asyncio

import pytest
import pytest_asyncio
from support.browsers import log_in
from support.patience import PATIENCE
from support.routers import flow
from support.runners import attached

from admin.application import PAGES
from admin.console.executions import ExecutionProgress
from admin.console.jobs import JobProgress
from admin.console.live import LiveStream
from admin.console.page import ConsolePage
from flowhook.client import channel
from flowhook.model.execution_filter import ExecutionFilter
from flowhook.model.jobs import JobAction, JobSpec
from flowhook.v1 import rejection_service_pb2 as pb
from flowhook.v1.rejection_service_pb2_grpc import RejectionServiceStub

pytestmark = pytest.mark.asyncio(loop_scope="session")

SERIOUS = {"serious", "critical"}
WIDTHS = (2560, 1760, 1280, 800, 360)
ONLY_VIOLATIONS = {"resultTypes": ["violations"]}
NO_PAGES = (LiveStream, JobProgress, ExecutionProgress)
"""What redirects, and parts of pages."""
REJECTION = f"rej_{'0' * 26}"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def samples(router, client):
    """Parameters of paths: things that exist, with long texts."""
    await client.flows.apply([flow("seen-by-axe")])
    await client.secrets.set("a-secret", b"value")
    async with attached(router, credit=2) as runner:
        execution_id = await client.ingest("seen-by-axe", {"a": 1}, headers=[("x-" + "n" * 100, b"v" * 500)])
        [interrupted] = await runner.assignments(1)
        await runner.settle({"lease": interrupted.lease, "released": {"reason": "r" * 64, "charged": True}})
        [assignment] = await runner.assignments(1)
        await runner.checkpoint(assignment, 0, "/do/0/keep#0", b'{"kept": true}')
        error = {"type": "about:blank", "status": 500, "title": "t" * 200, "detail": "d" * 500}
        await runner.settle({"lease": assignment.lease, "faulted": error})
        origin = f"https://{'d' * 60}.example"
        report = {"flow_id": "seen-by-axe", "origin": origin, "failures": 5, "cause": "c" * 200}
        await runner.send(call_reports={"reports": [report]})
        async with asyncio.timeout(PATIENCE):
            while not (incidents := [each async for each in client.incidents.list()]):
                await asyncio.sleep(0.01)
    async with channel.connect(router.target, router.token("edge")) as connection:
        rejection = pb.Rejection(
            id=REJECTION,
            flow_id="seen-by-axe",
            status=401,
            reason="SIGNATURE_MISMATCH",
            detail="d" * 300,
            path="/p" * 90,
        )
        await RejectionServiceStub(connection).ReportRejections(pb.ReportRejectionsRequest(rejections=[rejection]))
    job = await client.jobs.create(JobSpec(JobAction.RESOLVE, ExecutionFilter("seen-by-axe", min_attempts=2)))
    return {
        "flow_id": "seen-by-axe",
        "execution_id": execution_id,
        "incident_id": incidents[0].id,
        "rejection_id": REJECTION,
        "job_id": job.id,
    }


def paths(samples):
    return [
        path.format(**samples)
        for path, handler in PAGES
        if issubclass(handler, ConsolePage) and not issubclass(handler, NO_PAGES) and "GET" in handler.SUPPORTED_METHODS
    ]


async def test_axe_finds_nothing_serious(tab, router, samples):
    axe = pytest.importorskip("axe_playwright_python.async_playwright").Axe()
    found = []

    async def look_at(page, path):
        await page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
        found.extend((path, *each) for each in serious((await axe.run(page, options=ONLY_VIOLATIONS)).response))
        await page.emulate_media(color_scheme="dark")
        again = await page.evaluate("options => axe.run(options)", ONLY_VIOLATIONS | {"runOnly": ["color-contrast"]})
        found.extend((path, "dark", *each) for each in serious(again))
        await page.emulate_media(color_scheme="light")
        for width in WIDTHS:
            await page.set_viewport_size({"width": width, "height": 740})
            if await page.evaluate("document.documentElement.scrollWidth") > width:
                found.append((path, f"wider than {width} px"))

    async def look(path):
        await tab.goto(path)
        await look_at(tab, path)

    await look("/login")
    await log_in(tab, router.token("admin"))
    execution = f"/executions/{samples['execution_id']}"
    views = [f"{execution}?view={view}" for view in ("timeline", "trace", "journal")]
    for path in [*paths(samples), *views, "/jobs/new?flow=seen-by-axe&action=replay"]:
        await look(path)
    page = await tab.context.new_page()  # of `tab`, what the browser logs would fail the test
    await page.goto("/jobs/new?flow=seen-by-axe&rate=abc&since=never")
    await look_at(page, "a form with invalid fields")
    assert await page.get_by_label("At most per second").get_attribute("aria-invalid") == "true"
    await page.goto("/apply")
    await page.locator(".code-editor").wait_for()
    await page.context.clear_cookies()
    await page.get_by_role("button", name="Apply").click()
    await page.get_by_label("Token").fill(router.token("admin"))
    await look_at(page, "a form whose session has ended")
    await page.get_by_role("button", name="Log in").click()
    await page.get_by_role("button", name="Send it now").wait_for()
    await look_at(page, "the form after the login")
    assert found == []


def serious(results):
    """Return the serious violations among what axe found: rule, impact, and the first elements."""
    return [
        (each["id"], each["impact"], [node["html"][:200] for node in each["nodes"]][:3])
        for each in results["violations"]
        if each["impact"] in SERIOUS
    ]
