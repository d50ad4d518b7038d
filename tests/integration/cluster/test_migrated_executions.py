"""Executions that wait for something, over `flowhook migrate` from a database to a log and back, and what ends them."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from support.commands import flowhook
from support.http_servers import http_server
from support.patience import PATIENCE
from support.replicated_routers import replicated_routers
from support.routers import running_router
from support.systems import document

from flowhook.model import Status
from flowhook.process.process_state import ProcessState
from flowhook.process.settings import RunnerSettings
from runner import app as runner_app

pytestmark = pytest.mark.release

EACH = 6
PARKED = {Status.WAITING, Status.SUSPENDED}
LISTEN = "- listen: {{listen: {{to: {{one: {{with: {{type: {kind}}}}}}}}}}}"
EMIT = "- emit: {{emit: {{event: {{with: {{source: 'https://test.example', type: {kind}}}}}}}}}"
CALL = """- call:
    call: http
    with: {{method: post, endpoint: '{url}/{kind}'}}
    metadata: {{retry: {{delay: {{seconds: 3}}, limit: {{attempt: {{count: 1000}}}}}}}}"""
KINDS = ("early", "late")
"""Those that end while they are in the log, and those that end in the database to which they come back."""


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr("cli.commands.backup.HEARTBEAT_SECONDS", 0.1)


@pytest.fixture
async def partner():
    """A server that fails until the kind of a call is among those it answers."""
    answered = set()

    async def answer(request):
        return web.json_response({}, status=200 if request.path.strip("/") in answered else 503)

    async with http_server(answer) as url:
        yield url, answered


@asynccontextmanager
async def running_runner(directory, target):
    lifecycle = ProcessState(name="runner-1", role="runner")
    settings = RunnerSettings(data_dir=directory, router=target, allow_private_addresses=True, drain_seconds=0.1)
    serving = asyncio.create_task(runner_app.serve(settings, lifecycle))
    try:
        yield
    finally:
        lifecycle.stop.set()
        await serving


async def statuses(client):
    return {execution.id: execution.status async for execution in client.executions.list()}


async def reach(client, ids, wanted):
    async with asyncio.timeout(PATIENCE):
        while not {(await statuses(client))[each] for each in ids} <= wanted:
            await asyncio.sleep(0.02)


async def start(client, url):
    """Start executions of every kind, wait until they wait, and return their IDs by kind and what they wait for."""
    documents = [document("time", do="- wait: {wait: {seconds: 4}}")]
    for kind in KINDS:
        documents += [
            document(f"event-{kind}", do=LISTEN.format(kind=kind)),
            document(f"emit-{kind}", do=EMIT.format(kind=kind)),
            *(document(f"{what}-{kind}", do=CALL.format(kind=kind, url=url)) for what in ("retry", "suspended")),
        ]
    await client.flows.apply(documents)
    flows = [f"{what}-{kind}" for kind in KINDS for what in ("event", "suspended", "retry")]
    found = {flow: [await client.ingest(flow, b"{}") for _ in range(EACH)] for flow in flows}
    for kind in KINDS:
        for each in found[f"suspended-{kind}"]:
            await client.executions.suspend(each)
    await reach(client, [each for some in found.values() for each in some], PARKED)
    found["time"] = [await client.ingest("time", b"{}") for _ in range(EACH)]
    await reach(client, found["time"], {*PARKED, Status.COMPLETED})  # a busy machine may see the end of the time first
    return found


async def let_go_on(client, started, kind, answered):
    """Do what the executions of a kind wait for, and wait until they are completed."""
    answered.add(kind)
    await client.ingest(f"emit-{kind}", b"{}")
    for each in started[f"suspended-{kind}"]:
        await client.executions.resume(each)
    ids = [each for what in ("event", "suspended", "retry") for each in started[f"{what}-{kind}"]]
    await reach(client, ids, {Status.COMPLETED})


async def migrate(source, target, data_dir):
    option, path, url = ("--from", source, target) if source.startswith("sqlite:") else ("--to", target, source)
    done = await asyncio.to_thread(flowhook, "migrate", option, path, "--data-dir", data_dir, FLOWHOOK_STORAGE=url)
    assert done.code == 0, done.err


async def test_executions_that_wait_go_on_after_a_migration_and_after_the_way_back(tmp_path, url, partner):
    partner_url, answered = partner
    data, back = tmp_path / "data", tmp_path / "back.db"
    async with running_router(data) as router, router.client() as client, running_runner(data, router.target):
        started = await start(client, partner_url)
        ids = {each for some in started.values() for each in some}
    await migrate(f"sqlite:{data / 'flowhook.db'}", url, data)

    async with replicated_routers(data, url) as routers:
        routers.start("r1")
        owner = await routers.owner()
        async with running_runner(data, routers.target), owner.client() as client:
            assert ids <= (await statuses(client)).keys()
            await let_go_on(client, started, "early", answered)
            await reach(client, started["time"], {Status.COMPLETED})
            late = [each for what in ("event", "suspended", "retry") for each in started[f"{what}-late"]]
            await reach(client, late, PARKED)
    await migrate(url, f"sqlite:{back}", data)

    async with running_router(data, storage=f"sqlite:{back}") as router, router.client() as client:
        async with running_runner(data, router.target):
            await let_go_on(client, started, "late", answered)
        found = await statuses(client)
        assert {found[each] for each in ids} == {Status.COMPLETED}
        assert len(found) == len(ids) + len(KINDS)
