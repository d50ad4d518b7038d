"""When a flow is due next."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowhook.errors import InvalidError
from router.schedules.timetable import After, Cron, Every, timetable_of

MINUTE = 60_000
DAY = 24 * 60 * MINUTE
TIMES = st.integers(1_000_000_000_000, 4_000_000_000_000)
SPANS = st.integers(0, 100 * DAY)
PERIODS = st.integers(1000, 40 * DAY)
TIMETABLES = st.one_of(
    st.sampled_from([Cron("*/5 * * * *"), Cron("0 0 * * *"), Cron("30 6 * * MON-FRI")]),
    PERIODS.map(Every),
    st.integers(1, 40 * DAY).map(After),
)


def at(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("schedule", "timetable"),
    [
        ({"cron": "0 0 * * *"}, Cron("0 0 * * *")),
        ({"every": {"minutes": 1, "milliseconds": 5}}, Every(MINUTE + 5)),
        ({"every": "PT60S"}, Every(MINUTE)),
        ({"after": "PT0S"}, After(1)),
        ({"on": {"any": []}}, None),
    ],
)
def test_a_timetable_is_what_the_schedule_says(schedule, timetable):
    assert timetable_of(schedule) == timetable


def test_a_duration_that_is_none_is_refused():
    with pytest.raises(InvalidError):
        timetable_of({"every": "soon"})


@given(TIMETABLES, TIMES, SPANS)
def test_what_was_missed_is_made_up_once_and_the_next_time_lies_ahead(timetable, since, late):
    due = timetable.first(since)
    assert due > since
    assert timetable.following(due, due + late) > due + late


@given(PERIODS, TIMES, SPANS)
def test_an_interval_keeps_its_phase_however_late_it_was_looked_at(period, due, late):
    following = Every(period).following(due, due + late)
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
    assert Cron("0 * * * *").corrected(due, back) == at("2026-11-24T11:00")
    assert After(MINUTE).corrected(due, back) == back + MINUTE
    assert Every(MINUTE).corrected(due, back) in (back + MINUTE, back + MINUTE + 1)
    assert Every(MINUTE).corrected(back + 2 * MINUTE, back) == back + 2 * MINUTE


@given(PERIODS, TIMES, SPANS)
def test_an_interval_whose_clock_was_set_back_is_never_due_when_it_was_due_before(period, due, back):
    corrected = Every(period).corrected(due, due - back)
    assert corrected == due or (corrected - due) % period != 0
    assert corrected <= due - back + 2 * period
