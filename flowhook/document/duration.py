"""Durations as the DSL writes them: ISO 8601 (`PT5M`) or an object (`{minutes: 5}`).

Source: dsl-reference.md, "Duration"; ISO 8601-1:2019, section 5.5.2.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from flowhook.errors import InvalidError

MAX_SECONDS: Final = 10 * 366 * 86_400.0
"""Ten years: longer ones are typing errors, and would run into the limits of clocks."""

_UNITS: Final[Mapping[str, float]] = {"weeks": 604_800, "days": 86_400, "hours": 3600, "minutes": 60, "seconds": 1}
_INLINE: Final[Mapping[str, float]] = {
    "days": 86_400,
    "hours": 3600,
    "minutes": 60,
    "seconds": 1,
    "milliseconds": 0.001,
}
_NUMBER: Final = r"[0-9]{1,9}(?:\.[0-9]{1,9})?"
_ISO_8601: Final = re.compile(
    rf"P(?:(?P<years>{_NUMBER})Y)?(?:(?P<months>{_NUMBER})M)?(?:(?P<weeks>{_NUMBER})W)?(?:(?P<days>{_NUMBER})D)?"
    rf"(?:T(?=[0-9])(?:(?P<hours>{_NUMBER})H)?(?:(?P<minutes>{_NUMBER})M)?(?:(?P<seconds>{_NUMBER})S)?)?"
)


def parse_duration(value: object) -> float:
    """Return a duration in seconds, in [0, `MAX_SECONDS`].

    Args:
        value: an ISO 8601 duration without years and months, whose lengths vary; or a mapping of `days`, `hours`,
            `minutes`, `seconds`, `milliseconds` to integers of at least 0.

    Raises:
        InvalidError: it is neither, or longer than `MAX_SECONDS` (`DURATION_INVALID`).
    """
    if isinstance(value, str):
        seconds = _parse_iso_8601(value)
    elif isinstance(value, Mapping):
        seconds = _sum_inline(value)
    else:
        raise _invalid("expected a duration such as PT5M or {minutes: 5}")
    if seconds > MAX_SECONDS:
        raise _invalid("a duration is at most ten years")
    return seconds


def _parse_iso_8601(text: str) -> float:
    match = _ISO_8601.fullmatch(text)
    if match is None or text == "P":
        raise _invalid(f"{text[:40]!r} is no duration; write it like PT30S, PT5M or P1DT12H")
    if match["years"] or match["months"]:
        raise _invalid("years and months have no fixed length: use days (P30D)")
    return sum(float(match[unit]) * factor for unit, factor in _UNITS.items() if match[unit])


def _sum_inline(parts: Mapping[object, object]) -> float:
    if not parts:
        raise _invalid(f"expected at least one of {', '.join(_INLINE)}")
    seconds = 0.0
    for unit, count in parts.items():
        factor = _INLINE.get(unit) if isinstance(unit, str) else None
        if factor is None:
            raise _invalid(f"{str(unit)[:40]!r} is no unit of a duration; there are {', '.join(_INLINE)}")
        if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= MAX_SECONDS * 1000:
            raise _invalid(f"{unit} must be an integer of at least 0, and not longer than ten years")
        seconds += count * factor
    return seconds


def _invalid(message: str) -> InvalidError:
    return InvalidError(message, reason="DURATION_INVALID")
