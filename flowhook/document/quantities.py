"""Parses durations (`PT5M` or `{minutes: 5}`) and sizes (`10MiB`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Final

from flowhook.document.diagnostics.problems import suggestion
from flowhook.errors import InvalidError

MAX_SECONDS: Final = 10 * 366 * 86_400.0
"""Ten years. Longer durations are typing errors, and would exceed the limits of clocks."""

_ISO_UNITS: Final[Mapping[str, float]] = {"weeks": 604_800, "days": 86_400, "hours": 3600, "minutes": 60, "seconds": 1}
_INLINE: Final[Mapping[str, float]] = {
    unit: seconds for unit, seconds in {**_ISO_UNITS, "milliseconds": 0.001}.items() if unit != "weeks"
}
UNITS: Final = frozenset(_INLINE)  # keys of a duration that is written as a mapping

_NUMBER: Final = r"[0-9]{1,9}(?:\.[0-9]{1,9})?"
_ISO_8601: Final = re.compile(
    rf"P(?:(?P<years>{_NUMBER})Y)?(?:(?P<months>{_NUMBER})M)?(?:(?P<weeks>{_NUMBER})W)?(?:(?P<days>{_NUMBER})D)?"
    rf"(?:T(?=[0-9])(?:(?P<hours>{_NUMBER})H)?(?:(?P<minutes>{_NUMBER})M)?(?:(?P<seconds>{_NUMBER})S)?)?"
)

_WORDS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("w", "week", "weeks"), "W"),
    **dict.fromkeys(("d", "day", "days"), "D"),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), "H"),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), "M"),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), "S"),
    **dict.fromkeys(("ms", "msec", "millis", "millisecond", "milliseconds"), "ms"),
}
"""ISO 8601 letters of units, by their common names."""

_PLURALS: Final = {
    word: next((unit for unit in _INLINE if unit[0].upper() == letter), "milliseconds" if letter == "ms" else word)
    for word, letter in _WORDS.items()
}
"""Units of a mapping, by their common names."""

_SPOKEN: Final = re.compile(rf"[pt]*({_NUMBER})\s*([a-z]+?)(?=$|[^a-z]|t[0-9])(?:\s|,|\band\b)*", re.IGNORECASE)
_CLOCK: Final = re.compile(r"([0-9]{1,3}):([0-9]{2}):([0-9]{2})")
_invalid: Final = partial(InvalidError, reason="DURATION_INVALID")


def parse_duration(value: object) -> float:
    """Return a duration in seconds, in [0, `MAX_SECONDS`]; raises InvalidError if it is invalid (`DURATION_INVALID`).

    It is written as in ISO 8601 without years and months, whose lengths vary; or as a mapping of `days`, `hours`,
    `minutes`, `seconds`, `milliseconds` to integers of at least 0.
    """
    if isinstance(value, str):
        seconds = _parse_iso_8601(value)
    elif isinstance(value, Mapping):
        seconds = _sum_inline(value)
    elif isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MAX_SECONDS:
        raise _invalid(f"the unit is missing: write PT{value}S for {value} seconds, or PT{value}M for {value} minutes")
    else:
        raise _invalid("expected a duration such as PT5M or {minutes: 5}")
    if seconds > MAX_SECONDS:
        raise _invalid("a duration is at most ten years")
    return seconds


def _parse_iso_8601(text: str) -> float:
    match = _ISO_8601.fullmatch(text)
    if match is None or text == "P":
        meant = guess_duration(text[:40])
        advice = f", did you mean {meant}?" if meant else ": write it like PT30S, PT5M or P1DT12H"
        raise _invalid(f"{text[:40]!r} is not a duration{advice}")
    if match["years"] or match["months"]:
        minutes = f"; minutes follow a T: PT{match['months']}M" if match["months"] else ""
        raise _invalid(f"years and months have no fixed length: use days (P30D){minutes}")
    return sum(float(match[unit]) * factor for unit, factor in _ISO_UNITS.items() if match[unit])


def guess_duration(text: str) -> str:
    """Return the ISO 8601 duration that a string such as `5 minutes` or `PT5m` stands for; empty if absent."""
    clock = _CLOCK.fullmatch(text)
    if clock is not None:
        parts = dict(zip("HMS", (str(int(part)) for part in clock.groups()), strict=True))
        return _iso_8601({letter: count for letter, count in parts.items() if count != "0"})
    parts, position = {}, 0
    while position < len(text):
        part = _SPOKEN.match(text, position)
        letter = _WORDS.get(part[2].lower()) if part else None
        if part is None or letter is None or letter in parts:
            return ""
        parts[letter], position = part[1], part.end()
    return _iso_8601(parts)


def _iso_8601(parts: dict[str, str]) -> str:
    """Format amounts, given by unit letter; empty for none, and for milliseconds together with other units."""
    if parts.keys() == {"ms"}:
        parts = {"S": f"{float(parts['ms']) / 1000:.9f}".rstrip("0").rstrip(".")}
    if not parts or "ms" in parts:
        return ""
    date = "".join(f"{parts[letter]}{letter}" for letter in "WD" if letter in parts)
    time = "".join(f"{parts[letter]}{letter}" for letter in "HMS" if letter in parts)
    return f"P{date}T{time}" if time else f"P{date}"


def _sum_inline(parts: Mapping[object, object]) -> float:
    if not parts:
        raise _invalid(f"expected at least one of {', '.join(_INLINE)}")
    seconds = 0.0
    for unit, count in parts.items():
        factor = _INLINE.get(unit) if isinstance(unit, str) else None
        if factor is None:
            name = str(unit)[:40]
            hint = suggestion(_PLURALS.get(name.lower(), name), _INLINE)
            raise _invalid(f"{name!r} is not a unit of a duration{hint or ': use ' + ', '.join(_INLINE)}")
        if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= MAX_SECONDS * 1000:
            raise _invalid(f"{unit} must be an integer, at least 0 and at most ten years{_written(count)}")
        seconds += count * factor
    return seconds


def _written(count: object) -> str:
    """Return a hint about how to write the number; empty if it is neither a quoted integer nor a fraction."""
    if isinstance(count, str) and count.isdecimal():
        return ": leave out the quotes"
    return ": fractions are written like PT1.5S" if isinstance(count, float) else ""


_BYTE_UNITS: Final = {
    "B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30
}  # fmt: skip
_SIZE: Final = re.compile(r"([0-9]{1,15})(?: ?(B|[kKMG]B|[KMG]iB))?")


def parse_size(value: object) -> int:
    """Return a size in bytes, at least 0; raises InvalidError (`SIZE_INVALID`). The caller enforces its own maximum.

    It is a number of bytes, or a string of an integer and one of the units B, kB, MB, GB, KiB, MiB, GiB.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise InvalidError("expected a size such as 10MiB, 512KiB or a number of bytes", reason="SIZE_INVALID")
    return int(match[1]) * _BYTE_UNITS[match[2] or "B"]
