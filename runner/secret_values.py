"""Secrets as data: what expressions see of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson


def as_data(values: Mapping[str, bytes]) -> dict[str, Any]:
    """Return `$secrets`: a secret that is a JSON object becomes one, so that its parts have names; others are text."""
    return {name: datum(value) for name, value in values.items()}


def datum(value: bytes) -> Any:
    """Return one secret as `$secrets` has it."""
    if value[:1] == b"{":
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            pass
    return value.decode(errors="replace")
