"""Encoding of event bodies: bytes, text, or values that are sent as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from enum import Enum
from typing import Any
from uuid import UUID

from flowhook.errors import InvalidError

Body = bytes | str | Mapping[str, Any] | Sequence[Any]
"""Bytes are sent unchanged, text as UTF-8, anything else as JSON."""


def encode(body: Body) -> bytes:
    """Encode a body for sending.

    Raises:
        InvalidError: it can't be encoded as JSON (`BODY_INVALID`).
    """
    if isinstance(body, bytes | bytearray | memoryview):
        return bytes(body)
    try:
        if isinstance(body, str):
            return body.encode()
        return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidError(f"the body can't be made JSON: {error}", reason="BODY_INVALID") from None


def _plain(value: Any) -> Any:
    """Convert a value that `json` does not support: date, time, UUID, enum or dataclass.

    Raises:
        TypeError: the value is of another type, or a datetime without a time zone.
    """
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise TypeError(f"{value!r} has no time zone")
        return value.isoformat()
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    raise TypeError(f"a {type(value).__name__} has no form in JSON")
