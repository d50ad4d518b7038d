"""Times as operators write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from flowhook.errors import InvalidError

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_AGO: Final = re.compile(r"([0-9]{1,6})([smhd])")


def parse_time(text: str, now: datetime) -> datetime:
    """Return the time that a text names: RFC 3339, in UTC if it has no offset; or how long before now: `15m`.

    Raises:
        InvalidError: it names none (`TIME_INVALID`).
    """
    try:
        if ago := _AGO.fullmatch(text):
            return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        time = datetime.fromisoformat(text)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidError(
            "write a time such as 2026-11-27T16:00Z, or 15m, 1h or 7d for ago", reason="TIME_INVALID"
        ) from None
