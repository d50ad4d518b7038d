"""Parses the `Retry-After` header field.

Source: RFC 9110, sections 10.2.3 (Retry-After) and 5.6.7 (dates, in all three forms).
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from runner.interpreter.retry_policy import MAX_RETRY_AFTER_MS

MAX_LENGTH: Final = 64
"""Characters; the longest date has 33."""


def server_time(date: str | None, now: datetime) -> datetime:
    """Return a server's time from its `Date`: what it asks for by a time is meant by its clock, not by this one's.

    Args:
        date: of the field; None: the field is absent.
        now: by the own clock, with its time zone; the result if the field is absent or invalid.
    """
    try:
        return now if date is None or len(date) > MAX_LENGTH else _parse_date(date.strip())
    except (ValueError, OverflowError):
        return now


def parse_retry_after(value: str | None, now: datetime) -> int:
    """Return the requested delay in milliseconds from `now`, at most `MAX_RETRY_AFTER_MS`.

    Args:
        value: of the field: seconds or a date; None: the field is absent.
        now: of the server, with its time zone; see `server_time`.

    Returns:
        0 if the value is absent or invalid, or the date has passed.
    """
    if value is None or len(value) > MAX_LENGTH:
        return 0
    value = value.strip()
    if value.isascii() and value.isdecimal():
        return min(int(value) * 1000, MAX_RETRY_AFTER_MS)
    try:
        return to_delay_ms((_parse_date(value) - now).total_seconds())
    except (ValueError, OverflowError):
        return 0


def _parse_date(value: str) -> datetime:
    moment = parsedate_to_datetime(value)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment  # asctime format; HTTP dates are always GMT


def to_delay_ms(seconds: float) -> int:
    """Convert seconds to milliseconds, clamped to [0, `MAX_RETRY_AFTER_MS`]."""
    return round(max(0.0, min(seconds * 1000, MAX_RETRY_AFTER_MS)))
