"""Counts of executions by flow and minute."""

from __future__ import annotations

import pytest

from flowhook.model import Status
from flowhook.model.overview import MINUTE_MS
from flowhook.process.metric_table import OTHER
from router.dispatch.flow_statistics import IDLE, MINUTES, FlowActivity, FlowStatisticsCounter
from router.storage.model import LoggedEvent, NewEvent
from router.storage.series import ALL, BOUNDS, SeriesMark

START = 28_000_000 * MINUTE_MS


def accept(statistics, flow_id, at_ms, number=1):
    events = [LoggedEvent(seq, NewEvent(f"evt_{seq}", flow_id, 1, at_ms, b"")) for seq in range(number)]
    statistics.accepted(events, at_ms, at_ms / 1000)


def end(statistics, flow_id, status, at_ms, seq=-1):
    """End an execution; by default one whose acceptance is not known."""
    statistics.ended([(seq, flow_id, status)], at_ms, at_ms / 1000)


@pytest.fixture
def statistics():
    return FlowStatisticsCounter(START)


def test_executions_are_counted_by_minute_and_by_how_they_ended(statistics):
    accept(statistics, "a", START, 3)
    end(statistics, "a", Status.COMPLETED, START + 100)
    accept(statistics, "a", START + MINUTE_MS, 2)
    end(statistics, "a", Status.FAULTED, START + 2 * MINUTE_MS)
    end(statistics, "a", Status.CANCELLED, START + 2 * MINUTE_MS)
    activity = statistics.of("a", START + 2 * MINUTE_MS)
    assert activity.accepted[-3:] == (3, 2, 0)
    assert activity.completed[-3:] == (1, 0, 0)
    assert activity.faulted[-3:] == (0, 0, 1)
    assert [sum(counts) for counts in activity] == [5, 1, 1]
    assert all(len(counts) == MINUTES for counts in activity)


def test_flows_are_counted_apart_and_an_unknown_one_has_zeros(statistics):
    accept(statistics, "a", START)
    accept(statistics, "b", START, 2)
    assert [statistics.of(flow, START).accepted[-1] for flow in ("a", "b", "c")] == [1, 2, 0]
    assert statistics.of("c", START) == IDLE


@pytest.mark.parametrize("idle", [1, 30, 59, 60, 61, 1000])
def test_a_minute_is_forgotten_after_an_hour(statistics, idle):
    accept(statistics, "a", START, 4)
    accept(statistics, "a", START + idle * MINUTE_MS)
    activity = statistics.of("a", START + idle * MINUTE_MS)
    assert activity.accepted[-1] == 1
    assert sum(activity.accepted) == (5 if idle < MINUTES else 1)
    if idle < MINUTES:
        assert activity.accepted[-1 - idle] == 4


def test_a_flow_without_events_grows_old_when_it_is_read(statistics):
    accept(statistics, "a", START)
    assert statistics.of("a", START + 59 * MINUTE_MS).accepted[0] == 1
    assert statistics.of("a", START + 60 * MINUTE_MS) == IDLE


def test_while_the_clock_is_set_back_a_little_the_latest_minute_counts(statistics):
    accept(statistics, "a", START)
    accept(statistics, "a", START - 5 * MINUTE_MS, 2)
    end(statistics, "a", Status.COMPLETED, START - 5 * MINUTE_MS)
    activity = statistics.of("a", START - 5 * MINUTE_MS)
    assert (activity.accepted[-1], activity.completed[-1]) == (3, 1)
    assert statistics.of("a", START).accepted[-1] == 3


def test_when_the_clock_is_set_back_far_counting_begins_anew(statistics):
    accept(statistics, "a", START)
    accept(statistics, "a", START - 600 * MINUTE_MS, 2)
    activity = statistics.of("a", START - 600 * MINUTE_MS)
    assert activity.accepted[-1] == sum(activity.accepted) == 2


