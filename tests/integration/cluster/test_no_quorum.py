"""A log two of whose three servers are away: nothing is acknowledged until one of them is back."""

from __future__ import annotations

import asyncio
import itertools

import orjson
import pytest
from support.patience import PATIENCE
from support.replicated_routers import running_edge
from support.systems import document

from operations import health

EVENTS = 3
numbers = itertools.count()


@pytest.fixture
def url(log_cluster):
    return log_cluster.url(prefix="QUORUM", max_bytes="64M")


@pytest.fixture
def servers(log_cluster):
    yield log_cluster
    log_cluster.start()


async def send(post):
    """Send some events at the same time, each with a number; return the answers by number."""
    batch = list(itertools.islice(numbers, EVENTS))
    answers = await asyncio.gather(*(post("demo", number) for number in batch))
    return dict(zip(batch, answers, strict=True))


async def test_without_a_quorum_senders_get_503_and_afterwards_everything_goes_on(routers, servers):
    owner = routers.start("r1")
    await routers.owner()
    async with owner.client() as client, running_edge(routers, router_timeout=0.5) as post:
        await client.flows.apply([document("demo")])
        answers = await send(post)
        assert {answer[0] for answer in answers.values()} == {202}
        for server in servers.servers[1:]:
            server.kill()
        for _ in range(2):
            unknown = await send(post)
            assert {answer[0] for answer in unknown.values()} == {503}
            assert all(int(headers["Retry-After"]) > 0 for _, headers, _ in unknown.values())
            answers |= unknown
        away = {server.name for server in servers.servers[1:]}
        async with asyncio.timeout(PATIENCE):  # as admin says it in /readyz when no router serves
            while not away <= (said := set(" ".join(health.shard_problems(await client.cluster.shards())).split())):
                await asyncio.sleep(0.05)
        assert "(NATS)" in said
        await asyncio.to_thread(servers.start)
        while True:
            later = await send(post)
            answers |= later
            if all(answer[0] == 202 for answer in later.values()):
                break

        acknowledged = {body["id"]: number for number, (status, _, body) in answers.items() if status == 202}
        found = {}
        async for execution in client.executions.list(flow_id="demo"):
            found[execution.id] = orjson.loads((await client.executions.get(execution.id)).event.body)
    assert acknowledged.items() <= found.items()
    assert len(set(found.values())) == len(found), "stored twice"
    assert (await owner.shard()).owner.epoch == 1
