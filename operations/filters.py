"""Filters as parameters of `list_executions`, for links and forms."""

from __future__ import annotations

from flowhook.model import to_datetime
from flowhook.model.execution_filter import ExecutionFilter
from operations.execution_list import NO_TASK


def to_pairs(execution_filter: ExecutionFilter) -> list[tuple[str, str]]:
    """Return a filter as names and values of parameters, as in a URL; times are absolute."""
    task = execution_filter.error_task
    pairs = [
        ("flow", execution_filter.flow_id),
        *(("status", status.value) for status in execution_filter.statuses),
        ("unresolved", "true" if execution_filter.unresolved else ""),
        *(("attribute", f"{name}:{value}") for name, value in execution_filter.attributes),
        ("since", _text(execution_filter.receive_from_ms)),
        ("until", _text(execution_filter.receive_until_ms)),
        ("error_type", execution_filter.error_type),
        ("error_task", "" if task is None else task or NO_TASK),
        ("error_status", str(execution_filter.error_status or "")),
        ("error_title", execution_filter.error_title),
        ("min_attempts", str(execution_filter.min_attempts or "")),
        ("caused_by", execution_filter.caused_by),
    ]
    return [(name, value) for name, value in pairs if value]


def _text(milliseconds: int | None) -> str:
    return "" if milliseconds is None else to_datetime(milliseconds).isoformat().replace("+00:00", "Z")
