"""Formats the task history of an execution: as JSON for programs, and as a table for people."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, Final

from cli.output import rfc3339
from flowhook.model import ExecutionDetail, JournalEntry, TaskRun, TaskState

COLUMNS: Final = ("BEGAN", "TASK", "TRIES", "DURATION", "RESULT")

MAX_SHOWN: Final = 120
"""Maximum number of characters of a call's result in the table."""

_SECOND: Final = 1000
_MINUTE: Final = 60 * _SECOND
_HOUR: Final = 60 * _MINUTE

_EFFECT: Final = re.compile(r"(?P<task>.*)#(?P<visit>\d+)", re.DOTALL)
"""Key of the journal entry of a call."""


def history_as_json(runs: Sequence[TaskRun]) -> list[dict[str, Any]]:
    """Return tasks as JSON values; `duration` is in seconds."""
    return [
        {
            "number": run.number,
            "task": run.task,
            "began_at": rfc3339(run.begin_time_ms),
            "ended_at": rfc3339(run.end_time_ms),
            "duration": None if (took := _duration_ms(run)) is None else took / _SECOND,
            "tries": run.tries,
            "status": str(run.state),
            "detail": run.detail,
        }
        for run in runs
    ]


def history_rows(detail: ExecutionDetail) -> Iterator[tuple[object, ...]]:
    """Yield tasks as rows for `COLUMNS`; a row in place of tasks that are not stored shows their number."""
    results = _results(detail.history, detail.journal)
    last = 0
    for run in detail.history:
        if run.number > last + 1:
            yield ("", f"… {run.number - last - 1} that are not stored", "", "", "")
        last = run.number
        yield (
            rfc3339(run.begin_time_ms),
            run.task,
            run.tries,
            duration(_duration_ms(run)),
            _result(run, results.get(run.number)),
        )


def duration(milliseconds: int | None) -> str:
    """Format a duration for people: `12 ms`, `3.2 s`, `2 min 5 s`, `26 h 3 min`."""
    if milliseconds is None:
        return ""
    if milliseconds < _SECOND:
        return f"{milliseconds} ms"
    if milliseconds < _MINUTE:
        return f"{milliseconds / _SECOND:.1f} s"
    if milliseconds < _HOUR:
        return f"{milliseconds // _MINUTE} min {milliseconds % _MINUTE // _SECOND} s"
    return f"{milliseconds // _HOUR} h {milliseconds % _HOUR // _MINUTE} min"


def _duration_ms(run: TaskRun) -> int | None:
    if run.begin_time_ms is None or run.end_time_ms is None:
        return None
    return max(0, run.end_time_ms - run.begin_time_ms)


def _result(run: TaskRun, output: bytes | None) -> str:
    if run.state is TaskState.COMPLETED and run.detail:
        return f"→ {run.detail}"
    if run.state is TaskState.COMPLETED and output is not None:
        text = output.decode("utf-8", "replace")
        return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"
    return f"{run.state}: {run.detail}" if run.detail else str(run.state)


def _results(runs: Sequence[TaskRun], journal: Sequence[JournalEntry]) -> dict[int, bytes]:
    """Return the results of calls by task number, for those tasks whose results are all in the journal."""
    outputs: defaultdict[str, dict[int, bytes]] = defaultdict(dict)
    for entry in journal:
        match = _EFFECT.fullmatch(entry.key)
        if match and entry.output is not None:
            outputs[match["task"]][int(match["visit"])] = entry.output
    numbers: defaultdict[str, list[int]] = defaultdict(list)
    for run in runs:
        if run.task in outputs and run.state is TaskState.COMPLETED:
            numbers[run.task].append(run.number)
    return {
        number: output
        for task, found in numbers.items()
        if len(found) == len(outputs[task])
        for number, (_, output) in zip(found, sorted(outputs[task].items()), strict=True)
    }
