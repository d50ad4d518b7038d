"""When a flow is due next."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowhook.errors import InvalidError
from router.triggers.schedules.schedule_spec import AfterSpec, CronSpec, EverySpec, parse_schedule

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


def at(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
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
