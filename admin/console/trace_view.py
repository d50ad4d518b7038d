"""Prepares the trace of an execution for the pages: joins it with the stored history of tasks."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

import orjson

from admin.console.attempt_bars import attempt_bars, to_ms
from admin.console.json_format import indent_json
from admin.console.timeline import Bar
from flowhook.model import TaskRun, TaskState
from flowhook.model.execution_trace import ExecutionTrace, TracedRequest, TracedTask
from operations.executions import ExecutionDetailView

WAITING_KINDS: Final = frozenset({"wait", "listen"})  # kinds of tasks that wait rather than work
UNKNOWN: Final = "unknown"  # state of a task whose end neither the history nor the trace has
MAX_LINES: Final = 500  # lines of a text that are compared: the time grows with the square
CONTEXT: Final = 3  # equal lines around a difference
_CHANGES: Final = {"@": "gap", "+": "added", "-": "removed", " ": "same"}


@dataclass(frozen=True, slots=True)
class ShownTask:
    """A task that ran: what is stored of it, what the trace has of it, or both."""

    number: int  # ordinal among all task runs of the execution, from 1
    task: str  # JSON Pointer with iterations
    name: str  # last part of the pointer
    run: TaskRun | None  # stored times and state; None: not stored
    traced: TracedTask | None  # its data; None: not traced
    is_open: bool = False  # whether it may be running if the trace does not have its end

    @property
    def state(self) -> str:
        """Its state: the stored one, else that of the trace."""
        if self.run is not None:
            return self.run.state
        if self.traced is None:
            return ""
        if self.traced.outcome == "unfinished":
            return "running" if self.is_open else UNKNOWN
        return self.traced.outcome

    @property
    def failed(self) -> bool:
        """Whether it ended with an error, as stored or as recomputed."""
        return TaskState.FAULTED in (self.state, None if self.traced is None else self.traced.outcome)

    @property
    def waits(self) -> bool:
        """Whether it waits for a time, an event or another execution."""
        if self.traced is None:
            return False
        return self.traced.kind in WAITING_KINDS or any(each.kind == "completion" for each in self.traced.requests)


def shown_tasks(detail: ExecutionDetailView, trace: ExecutionTrace | None) -> list[ShownTask]:
    """Return the tasks of an execution in the order in which they began."""
    runs = {run.number: run for run in detail.tasks}
    traced = {} if trace is None else {task.number: task for task in trace.tasks}
    # a trace that is limited, or begins after a compaction, leaves the end of tasks out
    is_whole = trace is not None and trace.outcome == "unfinished" and not trace.compacted
    is_open = is_whole and not detail.status.ended
    names = {number: task.task for number, task in traced.items()} | {number: run.task for number, run in runs.items()}
    return [
        ShownTask(number, task, name_of(task), runs.get(number), traced.get(number), is_open)
        for number, task in sorted(names.items())
    ]


def name_of(task: str) -> str:
    """Return the name of a task with its iterations, given its pointer with iterations."""
    name = task.rpartition("/")[2].replace("~1", "/").replace("~0", "~")
    return name or task


def depth_of(task: str) -> int:
    """Return the number of tasks around a task, given its pointer."""
    return max(0, sum(part.isdecimal() for part in task.split("/")) - 1)


def timeline_bars(detail: ExecutionDetailView, tasks: Sequence[ShownTask], link: str) -> list[Bar]:
    """Return the rows of the timeline: the time in the queue, the attempts, and the tasks whose beginning is stored.

    `link`: prefix of the URL of a task, to which its number is appended.
    """
    ended = None if detail.ended_at is None else to_ms(detail.ended_at)
    bars = list(attempt_bars(detail).rows)
    for task in tasks:
        run = task.run
        if run is None or run.began_at is None:
            continue
        requests = () if task.traced is None else task.traced.requests
        bars.append(
            Bar(
                label=task.name,
                state=run.state,
                begin_ms=to_ms(run.began_at),
                end_ms=ended if run.ended_at is None else to_ms(run.ended_at),
                waits=task.waits,
                tries_ms=tuple(each.answered_ms for each in requests if each.kind == "retry" and each.answered_ms),
                depth=depth_of(task.task),
                link=f"{link}{task.number}",
            )
        )
    return bars


class Durations(NamedTuple):
    """Durations of an execution in seconds, in the queue and of all attempts; None: not known, or not yet."""

    queued: float | None
    ran: float | None


def durations(detail: ExecutionDetailView, now: datetime) -> Durations:
    """Return how long an execution was queued and how long it ran."""
    shown, now_ms = attempt_bars(detail), to_ms(now)
    if not shown.bars:
        return Durations(None, None)
    return Durations(shown.queued_ms(now_ms) / 1000, shown.ran_ms(now_ms) / 1000)


def waited_seconds(tasks: Sequence[ShownTask], now: datetime) -> float:
    """Return for how long at least one task waited for a time, an event or another execution."""
    intervals = sorted(
        (task.run.began_at, task.run.ended_at or now)
        for task in tasks
        if task.waits and task.run is not None and task.run.began_at is not None
    )
    total, reached = 0.0, None
    for begin, end in intervals:
        start = begin if reached is None else max(begin, reached)
        total += max(0.0, (end - start).total_seconds())
        reached = end if reached is None else max(end, reached)
    return total


class TraceValues:
    """Texts of the values of a trace, for templates."""

    def __init__(self, trace: ExecutionTrace) -> None:
        self._values = trace.values

    def text(self, index: int | None, limit: int) -> str:
        """Return a value as indented JSON of at most about `limit` characters, with a note about what is left out."""
        if index is None:
            return ""
        value = self._values[index]
        if not value.cut and len(value.text) <= limit:
            return indent_json(value.text) or value.text
        shown = value.text[:limit]
        return (
            f"{shown}\n… of {value.size} bytes" if shown else f"… {value.size} bytes, which are more than a trace holds"
        )

    def differences(self, before: int | None, after: int | None) -> list[ChangedLine]:
        """Return the lines in which two values differ."""
        if before is None or after is None or before == after:
            return []
        old, new = self._values[before], self._values[after]
        return diff_lines(indent_json(old.text) or old.text, indent_json(new.text) or new.text)

    def request_line(self, request: TracedRequest) -> str:
        """Return method and URL of an HTTP request; empty for anything else."""
        if request.arguments is None or request.function != "http":
            return ""
        value = self._values[request.arguments]
        try:
            arguments: Any = None if value.cut else orjson.loads(value.text)
        except orjson.JSONDecodeError:
            return ""
        if not isinstance(arguments, dict):
            return ""
        endpoint = arguments.get("endpoint")
        url = endpoint.get("uri") if isinstance(endpoint, dict) else endpoint
        return f"{str(arguments.get('method', '')).upper()} {url}"


class ChangedLine(NamedTuple):
    """A line of a unified diff; `change` is `added`, `removed`, `same` or `gap` (equal lines are left out)."""

    change: str
    text: str


def diff_lines(before: str, after: str) -> list[ChangedLine]:
    """Return the differing lines of two texts with some of those around them; none if the texts are equal.

    Only the first `MAX_LINES` of each are compared.
    """
    old, new = before.split("\n")[:MAX_LINES], after.split("\n")[:MAX_LINES]
    found = list(difflib.unified_diff(old, new, lineterm="", n=CONTEXT))[2:]
    lines = [ChangedLine(_CHANGES[line[0]], "…" if line[0] == "@" else line[1:]) for line in found]
    return lines[1:] if lines and lines[0].change == "gap" else lines
