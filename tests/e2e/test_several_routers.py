"""A cluster on a replicated log: three routers over three NATS servers, of which any may die."""

from __future__ import annotations

import asyncio

import pytest
import pytest_asyncio
from support.systems import document, kill, running_system, until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

ROUTERS = {"router-1", "router-2", "router-3"}
REQUESTS = 30


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def replicated():
    async with running_system("--routers", "3", "--storage", "nats:", "--runners", "1") as system:
        await system.apply(document("keep"))
        yield system


async def status(system):
    """Return what `cluster status` says of the shard and of the servers."""
    shown = await system.flowhook("cluster", "status", "--json")
    assert shown.code == 0, shown.err
    shard, *servers = shown.rows
    return shard, servers


async def followed(system):
    """Return the shard once both other routers follow its owner."""

    async def look():
        shard, _ = await status(system)
        up_to_date = [copy["position"] >= shard["position"] for copy in shard["copies"]]
        return shard if shard["serving"] and up_to_date == [True] * 3 else None

    return await until(look, "two routers stand by")


async def send_all(system):
    answers = await asyncio.gather(*(system.send("keep", {"n": n}) for n in range(REQUESTS)))
    assert {answer.status for answer in answers} == {202}
    return [answer.id for answer in answers]


async def assert_completed(system, ids):
    assert [await system.completed(each) for each in ids] == [{"n": n} for n in range(REQUESTS)]


async def test_one_router_serves_and_two_stand_by(replicated):
    shard, servers = await status(replicated)

    assert {copy["router"] for copy in shard["copies"]} == ROUTERS
    assert shard["serving"]
    assert {server["name"]: server["current"] for server in servers} == dict.fromkeys(
        ("nats-1", "nats-2", "nats-3"), True
    )
    assert (await replicated.admin("/readyz")).status == 200


async def test_when_the_owner_dies_requests_wait_for_the_next_one_and_nothing_is_lost(replicated):
    before = await followed(replicated)
    ids = await send_all(replicated)
    requests = asyncio.create_task(send_all(replicated))
    await kill(replicated.cluster, before["owner"])
    late = await send_all(replicated)

    for each in (ids, await requests, late):
        await assert_completed(replicated, each)
    # the one that died is back, perhaps before another has noticed: then it owns the shard again
    after = await followed(replicated)
    assert after["epoch"] > before["epoch"]


async def test_an_operator_hands_over_while_requests_go_on(replicated):
    before = await followed(replicated)
    successor = min(ROUTERS - {before["owner"]})
    requests = asyncio.create_task(send_all(replicated))
    done = await replicated.flowhook("cluster", "hand-over", successor)
    assert (done.code, done.out) == (0, f"{successor} owns the shard and serves, in place of {before['owner']}\n")
    await assert_completed(replicated, await requests)
    after = await followed(replicated)
    assert (after["owner"], after["epoch"]) == (successor, before["epoch"] + 1)

    async def all_reached():
        shard, _ = await status(replicated)
        return [copy["problem"] for copy in shard["copies"]] == [""] * 3

    await until(all_reached, "all routers are reached: one that becomes the owner has no port for a moment")


async def test_when_a_nats_server_dies_requests_go_on(replicated):
    _, servers = await status(replicated)
    leader = next(server["name"] for server in servers if server["leader"])
    await kill(replicated.cluster, leader)

    await assert_completed(replicated, await send_all(replicated))
    await followed(replicated)
