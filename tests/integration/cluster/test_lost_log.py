"""A log that is deleted underneath running routers: nothing is acknowledged, and a view makes it anew."""

from __future__ import annotations

import asyncio

import nats
import pytest
from structlog.testing import capture_logs
from support.commands import flowhook
from support.replica import tables
from support.routers import flow

from flowhook.errors import UnavailableError
from flowhook.v1.flow_service_pb2 import ListFlowsRequest
from router.storage.commit_log.interface import LogReplacedError
from router.storage.commit_log.jetstream.connection import LogConnection
from router.storage.commit_log.jetstream.opening import rebuild_log
from router.storage.replicated.view import View


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr("cli.commands.cluster.HEARTBEAT_SECONDS", 0.1)
    monkeypatch.setitem(LogConnection.persist.__kwdefaults__, "seconds", 0.3)


async def delete(server, url):
    """Delete the stream of the log."""
    prefix = url.partition("prefix=")[2].partition("&")[0]
    client = await nats.connect(server.address, user="flowhook", password="secret")
    await client.jetstream().delete_stream(f"{prefix}_LOG_0")
    await client.close()


def content(router):
    with View(router.view_dir).connected() as connection:
        return tables(connection)


async def lose_log(routers, lose):
    """Lose the log of an owner and a standby by `lose()`; return both, and the events that were accepted."""
    owner = routers.start("r1")
    await routers.owner()
    standby = routers.start("r2")
    async with owner.client() as client:
        await client.flows.apply([flow("demo")])
        ids = {await client.ingest("demo", b"{}") for _ in range(5)}
    await standby.follows((await owner.shard()).position)
    with capture_logs() as logged:
        await lose()
        for router in (owner, standby):
            await router.until(lambda router: "LOG_REPLACED" in router.lifecycle.detail)
    refused = [entry["reason"] for entry in logged if entry["event"] == "this router can't follow the log"]
    assert refused[:2] == ["LOG_REPLACED"] * 2
    return owner, standby, ids


async def assert_nothing_is_acknowledged(owner, standby):
    for router in (owner, standby):
        assert not router.lifecycle.ready.is_set()
        async with router.client() as client:
            with pytest.raises(UnavailableError) as raised:
                await client._transport.call(client.flows._stub.ListFlows, ListFlowsRequest(), repeatable=False)
        assert raised.value.reason == "SHARD_MOVED"


async def test_routers_whose_log_is_deleted_acknowledge_nothing_and_say_so(routers, server, url):
    owner, standby, _ = await lose_log(routers, lambda: delete(server, url))
    await assert_nothing_is_acknowledged(owner, standby)


async def test_a_log_that_was_replaced_is_made_anew_of_a_view_and_the_other_router_follows_it(routers, url):
    owner, standby, ids = await lose_log(routers, lambda: asyncio.to_thread(rebuild_log, url))
    await assert_nothing_is_acknowledged(owner, standby)
    await routers.close()
    before = content(owner)
    assert {row[1] for row in before["execution"]} == ids
    assert content(standby)["execution"] == before["execution"]
    again = routers.start("r1")
    with pytest.raises(LogReplacedError, match="rebuild-log"):
        await again.task
    view, key = ("--view-dir", owner.view_dir), ("--data-dir", routers.directory)
    done = await asyncio.to_thread(flowhook, "cluster", "rebuild-log", *view, *key, FLOWHOOK_STORAGE=url)
    assert (done.code, done.err) == (0, "")

    owner = routers.start("r1")
    await routers.owner()
    with capture_logs() as logged:
        standby = routers.start("r2")
        await standby.until(lambda router: router.lifecycle.ready.is_set())
    warnings = [entry["event"] for entry in logged if entry["log_level"] == "warning"]
    assert warnings == ["the view belongs to another log, and is set aside"]
    assert list(standby.view_dir.glob("view.db.*[0-9]"))
    async with owner.client() as client:
        ids.add(await client.ingest("demo", b"{}"))
        assert {execution.id async for execution in client.executions.list(flow_id="demo")} == ids
    await standby.follows((await owner.shard()).position)
    await routers.assert_views_equal()
