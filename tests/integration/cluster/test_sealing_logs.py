"""A log of an early version, which stored everything in clear: no router uses it before it was sealed."""

from __future__ import annotations

import asyncio

import pytest
from support.commands import flowhook
from support.log_attackers import log_attacker
from support.routers import flow
from support.unsealed_logs import storing_in_clear

from flowhook.errors import ConflictError, UnavailableError
from router.cluster import member
from router.storage.commit_log.jetstream.facts import JetStreamFacts

LARGE = b"large" * 100


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr("cli.commands.cluster.HEARTBEAT_SECONDS", 0.1)
    monkeypatch.setattr(member, "SNAPSHOT_CHECK_SECONDS", 0.02)


@pytest.fixture
async def attacker(server, url):
    async with log_attacker(server, url) as attacker:
        yield attacker


@pytest.fixture
async def ids(routers):
    """The events of an early log: some are in two snapshots, some in records behind them, and one is an object."""
    with storing_in_clear():
        owner = routers.start("r1", snapshot_log_bytes=1024, snapshot_seconds=1)
        await routers.owner()
        async with owner.client() as client:
            await client.flows.apply([flow("demo")])
            ids = {await client.ingest("demo", b'{"n": %d}' % number) for number in range(5)}
            ids.add(await client.ingest("demo", b'"%s"' % (LARGE * 1000)))
            while not (await owner.shard()).snapshots:
                await asyncio.sleep(0.01)
        await owner.stop()
        owner = routers.start("r1")  # it makes no snapshots
        await routers.owner()
        async with owner.client() as client:
            ids |= {await client.ingest("demo", b'{"late": %d}' % number) for number in range(2)}
        await owner.stop()
    return ids


async def refusal(routers):
    router = routers.start("r1")
    with pytest.raises(ConflictError) as raised:
        await router.task
    return raised.value


async def seal(routers):
    arguments = ("--data-dir", routers.directory)
    return await asyncio.to_thread(flowhook, "cluster", "seal", *arguments, FLOWHOOK_STORAGE=routers.url)


async def assert_complete(routers, ids):
    """Check that a router with the early view, and one without, have all events, and that one can follow the other."""
    owner = routers.start("r1")
    assert await routers.owner() is owner
    async with owner.client() as client:
        assert {execution.id async for execution in client.executions.list(flow_id="demo")} == ids
        details = [await client.executions.get(each) for each in ids]
        assert any(LARGE in detail.event.body for detail in details)
        ids.add(await client.ingest("demo", b"{}"))
    standby = routers.start("r2")
    await standby.follows((await owner.shard()).position)
    await owner.stop()
    assert await routers.owner() is standby
    async with standby.client() as client:
        assert {execution.id async for execution in client.executions.list(flow_id="demo")} == ids


async def test_a_log_of_an_early_version_is_sealed_and_has_everything(routers, ids, attacker):
    refused = await refusal(routers)
    assert refused.reason == "LOG_NOT_SEALED"
    assert "flowhook cluster seal" in refused.message
    assert any(LARGE in each for each in await attacker.bodies())
    await attacker.interrupt_upload("snapshots/7", LARGE)
    done = await seal(routers)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("the log is sealed: everything up to position ")
    assert "1 large payloads and bodies were sealed" in done.out
    assert not any(LARGE in each or each.startswith(b"\x28\xb5\x2f\xfd") for each in await attacker.bodies())
    await assert_complete(routers, ids)
    await routers.close()
    again = await seal(routers)
    assert again.code == 1
    assert "sealed already" in again.err


async def test_sealing_that_was_interrupted_is_repeated(routers, ids, monkeypatch):
    replace = JetStreamFacts.replace

    def fail(*_arguments):
        raise UnavailableError("no quorum")

    monkeypatch.setattr(JetStreamFacts, "replace", fail)
    assert (await seal(routers)).code == 1
    assert (await refusal(routers)).reason == "LOG_NOT_SEALED"
    monkeypatch.setattr(JetStreamFacts, "replace", replace)
    done = await seal(routers)
    assert (done.code, done.err) == (0, "")
    await assert_complete(routers, ids)


@pytest.mark.usefixtures("ids")
async def test_another_key_seals_nothing(routers):
    (routers.directory / "secrets.key").write_text("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")
    refused = await seal(routers)
    assert refused.code == 1
    assert "the key of secrets is not that of the routers" in refused.err


async def test_a_sealed_log_whose_fact_somebody_replaced_is_sealed_again_without_loss(routers, ids, attacker):
    assert (await seal(routers)).code == 0
    owner = routers.start("r1")
    await routers.owner()
    async with owner.client() as client:
        ids.add(await client.ingest("demo", b"{}"))
    await owner.stop()
    await attacker.store_fact("log_identity", (await attacker.fact("log_identity")).split(" ")[0])
    assert (await refusal(routers)).reason == "LOG_NOT_SEALED"
    done = await seal(routers)
    assert (done.code, done.err) == (0, "")
    await assert_complete(routers, ids)
