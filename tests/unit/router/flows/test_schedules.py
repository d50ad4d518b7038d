"""When a flow is due next."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.cases import cases

from flowhook.errors import InvalidError
from router.flows.schedules import MIN_STALE, AfterSpec, CronSpec, DueRun, EverySpec, ScheduleQueue, parse_schedule
from router.storage.model import Scheduled

MINUTE = 60_000
DAY = 24 * 60 * MINUTE
TIMES = st.integers(1_000_000_000_000, 4_000_000_000_000)
SPANS = st.integers(0, 100 * DAY)
PERIODS = st.integers(1000, 40 * DAY)
TIMETABLES = st.one_of(
    st.sampled_from(
        [
            CronSpec("*/5 * * * *"),
            CronSpec("0 0 * * *"),
            CronSpec("30 6 * * MON-FRI"),
            CronSpec("30 2 * * *", "Europe/Berlin"),
        ]
    ),
    PERIODS.map(EverySpec),
    st.integers(1, 40 * DAY).map(AfterSpec),
)

HOUR = 3_600_000
NOON = 1_795_521_600_000
"""2026-11-24T12:00Z."""


def at(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@cases(
    ("schedule", "timetable"),
    [
        ({"cron": "0 0 * * *"}, CronSpec("0 0 * * *")),
        ({"cron": "0 0 * * *", "timezone": "Asia/Tokyo"}, CronSpec("0 0 * * *", "Asia/Tokyo")),
        ({"every": {"minutes": 1, "milliseconds": 5}}, EverySpec(MINUTE + 5)),
        ({"every": "PT60S"}, EverySpec(MINUTE)),
        ({"after": "PT0S"}, AfterSpec(1)),
        ({"on": {"any": []}}, None),
    ],
)
def test_a_timetable_is_what_the_schedule_says(schedule, timetable):
    assert parse_schedule(schedule) == timetable


def test_a_duration_that_is_none_is_refused():
    with pytest.raises(InvalidError):
        parse_schedule({"every": "soon"})


@given(TIMETABLES, TIMES, SPANS)
def test_what_was_missed_is_made_up_once_and_the_next_time_lies_ahead(timetable, since, late):
    due = timetable.first(since)
    assert due > since
    assert timetable.following(due, due + late) > due + late


@given(PERIODS, TIMES, SPANS)
def test_an_interval_keeps_its_phase_however_late_it_was_looked_at(period, due, late):
    following = EverySpec(period).following(due, due + late)
    assert (following - due) % period == 0
    assert following - (due + late) <= period


@given(TIMETABLES, TIMES, SPANS)
def test_nothing_is_corrected_while_the_clock_goes_on(timetable, since, passed):
    due = timetable.first(since)
    assert timetable.corrected(due, since + passed) == due


@given(TIMETABLES, TIMES, SPANS)
def test_what_was_corrected_stays_so(timetable, since, back):
    due = timetable.first(since)
    corrected = timetable.corrected(due, since - back)
    assert since - back < corrected <= due
    assert timetable.corrected(corrected, since - back) == corrected


def test_a_clock_that_is_set_back_makes_nobody_wait_for_it():
    due, back = at("2031-01-01T12:00"), at("2026-11-24T10:30")
    assert CronSpec("0 * * * *").corrected(due, back) == at("2026-11-24T11:00")
    assert AfterSpec(MINUTE).corrected(due, back) == back + MINUTE
    assert EverySpec(MINUTE).corrected(due, back) in (back + MINUTE, back + MINUTE + 1)
    assert EverySpec(MINUTE).corrected(back + 2 * MINUTE, back) == back + 2 * MINUTE


@given(PERIODS, TIMES, SPANS)
def test_an_interval_whose_clock_was_set_back_is_never_due_when_it_was_due_before(period, due, back):
    corrected = EverySpec(period).corrected(due, due - back)
    assert corrected == due or (corrected - due) % period != 0
    assert corrected <= due - back + 2 * period


@pytest.fixture
def agenda():
    return ScheduleQueue()


def save(agenda):
    """Return what is to be stored, which it is then."""
    changes = agenda.unsaved()
    agenda.saved(changes)
    return changes


def start(agenda, now_ms):
    """Start all that is due."""
    runs = agenda.due(now_ms, 1000)
    for run in runs:
        agenda.started(run, now_ms)
    return runs


def test_flows_are_due_earliest_first_and_once_each_time(agenda):
    agenda.put("hourly", CronSpec("0 * * * *"), NOON)
    agenda.put("often", EverySpec(HOUR // 2), NOON)
    agenda.put("later", AfterSpec(2 * HOUR), NOON)
    assert agenda.next() == NOON + HOUR // 2
    assert agenda.due(NOON + HOUR // 2 - 1, 10) == []
    assert start(agenda, NOON + HOUR // 2) == [DueRun("often", NOON + HOUR // 2)]
    assert start(agenda, NOON + HOUR) == [DueRun("hourly", NOON + HOUR), DueRun("often", NOON + HOUR)]
    assert start(agenda, NOON + HOUR) == []
    assert len(agenda) == 3


def test_only_so_many_are_taken_out_at_a_time(agenda):
    for number in range(5):
        agenda.put(f"f{number}", EverySpec(HOUR), NOON)
    assert len(agenda.due(NOON + HOUR, 3)) == 3
    assert len(agenda.due(NOON + HOUR, 3)) == 2


def test_of_those_missed_one_is_made_up(agenda):
    agenda.put("f", EverySpec(HOUR), NOON)
    assert start(agenda, NOON + 5 * HOUR + 1) == [DueRun("f", NOON + HOUR)]
    assert agenda.next() == NOON + 6 * HOUR


def test_the_same_schedule_keeps_its_phase_and_another_is_in_force_at_once(agenda):
    agenda.put("f", EverySpec(HOUR), NOON)
    agenda.put("f", EverySpec(HOUR), NOON + 1)
    assert agenda.next() == NOON + HOUR
    agenda.put("f", EverySpec(2 * HOUR), NOON + 1)
    assert agenda.next() == NOON + 1 + 2 * HOUR
    agenda.put("f", CronSpec("30 12 * * *"), NOON + 2)
    assert agenda.next() == NOON + HOUR // 2


def test_a_flow_that_waits_for_the_end_of_its_run_is_due_that_long_after_it(agenda):
    agenda.put("f", AfterSpec(HOUR), NOON)
    (run,) = agenda.due(NOON + HOUR, 1)
    assert agenda.started(run, NOON + HOUR)
    assert agenda.next() is None
    agenda.put("f", AfterSpec(2 * HOUR), NOON + HOUR)  # while the run is under way
    assert agenda.next() is None
    agenda.ended(DueRun("f", NOON), NOON + 2 * HOUR)  # another run
    assert agenda.next() is None
    agenda.ended(run, NOON + 3 * HOUR)
    assert agenda.next() == NOON + 5 * HOUR
    agenda.ended(run, NOON + 4 * HOUR)
    assert agenda.next() == NOON + 5 * HOUR


def test_a_flow_that_no_longer_waits_for_its_run_is_due_by_its_new_schedule(agenda):
    agenda.put("f", AfterSpec(HOUR), NOON)
    (run,) = start(agenda, NOON + HOUR)
    agenda.put("f", EverySpec(HOUR), NOON + HOUR)
    agenda.ended(run, NOON + HOUR + 5)
    assert agenda.next() == NOON + 2 * HOUR


def test_one_that_was_removed_or_changed_while_it_was_being_started_is_left_as_it_is_now(agenda):
    for flow_id in ("gone", "changed"):
        agenda.put(flow_id, EverySpec(HOUR), NOON)
    runs = agenda.due(NOON + HOUR, 2)
    agenda.remove("gone")
    agenda.put("changed", EverySpec(3 * HOUR), NOON + HOUR)
    for run in runs:
        agenda.again(run)
        agenda.skipped(run, NOON + HOUR)
        assert not agenda.started(run, NOON + HOUR)
    assert (agenda.next(), len(agenda)) == (NOON + 4 * HOUR, 1)


def test_one_that_could_not_be_started_is_due_again_and_one_left_out_at_its_next_time(agenda):
    agenda.put("f", EverySpec(HOUR), NOON)
    (run,) = agenda.due(NOON + HOUR, 1)
    assert agenda.next() is None
    agenda.again(run)
    assert agenda.due(NOON + HOUR, 1) == [run]
    agenda.skipped(run, NOON + HOUR)
    assert agenda.next() == NOON + 2 * HOUR


def test_what_is_to_be_retained_is_reported_once_and_the_last_of_it(agenda):
    agenda.put("f", EverySpec(HOUR), NOON)
    agenda.put("g", AfterSpec(HOUR), NOON)
    start(agenda, NOON + HOUR)
    assert save(agenda) == [Scheduled("f", NOON + 2 * HOUR, NOON + HOUR), Scheduled("g", None, NOON + HOUR)]
    agenda.put("f", EverySpec(HOUR), NOON + 7)
    assert save(agenda) == []
    agenda.remove("f")
    agenda.remove("never here")
    assert save(agenda) == [Scheduled("f", None, 0)]


def test_what_changed_while_it_was_being_stored_is_stored_again(agenda):
    agenda.put("f", EverySpec(HOUR), NOON)
    changes = agenda.unsaved()
    agenda.put("f", EverySpec(2 * HOUR), NOON)
    agenda.saved(changes)
    assert save(agenda) == [Scheduled("f", NOON + 2 * HOUR, 0)]


def test_what_was_retained_is_taken_in_again(agenda):
    def recover(timetable, due_ms, last_ms):
        return agenda.recover(timetable, Scheduled("f", due_ms, last_ms), since_ms=NOON, now_ms=NOON + HOUR)

    assert not recover(EverySpec(HOUR), NOON + 5, NOON)
    assert (agenda.next(), save(agenda)) == (NOON + 5, [])
    assert not recover(EverySpec(HOUR), NOON + 50 * HOUR, 0)  # by a clock that was wrong
    assert NOON < agenda.next_of("f") <= NOON + 3 * HOUR
    assert [each.due_ms for each in save(agenda)] == [agenda.next_of("f")]
    assert not recover(EverySpec(HOUR), None, NOON)  # it had no schedule when the router died
    assert agenda.next_of("f") == NOON + HOUR
    assert recover(AfterSpec(HOUR), None, NOON)
    assert agenda.next() is None
    agenda.ended(DueRun("f", NOON), NOON + 7)
    assert agenda.next() == NOON + HOUR + 7


def test_a_clock_that_was_set_back_is_noticed_and_one_that_is_adjusted_is_not(agenda):
    agenda.put("f", EverySpec(HOUR), NOON)
    agenda.put("g", AfterSpec(HOUR), NOON)
    agenda.look(NOON)
    (run,) = [run for run in agenda.due(NOON + HOUR, 2) if run.flow_id == "g"]
    agenda.started(run, NOON)
    agenda.look(NOON - 1000)
    assert agenda.next_of("f") == NOON + HOUR
    agenda.look(NOON - 100 * HOUR)
    assert agenda.next_of("f") == NOON - 99 * HOUR + 1
    assert agenda.next_of("g") is None


def test_memory_is_bounded_by_the_flows_however_often_they_change(agenda):
    for number in range(20_000):
        agenda.put(f"f{number % 10}", EverySpec(HOUR + number), NOON)
        assert len(agenda._heap) <= MIN_STALE + 2 * 10 + 1


class RestartedQueue:
    """An agenda, what storage has of it, and the runs that were stored: each once, by its ID."""

    def __init__(self, timetable):
        self.timetable = timetable
        self.agenda = ScheduleQueue()
        self.stored = None
        self.runs = {}
        self.agenda.put("f", timetable, NOON)

    def work(self, now_ms):
        """Start what is due, and return what is new of it."""
        new = []
        self.agenda.look(now_ms)
        while runs := self.agenda.due(now_ms, 10):
            for run in runs:
                new += [] if run in self.runs else [run]
                at_ms = self.runs.setdefault(run, now_ms)
                if self.agenda.started(run, at_ms):
                    self.agenda.ended(run, at_ms)
        return new

    def save(self):
        for each in save(self.agenda):
            self.stored = each

    def die(self, now_ms):
        self.agenda = ScheduleQueue()
        if self.stored is None:
            self.agenda.put("f", self.timetable, NOON)
        else:
            self.agenda.recover(self.timetable, self.stored, since_ms=NOON, now_ms=now_ms)


STEPS = st.lists(st.tuples(st.integers(0, 3 * HOUR), st.sampled_from(["saves", "dies", "dies after saving"])))


@given(STEPS, st.sampled_from([EverySpec(HOUR), CronSpec("0 * * * *"), AfterSpec(HOUR)]))
def test_whenever_the_router_dies_no_run_is_lost_and_none_starts_twice(steps, timetable):
    router, before = RestartedQueue(timetable), NOON
    for passed, fate in steps:
        now = before + passed
        last = max(router.runs.values(), default=NOON)
        is_due = now >= last + HOUR if isinstance(timetable, AfterSpec) else now // HOUR > before // HOUR
        assert len(router.work(now)) == is_due
        if fate != "dies":
            router.save()
        if fate != "saves":
            router.die(now)
        before = now
