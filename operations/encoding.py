"""Writes results of operations as JSON, by convention: the API's answers, `--json`, and what commands print.

- A field is a key. An ID of another thing has the thing's name: `flow_id` is `flow`, `execution_id` is `execution`.
- Times are RFC 3339 in UTC with milliseconds; names and values in pairs are objects; bytes are hexadecimal.
- A text that there is not is empty; a time, a number or an object that there is not is null.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final

import orjson

NAMES: Final = {"flow_revision": "revision", "create_time_ms": "created_at"}
"""Keys that are not made by the rule."""


def key_of(field: str) -> str:
    """Return the key of a field."""
    return NAMES.get(field) or field.removesuffix("_").removesuffix("_id")


def rfc3339(moment: datetime) -> str:
    """Return a time as `2026-01-31T12:00:00.000Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def plain(value: Any) -> Any:
    """Return a value as objects, lists, texts, numbers and null; JSON that is stored stays as it is."""
    if isinstance(value, str | int | float | None | orjson.Fragment) and not isinstance(value, Enum):
        return value
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return rfc3339(value)
    if is_dataclass(value):
        return {key_of(each.name): _field(each.name, getattr(value, each.name)) for each in fields(value)}
    if hasattr(value, "_asdict"):
        return {key_of(name): plain(each) for name, each in value._asdict().items()}
    if isinstance(value, Mapping):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, bytes):
        return value.hex()
    return [plain(each) for each in value]


def _field(name: str, value: Any) -> Any:
    is_time = name.endswith("_time_ms") and value is not None
    return rfc3339(datetime.fromtimestamp(value / 1000, UTC)) if is_time else plain(value)


def to_json(value: Any, *, indent: bool = False) -> bytes:
    """Return a value as JSON, on one line or, with `indent`, on many."""
    return orjson.dumps(plain(value), option=orjson.OPT_INDENT_2 if indent else 0)
