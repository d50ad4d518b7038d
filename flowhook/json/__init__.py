"""JSON beyond what `orjson` does: bounded in its number of values, or with numbers as they were written."""

from __future__ import annotations

from typing import Any

import orjson


def object_of(text: bytes | str) -> dict[str, Any] | None:
    """Return the JSON object that a text is; None: it is no JSON, or no object."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None
