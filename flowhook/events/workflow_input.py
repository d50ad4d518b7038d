"""Workflow input: builds it from the event that started the workflow.

The input of a flow without `webhook` is the parsed content of the event, as the DSL specifies. Content that is not
parsed (a file, an image) has no such form; the input is then the same as that of a flow with `webhook`:

`{id, received_at, method, path, query, headers, content_type, body, attachments}`:

- `received_at`: RFC 3339, UTC, milliseconds.
- `query`: by name, decoded; a repeated name has an array of its values, in order.
- `headers`: by lower-case name; repeated fields are joined with `, ` (RFC 9110, section 5.3), bytes that are not UTF-8
  are read as ISO 8859-1.
- `body`: the parsed content (see `flowhook.payloads`); null when nothing of it was parsed.
- `attachments`: unparsed content: a file, a part of a form, or a whole body. Each has `{name, type, size, sha256}`,
  the `field` of a form, `attachment` (a handle, for calls that forward it), and `content` (text, when it is UTF-8) or
  `base64`. Contents are limited to 1 MiB in total, because every expression processes the whole input.

The event does not contain a body that was streamed to storage: it has the fields of a form, if the body was one, and
the position of each attachment. The caller fetches the contents that belong in the input (`inlined_indexes`).

Runners build the input from the stored event. In the edge, expressions under `webhook` see the same before a workflow
exists, but without `attachments`: building those would encode the body just to evaluate an expression.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final
from urllib.parse import parse_qsl

import orjson

from flowhook import limits
from flowhook.errors import InvalidError
from flowhook.json import object_of
from flowhook.model import Event, Headers, Origin, Part
from flowhook.payloads.parsing import BODY, Attachment, ParsedBody, parse, to_structured

MAX_INLINE_BYTES: Final = 1 * limits.MIB  # bytes of attachment content that the input includes, in total

_JSON: Final = "application/json"
_NO_CONTENTS: Final[Mapping[int, bytes]] = {}


def workflow_input(
    event: Event,
    *,
    webhook: bool = True,
    raw: bool = False,
    owner: str = "",
    contents: Mapping[int, bytes] = _NO_CONTENTS,
) -> Any:
    """Return the input of a workflow: the value of `.` in the first expression of the flow.

    If the origin of the event is not a request, that is its body: JSON, an empty object when there is none.

    Args:
        event: credentials removed.
        webhook: whether the flow has a `webhook`; see `has_webhook`.
        raw: whether the flow takes bodies unparsed.
        owner: ID that handles of attachments begin with; empty: the event's.
        contents: contents of attachments in storage, by index; see `inlined_indexes`.
    """
    if event.origin is not Origin.REQUEST:
        return orjson.loads(event.body or b"{}")
    if not webhook:
        content = _given(event)
        if _is_parsed(event, content):
            return content.body if event.body or event.body_blob is not None else {}
    return request_view(event, raw=raw, owner=owner or event.id, contents=contents)


def request_view(
    event: Event, *, raw: bool = False, owner: str = "", contents: Mapping[int, bytes] = _NO_CONTENTS
) -> dict[str, Any]:
    """Return the description of a request; see `workflow_input`. Without an owner attachments have no handles."""
    body, attachments = parse_event_body(event, raw=raw)
    parts = stored_attachments(event, raw=raw)
    if attachments:
        parts = tuple(map(_part, attachments))
        contents = {index: attachments[index].content for index in inlined_indexes(parts)}
    described = [_described(index, part, contents.get(index), owner) for index, part in enumerate(parts)]
    view = webhook_view(event, body)
    view["attachments"] = described
    return view


def stored_attachments(event: Event, *, raw: bool = False) -> tuple[Part, ...]:
    """Return the attachments of an event whose body was streamed, in the order of their indexes."""
    blob = event.body_blob
    if blob is None:
        return ()
    if event.parts and not raw:
        return event.parts
    return (Part(0, blob.size, event.content_type, BODY, "", blob.sha256),)


def inlined_indexes(parts: Sequence[Part]) -> list[int]:
    """Return the indexes of the attachments whose content is part of the input: those that fit, in order."""
    left = MAX_INLINE_BYTES
    wanted: list[int] = []
    for index, part in enumerate(parts):
        if part.size <= left:
            left -= part.size
            wanted.append(index)
    return wanted


def admission_view(event: Event, *, webhook: bool, raw: bool = False) -> Any:
    """Return the input without attachments: the value of `.` in expressions under `execution`, on acceptance."""
    if webhook and event.origin is Origin.REQUEST:
        return webhook_view(event, None if raw else parse_event_body(event).body)
    content = _given(event)
    if event.origin is not Origin.REQUEST or _is_parsed(event, content):
        return content.body
    return webhook_view(event, content.body)


def _given(event: Event) -> ParsedBody:
    """Return the content of an event; one without a media type is parsed as JSON."""
    return parse_event_body(event if event.content_type else event._replace(content_type=_JSON))


def _is_parsed(event: Event, content: ParsedBody) -> bool:
    """Whether all of an event's content was parsed, so that nothing of it is an attachment."""
    return not content.attachments and not stored_attachments(event)


