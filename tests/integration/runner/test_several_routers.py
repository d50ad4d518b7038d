"""A runner with several routers: it attaches to the next owner, with the work it has."""

from __future__ import annotations

import asyncio

import pytest
from support.patience import until
from support.shard_routers import shard_routers


@pytest.fixture
async def routers(router):
    async with shard_routers(3, router.register) as running:
        running.move(0, 1)
        yield running


@pytest.fixture
def settings(settings, routers):
    return settings.model_copy(update={"router": routers.target})


async def test_it_attaches_to_the_next_owner_when_the_former_one_is_paused(router, routers, served):
    stream = await router.attached()
    router.define("hello", [{"greet": {"set": {"hello": "${ .body }"}}}], use={"secrets": ["key"]})
    router.secrets["key"] = b"hunter2"
    router.away = 1_000_000  # so that its work does not end before there is another owner
    assignment = router.assignment("hello", "Ada")
    router.assign(stream, assignment)
    await until(lambda: "ResolveSecrets" in routers[0].calls)
    routers[0].pause()
    routers.move(1, 2)
    following = await router.attached(2)
    assert list(following.hello.held_leases) == [assignment.lease]
    router.away = 0
    assert (await router.outcome(assignment.lease)).HasField("completed")
    assert {"Attach", "ResolveSecrets"} <= set(routers[1].calls)


async def test_it_waits_while_nobody_owns_the_shard(router, routers, served):
    await router.attached()
    routers.move(0, 1, serving=False)
    router.streams[0].close()
    waiting = asyncio.create_task(router.attached(2))
    routers.move(2, 2, serving=False)
    routers.move(2, 2)
    await waiting
    assert "Attach" in routers[2].calls
