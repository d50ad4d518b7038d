"""The page about the cluster: backlog, storage, and what each process does."""

from __future__ import annotations

import asyncio
import re
from html import unescape

import orjson
import pytest
from support.commands import flowhook
from support.consoles import running_console
from support.patience import PATIENCE
from support.relays import relayed
from support.routers import flow, running_router
from support.runners import attached

from admin import app
from admin.console.page import ConsolePage
from flowhook.client import channel
from flowhook.v1 import cluster_service_pb2 as pb
from flowhook.v1.cluster_service_pb2_grpc import ClusterServiceStub

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def report(router, role, **fields):
    process = pb.Process(name=f"{role}-1", role=role, ready=True, host=f"host-of-{role}", pid=77, **fields)
    process.start_time.FromSeconds(1_700_000_000)
    async with channel.connect(router.target, router.token(role)) as connection:
        await ClusterServiceStub(connection).ReportProcess(pb.ReportProcessRequest(process=process))


def text_of(answer):
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", answer.text)))


async def test_it_shows_why_the_cluster_is_not_ready_then_what_each_process_does(tmp_path):
    async with (
        running_router(tmp_path / "data") as router,
        router.client() as client,
        running_console(router) as console,
        console.browser() as viewer,
    ):
        await viewer.log_in(router.token("view"))
        await client.flows.apply([flow("busy")])
        await client.ingest("busy", b"x" * (2 << 20), content_type="application/octet-stream")  # beside the database
        shown = text_of(await viewer.get("/cluster"))
        assert shown.index("there is no edge") < shown.index("Backlog")
        await report(router, "edge", connections=12)
        await report(router, "runner")
        for _ in range(4):
            await client.ingest("busy", {})
        async with attached(router, "runner-1", credit=3) as runner:
            await runner.assignments(3)
            await runner.credit(5)
            [first, *_] = await runner.assignments(2)
            await runner.complete(first)
            answer = await viewer.get("/cluster")
            view = orjson.loads((await viewer.get("/api/cluster")).body)
            shown = text_of(answer)
        assert "12 connections" in shown
        assert re.search(r"[45] in flight, 3 credit", shown)
        assert "host-of-runner" in shown
        assert re.search(r"router-1 ready owner \d+ s", shown)
        assert re.search(r"0 pending, [45] running, 0 waiting, 0 suspended of at most", shown)
        processes = {process["name"]: process for process in view["processes"]}
        assert processes["edge-1"]["started_at"].startswith("2023-11-14T22:13:20")
        assert processes["runner-1"]["credit"] == 3
        async with asyncio.timeout(PATIENCE):  # the storage is measured every ten seconds
            while view["storage"]["files"] != 1:
                await asyncio.sleep(0.1)
                view = orjson.loads((await viewer.get("/api/cluster")).body)
        assert view["storage"]["file_bytes"] > 2 << 20
        assert view["storage"]["database_bytes"] > 0
        assert 0 < view["storage"]["free_bytes"] < view["storage"]["disk_bytes"]
        assert 'hx-sse:connect="/stream/cluster"' in answer.text

        async with viewer.session.get("/stream/cluster") as stream:
            event = (await stream.content.readuntil(b"\n\n")).decode()
        assert "12 connections" in event
        assert "<html" not in event


async def test_a_condition_is_refused_because_there_are_none(viewer):
    for path in ("/cluster?name=x", "/stream/cluster?name=x", "/cluster?live=perhaps", "/api/cluster?name=x"):
        assert (await viewer.get(path)).status == 400, path
    answer = await viewer.get("/cluster?live=off")
    assert "hx-sse:connect" not in answer.text


async def test_a_page_says_that_the_router_hangs(tmp_path, monkeypatch):
    monkeypatch.setattr(app, "SILENCE_SECONDS", 0.3)
    monkeypatch.setattr(ConsolePage, "patience", 0.1)
    async with (
        running_router(tmp_path / "data") as router,
        relayed(router.target) as relay,
        running_console(router, target=relay.target) as console,
        console.browser() as viewer,
    ):
        await viewer.log_in(router.token("view"))
        relay.pause()
        answer = await viewer.get("/flows")  # and not only once the call of the page itself has had its time
        assert (answer.status, "did not answer within 0.3 s" in answer.text) == (503, True)
        relay.resume()
        async with asyncio.timeout(PATIENCE):
            while (await viewer.get("/flows")).status != 200:  # on a busy machine it may seem to hang again
                pass


async def test_a_process_that_died_is_dismissed_by_an_operator_on_the_page_by_the_api_and_by_the_command(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("router.reports.processes.ALIVE_SECONDS", 0.0)
    monkeypatch.setattr("admin.console.lists.SILENT_SECONDS", 0.0)
    async with (
        running_router(tmp_path / "data") as router,
        router.client() as client,
        running_console(router) as console,
        console.browser() as operator,
        console.browser() as viewer,
    ):
        await operator.log_in(router.token("admin"))
        await viewer.log_in(router.token("view"))
        for role in ("edge", "runner"):
            await report(router, role)
        path = "/cluster/processes/edge-1/dismiss"
        assert f'action="{path}"' not in (await viewer.get("/cluster")).text
        assert f'action="{path}"' in (await operator.get("/cluster")).text
        assert (await viewer.post(path)).status == 403
        answer = await operator.post(path, {"reason": "moved to another machine"})
        assert (answer.status, answer.headers["Location"]) == (303, "/cluster")
        assert "The process edge-1 is not shown any more" in (await operator.get("/cluster")).text
        [entry] = [entry async for entry in client.audit.list(action="ClusterService/DismissProcess")]
        assert (entry.target, entry.reason) == ("edge-1", "moved to another machine")
        where = ("--router", router.target, "--data-dir", router.settings.data_dir)
        command = await asyncio.to_thread(flowhook, "cluster", "dismiss", "runner-1", *where)
        assert (command.code, command.out) == (0, "runner-1 dismissed\n"), command.err
        assert {process.role for process in await client.cluster.processes()} <= {"router", "admin"}
