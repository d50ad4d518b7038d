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


def parse_retry_after(value: str | None, now: datetime) -> int:
    """Return the requested delay in milliseconds from `now`, at most `MAX_RETRY_AFTER_MS`.

    Args:
        value: of the field: seconds or a date; None: the field is absent.
        now: with its time zone.

    Returns:
        0 if the value is absent or invalid, or the date has passed.
    """
    if value is None or len(value) > MAX_LENGTH:
        return 0
    value = value.strip()
    if value.isascii() and value.isdecimal():
        return min(int(value) * 1000, MAX_RETRY_AFTER_MS)
    try:
        moment = parsedate_to_datetime(value)
        if moment.tzinfo is None:  # asctime format; HTTP dates are always GMT
            moment = moment.replace(tzinfo=UTC)
        return to_delay_ms((moment - now).total_seconds())
    except (ValueError, OverflowError):
        return 0


def to_delay_ms(seconds: float) -> int:
    """Convert seconds to milliseconds, clamped to [0, `MAX_RETRY_AFTER_MS`]."""
    return round(max(0.0, min(seconds * 1000, MAX_RETRY_AFTER_MS)))
