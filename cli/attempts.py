"""Formats the attempts of an execution as a table for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from cli.history import duration
from cli.output import rfc3339
from flowhook.model import ExecutionDetail
from flowhook.model.executions import Attempt

COLUMNS: Final = ("ASSIGNED", "RUNNER ATTEMPT", "RUNNER", "DURATION", "ENDED BECAUSE")


def attempt_rows(detail: ExecutionDetail) -> Iterator[tuple[object, ...]]:
    """Yield interrupted attempts, and the one that ended the execution or is under way, as rows for `COLUMNS`."""
    if detail.attempts_left_out:
        yield ("", "", f"… {detail.attempts_left_out} that are not stored", "", "")
    for attempt in detail.attempts:
        yield (rfc3339(attempt.assign_time_ms), attempt.number, attempt.runner, _duration(attempt), _reason(attempt))


def _duration(attempt: Attempt) -> str:
    if attempt.assign_time_ms is None or attempt.end_time_ms is None:
        return ""
    return duration(max(0, attempt.end_time_ms - attempt.assign_time_ms))


def _reason(attempt: Attempt) -> str:
    return attempt.reason if attempt.charged or attempt.end_time_ms is None else f"{attempt.reason}; not charged"
