"""Times: Unix milliseconds (UTC) in `int`s, which properties of types return as datetimes."""

from __future__ import annotations

from datetime import UTC, datetime


def to_datetime(milliseconds: int) -> datetime:
    """Convert Unix milliseconds to a datetime in UTC."""
    return datetime.fromtimestamp(milliseconds // 1000, UTC).replace(microsecond=milliseconds % 1000 * 1000)
