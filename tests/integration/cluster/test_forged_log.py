"""What somebody can do who may use the servers of the log, but has no key: read nothing, forge nothing, repeat nothing.

The records here are as good as they can be made: of the right position, predecessor and next epoch.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from contextlib import closing

import apsw
import pytest
import zstandard
from structlog.testing import capture_logs
from support.cluster_keys import keys_of
from support.log_attackers import log_attacker
from support.patience import PATIENCE
from support.replicated_routers import load
from support.routers import flow

from flowhook.errors import ConflictError
from operations import health
from router.cluster import member
from router.storage.commit_log.interface import LogReplacedError
from router.storage.commit_log.jetstream import connect as connect_log
from router.storage.commit_log.jetstream.opening import rebuild_log
from router.storage.replicated.batch import BatchPart, BatchWriter, encode, record_hash
from router.storage.replicated.view import View, ViewPosition
from router.storage.schema import FORMAT_VERSION, connect_writer

SECRET = b"the customer's account is 1234567890"
REFUSED = "flowhook_router_log_refused"


@pytest.fixture
async def attacker(server, url):
    async with log_attacker(server, url) as attacker:
        yield attacker


def patchset(directory):
    """Return a change that every view would take: a row of a counter."""
    connection = connect_writer(directory / f"{os.urandom(4).hex()}.db", durable=False)
    try:
        session = apsw.Session(connection, "main")
        session.attach()
        connection.execute("INSERT INTO counter VALUES ('forged', 1)")
        return session.patchset()
    finally:
        connection.close()


def forged(directory, previous, epoch):
    ownership = BatchWriter(0, epoch, os.urandom(16), FORMAT_VERSION)
    return encode(BatchPart(ownership, 1, 0, 0, 1, previous, compressed=False, patchset=patchset(directory)))


async def pair(routers):
    """Start an owner and a standby, and return them."""
    owner = routers.start("r1")
    await routers.owner()
    standby = routers.start("r2")
    await standby.until(lambda router: router.lifecycle.ready.is_set())
    async with owner.client() as client:
        await client.flows.apply([flow("demo")])
    return owner, standby


async def attack(attacker, tmp_path, kind):
    """Store a record at the end of the log; return its position."""
    last = await attacker.last()
    if kind == "replayed":
        earlier = await attacker.record(last.seq - 1)
        return await attacker.append(earlier.data, f"{earlier.headers['Nats-Msg-Id']}0")
    if kind == "similar":
        return await attacker.append(last.data + b"0", f"{last.headers['Nats-Msg-Id'][:-4]}{os.urandom(2).hex()}")
    if kind == "empty":
        return await attacker.append(b"")
    data = forged(tmp_path, record_hash(last.data), epoch=2)
    return await attacker.append(data, f"2:{os.urandom(16).hex()}:1:0")


@pytest.mark.parametrize("kind", ["forged", "replayed", "similar", "empty"])
async def test_a_record_that_no_router_wrote_there_changes_nothing_and_moves_nothing(routers, attacker, tmp_path, kind):
    owner, standby = await pair(routers)
    with capture_logs() as logged:
        async with routers.client() as client, load(client, "demo") as sent:
            for _ in range(3):
                position = await attack(attacker, tmp_path, kind)
                count = len(sent.ids)
                async with asyncio.timeout(60):
                    while len(sent.ids) < count + 3:
                        await asyncio.sleep(0.01)
        idle = await attack(attacker, tmp_path, kind)
        for router in (owner, standby):  # also the owner, though it appends nothing
            await router.until(lambda router: f"position {idle}" in router.lifecycle.warnings.get("log", ""))
        async with owner.client() as client, asyncio.timeout(PATIENCE):  # as /readyz and the cluster page show it
            shown = []
            while [each[:2] for each in shown if f"position {idle}" in each] != ["r1", "r2"]:
                shown = health.warnings((await client.cluster.load()).processes)
    shard = await standby.shard()
    assert (shard.owner.router, shard.owner.epoch, shard.owner.serving) == ("r1", 1, True)
    for router in (owner, standby):
        assert router.lifecycle.ready.is_set()
        assert router.registry.get_sample_value(REFUSED, {"kind": "record"}) == 4
    named = [entry["name"] for entry in logged if entry["event"] == "refused what is not authentic"]
    assert named
    assert position < idle
    await owner.stop()  # the next owner claims behind it
    assert await routers.owner() is standby
    async with standby.client() as client:
        ids = {execution.id async for execution in client.executions.list(flow_id="demo")}
        assert ids == set(sent.ids)
        await client.ingest("demo", b"{}")
    with connect_view(standby) as connection:
        assert connection.execute("SELECT count(*) FROM counter WHERE name = 'forged'").get == 0


def connect_view(router):
    return apsw.Connection(str(router.view_dir / "view.db"), flags=apsw.SQLITE_OPEN_READWRITE)


async def test_records_that_are_forged_while_nobody_owns_the_log_do_not_keep_a_router_from_claiming(
    routers, attacker, tmp_path
):
    owner, standby = await pair(routers)
    async with owner.client() as client:
        ids = {await client.ingest("demo", b"{}") for _ in range(3)}
    await standby.follows((await owner.shard()).position)
    await routers.close()
    for kind in ("forged", "replayed", "empty"):
        await attack(attacker, tmp_path, kind)
    again = routers.start("r1")
    assert await routers.owner() is again
    async with again.client() as client:
        ids.add(await client.ingest("demo", b"{}"))
        assert {execution.id async for execution in client.executions.list(flow_id="demo")} == ids
    other = routers.start("r2")
    await other.follows((await again.shard()).position)


async def test_nothing_that_is_stored_can_be_read(routers, attacker, monkeypatch):
    monkeypatch.setattr(member, "SNAPSHOT_CHECK_SECONDS", 0.02)
    owner = routers.start("r1", snapshot_log_bytes=1024, snapshot_seconds=1)
    await routers.owner()
    async with owner.client() as client:
        await client.flows.apply([flow("demo")])
        await client.ingest("demo", b'"%s"' % SECRET)
        await client.ingest("demo", b'"%s"' % (SECRET * 10_000))
        while not (await owner.shard()).snapshots:
            await asyncio.sleep(0.01)
    stored = await attacker.bodies()
    assert sum(map(len, stored)) > len(SECRET) * 1000
    assert not any(SECRET in each or b"SQLite" in each or b"\x28\xb5\x2f\xfd" in each[:4] for each in stored)


async def test_a_snapshot_that_no_router_made_is_refused_and_the_older_one_is_used(routers, attacker, monkeypatch):
    monkeypatch.setattr(member, "SNAPSHOT_CHECK_SECONDS", 0.02)
    owner = routers.start("r1", snapshot_log_bytes=1024, snapshot_seconds=1)
    await routers.owner()
    async with owner.client() as client:
        await client.flows.apply([flow("demo")])
        async with load(client, "demo") as sent:
            while len((await owner.shard()).snapshots) < 2:
                await asyncio.sleep(0.01)
    await owner.stop()
    owner = routers.start("r1")  # it makes no snapshots
    assert await routers.owner() is owner
    newest = (await owner.shard()).snapshots[0].position
    await attacker.put_object(f"snap/0/{newest:020}.zst", b"another database")
    await attacker.put_object(f"snap/0/{10**15:020}.zst", b"of the future")
    standby = routers.start("r2")
    await standby.until(lambda router: router.lifecycle.ready.is_set())
    assert standby.registry.get_sample_value(REFUSED, {"kind": "object"}) == 2
    assert "the object snap/0/" in standby.lifecycle.warnings["log"]
    await standby.follows((await owner.shard()).position)
    await owner.stop()
    assert await routers.owner() is standby
    async with standby.client() as client:
        assert {execution.id async for execution in client.executions.list(flow_id="demo")} == set(sent.ids)


async def test_a_log_that_was_deleted_with_its_facts_is_not_taken_for_a_new_one(routers, attacker, url):
    owner = routers.start("r1")
    await routers.owner()
    await owner.stop()
    await attacker.delete_facts()
    await asyncio.to_thread(rebuild_log, url)
    again = routers.start("r1")
    with pytest.raises(LogReplacedError, match="rebuild-log"):
        await again.task


async def refusal(routers):
    router = routers.start("r1")
    with pytest.raises(ConflictError) as raised:
        await router.task
    return raised.value.reason


async def test_a_log_in_clear_that_takes_the_place_of_a_sealed_one_is_refused(routers, attacker, tmp_path):
    owner = routers.start("r1")
    await routers.owner()
    async with owner.client() as client:
        await client.flows.apply([flow("demo")])
        ids = {await client.ingest("demo", b"{}") for _ in range(3)}
    await owner.stop()
    identity = (await attacker.fact("log_identity")).split(" ")[0]
    end = (await attacker.last()).seq
    view = View(tmp_path / "forged")
    view.path.parent.mkdir()
    view.adopt(ViewPosition(identity, end, epoch=1))
    with view.connected() as connection:
        connection.execute("INSERT INTO counter VALUES ('forged', 1)")
    await attacker.remove_objects()
    await attacker.put_object(f"snap/0/{end:020}.zst", zstandard.compress(view.path.read_bytes()))
    for name in await attacker.facts():
        await attacker.store_fact(name, (await attacker.fact(name)).split(" ")[0])
    assert await refusal(routers) == "LOG_FACT_FORGED"
    owner.view_dir.rename(tmp_path / "aside")
    assert await refusal(routers) == "LOG_FACT_FORGED"
    shutil.rmtree(owner.view_dir)
    (tmp_path / "aside").rename(owner.view_dir)
    for name in await attacker.facts():  # as the operator does
        await attacker.remove_fact(name)
    again = routers.start("r1")
    await routers.owner()
    async with again.client() as client:
        assert {execution.id async for execution in client.executions.list(flow_id="demo")} == ids
    with connect_view(again) as connection:
        assert connection.execute("SELECT count(*) FROM counter WHERE name = 'forged'").get == 0


async def test_a_fact_that_no_router_stored_is_refused(routers, attacker):
    owner = routers.start("r1")
    await routers.owner()
    await owner.stop()
    await attacker.store_fact("log_identity", "0123456789abcdef@2026 00000000 00")
    assert await refusal(routers) == "SECRETS_KEY_DIFFERS"


async def test_a_log_of_another_format_is_refused(routers, url):
    await routers.start("r1").until(lambda router: router.lifecycle.ready.is_set())
    await routers.close()
    with closing(connect_log(url, keys_of(routers.directory), router="other")) as replicated:
        await asyncio.to_thread(replicated.facts.replace, "database_format", "7")
    assert await refusal(routers) == "LOG_FORMAT_UNSUPPORTED"
