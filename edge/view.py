"""A request as expressions under `webhook` see it: the workflow's input, before there is a workflow.

What is shown here is what the runner shows to the flow's own expressions; a test compares the two. `attachments` alone
is missing: to make it means to encode the body, for an answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from flowhook.model import Event


def view(event: Event, content: Any) -> dict[str, Any]:
    """Return the object that `.` is.

    Args:
        event: what is to be stored, credentials removed.
        content: its parsed body; None for what is not parsed.
    """
    return {
        "id": event.id,
        "received_at": _rfc3339(event.receive_time_ms),
        "method": event.method,
        "path": event.path,
        "query": _by_name(parse_qsl(event.query, keep_blank_values=True)) if event.query else {},
        "headers": _joined(event.headers),
        "content_type": event.content_type,
        "body": content,
    }


def _by_name(pairs: Iterable[tuple[str, str]]) -> dict[str, str | list[str]]:
    """Return values by name; a repeated name has a list of its values, in order."""
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    return {name: each if len(each) > 1 else each[0] for name, each in values.items()}


def _joined(headers: Iterable[tuple[str, bytes]]) -> dict[str, str]:
    """Return fields by name; repeated ones are joined by a comma (RFC 9110, section 5.3)."""
    values: dict[str, list[str]] = {}
    for name, raw in headers:
        try:
            value = raw.decode()
        except UnicodeDecodeError:
            value = raw.decode("latin-1")
        values.setdefault(name, []).append(value)
    return {name: ", ".join(each) for name, each in values.items()}


def _rfc3339(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
