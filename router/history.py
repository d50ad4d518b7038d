"""What is shown of the tasks of an execution, made of what runners told piece by piece.

A task may be told of several times: when it began and went on, when it ended, and once more by an attempt that did not
know of the earlier word. It has one number in all of them, and what is known first of it counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import orjson

from flowhook.model import TaskRun, TaskState

MAX_SHOWN: Final = 1000
"""Tasks of one execution that are shown: the first and the last ones."""

_STATES: Final = {
    "-": TaskState.SKIPPED,
    "x": TaskState.CANCELLED,
    "!": TaskState.FAULTED,
    ">": TaskState.COMPLETED,
}
"""By the first character of how a task was left (`runner.interpreter.history`)."""


def history_of(told: Iterable[bytes], *, ended: bool) -> tuple[TaskRun, ...]:
    """Return the tasks in the order in which they began.

    Args:
        told: as runners told it, in order; what is none of that is passed over. An empty piece says that some are left
            out there: what had not ended before is not shown, unless a later one tells of it.
        ended: whether the execution has: then what did not end was called off.
    """
    runs: dict[int, TaskRun] = {}
    for text in told:
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
