"""Flows that are started by time: on real storage, by a clock that the test sets."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from support.patience import PATIENCE
from support.triggers import NOON, triggers

from flowhook.attach.messages import Completed, Outcome
from flowhook.errors import UnavailableError
from flowhook.model import Origin, Status
from flowhook.wire import convert
from router.flows.schedules import DueRun
from router.storage.model import Scheduled
from router.triggers.cron_scheduler import BATCH, run_id

SECOND = 1000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE


@pytest.fixture
async def time_(tmp_path):
    async with triggers(tmp_path) as running:
        yield running


async def complete(time_, link):
    """Have a runner end what it gets next."""
    (delivery,) = await link.next()
    await time_.shard.host.recorder.settle(link, [Outcome(delivery.lease, Completed(b"{}"))])


async def test_a_flow_that_is_due_is_started_with_an_empty_object(time_):
    await time_.apply("hourly", "{cron: '0 * * * *'}")
    assert await time_.turn(NOON + HOUR - 1) == []
    assert await time_.turn(NOON + HOUR) == ["hourly"]
    assert await time_.turn(NOON + HOUR + 1) == []
    (record,) = await time_.executions()
    event = convert.event_from_bytes((await time_.shard.state.content(record.seq)).payload)
    assert record.id == run_id(DueRun("hourly", NOON + HOUR)) == event.id
    assert (event.origin, event.body, event.receive_time_ms) == (Origin.SCHEDULE, b"{}", record.receive_time_ms)
    assert record.receive_time_ms == NOON + HOUR


async def test_an_interval_counts_from_when_the_flow_was_applied_and_goes_on_whatever_became_of_its_runs(time_):
    await time_.apply("often", "{every: PT10S}", at_ms=NOON + 3 * SECOND)
    assert [await time_.turn(NOON + at * SECOND) for at in (12, 13, 22, 23)] == [[], ["often"], [], ["often"]]


async def test_what_was_missed_while_no_router_ran_is_made_up_once(tmp_path):
    async with triggers(tmp_path) as time_:
        await time_.apply("often", "{every: PT1M}")
        await time_.apply("daily", "{cron: '30 12 * * *'}")
        await time_.turn(NOON + MINUTE)
    later = NOON + 3 * 24 * HOUR + 5 * SECOND
    async with triggers(tmp_path, at_ms=later) as time_:
        assert await time_.turn(later) == ["daily", "often"]
        assert await time_.turn(later + 54 * SECOND) == []
        assert await time_.turn(later + 55 * SECOND) == ["often"]


async def test_a_run_that_was_started_and_not_put_on_record_is_not_started_twice(tmp_path):
    async with triggers(tmp_path) as time_:
        await time_.apply("often", "{every: PT1M}")
        await time_.apply("slow", "{after: PT1M}")
        await time_.turn(NOON)
        time_.shard.state.away = True
        with pytest.raises(UnavailableError):
            await time_.turn(NOON + MINUTE)
        assert len(await time_.executions()) == 2
    async with triggers(tmp_path, at_ms=NOON + MINUTE) as time_:
        assert await time_.turn(NOON + 2 * MINUTE - 1) == []
        assert await time_.turn(NOON + 2 * MINUTE) == ["often"]


async def test_a_run_that_was_not_put_on_record_and_has_ended_is_followed_by_the_next(tmp_path):
    async with triggers(tmp_path) as time_:
        await time_.apply("slow", "{after: PT1M}")
        await time_.turn(NOON)
        time_.shard.state.away = True
        with pytest.raises(UnavailableError):
            await time_.turn(NOON + MINUTE)
        time_.shard.state.away = False
        await complete(time_, time_.shard.attach())
    async with triggers(tmp_path, at_ms=NOON + MINUTE) as time_:
        assert await time_.turn(NOON + 2 * MINUTE - 1) == []
        assert await time_.turn(NOON + 2 * MINUTE) == ["slow"]


async def test_what_was_missed_after_a_run_that_was_not_put_on_record_is_made_up(tmp_path):
    async with triggers(tmp_path) as time_:
        await time_.apply("often", "{every: PT1M}")
        await time_.turn(NOON)
        time_.shard.state.away = True
        with pytest.raises(UnavailableError):
            await time_.turn(NOON + MINUTE)
    later = NOON + 5 * MINUTE + SECOND
    async with triggers(tmp_path, at_ms=later) as time_:
        assert await time_.turn(later) == ["often"]
        assert await time_.turn(NOON + 6 * MINUTE) == ["often"]


async def test_while_storage_is_away_nothing_is_lost(time_):
    await time_.apply("often", "{every: PT1M}")
    parts, log = time_.shard.host.parts, time_.shard.host.parts.log

    async def refuse(_events):
        raise UnavailableError("away")

    parts.log = SimpleNamespace(append=refuse)
    with pytest.raises(UnavailableError):
        await time_.turn(NOON + MINUTE)
    parts.log = log
    assert await time_.turn(NOON + 90 * SECOND) == ["often"]
    assert await time_.turn(NOON + 2 * MINUTE) == ["often"]


async def test_the_next_run_comes_that_long_after_the_end_of_the_one_before(time_):
    await time_.apply("slow", "{after: PT1M}")
    link = time_.shard.attach()
    assert await time_.turn(NOON + MINUTE) == ["slow"]
    assert await time_.turn(NOON + 10 * MINUTE) == []
    await complete(time_, link)
    assert await time_.turn(NOON + 11 * MINUTE - SECOND) == []
    assert await time_.turn(NOON + 11 * MINUTE + SECOND) == ["slow"]
    await time_.shard.host.commands.cancel((await time_.executions())[0].id)
    assert await time_.turn(NOON + 12 * MINUTE + 2 * SECOND) == ["slow"]


async def test_when_a_flow_is_due_next_is_known_but_for_one_that_waits_for_the_end_of_a_run(time_):
    await time_.apply("hourly", "{cron: '0 * * * *'}")
    await time_.apply("often", "{every: PT10M}")
    await time_.apply("slow", "{after: PT1M}")
    await time_.apply("told", "{on: {any: []}}")

    def due():
        return [time_.cron_scheduler.next_of(flow_id) for flow_id in ("hourly", "often", "slow", "told", "nobody")]

    assert due() == [NOON + HOUR, NOON + 10 * MINUTE, NOON + MINUTE, None, None]
    assert await time_.turn(NOON + 10 * MINUTE) == ["often", "slow"]
    assert due() == [NOON + HOUR, NOON + 20 * MINUTE, None, None, None]
    link = time_.shard.attach()
    for _ in range(2):
        await complete(time_, link)
    assert due()[2] == NOON + 11 * MINUTE
    await time_.delete("often")
    assert due()[1] is None


@pytest.mark.parametrize("ends", ["before", "after"])
async def test_the_end_of_a_run_counts_also_when_the_router_restarted_meanwhile(tmp_path, ends):
    async with triggers(tmp_path) as time_:
        await time_.apply("slow", "{after: PT1M}")
        await time_.turn(NOON + MINUTE)
        if ends == "before":
            await complete(time_, time_.shard.attach())
    async with triggers(tmp_path, at_ms=NOON + MINUTE) as time_:
        assert await time_.turn(NOON + 90 * SECOND) == []
        if ends == "after":
            assert await time_.turn(NOON + 10 * MINUTE) == []
            (record,) = await time_.executions()
            await time_.shard.host.commands.cancel(record.id)
        assert await time_.turn(NOON + 12 * MINUTE) == ["slow"]


async def test_a_flow_that_is_deleted_is_started_no_more_and_starts_anew_when_it_comes_back(tmp_path):
    async with triggers(tmp_path) as time_:
        await time_.apply("often", "{every: PT1M}")
        await time_.turn(NOON)
        await time_.delete("often")
        assert await time_.turn(NOON + MINUTE) == []
        await time_.apply("often", "{every: PT1M}", at_ms=NOON + MINUTE)
        assert await time_.turn(NOON + 2 * MINUTE) == ["often"]
        await time_.delete("often")
    async with triggers(tmp_path, at_ms=NOON + HOUR) as time_:
        assert await time_.turn(NOON + HOUR) == []
        assert len(time_.cron_scheduler) == 0


async def test_what_is_stored_of_a_flow_that_is_gone_is_forgotten(tmp_path):
    async with triggers(tmp_path) as time_:
        await time_.shard.state.write([Scheduled("gone", NOON + SECOND)])
    async with triggers(tmp_path) as time_:
        running = asyncio.create_task(time_.cron_scheduler.run())
        async with asyncio.timeout(PATIENCE):
            while await time_.shard.state.schedules() != [Scheduled("gone", None)]:
                await asyncio.sleep(0.01)
        running.cancel()
        await time_.apply("gone", "{every: PT1M}")
        assert await time_.turn(NOON + 30 * SECOND) == []


async def test_a_schedule_that_changed_is_in_force_at_once_and_one_that_did_not_goes_on(time_):
    await time_.apply("changed", "{every: PT1H}")
    await time_.apply("same", "{every: PT1M}")
    await time_.apply("no-more", "{every: PT1M}")
    await time_.turn(NOON)
    await time_.apply("changed", "{every: PT2M}", at_ms=NOON + 30 * SECOND)
    await time_.apply("same", "{every: {seconds: 60}}", rest="# changed", at_ms=NOON + 30 * SECOND)
    await time_.apply("no-more", "", at_ms=NOON + 30 * SECOND)
    assert await time_.turn(NOON + MINUTE) == ["same"]
    assert await time_.turn(NOON + 150 * SECOND) == ["changed", "same"]


async def test_a_flow_whose_backlog_is_full_is_left_out_and_started_at_a_later_time(time_):
    await time_.apply("often", "{every: PT1M}", rest="execution: {max_backlog: 1}")
    assert [await time_.turn(NOON + minute * MINUTE) for minute in (1, 2, 3)] == [["often"], [], []]
    assert time_.scheduled("backlog_full") == 2
    await complete(time_, time_.shard.attach())
    assert await time_.turn(NOON + 3 * MINUTE + 1) == []
    assert await time_.turn(NOON + 4 * MINUTE) == ["often"]
    assert time_.scheduled("started") == 2


async def test_a_paused_flow_is_started_and_waits(time_):
    await time_.apply("often", "{every: PT1M}")
    await time_.shard.storage.registry.set_paused("often", paused=True)
    await time_.flows.catch_up()
    link = time_.shard.attach()
    for minute in (1, 2):
        assert await time_.turn(NOON + minute * MINUTE) == ["often"]
    assert [record.status for record in await time_.executions()] == [Status.PENDING] * 2
    assert link.deliveries == []


async def test_a_clock_that_is_set_ahead_starts_a_flow_once_and_one_set_back_silences_none(time_):
    await time_.apply("often", "{every: PT1M}")
    await time_.apply("hourly", "{cron: '0 * * * *'}")
    await time_.turn(NOON)
    year = 365 * 24 * HOUR
    assert await time_.turn(NOON + year + HOUR) == ["hourly", "often"]
    assert await time_.turn(NOON + 2 * HOUR - SECOND) == []
    assert await time_.turn(NOON + 2 * HOUR + 2 * MINUTE) == ["hourly", "often"]


async def test_more_flows_than_are_started_together_are_all_started(time_):
    flow_ids = sorted(f"f{number}" for number in range(BATCH + 6))
    for flow_id in flow_ids:
        await time_.apply(flow_id, "{every: PT1M}")
    assert await time_.turn(NOON + MINUTE) == flow_ids
    assert {each.due_ms for each in await time_.shard.state.schedules()} == {NOON + 2 * MINUTE}


async def test_it_looks_at_the_clock_by_itself_and_is_notified_of_changes(time_):
    started = asyncio.Queue()
    parts, append = time_.shard.host.parts, time_.shard.host.parts.log.append

    async def reported(events):
        appended = await append(events)
        for event in events:
            started.put_nowait(event.flow_id)
        return appended

    parts.log = SimpleNamespace(append=reported)
    running = asyncio.create_task(time_.cron_scheduler.run())
    async with asyncio.timeout(PATIENCE):
        await time_.apply("often", "{every: PT1S}", at_ms=NOON - 10 * SECOND)
        assert [await started.get(), await started.get()] == ["often", "often"]
        await time_.apply("missed", "{every: PT1H}", at_ms=NOON - HOUR)
        while await started.get() != "missed":
            pass
    running.cancel()
