"""JSON, counted before it is read: what becomes an object each is bounded, however few bytes it takes.

A value may have two bytes and become two hundred. What separates values is counted first, by what is fast on bytes;
only where that is too much, strings are left out of the count.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from flowhook.errors import InvalidError
from flowhook.limits import MAX_VALUES

_STRUCTURE: Final = b'",[{'
_OTHERS: Final = bytes(byte for byte in range(256) if byte not in _STRUCTURE)
_PIECE_BYTES: Final = 1024 * 1024


def parse_json(body: bytes) -> Any:
    """Return what a JSON text says.

    Raises:
        InvalidError: it is none, or has more than `MAX_VALUES` values (`BODY_INVALID`).
    """
    check_values(body)
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        raise InvalidError("the body is not JSON", reason="BODY_INVALID") from None


def check_values(body: bytes, most: int = MAX_VALUES) -> int:
    """Return at least the number of values in a JSON text, or in some that follow one another.

    Up to a value that is none: nothing behind it is read.

    Raises:
        InvalidError: it is more than `most` (`BODY_INVALID`).
    """
    if len(body) <= most:  # each takes a byte at least, and the usual body is not even looked at
        return len(body)
    values = _separators(body)
    if values > most:
        values = _outside_strings(body, most)
    if values > most:
        raise InvalidError(f"the body has more than {MAX_VALUES} values", reason="BODY_INVALID")
    return values


def _separators(text: bytes) -> int:
    """Return at least the number of values: a comma is before one, and a bracket, unless there is nothing in it."""
    count = text.count
    return 1 + count(b",") + count(b"[") + count(b"{") - count(b"[]") - count(b"{}")


def _outside_strings(body: bytes, most: int) -> int:
    text = body.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _OTHERS)
    if text.count(b'"') > 4 * most + 2:  # two for each string, two strings for each value
        return most + 1
    values = 1
    inside = 0
    for start in range(0, len(text), _PIECE_BYTES):
        pieces = text[start : start + _PIECE_BYTES].split(b'"')
        values += len(b"".join(pieces[inside::2]))
        if values > most:
            break
        inside = (inside + len(pieces) - 1) % 2
    return values
