"""Cron expressions: when they come true, and what is none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowhook.cron import MAX_LENGTH, check_cron, next_cron
from flowhook.errors import InvalidError


def after(expression, moment):
    start = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    return datetime.fromtimestamp(next_cron(expression, int(start.timestamp() * 1000)) / 1000, UTC).replace(tzinfo=None)


@pytest.mark.parametrize(
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


@pytest.mark.parametrize(
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
