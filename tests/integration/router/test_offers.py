"""Things that come for executions that are worked on: handed to their runners, and whose they are whatever happens."""

from __future__ import annotations

import asyncio

import orjson
import pytest
from support.shards import running_host

from flowhook.attach.messages import Checkpoint, Completed, Outcome, SubscriptionUpdate
from flowhook.events import ids
from flowhook.model import EventFilter, JournalEntry, Status, Subscription
from router.dispatch.state_writer import RetryingWriter
from router.storage.model import Consumed, NewEvent

KEY = "/do/0/wait#0"
LISTEN = (Subscription(KEY, (EventFilter(True, "approval"),)),)


async def listening(shard, runner, generation=1, delivery=None, subscriptions=LISTEN):
    """Have an execution listen while it is worked on."""
    delivery = delivery or await shard.work_on(runner)
    shard.host.listen(runner, SubscriptionUpdate(delivery.lease, generation, subscriptions))
    return delivery


async def offered(runner, count=1):
    await runner.until(lambda: len(runner.arrivals) >= count)
    return runner.arrivals[-1]


async def take_in(shard, runner, arrival, position=0):
    checkpoint = Checkpoint(arrival.lease, position, arrival.entry, consumed=arrival.number)
    await shard.host.recorder.checkpoint(runner, [checkpoint])


async def test_an_event_is_handed_to_who_works_on_the_execution_and_stored_until_it_is_journaled(shard, runner):
    delivery = await listening(shard, runner)
    seq = shard.core.leases.seq_of(delivery.lease)
    appended = await shard.publish(data={"ok": True})
    arrival = await offered(runner)
    assert (arrival.lease, arrival.generation, arrival.number) == (delivery.lease, 1, appended.number)
    assert (arrival.entry.key, orjson.loads(arrival.entry.output)["data"]) == (KEY, {"ok": True})
    assert [each.number for each in await shard.state.inbound_events()] == [arrival.number]
    await take_in(shard, runner, arrival)
    assert runner.acknowledged == [(delivery.lease, 0)]
    assert await shard.state.inbound_events() == []
    assert (await shard.state.content(seq)).journal == (arrival.entry,)
    await shard.settle(runner, delivery, Completed(b"1"))
    assert (await shard.record(seq)).status is Status.COMPLETED


async def test_what_arrived_before_is_handed_over_when_it_listens_one_at_a_time_in_order(shard, runner):
    for number in range(2):
        await shard.publish(data=number)
    delivery = await listening(shard, runner)
    first = await offered(runner)
    assert (orjson.loads(first.entry.output)["data"], len(runner.arrivals)) == (0, 1)
    await take_in(shard, runner, first)
    await listening(shard, runner, 2, delivery)
    second = await offered(runner, 2)
    assert (orjson.loads(second.entry.output)["data"], second.generation) == (1, 2)


async def test_what_is_not_taken_in_goes_to_another(shard, runner):
    delivery = await listening(shard, runner)
    await shard.publish(data="for anybody")
    declined = await offered(runner)
    other = await listening(shard, runner)
    await listening(shard, runner, 2, delivery, ())
    arrival = await offered(runner, 2)
    assert (arrival.lease, arrival.number) == (other.lease, declined.number)


async def test_what_is_not_taken_in_before_it_waits_for_it_alone_is_in_its_journal_then(shard, runner):
    delivery = await listening(shard, runner)
    await shard.publish(data="mine")
    arrival = await offered(runner)
    await shard.park(runner, delivery, *LISTEN)
    [again] = (await runner.next())[-1:]
    assert again.journal == (arrival.entry,)
    assert await shard.state.inbound_events() == []


async def test_an_execution_whose_event_expired_just_then_gets_the_next_one(shard, runner):
    await shard.publish(data="expires")
    [buffered] = await shard.state.inbound_events()
    await shard.state.write([Consumed(buffered.number)])  # as expiry does
    await shard.publish(data="comes after it")
    await listening(shard, runner)
    assert orjson.loads((await offered(runner)).entry.output)["data"] == "comes after it"


