"""Cron expressions: when they come true, and what is none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.cases import cases

from flowhook.cron import MAX_LENGTH, check_cron, check_timezone, next_cron
from flowhook.errors import InvalidError


def after(expression, moment):
    start = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    return datetime.fromtimestamp(next_cron(expression, int(start.timestamp() * 1000)) / 1000, UTC).replace(tzinfo=None)


@cases(
    ("expression", "moment", "due"),
    [
        ("0 0 * * *", "2026-11-24T10:00:00", "2026-11-25T00:00:00"),
        ("*/15 * * * *", "2026-11-24T10:14:59.999", "2026-11-24T10:15:00"),
        ("*/15 * * * *", "2026-11-24T10:15:00", "2026-11-24T10:30:00"),
        ("0 9 * * MON-FRI", "2026-11-27T09:00:00", "2026-11-30T09:00:00"),
        ("0 0 29 2 *", "2026-11-24T10:00:00", "2028-02-29T00:00:00"),
        ("0 0 13 * 5", "2026-11-24T10:00:00", "2026-11-27T00:00:00"),
        ("0 12 L * *", "2027-02-01T00:00:00", "2027-02-28T12:00:00"),
        ("*/10 * * * * *", "2026-11-24T10:00:05", "2026-11-24T10:00:10"),
    ],
)
def test_an_expression_comes_true_next(expression, moment, due):
    assert after(expression, moment) == datetime.fromisoformat(due)


@given(
    minute=st.integers(0, 59),
    hour=st.integers(0, 23),
    now=st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
)
def test_a_daily_one_comes_true_within_a_day_at_its_time_and_never_at_the_moment_asked(minute, hour, now):
    now_ms = int(now.timestamp() * 1000)
    due_ms = next_cron(f"{minute} {hour} * * *", now_ms)
    due = datetime.fromtimestamp(due_ms / 1000, UTC)
    assert (due.hour, due.minute, due.second) == (hour, minute, 0)
    assert 0 < due_ms - now_ms <= timedelta(days=1) / timedelta(milliseconds=1)


@cases(
    "expression",
    ["", "* * * *", "60 * * * *", "@hourly", "0 0 30 2 *", "0 0 * * FUN", "9" * 5000, "0 " * 300],
)
def test_what_can_not_be_read_or_never_comes_true_is_refused(expression):
    with pytest.raises(InvalidError) as caught:
        check_cron(expression)
    assert caught.value.reason == "CRON_INVALID"
    assert len(caught.value.message) < MAX_LENGTH


@given(
    st.lists(st.text("0123456789*/,-#LWMONJA²", min_size=1, max_size=8), min_size=5, max_size=6).map(" ".join)
    | st.text(max_size=30)
)
def test_any_text_is_an_expression_or_refused(expression):
    try:
        check_cron(expression)
    except InvalidError as error:
        assert error.reason == "CRON_INVALID"  # noqa: PT017 - either is fine


def local_times(expression, moment, timezone, count):
    """Return the next local times, with their offsets from UTC."""
    zone = ZoneInfo(timezone)
    due_ms, found = int(datetime.fromisoformat(moment).replace(tzinfo=zone).timestamp() * 1000), []
    for _ in range(count):
        due_ms = next_cron(expression, due_ms, timezone)
        found.append(datetime.fromtimestamp(due_ms / 1000, zone).strftime("%m-%d %H:%M %z"))
    return found


def test_a_time_zone_keeps_the_hour_of_the_day_when_its_offset_changes():
    assert local_times("0 9 * * *", "2027-03-27T12:00", "Europe/Berlin", 2) == [
        "03-28 09:00 +0200",
        "03-29 09:00 +0200",
    ]
    assert local_times("0 9 * * *", "2027-03-26T12:00", "Europe/Berlin", 1) == ["03-27 09:00 +0100"]


def test_a_daily_time_in_the_hour_that_is_left_out_is_due_at_its_end():
    assert local_times("30 2 * * *", "2027-03-27T03:00", "Europe/Berlin", 2) == [
        "03-28 03:00 +0200",
        "03-29 02:30 +0200",
    ]


def test_a_daily_time_in_the_hour_that_comes_twice_is_due_once():
    assert local_times("30 2 * * *", "2027-10-30T12:00", "Europe/Berlin", 2) == [
        "10-31 02:30 +0200",
        "11-01 02:30 +0100",
    ]


def test_times_with_a_star_follow_the_hands_of_the_clock():
    assert local_times("*/30 * * * *", "2027-03-28T01:15", "Europe/Berlin", 2) == [
        "03-28 01:30 +0100",
        "03-28 03:00 +0200",
    ]
    assert local_times("0 * * * *", "2027-10-31T01:30", "Europe/Berlin", 3) == [
        "10-31 02:00 +0200",
        "10-31 02:00 +0100",
        "10-31 03:00 +0100",
    ]


@given(
    expression=st.sampled_from(["30 2 * * *", "*/7 * * * *", "0 0 1 * *", "15 */3 * * SUN", "*/20 30 2 * * *"]),
    timezone=st.sampled_from(
        ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Casablanca", "UTC"]
    ),
    now=st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
)
def test_the_next_time_is_always_later_than_the_one_before(expression, timezone, now):
    now_ms = int(now.timestamp() * 1000)
    first = next_cron(expression, now_ms, timezone)
    assert now_ms < first < next_cron(expression, first, timezone)


def test_each_second_of_the_hour_that_comes_twice_has_a_later_next_time():
    start = int(datetime(2027, 10, 31, 0, 0, tzinfo=UTC).timestamp() * 1000)
    for minutes in range(130):
        now_ms = start + minutes * 60_000
        assert next_cron("30 2 * * *", now_ms, "Europe/Berlin") > now_ms


@cases("name", ["Europe/Berlyn", "", "../etc/passwd", "/etc/passwd", "Europe", "Europe/Ber\0lin", "ä" * 99])
def test_an_unknown_time_zone_is_refused(name):
    with pytest.raises(InvalidError) as caught:
        check_timezone(name)
    assert caught.value.reason == "TIMEZONE_UNKNOWN"
