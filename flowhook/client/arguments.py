"""Checks and encodes the arguments of client methods: events with their headers and bodies, and timeouts."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from datetime import time as time_of_day
from enum import Enum
from functools import partial
from typing import Any, Final
from uuid import UUID

from flowhook.errors import InvalidError
from flowhook.events import ids
from flowhook.model import Event

Body = bytes | str | Mapping[str, Any] | Sequence[Any]  # bytes are sent unchanged, text as UTF-8, anything else as JSON

HeaderPairs = Mapping[str, str | bytes] | Iterable[tuple[str, str | bytes]]
_invalid: Final = partial(InvalidError, reason="ARGUMENT_INVALID")
"""Names and values of header fields; pairs if a name occurs more than once."""


def new_event(
    flow: str, body: Body, *, content_type: str, headers: HeaderPairs, dedupe_key: str, event_id: str | None
) -> Event:
    """Create an event for `flow`, received now.

    Raises:
        InvalidError: an argument has the wrong type (`ARGUMENT_INVALID`), or the body is no JSON (`BODY_INVALID`).
    """
    texts = {"flow": flow, "content_type": content_type, "dedupe_key": dedupe_key, "event_id": event_id or ""}
    for name, value in texts.items():
        if not isinstance(value, str):
            raise _invalid(f"`{name}` must be a string, not {type(value).__name__}")
    return Event(
        id=event_id or ids.mint(ids.slot_of(flow)),
        flow_id=flow,
        receive_time_ms=time.time_ns() // 1_000_000,
        principal=None,
        dedupe_key=dedupe_key,
        method="POST",
        path="",
        query="",
        content_type=content_type,
        headers=tuple(encode_headers(headers)),
        body=_encode(body),
    )


def check_timeout(seconds: Any) -> None:
    """Refuse a timeout that is not a positive number of seconds (`ARGUMENT_INVALID`)."""
    if not isinstance(seconds, int | float) or not seconds > 0:
        raise _invalid(f"`timeout` must be a number of seconds above 0, not {seconds!r}")


def encode_headers(headers: HeaderPairs) -> Iterator[tuple[str, bytes]]:
    """Yield header fields with lower-case names and values in UTF-8; refuse other types (`ARGUMENT_INVALID`)."""
    for pair in headers.items() if isinstance(headers, Mapping) else headers:
        match pair:
            case (str(name), str(value)):
                yield name.lower(), value.encode()
            case (str(name), bytes(value)):
                yield name.lower(), value
            case _:
                raise _invalid("`headers` must be a mapping or pairs: names are strings, values are strings or bytes")


def _encode(body: Body) -> bytes:
    if isinstance(body, bytes | bytearray | memoryview):
        return bytes(body)
    try:
        if isinstance(body, str):
            return body.encode()
        return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidError(f"the body can't be encoded as JSON: {error}", reason="BODY_INVALID") from None


def _plain(value: Any) -> Any:
    """Convert a value that `json` does not support: date, time, UUID, enum or dataclass."""
    if isinstance(value, datetime) and value.tzinfo is None:
        raise TypeError(f"{value!r} has no time zone; set its tzinfo")
    if isinstance(value, date | time_of_day):  # a datetime is a date
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    raise TypeError(f"values of type {type(value).__name__} are not supported")
