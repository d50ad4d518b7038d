"""Events, and those who wait for them, while the router dies again and again: each gets what is its, once."""

from __future__ import annotations

import asyncio
import contextlib
import random

import orjson
import pytest
from support.patience import PATIENCE
from support.shards import running_host

from flowhook.attach.messages import Checkpoint, Completed
from flowhook.events import ids
from flowhook.model import Correlation, EventFilter, JournalEntry, Subscription

EXECUTIONS = 20
STEPS = 4
LIVES = 6


class Listener:
    """A runner whose executions take one event after the other, of those that have their number in them."""

    def __init__(self):
        self.numbers = {}
        self.taken = {}

    async def work(self, shard):
        link = shard.attach(credit=EXECUTIONS)
        while True:
            [delivery] = await link.next()
            shard.host.add_credit(link, 1)
            seq = shard.core.leases.seq_of(delivery.lease)
            if seq is None:
                continue
            number = self.numbers.setdefault(seq, len(self.numbers))
            events = [orjson.loads(entry.output)["data"] for entry in delivery.journal]
            assert events == [{"number": number, "step": step} for step in range(len(events))]
            if len(events) == STEPS:
                self.taken[number] = events
                await shard.settle(link, delivery, Completed(b"1"))
            else:
                await shard.park(link, delivery, self.listen(number, len(events)))

    @staticmethod
    def listen(number, step):
        wanted = (
            Correlation(".data.number", b"%d" % number),
            Correlation(".data.step", b"%d" % step),
        )
        return Subscription(f"/do/{step}/wait#0", (EventFilter(True, "approval", (), wanted),))


async def publish(shard, events, stored):
    """Publish until all is acknowledged; what may have been stored is published again."""
    while left := [event for event in events if event not in stored]:
        event_id, number, step = random.choice(left)
        await shard.publish(event_id=event_id, data={"number": number, "step": step})
        stored.add((event_id, number, step))


async def test_each_event_is_taken_once_by_the_execution_that_it_is_for(tmp_path):
    listener, stored = Listener(), set()
    events = [(ids.mint(0), number, step) for number in range(EXECUTIONS) for step in range(STEPS)]
    for life in range(LIVES):
        async with running_host(tmp_path, reattach_seconds=0.01) as shard:
            if not life:
                await shard.append("a", *[b"payload"] * EXECUTIONS)
            tasks = [asyncio.create_task(listener.work(shard)), asyncio.create_task(publish(shard, events, stored))]
            if life < LIVES - 1:
                await asyncio.wait(tasks, timeout=random.uniform(0.005, 0.05))
            else:
                await tasks[1]
                async with asyncio.timeout(PATIENCE):
                    while len(listener.taken) < EXECUTIONS:
                        await asyncio.sleep(0.01)
                assert (await shard.state.inbound_events(), shard.host.events.buffered) == ([], 0)
            for task in tasks:
                task.cancel()
            for task in tasks:
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            await shard.die()


APPROVAL = Subscription("/do/0/wait#0", (EventFilter(True, "approval", (), ()),))


@pytest.mark.parametrize("adopted", [False, True])
async def test_an_execution_that_went_on_without_an_event_does_not_get_it_after_a_crash(tmp_path, monkeypatch, adopted):
    monkeypatch.setattr("router.dispatch.state_writer.STARTED_DELAY", 3600)
    overdue = JournalEntry("/do/0/wait#0", b'{"over": 1}')
    async with running_host(tmp_path) as shard:
        await shard.append()
        link = shard.attach()
        (waiting,) = await link.next()
        await shard.park(link, waiting, APPROVAL, wake_at_ms=0)
        (woken,) = await link.next()
        if not adopted:
            await shard.host.recorder.checkpoint(link, [Checkpoint(woken.lease, 0, overdue)])
            await shard.publish()
        await shard.die()
    if adopted:
        async with running_host(tmp_path) as shard:
            link = shard.attach(held=[woken.lease])
            assert link.kept == [woken.lease]
            await shard.host.recorder.checkpoint(link, [Checkpoint(woken.lease, 0, overdue)])
            await shard.publish()
            await shard.die()
    async with running_host(tmp_path, reattach_seconds=0.01) as shard:
        (again,) = await shard.attach("r2").next()
        assert again.journal == (overdue,)
        assert shard.host.events.buffered == 1
