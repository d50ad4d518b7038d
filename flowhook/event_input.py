"""The workflow's input, made of the event that started it.

`{id, received_at, method, path, query, headers, content_type, body, attachments}`:

- `received_at`: RFC 3339, UTC, milliseconds.
- `query`: by name, decoded; a repeated name has an array of its values, in order.
- `headers`: by lower-case name; repeated fields are joined with `, ` (RFC 9110, section 5.3), bytes that are not UTF-8
  are read as ISO 8859-1.
- `body`: what the content says (see `flowhook.payloads`); null when nothing of it was parsed.
- `attachments`: what was not parsed: a file, a part of a form, or a whole body. Each has `{name, type, size, sha256}`,
  the `field` of a form, `attachment` (its handle, for calls that send it on), and `content` (text, when it is UTF-8) or
  `base64`; neither beyond 1 MiB in all, for the input travels through every expression.

Runners make it of the stored event. Expressions under `webhook` see the same in the edge, before there is a workflow,
but for `attachments`: to make them means to encode the body, for an answer.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qsl

import orjson

from flowhook import limits
from flowhook.errors import InvalidError
from flowhook.model import Event, Headers, Origin
from flowhook.payloads import Attachment, Content, parse

MAX_INLINE_BYTES: Final = 1 * limits.MIB
"""Content of attachments that is part of the input, in all."""


def workflow_input(event: Event, *, raw: bool = False) -> Any:
    """Return what `.` is to the first expression of a flow.

    Args:
        event: credentials removed. Of one that no request made, it is the body: JSON, an empty object when there is
            none.
        raw: the flow wants the body as it is.
    """
    if event.origin is not Origin.REQUEST:
        return orjson.loads(event.body or b"{}")
    return request_view(event, raw=raw)


def request_view(event: Event, *, raw: bool = False) -> dict[str, Any]:
    """Return what there is to see of a request; see `workflow_input`."""
    body, attachments = content_of(event, raw=raw)
    return {**webhook_view(event, body), "attachments": _described(event.id, attachments)}


def wants_raw(definition: Mapping[str, Any], callback: str = "") -> bool:
    """Whether a flow, or one of its callbacks, wants bodies as they are (`webhook.parse`)."""
    webhook = definition.get("webhook") or {}
    place = webhook.get("callbacks", {}).get(callback, {}) if callback else webhook
    return bool(place.get("parse") == "raw")


def content_of(event: Event, *, raw: bool = False) -> Content:
    """Return what an event's body says. One that an edge would have refused is an attachment: nothing is lost."""
    if not event.body and not raw:
        return Content(None)
    try:
        return parse(event.content_type, event.body, event.headers, raw=raw, limit=limits.MAX_BODY_BYTES)
    except InvalidError:
        return parse(event.content_type, event.body, (), raw=True, limit=limits.MAX_BODY_BYTES)


def webhook_view(event: Event, body: Any) -> dict[str, Any]:
    """Return what `.` is to expressions under `webhook`.

    Args:
        event: credentials removed.
        body: its parsed content; None for what is not parsed.
    """
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
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _described(event_id: str, attachments: Sequence[Attachment]) -> list[dict[str, Any]]:
    left = MAX_INLINE_BYTES
    described: list[dict[str, Any]] = []
    for index, (name, kind, content, field) in enumerate(attachments):
        entry: dict[str, Any] = {
            "name": name,
            "type": kind,
            "size": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "attachment": f"{event_id}/{index}",
        }
        if field:
            entry["field"] = field
        if len(content) <= left:
            left -= len(content)
            try:
                entry["content"] = content.decode()
            except UnicodeDecodeError:
                entry["base64"] = base64.b64encode(content).decode()
        described.append(entry)
    return described


def _query(query: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        known = values.get(name)
        if known is None:
            values[name] = value
        elif isinstance(known, list):
            known.append(value)
        else:
            values[name] = [known, value]
    return values


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
