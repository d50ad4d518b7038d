"""The ID that a sender gives a delivery, the same whenever it is repeated."""

from __future__ import annotations

from collections.abc import Sequence

import orjson


def header_value(headers: Sequence[tuple[str, bytes]], name: str) -> str | None:
    """Return the ID in a header, or None when there is none that can be used. Never raises."""
    values = [value for key, value in headers if key == name]
    return values[0].decode("latin-1") or None if len(values) == 1 else None


def json_field(body: bytes, field: str) -> str | None:
    """Return the ID in the top level of a JSON body, or None when there is none that can be used. Never raises."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    value = document.get(field) if isinstance(document, dict) else None
    return value or None if isinstance(value, str) else None
