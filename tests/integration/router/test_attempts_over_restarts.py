"""What a router's death does to attempts: those whose runner comes back go on as they were, and nobody is charged."""

from __future__ import annotations

import asyncio

import pytest
from support.patience import PATIENCE
from support.shards import running_host

from flowhook.attach.messages import Completed, Outcome, Parked, Released
from flowhook.model import Status


@pytest.fixture(autouse=True)
def _starts_soon(monkeypatch):
    monkeypatch.setattr("router.dispatch.state_writer.STARTED_DELAY", 0.01)


async def written_down(shard, seq, status=Status.RUNNING):
    """Wait until what an execution does is on record."""
    async with asyncio.timeout(PATIENCE):
        while (await shard.state.records([seq]))[seq].status is not status:
            await asyncio.sleep(0.01)


async def parked_and_woken(shard):
    """Have an execution wait once, and be worked on again; returns its number, the runner and what it got."""
    (seq,) = await shard.append()
    link = shard.attach()
    (first,) = await link.next()
    await shard.park(link, first, wake_at_ms=0)
    (again,) = await link.next()
    assert (again.attempt, again.lease != first.lease) == (1, True)
    return seq, link, again


@pytest.mark.parametrize("seen", [True, False], ids=["written down", "not written down yet"])
async def test_an_execution_that_waited_before_waits_again_although_the_router_died_meanwhile(
    tmp_path, monkeypatch, seen
):
    async with running_host(tmp_path) as shard:
        if not seen:
            monkeypatch.setattr("router.dispatch.state_writer.STARTED_DELAY", 3600)
        seq, _, again = await parked_and_woken(shard)
        await written_down(shard, seq, Status.RUNNING if seen else Status.WAITING)
        await shard.die()
    async with running_host(tmp_path) as shard:
        link = shard.attach(held=[again.lease], credit=0)
        assert link.kept == [again.lease]
        await shard.park(link, again, wake_at_ms=0)
        record = (await shard.state.records([seq]))[seq]
        assert (record.status, record.attempts) == (Status.WAITING, 1)
        shard.host.add_credit(link, 10)
        (last,) = await link.next()
        await shard.settle(link, last, Completed(b"{}"))
        assert (last.attempt, (await shard.record(seq)).attempts) == (1, 1)


async def test_an_execution_that_is_on_record_as_waiting_waits_on_although_its_runner_does_not_know(tmp_path):
    async with running_host(tmp_path) as shard:
        (seq,) = await shard.append()
        link = shard.attach()
        (delivery,) = await link.next()
        # the router dies before the runner learns of it
        settling = asyncio.create_task(
            shard.host.recorder.settle(link, [Outcome(delivery.lease, Parked(round(shard.wall() * 1000) + 500))])
        )
        await written_down(shard, seq, Status.WAITING)
        await shard.die()
        settling.cancel()
    async with running_host(tmp_path) as shard:
        link = shard.attach(held=[delivery.lease])
        assert link.kept == []
        record = await shard.record(seq)
        assert (record.status, record.attempts) == (Status.WAITING, 1)
        (again,) = await link.next()
        assert again.attempt == 1


async def test_an_attempt_whose_runner_comes_back_is_not_charged_however_often_the_router_dies(tmp_path):
    async with running_host(tmp_path) as shard:
        (seq,) = await shard.append()
        (delivery,) = await shard.attach().next()
        await written_down(shard, seq)
        await shard.die()
    for _ in range(3):
        async with running_host(tmp_path, max_attempts=1) as shard:
            link = shard.attach(held=[delivery.lease])
            assert link.kept == [delivery.lease]
            assert (await shard.record(seq)).attempts == 1
            await shard.die()
    # nobody even came back in time for that one
    async with running_host(tmp_path) as shard:
        await shard.die()
    async with running_host(tmp_path) as shard:
        link = shard.attach(held=[delivery.lease])
        await shard.settle(link, delivery, Completed(b"{}"))
        record = await shard.record(seq)
    assert (record.status, record.attempts) == (Status.COMPLETED, 1)


async def test_an_attempt_that_is_given_back_after_a_restart_is_not_charged(tmp_path):
    async with running_host(tmp_path) as shard:
        (seq,) = await shard.append()
        (delivery,) = await shard.attach().next()
        await written_down(shard, seq)
        await shard.die()
    async with running_host(tmp_path) as shard:
        link = shard.attach(held=[delivery.lease])
        await shard.settle(link, delivery, Released("ROUTER_AWAY", charged=False))
        (again,) = await link.next()
        assert again.attempt == 1


@pytest.mark.parametrize("deaths", [1, 2])
async def test_an_attempt_whose_runner_dies_with_the_router_is_charged(tmp_path, deaths):
    async with running_host(tmp_path) as shard:
        (seq,) = await shard.append()
        (delivery,) = await shard.attach().next()
        await written_down(shard, seq)
        await shard.die()
    for _ in range(deaths - 1):
        async with running_host(tmp_path) as shard:
            assert shard.attach(held=[delivery.lease]).kept == [delivery.lease]
            await shard.die()
    async with running_host(tmp_path, reattach_seconds=0.0) as shard:
        (again,) = await shard.attach().next()
        assert again.attempt == 2


async def test_an_attempt_that_a_runner_came_back_for_is_stored_if_it_lasts(tmp_path, monkeypatch):
    async with running_host(tmp_path) as shard:
        monkeypatch.setattr("router.dispatch.state_writer.STARTED_DELAY", 3600)
        (seq,) = await shard.append()
        (delivery,) = await shard.attach().next()
        await shard.die()
    monkeypatch.setattr("router.dispatch.state_writer.STARTED_DELAY", 0.01)
    async with running_host(tmp_path) as shard:
        assert shard.attach(held=[delivery.lease]).kept == [delivery.lease]
        await written_down(shard, seq)
        assert (await shard.state.records([seq]))[seq].attempts == 1


async def test_nobody_goes_on_with_what_somebody_else_got_after_a_restart(tmp_path):
    async with running_host(tmp_path) as shard:
        (seq,) = await shard.append()
        (early,) = await shard.attach("r1").next()
        await written_down(shard, seq)
        await shard.die()
    async with running_host(tmp_path, reattach_seconds=0.0) as shard:
        (late,) = await shard.attach("r2").next()
        await shard.die()
    async with running_host(tmp_path) as shard:
        assert shard.attach("r1", held=[early.lease]).kept == []
        assert shard.attach("r2", held=[late.lease]).kept == [late.lease]