async def test_what_expired_is_offered_to_nobody_who_stopped_listening_meanwhile(shard, runner):
    await shard.publish(data="expires")
    [buffered] = await shard.state.inbound_events()
    await shard.state.write([Consumed(buffered.number)])
    gate = shard.state.delay("inbound_payloads")
    delivery = await listening(shard, runner)
    await shard.state.reading.wait()
    await listening(shard, runner, 2, delivery, ())
    gate.set()
    await listening(shard, runner, 3, delivery)
    await shard.publish(data=1)
    arrival = await offered(runner)
    assert (arrival.generation, orjson.loads(arrival.entry.output)["data"]) == (3, 1)


async def test_who_loses_the_execution_can_take_in_nothing(shard, runner):
    delivery = await listening(shard, runner)
    await shard.publish(data="for whoever works on it")
    arrival = await offered(runner)
    await shard.settle(runner, delivery, Completed(b"1"))
    other = await listening(shard, runner)
    await take_in(shard, runner, arrival)
    assert runner.revoked == [(delivery.lease, "LEASE_LOST")]
    assert (await offered(runner, 2)).lease == other.lease


async def test_a_checkpoint_that_is_said_again_takes_nothing_in_twice(shard, runner):
    delivery = await listening(shard, runner)
    await shard.publish(data=1)
    arrival = await offered(runner)
    for _ in range(2):
        await take_in(shard, runner, arrival)
    assert (runner.revoked, len(runner.acknowledged)) == ([], 2)
    seq = shard.core.leases.seq_of(delivery.lease)
    assert len((await shard.state.content(seq)).journal) == 1


async def test_who_took_in_what_somebody_else_may_have_got_loses_the_execution_uncharged(shard, runner):
    delivery = await listening(shard, runner)
    seq = shard.core.leases.seq_of(delivery.lease)
    entry = JournalEntry(KEY, b'{"data": 1}')
    await shard.host.recorder.checkpoint(runner, [Checkpoint(delivery.lease, 0, entry, consumed=99)])
    assert runner.revoked == [(delivery.lease, "LEASE_LOST")]
    [again] = await runner.next()
    assert (shard.core.leases.seq_of(again.lease), again.attempt, again.journal) == (seq, 1, ())


async def test_storage_that_is_away_leaves_an_offer_as_it_was(shard, runner, monkeypatch):
    delivery = await listening(shard, runner)
    await shard.publish(data=1)
    arrival = await offered(runner)
    shard.state.away = True
    monkeypatch.setattr(RetryingWriter, "pause", _back(shard))
    await take_in(shard, runner, arrival)
    assert (runner.acknowledged, runner.revoked) == ([(delivery.lease, 0)], [])
    assert await shard.state.inbound_events() == []


def _back(shard):
    async def back(writer, error):
        shard.state.away = False

    return back


@pytest.mark.parametrize("before", [True, False])
async def test_the_end_of_another_execution_is_handed_over(shard, runner, before):
    event_id = ids.mint(ids.slot_of("child"))
    await shard.host.append([NewEvent(event_id, "child", 1, 1000, b"payload")])
    [child] = await runner.next()
    wanted = (Subscription("/do/0/run#0:end", execution_id=event_id),)
    if not before:
        parent = await listening(shard, runner, subscriptions=wanted)
        while not shard.host._completions.is_needed:
            await asyncio.sleep(0.001)
    await shard.host.recorder.settle(runner, [Outcome(child.lease, Completed(b'{"n":1}'))])
    if before:
        parent = await listening(shard, runner, subscriptions=wanted)
    arrival = await offered(runner)
    assert arrival == (parent.lease, 1, 0, JournalEntry("/do/0/run#0:end", b'{"n":1}'))


async def test_an_arrival_is_not_lost_with_the_router(tmp_path):
    async with running_host(tmp_path) as shard:
        runner = shard.attach()
        delivery = await listening(shard, runner)
        await shard.publish(data=1)
        arrival = await offered(runner)
        await shard.die()
    async with running_host(tmp_path, reattach_seconds=0.01) as shard:
        runner = shard.attach()
        [delivery] = await runner.next()
        await listening(shard, runner, 1, delivery)
        again = await offered(runner)
        assert again == arrival._replace(lease=delivery.lease)
        await take_in(shard, runner, again)
        assert await shard.state.inbound_events() == []