def has_webhook(definition: Mapping[str, Any]) -> bool:
    """Whether requests start the flow; its input then describes the request."""
    return definition.get("webhook") is not None


def takes_raw_body(definition: Mapping[str, Any], callback: str = "") -> bool:
    """Whether a flow, or one of its callbacks, takes bodies unparsed (`webhook.parse`)."""
    webhook = definition.get("webhook") or {}
    place = webhook.get("callbacks", {}).get(callback, {}) if callback else webhook
    return bool(place.get("parse") == "raw")


def batches_events(definition: Mapping[str, Any]) -> bool:
    """Whether executions of a flow run for several events; their input is then the array of these events' inputs."""
    return (definition.get("execution") or {}).get("batch") is not None


def parse_event_body(event: Event, *, raw: bool = False) -> ParsedBody:
    """Return the parsed content of an event. A body that an edge would have refused becomes an attachment.

    The attachments of a streamed body are not part of the result: see `stored_attachments`. Its form fields are left
    out if they are not a JSON object, which no edge sends.
    """
    if event.body_blob is not None:
        return ParsedBody(None if raw else to_structured(event.content_type, event.headers, object_of(event.form)))
    if not event.body and not raw:
        return ParsedBody(None)
    try:
        return parse(event.content_type, event.body, event.headers, raw=raw, limit=limits.MAX_BODY_BYTES)
    except InvalidError:
        return parse(event.content_type, event.body, (), raw=True, limit=limits.MAX_BODY_BYTES)


def webhook_view(event: Event, body: Any) -> dict[str, Any]:
    """Return the value of `.` in expressions under `webhook`, without credentials; `body` is None if not parsed."""
    return {
        "id": event.id,
        "received_at": rfc3339(event.receive_time_ms),
        "method": event.method,
        "path": event.path,
        "query": _query(event.query) if event.query else {},
        "headers": _headers(event.headers),
        "content_type": event.content_type,
        "body": body,
    }


def rfc3339(milliseconds: int) -> str:
    """Return an instant in RFC 3339, UTC, with milliseconds."""
    seconds, rest = divmod(milliseconds, 1000)
    return f"{_to_the_second(seconds)}.{rest:03}Z"


@lru_cache(maxsize=64)  # most instants are within the second of the one before
def _to_the_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()


def _part(attachment: Attachment) -> Part:
    name, kind, content, field = attachment
    return Part(0, len(content), kind, name, field, hashlib.sha256(content).digest())


def _described(index: int, part: Part, content: bytes | None, owner: str) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": part.name,
        "type": part.type,
        "size": part.size,
        "sha256": part.sha256.hex(),
    }
    if owner:
        entry["attachment"] = f"{owner}/{index}"
    if part.field:
        entry["field"] = part.field
    if content is not None:
        try:
            entry["content"] = content.decode()
        except UnicodeDecodeError:
            entry["base64"] = base64.b64encode(content).decode()
    return entry


def _query(query: str) -> dict[str, Any]:
    values: dict[str, list[str]] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        values.setdefault(name, []).append(value)
    return {name: each[0] if len(each) == 1 else each for name, each in values.items()}


def _headers(headers: Headers) -> dict[str, str]:
    values: dict[str, str] = {}
    for name, raw in headers:
        try:
            value = raw.decode()
        except UnicodeDecodeError:
            value = raw.decode("latin-1")
        known = values.get(name)
        values[name] = value if known is None else f"{known}, {value}"
    return values
