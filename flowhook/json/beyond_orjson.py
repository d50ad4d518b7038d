"""Writes what orjson does not: large integers, and as many levels of nesting as it reads (1024, not 254)."""

from __future__ import annotations

import json
from typing import Any

import orjson


def dumps(value: Any) -> bytes:
    """Return a value as JSON; ValueError: it is no JSON, or nested more deeply than orjson reads."""
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
