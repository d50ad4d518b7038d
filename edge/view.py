"""A request as expressions under `webhook` see it: the workflow's input, before there is a workflow."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from flowhook import ids


def joined_headers(headers: Iterable[tuple[str, bytes]]) -> dict[str, str]:
    """Return header fields by name, repeated ones joined by a comma (RFC 9110, section 5.2)."""
    result: dict[str, str] = {}
    for name, value in headers:
        text = value.decode("utf-8", "replace")
        result[name] = f"{result[name]}, {text}" if name in result else text
    return result


def view(  # noqa: PLR0917 - one field each, named alike
    event_id: str,
    method: str,
    path: str,
    query: str,
    content_type: str,
    headers: Iterable[tuple[str, bytes]],
    body: Any,
) -> dict[str, Any]:
    """Return the object that `.` is.

    Args:
        event_id: of the event; a duplicate's answer shows the original's.
        method: upper case.
        path: of the URL, percent-encoding kept.
        query: query string, credentials removed; shown decoded, of repeated parameters the last.
        content_type: verbatim.
        headers: credentials removed.
        body: the parsed content; None for what is not parsed.
    """
    return {
        "id": event_id,
        "received_at": _rfc3339(ids.time_ms_of(event_id)),
        "method": method,
        "path": path,
        "query": dict(parse_qsl(query, keep_blank_values=True)),
        "headers": joined_headers(headers),
        "content_type": content_type,
        "body": body,
    }


def _rfc3339(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
