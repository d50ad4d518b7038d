"""Snapshots and purging while events are accepted, and routers that have to restore one."""

from __future__ import annotations

import asyncio
import os
from contextlib import closing

import pytest
from structlog.testing import capture_logs
from support.cluster_keys import keys_of
from support.replicated_routers import load
from support.routers import flow

from router.cluster import member
from router.storage.commit_log.jetstream import connect

BODY = b'"%s"' % os.urandom(1000).hex().encode()
SMALL = {"snapshot_log_bytes": 40_000}


@pytest.fixture(autouse=True)
def _frequent_checks(monkeypatch):
    monkeypatch.setattr(member, "SNAPSHOT_CHECK_SECONDS", 0.02)


async def purged(router, position):
    """Wait until the log lacks the record at a position."""
    while (await router.shard()).first_position <= position:
        await asyncio.sleep(0.01)


async def settled(routers):
    """Wait until the standby has all that the log has, and return the owner."""
    owner = await routers.owner()
    await routers.other(owner).follows((await owner.shard()).position)
    return owner


async def assert_complete(routers, ids):
    """Check that every router has all executions, and that views are equal."""
    owner = await settled(routers)
    standby = routers.other(owner)
    await owner.stop()
    assert await routers.owner() is standby
    async with standby.client() as client:
        assert {execution.id async for execution in client.executions.list(flow_id="demo")} == set(ids)
    await routers.assert_views_equal()


async def test_routers_that_were_wiped_or_away_for_longer_than_the_log_restore_under_load(routers):
    owner = routers.start("r1", **SMALL)
    await routers.owner()
    away = routers.start("r2", **SMALL)
    await away.until(lambda router: router.lifecycle.ready.is_set())
    async with routers.client() as client:
        await client.flows.apply([flow("demo")])
        async with load(client, "demo", BODY) as sent:
            await away.stop()
            await purged(owner, (await owner.shard()).position)
            away = routers.start("r2", **SMALL)
            await away.until(lambda router: router.lifecycle.ready.is_set())

            await away.stop()
            away.wipe()
            await purged(owner, 1)
            wiped = routers.start("r2", **SMALL)
            await wiped.until(lambda router: router.lifecycle.ready.is_set())
    await assert_complete(routers, sent.ids)


async def test_when_the_newest_snapshot_is_damaged_the_older_one_and_the_log_make_a_view(routers, url, tmp_path):
    owner = routers.start("r1")  # it makes no snapshots
    await routers.owner()
    other = routers.start("r2", **SMALL)
    await other.until(lambda router: router.lifecycle.ready.is_set())
    async with routers.client() as client:
        await client.flows.apply([flow("demo")])
        async with load(client, "demo", BODY) as sent:
            await purged(owner, 1)
    await other.stop()
    other.wipe()
    damaged = (await owner.shard()).snapshots[0].position
    (tmp_path / "damaged").write_bytes(os.urandom(1000))
    with closing(await asyncio.to_thread(connect, url, keys_of(routers.directory), router="vandal")) as vandal:
        await asyncio.to_thread(vandal.objects.put, f"snap/0/{damaged:020}.zst", tmp_path / "damaged")
    with capture_logs() as logged:
        other = routers.start("r2", **SMALL)
        await other.until(lambda router: router.lifecycle.ready.is_set())
    assert [entry["position"] for entry in logged if entry["event"] == "snapshot can't be used"] == [damaged]
    await assert_complete(routers, sent.ids)
