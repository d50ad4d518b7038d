"""Erasing an event of a replicated log: from the views of all routers, the snapshots, the objects and the log."""

from __future__ import annotations

import asyncio
import os
from contextlib import closing, suppress

import pytest
from support.cluster_keys import keys_of
from support.replicated_routers import load
from support.routers import flow

from router.cluster import member
from router.storage.commit_log.interface import LogTrimmedError
from router.storage.commit_log.jetstream import connect
from router.storage.replicated.batch import decode, join

MARK = os.urandom(20).hex().encode()
LARGE = MARK * 10_000
"""More than is stored in a record."""
SETTINGS = {"snapshot_seconds": 1.0, "snapshot_log_bytes": 10**9}


@pytest.fixture(autouse=True)
def _frequent_checks(monkeypatch):
    monkeypatch.setattr(member, "SNAPSHOT_CHECK_SECONDS", 0.02)


def left(routers):
    """Return the files of all routers that have the mark."""
    return [str(path) for path in routers.directory.rglob("*") if path.is_file() and MARK in path.read_bytes()]


async def purged(router, position):
    while (await router.shard()).first_position <= position:
        await asyncio.sleep(0.01)


def transactions(routers):
    """Return the transactions that the log has. Blocks."""
    with closing(connect(routers.url, keys_of(routers.directory), router="reader")) as replicated:
        parts = None
        while parts is None:
            after = replicated.log.status().first_position - 1
            with suppress(LogTrimmedError):  # it was purged meanwhile
                parts = [decode(record.data) for record in replicated.log.read(after)]
    while parts and parts[0].part:
        del parts[0]
    found = []
    while parts:
        transaction, parts = parts[: parts[0].parts], parts[parts[0].parts :]
        found.append(join(transaction))
    return found


async def test_an_event_is_gone_from_all_copies_the_snapshots_and_the_log(routers):
    owner = routers.start("r1", **SETTINGS)
    await routers.owner()
    standby = routers.start("r2", **SETTINGS)
    await standby.until(lambda router: router.lifecycle.ready.is_set())
    async with routers.client() as client:
        await client.flows.apply([flow("demo")])
        erased = [await client.ingest("demo", body, content_type="text/plain") for body in (MARK, LARGE)]
        kept = await client.ingest("demo", b"{}")
        while not (await owner.shard()).snapshots:
            await asyncio.sleep(0.01)
        while not any(MARK in each for each in await asyncio.to_thread(transactions, routers)):
            erased.append(await client.ingest("demo", MARK, content_type="text/plain"))  # the log was purged already
        position = (await owner.shard()).position
        await standby.follows(position)
        assert {path.split("/")[-2] for path in left(routers)} >= {"r1", "r2"}

        for execution_id in erased:
            deleted = await client.executions.delete(execution_id, erase=True, cancel=True)
            assert deleted.purge_pending
        assert not [path for path in left(routers) if "/r1/" in path]
        await purged(owner, position)  # though nothing else is appended
        while left(routers):
            await asyncio.sleep(0.01)
        snapshots = [each.position for each in (await owner.shard()).snapshots]
        assert min(snapshots) > position
        remaining = await asyncio.to_thread(transactions, routers)
        assert remaining
        assert not [each for each in remaining if MARK in each]

        await standby.stop()
        standby.wipe()
        standby = routers.start("r2", **SETTINGS)
        await standby.until(lambda router: router.lifecycle.ready.is_set())
        assert left(routers) == []
        async with load(client, "demo", b"{}") as sent:
            while len(sent.ids) < 10:
                await asyncio.sleep(0.01)
        await standby.follows((await owner.shard()).position)
    await owner.stop()
    assert await routers.owner() is standby
    async with standby.client() as client:
        assert {each.id async for each in client.executions.list()} == {kept, *sent.ids}
    await routers.assert_views_equal()
