"""Cron expressions: minute, hour, day of month, month, day of week; a sixth field in front is the second.

They are in UTC, or in a time zone of the IANA database.

As in Debian's cron, a day must match both of its fields when one of them begins with `*`, else either of them. `L` is
the last day of the month, `LW` its last working day, `1#2` the second Monday, `5L` the last Friday.

Where clocks are changed, an expression whose hour or minute begins with `*` follows the hands: it matches nothing in
the hour that is left out, and in both of the hours that come twice. Any other of five fields is due once a day: in the
hour that is left out at its end, in one that comes twice the first time. So it is in Debian's cron.

Source: crontab(5); cronsim parses and steps.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from flowhook.errors import InvalidError

_NICKNAMES: Final = {
    **dict.fromkeys(("@yearly", "@annually"), "0 0 1 1 *"),
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    **dict.fromkeys(("@daily", "@midnight"), "0 0 * * *"),
    "@hourly": "0 * * * *",
}
_NAMES: Final = {
    "month": ", there are 1 to 12 and JAN to DEC",
    "day-of-week": ", there are 0 to 7 and SUN to SAT",
}

MAX_LENGTH: Final = 256  # characters of one expression
_invalid: Final = partial(InvalidError, reason="CRON_INVALID")


def check_cron(expression: str) -> None:
    """Check that an expression can be parsed, and matches some time within the next 50 years.

    Takes a few milliseconds at most.

    Raises:
        InvalidError: it can't be parsed, or matches no such time (`CRON_INVALID`).
    """
    next_cron(expression, int(datetime.now(UTC).timestamp() * 1000))


def check_timezone(name: str) -> None:
    """Check that a time zone is known. Reads a small file, the first time."""
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # of a name, of one that is no relative path, of a region without a city
        raise InvalidError(
            f"{name!r} is not a time zone such as Europe/Berlin (IANA time zone database)", reason="TIMEZONE_UNKNOWN"
        ) from None


def next_cron(expression: str, after_ms: int, timezone: str = "UTC") -> int:
    """Return the next time that an expression matches, in Unix milliseconds, a whole second.

    The result is later than `after_ms`. `timezone` is the one that the fields are in, by its name in the IANA database;
    it is known.

    Raises:
        InvalidError: it can't be parsed, or matches no time within 50 years (`CRON_INVALID`).
    """
    if len(expression) > MAX_LENGTH:
        raise _invalid(f"a cron expression has at most {MAX_LENGTH} characters")
    try:
        zone = UTC if timezone == "UTC" else ZoneInfo(timezone)
        moments = CronSim(expression, datetime.fromtimestamp(after_ms // 1000, zone))
        # In the hour that comes twice, cronsim finds the first of the two times: during the second one it has passed.
        while (due_ms := int(next(moments).timestamp()) * 1000) <= after_ms:
            pass
    except (CronSimError, StopIteration) as error:
        cause = _cause(expression, str(error).lower())
        raise _invalid(f"not a cron expression such as 30 9 * * MON-FRI: {cause}") from None
    return due_ms


def _cause(expression: str, said: str) -> str:
    """Return the cause to report, given the parser's message in lower case; empty: the expression never matches."""
    nickname = _NICKNAMES.get(expression.strip().lower())
    if nickname is not None:
        return f"{expression.strip()} is written {nickname}"
    count = len(expression.split())
    if "number of fields" in said:
        return f"expected five fields, or six with the second first, not {count}"
    hint = next((known for name, known in _NAMES.items() if said == f"bad {name}"), "")
    return f"{said}{hint}" if said else "it never matches"
