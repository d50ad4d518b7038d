"""Two routers on one log: who serves, what the other one says, and how one follows the other."""

import asyncio
import shutil

import grpc
import pytest
from support.cluster_keys import keys_of
from support.patience import PATIENCE
from support.routers import flow

from flowhook.errors import ConflictError, FlowhookError, InvalidError, UnavailableError
from flowhook.model import Status
from flowhook.security.tokens import TokenScope, create_token
from flowhook.v1.flow_service_pb2 import ListFlowsRequest
from router.storage.commit_log.interface import LogReplacedError
from router.storage.commit_log.jetstream.opening import connect, rebuild_log
from router.storage.replicated.batch import BatchPart, BatchWriter, encode, record_hash
from router.storage.schema import FORMAT_VERSION


async def accepted(router, count):
    """Have events accepted, and return their IDs."""
    async with router.client() as client:
        await client.flows.apply([flow("demo")])
        return [await client.ingest("demo", b"{}") for _ in range(count)]


async def known(router):
    async with router.client() as client:
        return {execution.id: execution.status async for execution in client.executions.list(flow_id="demo")}


async def test_one_router_serves_and_the_other_says_which(routers):
    routers.start("r1")
    routers.start("r2")
    owner = await routers.owner()
    standby = next(router for router in routers.routers if router is not owner)
    await standby.until(lambda router: router.lifecycle.ready.is_set())
    shard = await standby.shard()
    assert (shard.owner.router, shard.owner.address) == (owner.name, owner.target)
    assert {copy.router: copy.state for copy in shard.copies} == {owner.name: "serving", standby.name: "following"}
    async with owner.client() as client, asyncio.timeout(PATIENCE):
        # the owner hears by heartbeat that the standby is ready, some time after the standby itself
        while [(each.name, each.role, each.ready) for each in await client.cluster.processes()] != [
            ("r1", "router", True),
            ("r2", "router", True),
        ]:
            await asyncio.sleep(0.01)
    async with standby.client() as client:
        with pytest.raises(UnavailableError) as raised:
            await client._transport.call(client.flows._stub.ListFlows, ListFlowsRequest(), repeatable=False)
    assert raised.value.reason == "SHARD_MOVED"


async def test_what_was_accepted_is_there_after_a_hand_over(routers):
    first = routers.start("r1")
    await routers.owner()
    second = routers.start("r2")
    await second.until(lambda router: router.lifecycle.ready.is_set())
    ids = await accepted(first, 20)
    await first.stop()
    assert await routers.owner() is second
    assert await known(second) == dict.fromkeys(ids, Status.PENDING)
    assert (await second.shard()).owner.epoch == 2
    async with second.client() as client:
        numbers = (await client.flows.statistics("demo")).items[0]
        overview = await client.flows.overview("demo")
        executions = [(await client.executions.get(execution_id)).execution for execution_id in (ids[0], ids[-1])]
        load = await client.cluster.load()
    assert (numbers.pending, numbers.running) == (20, 0)
    assert (overview.total.accepted, overview.total.pending) == (20, 20)  # the series are part of what is replicated
    assert [numbers.oldest_pending_time_ms, numbers.last_event_time_ms] == [each.receive_time_ms for each in executions]
    assert load.backlog.pending == 20
    assert load.storage.database_bytes > 0


async def test_a_router_that_comes_back_follows_what_it_missed_and_takes_over_again(routers):
    first = routers.start("r1")
    await routers.owner()
    ids = await accepted(first, 3)
    await first.stop()
    second = routers.start("r2")
    assert await routers.owner() is second
    ids += await accepted(second, 3)
    third = routers.start("r1")
    await third.until(lambda router: router.lifecycle.ready.is_set())
    await second.stop()
    assert await routers.owner() is third
    assert set(await known(third)) == set(ids)


async def test_a_router_whose_disk_was_wiped_reads_the_log_again(routers):
    first = routers.start("r1")
    await routers.owner()
    ids = await accepted(first, 3)
    await first.stop()
    for file in first.view_dir.glob("view.db*"):
        file.unlink()
    again = routers.start("r1")
    assert await routers.owner() is again
    assert set(await known(again)) == set(ids)


