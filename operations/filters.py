"""Filters as parameters of `list_executions`, for links and forms."""

from __future__ import annotations

from flowhook.model import to_datetime
from flowhook.model.execution_filter import ExecutionFilter
from operations.execution_list import NO_TASK


def to_pairs(wanted: ExecutionFilter) -> list[tuple[str, str]]:
    """Return a filter as names and values of parameters, as in a URL; times are absolute."""
    task = wanted.error_task
    pairs = [
        ("flow", wanted.flow_id),
        *(("status", status.value) for status in wanted.statuses),
        ("unresolved", "true" if wanted.unresolved else ""),
        *(("attribute", f"{name}:{value}") for name, value in wanted.attributes),
        ("since", _text(wanted.receive_from_ms)),
        ("until", _text(wanted.receive_until_ms)),
        ("error_type", wanted.error_type),
        ("error_task", "" if task is None else task or NO_TASK),
        ("error_status", str(wanted.error_status or "")),
        ("error_title", wanted.error_title),
        ("min_attempts", str(wanted.min_attempts or "")),
        ("caused_by", wanted.caused_by),
    ]
    return [(name, value) for name, value in pairs if value]


def _text(milliseconds: int | None) -> str:
    return "" if milliseconds is None else to_datetime(milliseconds).isoformat().replace("+00:00", "Z")
