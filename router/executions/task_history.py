"""Builds the task history of an execution for display, from the fragments that runners reported.

A task may be reported several times: when it begins and progresses, when it ends, and again by a later attempt that
does not know of the earlier report. It has the same number in all reports, and the first known values count.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

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
        for item in read_items(text):
            run = _run(item, TaskState.CANCELLED if ended else TaskState.RUNNING)
            runs[run.number] = _merged(runs.get(run.number), run)
    ordered = [runs[number] for number in sorted(runs)]
    if len(ordered) > MAX_SHOWN:
        ordered[MAX_SHOWN // 2 : -MAX_SHOWN // 2] = []
    return tuple(ordered)


class HistoryItem(NamedTuple):
    """A report about a task: number, task, start and end (Unix ms, 0: unknown), tries, result."""

    number: int
    task: str
    began: int
    ended: int
    tries: int
    result: str


def read_items(text: bytes) -> list[HistoryItem]:
    """Return the reports in a fragment, without malformed ones."""
    try:
        items = orjson.loads(text)
    except orjson.JSONDecodeError:
        return []
    return [item for each in items if (item := _item(each))] if isinstance(items, list) else []


def _item(item: Any) -> HistoryItem | None:
    match item:
        case [int(), str(), int(), int(), int(), str()]:
            return HistoryItem(*item)
    return None


def state_of(result: str) -> TaskState:
    """Return the state of a task that ended, from its reported result."""
    return _STATES.get(result[:1], TaskState.COMPLETED)


def _run(item: HistoryItem, unfinished: TaskState) -> TaskRun:
    state = state_of(item.result) if item.ended else unfinished
    return TaskRun(item.number, item.task, item.began or None, item.ended or None, item.tries, state, item.result[1:])


def _merged(known: TaskRun | None, run: TaskRun) -> TaskRun:
    if known is None:
        return run
    if known.end_time_ms is not None:
        return known
    return run._replace(begin_time_ms=known.begin_time_ms or run.begin_time_ms)
