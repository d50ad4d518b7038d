"""Converts secret values to the data that expressions see as `$secrets`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson


def secrets_data(values: Mapping[str, bytes]) -> dict[str, Any]:
    """Return `$secrets`: a secret that is a JSON object is parsed, so that its fields have names; others are text."""
    return {name: secret_data(value) for name, value in values.items()}


def secret_data(value: bytes) -> Any:
    """Return the value of one secret in `$secrets`."""
    if value[:1] == b"{":
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            pass
    return value.decode(errors="replace")
