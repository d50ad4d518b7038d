"""JSON beyond what `orjson` does: bounded in its number of values, or with numbers as they were written (`verbatim`).

A value of two bytes may take two hundred bytes of memory as an object. So the number of values is checked before
parsing: separators are counted first, with fast operations on bytes; only if there are too many, a second count
excludes the contents of strings.
"""

from __future__ import annotations

import gc
import json
from typing import Any, Final

import orjson

from flowhook.errors import InvalidError
from flowhook.limits import KIB, MAX_VALUES

_STRUCTURE: Final = b'",[{'
_OTHERS: Final = bytes(byte for byte in range(256) if byte not in _STRUCTURE)
_PIECE_BYTES: Final = 1024 * 1024
_LARGE_BYTES: Final = 64 * KIB


def object_of(text: bytes | str) -> dict[str, Any] | None:
    """Return the JSON object that a text is; None: it is no JSON, or no object."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def dumps_beyond_orjson(value: Any) -> bytes:
    """Return a value as JSON; ValueError: it is no JSON, or nested more deeply than orjson reads.

    Writes what orjson does not: large integers, and as many levels of nesting as it reads (1024, not 254).
    """
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        pass
    try:
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    except (RecursionError, TypeError) as error:
        raise ValueError(str(error)) from None
    orjson.loads(text)
    return text


def parse_json(body: bytes) -> Any:
    """Parse a JSON text; InvalidError: it is not JSON, or has more than `MAX_VALUES` values (`BODY_INVALID`)."""
    check_value_count(body)
    try:
        return load_json(body)
    except orjson.JSONDecodeError:
        raise InvalidError("the body is not JSON", reason="BODY_INVALID") from None


def load_json(text: bytes) -> Any:
    """Parse a JSON text, without a garbage collection meanwhile if it is large.

    Before Python 3.12 the collector runs within the parser, too, after every 700 new arrays and objects, although none
    of them can be garbage: a text that consists of them takes five times as long.

    Raises:
        orjson.JSONDecodeError: it is not JSON.
    """
    if len(text) < _LARGE_BYTES or not gc.isenabled():
        return orjson.loads(text)
    gc.disable()
    try:
        return orjson.loads(text)
    finally:
        gc.enable()


def check_value_count(body: bytes, most: int = MAX_VALUES) -> int:
    """Return an upper bound on the number of values in a JSON text, or in a sequence of texts.

    The bound holds up to the first invalid value: parsing stops there.
    """
    if len(body) <= most:  # each value has at least one byte; this covers most bodies without scanning them
        return len(body)
    count = body.count
    # an upper bound: each value follows a comma or an opening bracket, except the first
    values = 1 + count(b",") + count(b"[") + count(b"{") - count(b"[]") - count(b"{}")
    if values > most:
        values = _outside_strings(body, most)
    if values > most:
        raise InvalidError(f"the body has more than {MAX_VALUES} values", reason="BODY_INVALID")
    return values


def _outside_strings(body: bytes, most: int) -> int:
    text = body.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _OTHERS)
    if text.count(b'"') > 4 * most + 2:  # two quotes for each string, two strings for each value
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
