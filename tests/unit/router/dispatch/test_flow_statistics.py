"""Counts of executions by flow and minute."""

from __future__ import annotations

import pytest

from flowhook.errors import UnavailableError
from flowhook.model import Status
from router.dispatch.flow_statistics import IDLE, MINUTE_MS, MINUTES, FlowStatisticsCounter, restore_history
from router.storage.activity import MinuteCount, RecentActivity
from router.storage.model import LoggedEvent, NewEvent

START = 28_000_000 * MINUTE_MS


def accept(statistics, flow_id, at_ms, number=1):
    events = [LoggedEvent(seq, NewEvent(f"evt_{seq}", flow_id, 1, at_ms, b"")) for seq in range(number)]
    statistics.accepted(events, at_ms)


@pytest.fixture
def statistics():
    return FlowStatisticsCounter(START)


def test_executions_are_counted_by_minute_and_by_how_they_ended(statistics):
    accept(statistics, "a", START, 3)
    statistics.ended("a", Status.COMPLETED, START + 100)
    accept(statistics, "a", START + MINUTE_MS, 2)
    statistics.ended("a", Status.FAULTED, START + 2 * MINUTE_MS)
    statistics.ended("a", Status.CANCELLED, START + 2 * MINUTE_MS)
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
    statistics.ended("a", Status.COMPLETED, START - 5 * MINUTE_MS)
    activity = statistics.of("a", START - 5 * MINUTE_MS)
    assert (activity.accepted[-1], activity.completed[-1]) == (3, 1)
    assert statistics.of("a", START).accepted[-1] == 3


def test_when_the_clock_is_set_back_far_counting_begins_anew(statistics):
    accept(statistics, "a", START)
    accept(statistics, "a", START - 600 * MINUTE_MS, 2)
    activity = statistics.of("a", START - 600 * MINUTE_MS)
    assert activity.accepted[-1] == sum(activity.accepted) == 2


def test_the_number_of_flows_is_bounded_and_what_is_missing_is_reported():
    statistics = FlowStatisticsCounter(START, max_flows=2)
    for number, flow in enumerate("abc"):
        accept(statistics, flow, START + number * MINUTE_MS)
    assert [sum(statistics.of(flow, START + 2 * MINUTE_MS).accepted) for flow in "abc"] == [0, 1, 1]
    assert statistics.since_ms == START + 2 * MINUTE_MS


def test_a_flow_that_was_idle_for_an_hour_makes_room_without_a_loss():
    statistics = FlowStatisticsCounter(START, max_flows=1)
    accept(statistics, "a", START)
    accept(statistics, "b", START + 60 * MINUTE_MS)
    assert statistics.since_ms == START


def test_a_deleted_flow_is_forgotten(statistics):
    accept(statistics, "a", START)
    statistics.forget("a")
    statistics.forget("a")
    assert statistics.of("a", START) == IDLE


class State:
    """Answers for the time before the start, or not."""

    def __init__(self, answer):
        self.answer = answer
        self.asked = None

    async def recent_activity(self, **asked):
        self.asked = asked
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def test_the_hour_before_the_start_is_added_to_what_was_counted_since(statistics):
    minute = START // MINUTE_MS
    accept(statistics, "a", START)
    counts = (
        MinuteCount("a", minute, None, 5),
        MinuteCount("a", minute - 59, None, 1),
        MinuteCount("a", minute - 60, None, 100),
        MinuteCount("b", minute - 1, Status.FAULTED, 7),
        MinuteCount("b", minute - 1, Status.CANCELLED, 9),
    )
    state = State(RecentActivity(START - 50 * MINUTE_MS, counts))
    await restore_history(statistics, state, until_seq=9, now_ms=lambda: START)
    assert statistics.of("a", START).accepted == (1, *([0] * 58), 6)
    assert statistics.of("b", START).faulted[-2] == 7
    assert sum(map(sum, statistics.of("b", START))) == 7
    assert statistics.since_ms == START - 50 * MINUTE_MS
    assert state.asked["until_seq"] == 9
    assert state.asked["ended_before_ms"] == START


async def test_without_an_answer_of_storage_counting_begins_with_the_start(statistics):
    accept(statistics, "a", START)
    state = State(UnavailableError("away", reason="STORAGE_UNAVAILABLE"))
    await restore_history(statistics, state, until_seq=9, now_ms=lambda: START)
    assert statistics.since_ms == START
    assert statistics.of("a", START).accepted[-1] == 1