async def remember(statistics, now_ms):
    """Take all minutes that are over, as if they were stored."""
    while (over := statistics.take(now_ms)) is not None:
        await statistics.remember(over)


async def test_what_is_stored_counts_on_in_the_last_hour(statistics):
    accept(statistics, "a", START, 3)
    end(statistics, "a", Status.FAULTED, START)
    before = statistics.of("a", START + 2 * MINUTE_MS)
    await remember(statistics, START + 2 * MINUTE_MS)
    assert statistics.unstored("a") == []
    assert statistics.of("a", START + 2 * MINUTE_MS) == before
    assert [sum(counts) for counts in before] == [3, 0, 1]
    accept(statistics, "a", START + 3 * MINUTE_MS)
    assert statistics.of("a", START + 3 * MINUTE_MS).accepted[-4:] == (3, 0, 0, 1)


async def test_a_minute_is_taken_once_and_the_current_one_only_on_demand(statistics):
    accept(statistics, "a", START, 2)
    assert statistics.take(START + 100) is None
    [minute] = [statistics.take(START + MINUTE_MS)]
    assert (minute.minute, minute.flows["a"].accepted, minute.flows[ALL].accepted) == (START // MINUTE_MS, 2, 2)
    assert minute.mark == SeriesMark(1, START + MINUTE_MS)
    await statistics.remember(minute)
    assert statistics.take(START + MINUTE_MS) is None
    accept(statistics, "a", START + MINUTE_MS)
    assert statistics.take(START + MINUTE_MS, unfinished=True).flows["a"].accepted == 1


def test_durations_are_counted_of_the_flow_and_of_all(statistics):
    accept(statistics, "a", START)
    statistics.assigned([(0, "a"), (0, "b")], START / 1000 + 0.0085)
    end(statistics, "a", Status.COMPLETED, START + 1000, 0)
    [(_, counted)], [(_, total)] = statistics.unstored("a"), statistics.unstored(ALL)
    nine, second = BOUNDS.index(0.009), BOUNDS.index(1.0)
    assert (counted.waits, counted.latencies) == ({nine: 1}, {second: 1})
    assert (total.waits, total.latencies) == ({nine: 2}, {second: 1})


async def test_the_number_of_flows_is_bounded_and_what_is_missing_is_reported():
    statistics = FlowStatisticsCounter(START, max_flows=2)
    for number, flow in enumerate("abc"):
        accept(statistics, flow, START + number * MINUTE_MS)
    await remember(statistics, START + 3 * MINUTE_MS)
    assert [sum(statistics.of(flow, START + 2 * MINUTE_MS).accepted) for flow in "abc"] == [0, 1, 1]
    assert statistics.since_ms == START + MINUTE_MS


def test_flows_beyond_the_bound_are_counted_together_in_a_minute():
    statistics = FlowStatisticsCounter(START, max_flows=2)
    for flow in "abcda":
        accept(statistics, flow, START)
    found = {flow: statistics.unstored(flow)[0][1].accepted for flow in ("a", "b", OTHER, ALL)}
    assert found == {"a": 2, "b": 1, OTHER: 2, ALL: 5}
    assert statistics.unstored("c") == []


async def test_a_flow_that_was_idle_for_an_hour_makes_room_without_a_loss():
    statistics = FlowStatisticsCounter(START, max_flows=1)
    accept(statistics, "a", START)
    await remember(statistics, START + MINUTE_MS)
    accept(statistics, "b", START + 60 * MINUTE_MS)
    await remember(statistics, START + 61 * MINUTE_MS)
    assert statistics.since_ms == START


async def test_a_deleted_flow_is_forgotten(statistics):
    accept(statistics, "a", START)
    await remember(statistics, START + MINUTE_MS)
    accept(statistics, "a", START + MINUTE_MS)
    statistics.forget("a")
    statistics.forget("a")
    assert statistics.of("a", START + MINUTE_MS) == FlowActivity()
    assert statistics.unstored(ALL)[0][1].accepted == 1
