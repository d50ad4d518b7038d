"""Arguments of client methods, checked and encoded; pages of lists; and errors that only clients have.

Other errors are in `flowhook.errors`.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from datetime import time as time_of_day
from enum import Enum
from functools import partial
from typing import Any, Final, Generic, NamedTuple, TypeVar
from uuid import UUID

from flowhook.errors import FlowhookError, InvalidError, UnavailableError
from flowhook.events import ids
from flowhook.model import Event, WorkflowError

T_co = TypeVar("T_co", covariant=True)

Body = bytes | str | Mapping[str, Any] | Sequence[Any]  # bytes are sent unchanged, text as UTF-8, anything else as JSON

HeaderPairs = Mapping[str, str | bytes] | Iterable[tuple[str, str | bytes]]
"""Names and values of header fields; pairs if a name occurs more than once."""

_invalid: Final = partial(InvalidError, reason="ARGUMENT_INVALID")


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


class Page(NamedTuple, Generic[T_co]):
    """A part of a list, and the token of the next part; empty on the last.

    Methods that return a page take `page_size`, how many items it has at most, in [1, 1000], and `page_token`, the
    `next_page_token` of the page before with the same conditions; empty: the first page. A page may be short, or empty,
    although there is a next one. A token that is not one of a page is refused with an `InvalidError`
    (`PAGE_TOKEN_INVALID`).
    """

    items: Sequence[T_co]
    next_page_token: str


class ReplyPendingError(UnavailableError):
    """The flow has not replied in time; its execution, `execution_id`, continues."""

    default_reason = "REPLY_PENDING"

    def __init__(self, execution_id: str) -> None:
        super().__init__(f"execution {execution_id} has not replied in time, and continues")
        self.execution_id = execution_id


class ExecutionFailedError(FlowhookError):
    """The execution faulted or was cancelled; `error` is the cause as a DSL error."""

    default_reason = "EXECUTION_FAILED"

    def __init__(self, execution_id: str, error: WorkflowError) -> None:
        super().__init__(f"execution {execution_id} failed: {error.title}: {error.detail}".rstrip(": "))
        self.execution_id = execution_id
        self.error = error
