"""Builds the task history of an execution for display, from the fragments that runners reported.

A task may be reported several times: when it begins and progresses, when it ends, and again by a later attempt that
does not know of the earlier report. It has the same number in all reports, and the first known values count.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import orjson

from flowhook.model import TaskRun, TaskState

MAX_SHOWN: Final = 1000
"""Tasks shown of one execution: of more, the first half and the last half of this number."""

_STATES: Final = {
    "-": TaskState.SKIPPED,
    "x": TaskState.CANCELLED,
    "!": TaskState.FAULTED,
    ">": TaskState.COMPLETED,
}
"""State of a task by the first character of its reported result (`runner.interpreter.history`)."""


def build_task_history(fragments: Iterable[bytes], *, ended: bool) -> tuple[TaskRun, ...]:
    """Return the tasks in the order in which they began.

    Args:
        fragments: fragments that runners reported, in order; malformed ones are ignored. An empty fragment stands for
            omitted ones: tasks that had not ended before it are not shown, unless a later fragment reports them.
        ended: whether the execution has ended: then tasks without an end were cancelled.
    """
    runs: dict[int, TaskRun] = {}
    for text in fragments:
        if not text:
            runs = {number: run for number, run in runs.items() if run.end_time_ms is not None}
            continue
        for item in _items(text):
            run = _run(item, TaskState.CANCELLED if ended else TaskState.RUNNING)
            if run is not None:
                runs[run.number] = _merged(runs.get(run.number), run)
    ordered = [runs[number] for number in sorted(runs)]
    if len(ordered) > MAX_SHOWN:
        ordered[MAX_SHOWN // 2 : -MAX_SHOWN // 2] = []
    return tuple(ordered)


def _items(text: bytes) -> list[Any]:
    try:
        items = orjson.loads(text)
    except orjson.JSONDecodeError:
        return []
    return items if isinstance(items, list) else []


def _run(item: Any, unfinished: TaskState) -> TaskRun | None:
    match item:
        case [int(number), str(task), int(began), int(ended), int(tries), str(result)]:
            state = unfinished if not ended else _STATES.get(result[:1], TaskState.COMPLETED)
            return TaskRun(number, task, began or None, ended or None, tries, state, result[1:])
    return None


def _merged(known: TaskRun | None, run: TaskRun) -> TaskRun:
    if known is None:
        return run
    if known.end_time_ms is not None:
        return known
    return run._replace(begin_time_ms=known.begin_time_ms or run.begin_time_ms)
