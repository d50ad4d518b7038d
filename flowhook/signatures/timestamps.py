"""Parses and checks the timestamps of senders, and formats them.

Parsing is strict, because a value that is signed next to a body must have only one interpretation: whole numbers
without sign, exponent or fraction (with a fraction, `t.body` could be split in two places), in ASCII digits.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from flowhook.providers.scheme import Unit
from flowhook.signatures.types import SignatureError

_YEAR_5138: Final = 1e11  # a Unix time in seconds that no sender means; as milliseconds it is in 1973
_SECONDS: Final = re.compile(rb"[0-9]{1,12}")
_MILLISECONDS: Final = re.compile(rb"[0-9]{1,15}")
_RFC_3339: Final = re.compile(
    rb"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


def check_timestamp(sent: bytes, unit: Unit, tolerance: float, now: float) -> None:
    """Check that a time is within `tolerance` seconds, either way; else SignatureError (`TIMESTAMP_…`)."""
    signed_at = _parse(sent, unit)
    if signed_at is None:
        raise SignatureError(f"the timestamp is not in {unit}", reason="TIMESTAMP_MALFORMED")
    check_age(signed_at, tolerance, now)


def check_age(signed_at: float, tolerance: float, now: float) -> None:
    """Check the same for a parsed timestamp; both are Unix times in seconds."""
    age = now - signed_at
    if not -tolerance <= age <= tolerance:
        direction = "old" if age > 0 else "ahead of our clock"
        unit = "; it looks like milliseconds: is `timestamp.unit` right?" if signed_at > _YEAR_5138 else ""
        raise SignatureError(
            f"the timestamp is {abs(age):.0f} s {direction}; {tolerance:.0f} s are allowed{unit}",
            reason="TIMESTAMP_STALE",
        )


def format_timestamp(now: float, unit: Unit) -> str:
    """Return a Unix time as a sender writes it, rounded down."""
    if unit == "s":
        return str(int(now))
    if unit == "ms":
        return str(int(now * 1000))
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _parse(sent: bytes, unit: Unit) -> float | None:
    if unit == "s":
        return int(sent) if _SECONDS.fullmatch(sent) else None
    if unit == "ms":
        return int(sent) / 1000 if _MILLISECONDS.fullmatch(sent) else None
    match = _RFC_3339.fullmatch(sent)
    if match is None:
        return None
    date, time, fraction, offset = (group.decode() if group else "" for group in match.groups())
    try:
        moment = datetime.fromisoformat(f"{date}T{time}{offset.upper()}")
        return moment.timestamp() + float(f"0{fraction}")
    except (ValueError, OverflowError):
        return None
