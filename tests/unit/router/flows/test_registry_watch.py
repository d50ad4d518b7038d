"""Following the registry: complete, in order, and cheap for those who are up to date."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from support.patience import PATIENCE

from flowhook.errors import OutOfRangeError
from router.flows.registry_watch import RegistryWatch
from router.storage.storage import open_storage

SILENT = 3600.0
PROGRESS = 0.01


class CountingRegistry:
    """A registry that counts how often changes are read."""

    def __init__(self, registry):
        self._registry = registry
        self.reads = 0

    def __getattr__(self, name):
        return getattr(self._registry, name)

    async def changes(self, **arguments):
        self.reads += 1
        return await self._registry.changes(**arguments)


@pytest.fixture
async def registry(tmp_path):
    storage = await open_storage(tmp_path / "flowhook.db")
    yield CountingRegistry(storage.registry)
    await storage.close()


@pytest.fixture
async def watch(registry):
    return RegistryWatch(registry)


async def change(registry, *names):
    for name in names:
        await registry.set_secret(name, b"sealed", now_ms=1)


async def names(news, count):
    found = []
    while len(found) < count:
        found += [change.secret_name for change in (await anext(news))[1]]
    return found


async def test_a_watcher_gets_changes_from_now_on(watch, registry):
    await change(registry, "before")
    async with aclosing(watch.follow(0, SILENT)) as news:
        assert await anext(news) == (1, ())
        await change(registry, "a", "b")
        assert await names(news, 2) == ["a", "b"]


async def test_a_watcher_that_comes_back_gets_what_it_missed(watch, registry):
    await change(registry, "a", "b", "c")
    async with aclosing(watch.follow(1, SILENT)) as news:
        assert await names(news, 2) == ["b", "c"]
        assert await anext(news) == (3, ())


async def test_watchers_share_what_is_read_and_those_up_to_date_cost_nothing(watch, registry):
    async with aclosing(watch.follow(0, PROGRESS)) as first, aclosing(watch.follow(0, PROGRESS)) as second:
        for news in (first, second):
            for _ in range(5):
                await anext(news)
        assert registry.reads == 0
        await change(registry, "a")
        assert await names(first, 1) == await names(second, 1) == ["a"]
        assert registry.reads == 1


async def test_a_watcher_that_lags_misses_nothing(registry):
    watch = RegistryWatch(registry, recent=2)
    async with aclosing(watch.follow(0, SILENT)) as slow, aclosing(watch.follow(0, SILENT)) as quick:
        await anext(slow)
        await anext(quick)
        for number in range(10):
            await change(registry, f"s{number}")
            assert await names(quick, 1) == [f"s{number}"]
        assert await names(slow, 10) == [f"s{number}" for number in range(10)]


async def test_a_revision_that_storage_never_had_is_out_of_range_and_the_present_one_is_named(watch, registry):
    await change(registry, "a")
    async with aclosing(watch.follow(99, SILENT)) as news:
        with pytest.raises(OutOfRangeError) as caught:
            await anext(news)
    assert (caught.value.reason, caught.value.metadata) == ("REVISION_COMPACTED", {"revision": "1"})


async def test_a_change_between_two_looks_wakes_a_watcher_at_once(watch, registry):
    async with aclosing(watch.follow(0, SILENT)) as news:
        await anext(news)
        waiting = asyncio.ensure_future(anext(news))
        await asyncio.sleep(0)
        await change(registry, "a")
        async with asyncio.timeout(PATIENCE):
            assert (await waiting)[0] == 1
