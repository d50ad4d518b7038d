"""Flows that are started by several events together: on real storage, step by step."""

from __future__ import annotations

import asyncio

import pytest
from support.effects import CALLER
from support.triggers import NOON, triggers

from flowhook import limits
from flowhook.attach.messages import Completed, Outcome
from flowhook.errors import ExhaustedError
from router.dispatch.event_delivery import EventDispatcher
from router.storage.model import NewEvent
from router.triggers.execution_starter import EffectIds

BOTH = "{read: envelope, on: {all: [{with: {type: paid}}, {with: {type: packed}}]}}"
BY_ORDER = """{read: envelope, on: {all: [
  {with: {type: paid}, correlate: {order: {from: .data.order}}},
  {with: {type: packed}, correlate: {order: {from: .data.order}}}]}}"""


@pytest.fixture
async def running(tmp_path):
    async with triggers(tmp_path) as running:
        yield running


def event(type_, order=0, **attributes):
    return {"specversion": "1.0", "id": "1", "source": "/s", "type": type_, "data": {"order": order}, **attributes}


PAID, PACKED = event("paid"), event("packed")


async def test_one_of_each_starts_an_execution_with_all_in_the_order_of_the_filters(running):
    await running.apply("ship", BOTH)
    assert await running.emit(PACKED, event("packed", 1)) == []
    assert await running.emit(PAID) == [[PAID, PACKED]]
    assert await running.emit(event("other")) == []
    assert await running.emit(event("paid", 1)) == [[event("paid", 1), event("packed", 1)]]
    assert running.shard.host.events.buffered == 0


async def test_what_is_stored_is_retained_over_restarts(tmp_path):
    async with triggers(tmp_path) as running:
        await running.apply("ship", BOTH)
        assert await running.emit(PACKED) == []
    async with triggers(tmp_path) as running:
        assert await running.emit(PAID) == [[PAID, PACKED]]
    async with triggers(tmp_path) as running:
        assert await running.emit(PAID) == []


async def test_only_events_of_equal_values_start_one_and_those_without_are_not_retained(running):
    await running.apply("ship", BY_ORDER)
    assert await running.emit(event("paid", 7), event("packed", "7"), event("packed", 8), event("paid", None)) == []
    assert running.shard.host.events.buffered == 3
    assert await running.emit(event("packed", 7.0)) == [[event("paid", 7), event("packed", 7.0)]]


async def test_the_same_event_emitted_again_is_one(running):
    await running.apply("ship", "{read: envelope, on: {all: [{with: {type: paid}}, {with: {type: paid}}]}}")
    for _ in range(3):
        assert await running.publish(PAID, f"{CALLER}:same") == 1
    assert await running.emit() == []
    assert await running.emit(PAID) == [[PAID, PAID]]
    await running.publish(PAID, f"{CALLER}:same")
    assert await running.emit() == []


async def test_a_start_after_which_the_router_died_is_not_repeated(tmp_path, monkeypatch):
    async with triggers(tmp_path) as running:
        await running.apply("ship", BOTH)
        await running.emit(PAID)
        with monkeypatch.context() as dying:
            dying.setattr(EventDispatcher, "forget", lambda self, numbers: None)
            assert await running.emit(PACKED) == [[PAID, PACKED]]
    async with triggers(tmp_path) as running:
        assert await running.emit() == []
        assert len(await running.executions()) == 1
        assert await running.emit(PAID) == []


async def test_a_flow_whose_backlog_is_full_is_started_once_there_is_room(tmp_path):
    async with triggers(tmp_path, look_seconds=0.01) as running:
        await running.apply("ship", BOTH, rest="execution: {max_backlog: 1}")
        assert len(await running.emit(PAID, PACKED, PAID, PACKED)) == 1
        gathering = asyncio.create_task(running.join_trigger.run())
        link = running.shard.attach()
        for _ in range(2):
            (delivery,) = await link.next()
            await running.shard.host.recorder.settle(link, [Outcome(delivery.lease, Completed(b"{}"))])
        gathering.cancel()
        assert len(await running.executions()) == 2


async def test_buffered_events_are_joined_anew_when_the_trigger_changes(running):
    await running.apply("ship", BOTH)
    await running.emit(PAID, PACKED | {"subject": "x"}, event("paid", 1), event("paid", 2))
    await running.apply("ship", "{read: envelope, on: {all: [{with: {type: paid}}, {with: {type: sent}}]}}")
    assert await running.emit(event("sent")) == [[event("paid", 1), event("sent")]]
    await running.apply("ship", "{read: envelope, on: {all: [{with: {type: sent}}, {with: {type: packed}}]}}")
    assert await running.emit(PACKED, event("sent")) == [[event("sent"), PACKED]]
    assert running.shard.host.events.buffered == 0


@pytest.mark.parametrize("how", ["deleted", "started otherwise"])
async def test_what_was_retained_for_a_flow_is_forgotten_when_that_does_not_wait_for_it_any_more(running, how):
    await running.apply("ship", BOTH)
    await running.emit(PAID)
    if how == "deleted":
        await running.delete("ship")
    else:
        await running.apply("ship", "{read: envelope, on: {one: {with: {type: packed}}}}")
    await running.apply("ship", BOTH)
    assert running.shard.host.events.buffered == 0
    assert await running.emit(PACKED) == []


async def test_an_event_that_expired_is_no_part_of_anything(running):
    await running.apply("ship", BOTH)
    await running.emit(PAID)
    running.set_clock(NOON + 8 * 24 * 3_600_000)
    assert await running.emit(PACKED) == []
    assert running.join_trigger.waiting("ship") == 1
    assert await running.emit(event("paid", 1)) == [[event("paid", 1), PACKED]]


async def test_a_flow_keeps_so_many_events_and_refuses_more(running, monkeypatch):
    await running.apply("ship", BOTH)
    await running.apply("log", "{read: envelope, on: {any: []}}")
    monkeypatch.setattr(limits, "MAX_BUFFERED_EVENTS", 2)
    await running.emit(PAID, PAID)
    with pytest.raises(ExhaustedError) as caught:
        await running.emit(PAID)
    assert caught.value.reason == "EVENT_BUFFER_FULL"
    assert len([record for record in await running.executions() if record.flow_id == "log"]) == 3


async def test_events_that_are_too_large_together_start_nothing(running, monkeypatch):
    await running.apply("ship", BOTH)
    monkeypatch.setattr(limits, "MAX_BODY_BYTES", 150)
    assert await running.emit(PAID, PACKED) == []
    assert running.shard.host.events.buffered == 0
    monkeypatch.undo()
    assert await running.emit(PAID, PACKED) == [[PAID, PACKED]]


async def test_a_start_whose_id_somebody_took_is_in_nobodys_way(running):
    await running.apply("ship", BOTH)
    key = f"{CALLER}:guessed"
    taken = NewEvent(EffectIds(key, CALLER).derive("gather", "ship"), "other", 1, NOON, b"")
    await running.shard.host.append([taken])
    await running.emit(PAID)
    await running.publish(PACKED, key)
    assert await running.emit() == []
    assert running.shard.host.events.buffered == 0
    assert await running.emit(PAID, PACKED) == [[PAID, PACKED]]


async def test_many_events_are_read_in_parts(running):
    await running.apply("ship", BOTH)
    large = event("paid", text="x" * 100_000)
    await running.emit(*[large] * 200)
    await running.apply("ship", BY_ORDER)
    fitting = large | {"type": "packed"}
    assert await running.emit(fitting) == [[large, fitting]]
    assert running.shard.host.events.buffered == 199
