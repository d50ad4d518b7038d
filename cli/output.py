"""Formats and prints the output of commands: JSON lines for programs, tables for people."""

from __future__ import annotations

import base64
import json
import re
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from flowhook.events.workflow_input import stored_attachments
from flowhook.model import SNAPSHOT_KEY, Event, Execution, ExecutionDetail, Flow, JournalEntry, Part, Resolution, Retry
from flowhook.model.executions import Attempt
from flowhook.model.flows import FlowStatistics
from flowhook.model.replays import ReplayOrigin

STATUS_STYLES: Final = {
    "completed": "green",
    "faulted": "red",
    "cancelled": "yellow",
    "running": "cyan",
    "waiting": "blue",
    "suspended": "blue",
    "ready": "green",
    "created": "green",
    "updated": "cyan",
    "unchanged": "dim",
    "aborted": "yellow",
    "paused": "blue",
    "done": "green",
    "failed": "red",
}


DEEP_FRAMES: Final = 4096
"""Stack depth that is needed to write the most deeply nested data."""


_MOMENT: Final = re.compile(r"(?::[a-z]+|(?:^| )/timeout#\d+)$")
"""End of the key of a journal entry that is not the result of a call."""


def to_json(value: Any, *, indent: bool = False) -> bytes:
    """Return data as JSON, on one line or (`indent`) on many.

    orjson writes data with up to 254 levels of nesting, but reads four times as many; for deeper data the standard
    library is used.
    """
    try:
        return orjson.dumps(value, option=orjson.OPT_INDENT_2 if indent else 0)
    except orjson.JSONEncodeError:
        limit = sys.getrecursionlimit()
    sys.setrecursionlimit(limit + DEEP_FRAMES)
    try:
        layout: dict[str, Any] = {"indent": 2} if indent else {"separators": (",", ":")}
        return json.dumps(value, ensure_ascii=False, **layout).encode()
    finally:
        sys.setrecursionlimit(limit)


def print_json(value: Any) -> None:
    """Print one JSON object as a line."""
    sys.stdout.buffer.write(to_json(value) + b"\n")
    sys.stdout.buffer.flush()


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """Print rows under a header, or `empty` when there are none. Cells are text, never markup."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(cell), style=STATUS_STYLES.get(str(cell), "")) for cell in row))
    if table.row_count:
        _print(table, Console)
    else:
        print(empty)


def print_fields(fields: Iterable[tuple[str, object]]) -> None:
    """Print names and values, one pair per line; containers are printed as JSON."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in fields:
        table.add_row(name, Text(_cell(value), style=STATUS_STYLES.get(str(value), "")))
    _print(table, Console)


def _print(table: Any, kind: Any) -> None:
    if sys.stdout.isatty():
        kind(highlight=False).print(table)
        return
    # without a terminal, do not wrap lines, so that grep sees whole ones, and do not pad them
    console = kind(highlight=False, width=500)
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        print(line.rstrip())


def _cell(value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, str | int | float):
        return printable(str(value))
    return printable(to_json(value, indent=True).decode())


def printable(text: str) -> str:
    """Replace control characters: text of a sender must not control the terminal."""
    return "".join(char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text)