async def test_an_owner_that_another_writer_overtakes_steps_down_and_loses_nothing(routers, url):
    owner = routers.start("r1")
    await routers.owner()
    ids = await accepted(owner, 3)
    thief = await asyncio.to_thread(connect, url, keys_of(routers.directory), router="thief")
    try:
        end = await asyncio.to_thread(thief.log.tail)
        # a part that is never completed: it changes nothing, and yet it is another's
        part = BatchPart(
            BatchWriter(0, 2, b"t" * 16, FORMAT_VERSION), 1, 0, 0, 2, record_hash(end.data), False, b"void"
        )
        await asyncio.to_thread(thief.log.append, end.position, part.batch_id, encode(part))
    finally:
        await asyncio.to_thread(thief.close)
    await owner.until(lambda router: not router.lifecycle.ready.is_set())
    assert await routers.owner() is owner
    assert (await owner.shard()).owner.epoch == 3
    assert set(await known(owner)) == set(ids)


async def test_a_router_with_another_key_for_secrets_is_refused(routers):
    routers.start("r1")
    await routers.owner()
    other = routers.start("r2", secrets_key="MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")
    with pytest.raises(ConflictError) as raised:
        await other.task
    assert raised.value.reason == "SECRETS_KEY_DIFFERS"


@pytest.mark.parametrize(
    ("file", "reason"), [("tokens.json", "TOKENS_MISSING"), ("secrets.key", "SECRETS_KEY_MISSING")]
)
async def test_tokens_and_the_key_are_never_made_by_a_router(routers, file, reason):
    (routers.directory / file).unlink()
    router = routers.start("r1")
    with pytest.raises((InvalidError, ConflictError)) as raised:
        await router.task
    assert raised.value.reason == reason
    assert not (routers.directory / file).exists()


async def _consume(changes):
    async for _ in changes:
        pass


async def test_calls_under_way_fail_so_that_they_can_be_repeated_when_the_shard_is_lost(routers, url):
    owner = routers.start("r1")
    await routers.owner()
    await accepted(owner, 1)
    async with owner.client() as client:
        changes = client.executions.watch(flow_id="demo")
        await anext(changes)  # it begins
        watching = asyncio.create_task(_consume(changes))
        thief = await asyncio.to_thread(connect, url, keys_of(routers.directory), router="thief")
        try:
            end = await asyncio.to_thread(thief.log.tail)
            await asyncio.to_thread(thief.log.append, end.position, "thief", b"")
        finally:
            await asyncio.to_thread(thief.close)
        with pytest.raises((FlowhookError, grpc.RpcError)) as raised:
            await watching
        assert isinstance(raised.value, UnavailableError)


async def test_a_log_that_was_deleted_and_made_again_is_refused(routers, url):
    owner = routers.start("r1")
    await routers.owner()
    await accepted(owner, 3)
    await owner.stop()
    await asyncio.to_thread(rebuild_log, url)
    again = routers.start("r1")
    with pytest.raises(LogReplacedError, match="rebuild-log"):
        await again.task


async def test_two_routers_never_use_one_view(routers):
    router = routers.start("r1")
    await routers.owner()
    other = routers.start("r2", view_dir=router.view_dir)
    with pytest.raises(ConflictError) as raised:
        await other.task
    assert raised.value.reason == "DATA_DIR_IN_USE"


async def test_a_second_router_of_the_same_name_is_refused(routers):
    owner = routers.start("r1")
    await routers.owner()
    ids = await accepted(owner, 3)
    namesake = routers.start("r1", view_dir=routers.directory / "another")
    with pytest.raises(ConflictError) as raised:
        await namesake.task
    assert raised.value.reason == "ROUTER_NAME_IN_USE"
    assert (await owner.shard()).owner.epoch == 1
    assert set(await known(owner)) == set(ids)


async def test_routers_whose_tokens_differ_say_so_until_they_are_the_same(routers, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(routers.directory, other, ignore=shutil.ignore_patterns("*.db*", "view*", "r[0-9]*", "*.lock"))
    create_token(other, "shop", [TokenScope.INGEST])
    both = [routers.start("r1"), routers.start("r2", data_dir=other)]
    for router, name in zip(both, ("r2", "r1"), strict=True):
        expected = f"tokens.json is not that of {name}: copy one to all"
        await router.until(lambda router, text=expected: text in router.lifecycle.warnings.values())
    shutil.copy(other / "tokens.json", routers.directory / "tokens.json")
    for router in both:
        await router.until(lambda router: "router_tokens" not in router.lifecycle.warnings)
