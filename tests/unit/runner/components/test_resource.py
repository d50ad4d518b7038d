"""What is kept, for how long, and how often it is got."""

from __future__ import annotations

import asyncio

import pytest

from runner.components.resource import Cache, fingerprint


class CountingSource:
    def __init__(self, *, weight=1):
        self.loads = 0
        self.weight = weight

    async def load(self):
        self.loads += 1
        await asyncio.sleep(0)
        return self.loads, self.weight


async def test_callers_who_want_the_same_share_one_load():
    cache, source = Cache(seconds=60, weight=10), CountingSource()
    assert await asyncio.gather(*(cache.get("a", source.load) for _ in range(5))) == [1] * 5
    assert await cache.get("b", source.load) == 2


async def test_a_failure_is_not_cached_and_the_next_caller_tries():
    cache, source = Cache(seconds=60, weight=10), CountingSource()

    async def fail():
        raise ValueError("not there")

    failing = asyncio.create_task(cache.get("a", fail))
    waiting = asyncio.create_task(cache.get("a", source.load))
    with pytest.raises(ValueError, match="not there"):
        await failing
    assert await waiting == 1


async def test_what_is_too_old_is_got_again():
    cache, source = Cache(seconds=0, weight=10), CountingSource()
    assert [await cache.get("a", source.load) for _ in range(2)] == [1, 2]


async def test_the_weight_of_what_is_retained_is_bounded():
    cache, source = Cache(seconds=60, weight=10), CountingSource(weight=4)
    for key in "abc":
        await cache.get(key, source.load)
    assert await cache.get("c", source.load) == 3
    assert await cache.get("a", source.load) == 4


def test_a_fingerprint_depends_on_every_part():
    assert fingerprint("a", {"b": 1}) == fingerprint("a", {"b": 1})
    assert len({fingerprint("a"), fingerprint("a", None), fingerprint("b"), fingerprint(["a"])}) == 4
