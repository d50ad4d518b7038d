"""The workflow's input, made of the event that started it.

`{id, received_at, method, path, query, headers, content_type, body, attachments}`:

- `received_at`: RFC 3339, UTC, milliseconds.
- `query`: by name, decoded; a repeated name has an array of its values, in order.
- `headers`: by lower-case name; repeated fields are joined with `, ` (RFC 9110, section 5.3), bytes that are not UTF-8
  are read as ISO 8859-1.
- `body`: the parsed JSON of `application/json` and `+json`; null for everything else.
- `attachments`: what was not parsed: one `{name, type, size, sha256}`, and either `content` (text, when it is UTF-8)
  or `base64`. Above 1 MiB it has neither: the input travels through every expression.

Runners make it of the stored event. Expressions under `webhook` see the same in the edge, before there is a workflow,
but for `attachments`: to make them means to encode the body, for an answer.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qsl

import orjson

from flowhook import limits
from flowhook.model import Event, Headers

MAX_ATTACHMENT_BYTES: Final = 1 * limits.MIB
"""Largest attachment whose content is part of the input."""


def workflow_input(event: Event) -> dict[str, Any]:
    """Return what `.` is to the first expression of a flow."""
    body, attachments = _content(event.content_type, event.body)
    return {**webhook_view(event, body), "attachments": attachments}


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


def is_json(content_type: str) -> bool:
    """Whether a media type is JSON. Source: RFC 8259, section 11; RFC 6839, section 3.1."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or kind.endswith("+json")


def _content(content_type: str, body: bytes) -> tuple[Any, list[dict[str, Any]]]:
    if not body:
        return None, []
    if is_json(content_type):
        try:
            return orjson.loads(body), []
        except orjson.JSONDecodeError:
            pass  # only over gRPC: an edge refuses it. Nothing is accepted and then empty
    return None, [_attachment(content_type, body)]


def _attachment(content_type: str, body: bytes) -> dict[str, Any]:
    attachment: dict[str, Any] = {
        "name": "body",
        "type": content_type,
        "size": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
    }
    if len(body) <= MAX_ATTACHMENT_BYTES:
        try:
            attachment["content"] = body.decode()
        except UnicodeDecodeError:
            attachment["base64"] = base64.b64encode(body).decode()
    return attachment


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
