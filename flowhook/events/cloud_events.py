"""CloudEvents 1.0 in their JSON format: the events that start flows, and that flows listen for and emit.

Source: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md, "Context Attributes", and
formats/json-format.md, sections 2 and 3.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any, Final, Literal

import orjson

from flowhook import limits
from flowhook.errors import InvalidError
from flowhook.events.workflow_input import request_view, rfc3339
from flowhook.json import dumps_beyond_orjson
from flowhook.model import Event
from flowhook.model.error_types import standard_type
from flowhook.payloads.content_type import is_json
from flowhook.tracing.context import trace_id_of

ReadAs = Literal["data", "envelope", "raw"]
"""The part of an event that is read: its data, the whole event, or its data as text."""

SPEC_VERSION: Final = "1.0"
REQUIRED: Final = ("id", "source", "specversion", "type")  # context attributes that every event must have
DATA: Final = frozenset({"data", "data_base64"})  # members of the JSON object that are not context attributes

ONE_TIME: Final = "onetime"
"""Attribute of a callback received by a one-time URL: the URL determines the receiving execution, not the content."""

MAX_TYPE_LENGTH: Final = 255  # characters of an event's type, which stays in memory while the event is buffered

_NAME: Final = re.compile(r"[a-z0-9]{1,64}")
_EXACT: Final = float(1 << 53)


def from_callback(event: Event, *, raw: bool = False) -> bytes:
    """Return the CloudEvent for a request to a callback, as JSON.

    Its `type` is the callback's name, its `source` the path (without the token of a one-time URL), and its `data` an
    object like the workflow's input; `raw`: the callback takes bodies unparsed. The attribute `ONE_TIME` is set for a
    request to a one-time URL, and `traceparent` as the distributed tracing extension of CloudEvents says.

    Raises:
        InvalidError: the CloudEvent is larger than `limits.MAX_RESULT_BYTES`, or nested deeper than orjson can write
            (`CALLBACK_TOO_LARGE`).
    """
    one_time = {ONE_TIME: True} if event.callback_token else {}
    content = {
        "specversion": SPEC_VERSION,
        "id": event.id,
        "type": event.callback,
        "source": event.path or f"/hook/{event.flow_id}/{event.callback}",
        "time": rfc3339(event.receive_time_ms),
        "datacontenttype": "application/json",
        **one_time,
        **({"traceparent": event.traceparent} if trace_id_of(event.traceparent) else {}),  # senders may send anything
        "data": request_view(event, raw=raw),
    }
    try:
        payload = orjson.dumps(content)
    except orjson.JSONEncodeError:  # orjson reads 1024 levels of nesting, but writes 254
        raise InvalidError(
            "the callback's data is nested too deeply for an event", reason="CALLBACK_TOO_LARGE"
        ) from None
    if len(payload) > limits.MAX_RESULT_BYTES:
        raise InvalidError(
            f"the callback's data has more than {limits.MAX_RESULT_BYTES} bytes as JSON", reason="CALLBACK_TOO_LARGE"
        )
    return payload


def parse(payload: bytes) -> dict[str, Any]:
    """Parse and validate the JSON of a CloudEvent.

    Raises:
        InvalidError: it is larger than `limits.MAX_RESULT_BYTES`, not a JSON object, of another version, or lacks a
            required attribute; or an attribute has an invalid name or value (`CLOUD_EVENT_INVALID`).
    """
    if len(payload) > limits.MAX_RESULT_BYTES:
        raise _invalid(f"it has at most {limits.MAX_RESULT_BYTES} bytes")
    try:
        event = orjson.loads(payload)
    except orjson.JSONDecodeError:
        raise _invalid("it is not JSON") from None
    if not isinstance(event, dict):
        raise _invalid("it is a JSON object")
    for name in REQUIRED:
        if not isinstance(event.get(name), str) or not event[name]:
            raise _invalid(f"its {name} is a string that is not empty")
    if event["specversion"] != SPEC_VERSION:
        raise _invalid(f"its specversion is {SPEC_VERSION}")
    _check_members(event)
    return event


def _check_members(event: Mapping[str, Any]) -> None:
    if len(event["type"]) > MAX_TYPE_LENGTH:
        raise _invalid(f"its type has at most {MAX_TYPE_LENGTH} characters")
    if len(DATA & event.keys()) > 1:
        raise _invalid("it has data or data_base64, not both")
    for name in event.keys() - DATA:
        if not _NAME.fullmatch(name):
            raise _invalid("names of attributes are lower-case letters and digits, at most 64")
        if not isinstance(event[name], str | int | None):
            raise _invalid(f"its {name} is a string, an integer or a truth value")


def attribute(event: Mapping[str, Any], name: str) -> str | None:
    """Return a context attribute as text; None when the event has no attribute of that name.

    Source: spec.md, "Type System": booleans and integers are the types that JSON writes without quotes.
    """
    value = None if name in DATA else event.get(name)
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int) else None


def read_event(event: Mapping[str, Any], what: ReadAs) -> Any:
    """Return an event as a `listen` or a schedule reads it: its `data`, its `envelope`, or its `raw` data as text.

    Raises:
        ValueError: its data is not JSON that orjson reads.
    """
    if what == "envelope":
        return event
    if what == "data":
        return event_data(event)
    if "data_base64" in event:
        return event["data_base64"]
    data = event.get("data")
    return data if data is None or isinstance(data, str) else dumps_beyond_orjson(data).decode()


def event_data(event: Mapping[str, Any]) -> Any:
    """Return the data of an event; None without data. Binary data is parsed as JSON, else text, else left in base64."""
    if "data_base64" not in event:
        return event.get("data")
    encoded = event["data_base64"]
    try:
        binary = base64.b64decode(encoded, validate=True)
        return orjson.loads(binary) if is_json(str(event.get("datacontenttype", ""))) else binary.decode()
    except (binascii.Error, TypeError, ValueError):
        return encoded


def canonical_json(value: Any) -> bytes:
    """Return canonical JSON: the same for equal values, whatever the order of members and the form of numbers.

    1 and 1.0 are equal; from 2^53 on, where floats skip integers, integers and floats are distinguished. The names of
    one type of the standard's errors are equal, too.

    Raises:
        RecursionError: `value` is nested too deeply.
    """
    return orjson.dumps(_plain(value), option=orjson.OPT_SORT_KEYS)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return int(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return standard_type(value) if isinstance(value, str) else value


def _invalid(cause: str) -> InvalidError:
    return InvalidError(f"not a CloudEvent: {cause}", reason="CLOUD_EVENT_INVALID")
