"""Waits end by the wall clock, however it is set and whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import time

import pytest
from support.patience import turns
from support.shards import running_host

from flowhook.attach.messages import Completed, Outcome, Parked
from flowhook.errors import ConflictError
from flowhook.model import Status


@pytest.fixture
async def shard(tmp_path):
    async with running_host(tmp_path) as shard:
        yield shard


def now_ms():
    return time.time_ns() // 1_000_000


async def park(shard, link, wake_at_ms):
    (delivery,) = await link.next()
    await shard.host.recorder.settle(link, [Outcome(delivery.lease, Parked(wake_at_ms))])
    return delivery


async def test_a_clock_that_is_set_ahead_ends_waits_within_a_second(shard):
    await shard.append()
    link = shard.attach()
    await park(shard, link, now_ms() + 3_600_000)
    shard.wall.ahead = 3600.0
    async with turns() as passed:
        await link.next()
    assert passed.seconds < 1


async def test_a_clock_that_is_set_back_prolongs_no_other_wait_but_those_by_that_clock(shard):
    (seq,) = await shard.append()
    link = shard.attach()
    await park(shard, link, now_ms() + 300)
    shard.wall.ahead = -3600.0
    (other,) = await shard.append()
    assert (await link.next())[0].event == b"payload"
    assert shard.core.is_waiting(seq)
    assert shard.core.leases.attempt_of(other) == 1
    shard.wall.ahead = 0.0
    await link.next()
    assert shard.core.leases.attempt_of(seq) == 1


async def test_an_earlier_wait_that_comes_later_ends_first(shard):
    await shard.append("a", b"late", b"early")
    link = shard.attach(credit=1)
    await park(shard, link, now_ms() + 60_000)
    shard.host.add_credit(link, 1)
    early = await park(shard, link, now_ms() + 100)
    shard.host.add_credit(link, 1)
    (woken,) = await link.next()
    assert (woken.event, woken.attempt) == (early.event, 1)


async def test_a_wait_that_could_not_be_stored_is_stored_when_storage_is_back(shard):
    (seq,) = await shard.append()
    link = shard.attach()
    (delivery,) = await link.next()
    shard.state.away = True
    settling = shard.host.recorder.settle(link, [Outcome(delivery.lease, Parked(now_ms()))])
    task = asyncio.ensure_future(settling)
    await shard.state.refused.wait()
    assert shard.core.is_waiting(seq)
    shard.state.away = False
    await task
    (again,) = await link.next()
    assert link.settled == [delivery.lease]
    await shard.host.recorder.settle(link, [Outcome(again.lease, Completed(b"{}"))])
    assert (await shard.record(seq)).status is Status.COMPLETED


async def test_one_that_is_ending_is_not_suspended(shard):
    (seq,) = await shard.append()
    link = shard.attach()
    (delivery,) = await link.next()
    record = await shard.record(seq)
    shard.core.end(delivery.lease)
    with pytest.raises(ConflictError):
        await shard.host.commands.suspend(record.id)
    shard.core.ended(seq)