def rfc3339(milliseconds: int | None) -> str | None:
    """Return Unix milliseconds as RFC 3339 in UTC: `2026-01-31T12:00:00.000Z`."""
    if milliseconds is None:
        return None
    moment = datetime.fromtimestamp(milliseconds // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{milliseconds % 1000:03d}Z"


def flow_as_json(flow: Flow) -> dict[str, Any]:
    """Return the JSON representation of a flow in a list."""
    return {
        "id": flow.id,
        "revision": flow.revision,
        "paused": flow.paused,
        "webhook": flow.has_webhook,
        "created_at": rfc3339(flow.create_time_ms),
        "updated_at": rfc3339(flow.update_time_ms),
        "next_at": rfc3339(flow.next_time_ms),
    }


def flow_statistics_as_json(statistics: FlowStatistics) -> dict[str, Any]:
    """Return the JSON representation of a flow with the numbers of its executions."""
    return {
        **flow_as_json(statistics.flow),
        "accepted_last_hour": sum(statistics.accepted),
        "completed_last_hour": sum(statistics.completed),
        "faulted_last_hour": sum(statistics.faulted),
        "pending": statistics.pending,
        "running": statistics.running,
        "waiting": statistics.waiting,
        "suspended": statistics.suspended,
        "oldest_pending_at": rfc3339(statistics.oldest_pending_time_ms),
        "last_event_at": rfc3339(statistics.last_event_time_ms),
        "missing_secrets": list(statistics.missing_secrets),
    }


def execution_as_json(execution: Execution) -> dict[str, Any]:
    """Return the JSON representation of an execution in a list."""
    return {
        "id": execution.id,
        "flow": execution.flow_id,
        "revision": execution.flow_revision,
        "status": str(execution.status),
        "received_at": rfc3339(execution.receive_time_ms),
        "ended_at": rfc3339(execution.end_time_ms),
        "attempts": execution.attempts,
        "error": None if execution.error is None else execution.error.as_dict(),
        "replay_of": execution.replay_of or None,
        "replayed_by": execution.replayed_by or None,
        "resolution": None if execution.resolution is None else _resolution_as_json(execution.resolution),
        "retry": None if execution.retry is None else _retry_as_json(execution.retry),
    }


def _retry_as_json(retry: Retry) -> dict[str, Any]:
    return {
        "error": retry.error.as_dict(),
        "tries": retry.tries,
        "next_at": rfc3339(retry.next_time_ms),
        "others": retry.others,
    }


def _resolution_as_json(resolution: Resolution) -> dict[str, Any]:
    return {"reason": resolution.reason, "resolved_at": rfc3339(resolution.resolve_time_ms)}


def detail_as_json(detail: ExecutionDetail) -> dict[str, Any]:
    """Return the JSON representation of everything that is stored of an execution."""
    return {
        **execution_as_json(detail.execution),
        "replay": _replay_as_json(detail.event.replay),
        "request": request_as_json(detail.event),
        "tasks": [_task_as_json(entry) for entry in detail.journal if entry.key != SNAPSHOT_KEY],
        "output": _parsed(detail.output),
        "attributes": dict(detail.attributes),
        "attempt_history": [_attempt_as_json(attempt) for attempt in detail.attempts],
        "attempts_left_out": detail.attempts_left_out,
        "latest_revision": detail.latest_revision or None,
    }


def _attempt_as_json(attempt: Attempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "runner": attempt.runner or None,
        "assigned_at": rfc3339(attempt.assign_time_ms),
        "ended_at": rfc3339(attempt.end_time_ms),
        "end": attempt.end,
        "detail": attempt.detail or None,
        "charged": attempt.charged,
    }


def _replay_as_json(replay: ReplayOrigin | None) -> dict[str, Any] | None:
    if replay is None:
        return None
    return {
        "from": "task" if replay.task else "failed" if replay.from_failed_task else "start",
        "task": replay.task or None,
        "output_given": replay.output_given,
        "edited_from": replay.edited_from or None,
    }


def request_as_json(event: Event) -> dict[str, Any]:
    """Return the JSON representation of a stored request.

    The values of a repeated header are joined by commas (RFC 9110, section 5.3). `body` is the parsed JSON, or text; a
    body that is neither is in `body_base64`. For a streamed body, `body` has only the fields of a form, and `parts`
    describes the attachments.
    """
    headers: dict[str, str] = {}
    for name, value in event.headers:
        text = value.decode("utf-8", "replace")
        headers[name] = f"{headers[name]}, {text}" if name in headers else text
    principal = event.principal
    shown: dict[str, Any] = {
        "method": event.method,
        "path": event.path,
        "query": event.query,
        "content_type": event.content_type,
        "headers": headers,
        "principal": None if principal is None else {"scheme": principal.scheme, "secret": principal.secret},
        "size": len(event.body),
    }
    if event.rejection_id:
        shown["accepted_after"] = event.rejection_id
    if event.body_blob is not None:
        parts = [_part_as_json(part) for part in stored_attachments(event)]
        return {**shown, "size": event.body_blob.size, "body": _parsed(event.form), "parts": parts}
    try:
        shown["body"] = _parsed(event.body) if _is_json(event.content_type) else event.body.decode()
    except UnicodeDecodeError:
        shown["body_base64"] = base64.b64encode(event.body).decode()
    return shown


def _part_as_json(part: Part) -> dict[str, Any]:
    return {
        "name": part.name,
        "type": part.type,
        "field": part.field,
        "offset": part.offset,
        "size": part.size,
        "sha256": part.sha256.hex(),
    }


def _task_as_json(entry: JournalEntry) -> dict[str, Any]:
    return {
        "task": entry.key,
        "output": _moment_as_text(entry, _parsed(entry.output)),
        "error": None if entry.error is None else entry.error.as_dict(),
    }


def _moment_as_text(entry: JournalEntry, output: Any) -> Any:
    """Return the output of a journal entry; a time in it is formatted as RFC 3339."""
    is_moment = isinstance(output, dict) and _MOMENT.search(entry.key) is not None
    if not is_moment or not output.keys() <= {"now", "until", "over", "early"}:
        return output
    return {name: value if isinstance(value, bool) else rfc3339(value) for name, value in output.items()}


def _is_json(content_type: str) -> bool:
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type == "application/json" or media_type.endswith("+json")


def _parsed(content: bytes | None) -> Any:
    if not content:
        return None
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return content.decode()
