"""Who owns the shard, for those who ask: their number is limited."""

import asyncio

import pytest

from flowhook.errors import ExhaustedError
from flowhook.v1 import shard_service_pb2 as pb
from router.cluster.ownership import KnownOwner
from router.services import shards
from router.services.authorization import caller_flows
from router.services.shards import ShardService


class OneOwner:
    def owner(self):
        return KnownOwner("r1", "host:1", 1, serving=True)

    def routers(self):
        return []

    async def changed(self):
        await asyncio.Event().wait()


class Context:
    """Takes what is written to a caller."""

    def __init__(self):
        self.written = asyncio.Queue()

    async def write(self, response):
        self.written.put_nowait(response)


@pytest.fixture
async def watch(monkeypatch):
    monkeypatch.setattr(shards, "MAX_WATCHERS", 1)
    service, tasks = ShardService(OneOwner()), []
    method = ShardService.WatchShards.__wrapped__

    async def watch(flows=None):
        caller_flows.set(flows)
        context = Context()
        task = asyncio.create_task(method(service, pb.WatchShardsRequest(), context))
        tasks.append(task)
        written = asyncio.create_task(context.written.get())
        await asyncio.wait({task, written}, return_when=asyncio.FIRST_COMPLETED)
        written.cancel()
        if task.done():
            await task
        return task

    yield watch
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_senders_of_some_flows_can_not_keep_others_from_watching(watch):
    await watch(frozenset({"demo"}))
    with pytest.raises(ExhaustedError):
        await watch(frozenset({"demo"}))
    await watch()
    with pytest.raises(ExhaustedError):
        await watch()


async def test_a_watcher_that_leaves_makes_room(watch):
    task = await watch()
    task.cancel()
    await asyncio.wait({task})
    await watch()
