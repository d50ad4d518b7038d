"""The path of an execution through its flow: what it did at each task, and the ways between tasks that it took."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from flowhook.document.definition import PlacedTask, walk
from flowhook.model import TaskRun, TaskState
from operations.diagram.reading import END, milliseconds_text

Way = tuple[str, str]
"""JSON Pointers of a task and of the one that control went to; `START`, `END`, `AGAIN` or `JOIN` in place of one."""

START: Final = ""  # in place of the first: where the flow begins
AGAIN: Final = "again"  # the tasks of a loop began anew
JOIN: Final = "join"  # a branch of a `fork` completed
HANDLER: Final = "catch"  # the error handler of a `try` without tasks of its own
WAITS: Final = "waiting"  # state of a task that waits, rather than works

_ITERATIONS: Final = re.compile(r"(?:\[\d+\])+$")  # indexes of the loops around a task, after its pointer
_WAITING_KINDS: Final = ("wait", "listen")
_TIMED: Final = (TaskState.COMPLETED, TaskState.FAULTED)


@dataclass(slots=True)
class Visit:
    """What an execution did at one task: of several runs the last one decides the state."""

    state: str = ""
    runs: int = 0
    faulted: int = 0
    took_ms: int = 0  # sum of the runs that have ended
    since_ms: int | None = None  # when the run that has not ended began

    @property
    def text(self) -> str:
        """State and counts, for people."""
        text = f"{self.state} \N{MULTIPLICATION SIGN}{self.runs:,}" if self.runs > 1 else self.state
        return f"{text}, {self.faulted:,} faulted" if self.faulted and self.runs > 1 else text

    def duration(self, now_ms: int) -> str:
        """Return how long all runs took together, for people; empty: not known."""
        if self.since_ms is None:
            return milliseconds_text(self.took_ms) if self.took_ms or self.state in _TIMED else ""
        return f"{milliseconds_text(self.took_ms + max(0, now_ms - self.since_ms))} so far"


@dataclass(frozen=True, slots=True)
class ExecutionPath:
    """Visits by JSON Pointer, and the ways between tasks that were taken, so far as the history is stored."""

    visits: Mapping[str, Visit]
    ways: frozenset[Way]


def execution_path(definition: Mapping[str, Any], runs: Iterable[TaskRun], *, completed: bool) -> ExecutionPath:
    """Return the path of an execution; `completed`: whether it reached the end of its flow.

    Tasks of functions that it called are no tasks of the definition, and left out.
    """
    tasks = {placed.pointer: placed for placed in walk(definition)}
    parents = _parents(tasks.values())
    visits: dict[str, Visit] = {}
    ways: set[Way] = set()
    latest: dict[tuple[str, str], tuple[int, str]] = {}  # stretch and pointer of the last run in a list of tasks
    for stretch, run in _stretches(runs):
        iterations = "" if run.task in tasks else "".join(_ITERATIONS.findall(run.task))
        pointer = run.task.removesuffix(iterations)
        if (placed := tasks.get(pointer)) is None:
            continue
        _add(visits.setdefault(pointer, Visit()), run, placed.kind)
        parent = parents[pointer]
        if parent and tasks[parent].kind == "fork":
            ways |= {(parent, pointer), *([(pointer, JOIN)] if run.state is TaskState.COMPLETED else [])}
            continue
        if run.state is TaskState.FAULTED and parent in visits and visits[parent].state == TaskState.COMPLETED:
            ways.add((parent, HANDLER))
        scope = (pointer.rsplit("/", 2)[0], iterations)
        before = latest.get(scope)
        if before is None:
            ways.add((parent, pointer))
            if parent in visits and iterations and not iterations.endswith("[0]"):
                ways.add((parent, AGAIN))
        elif before[0] == stretch:
            ways.add((before[1], pointer))
        latest[scope] = (stretch, pointer)
    for _, last in latest.values():
        if visits[parents[last]].state == TaskState.COMPLETED if parents[last] else completed:
            ways.add((last, END))
    return ExecutionPath(visits, frozenset(ways))


def _add(visit: Visit, run: TaskRun, kind: str) -> None:
    visit.runs += 1
    visit.faulted += run.state is TaskState.FAULTED
    visit.state = WAITS if run.state is TaskState.RUNNING and kind in _WAITING_KINDS else str(run.state)
    if run.begin_time_ms is not None and run.end_time_ms is not None:
        visit.took_ms += max(0, run.end_time_ms - run.begin_time_ms)
    elif run.state is TaskState.RUNNING:
        visit.since_ms = run.begin_time_ms


def _stretches(runs: Iterable[TaskRun]) -> Iterator[tuple[int, TaskRun]]:
    """Yield the runs in order, each with the number of the stretch, without a gap in the history, that it is in."""
    stretch, number = 0, 0
    for run in sorted(runs, key=lambda each: each.number):
        stretch += run.number != number + 1
        number = run.number
        yield stretch, run


def _parents(tasks: Iterable[PlacedTask]) -> dict[str, str]:
    """Return the pointer of the task around each one; empty: none."""
    around: list[PlacedTask] = []
    parents = {}
    for placed in tasks:
        while around and placed.path[: len(around[-1].path)] != around[-1].path:
            around.pop()
        parents[placed.pointer] = around[-1].pointer if around else ""
        around.append(placed)
    return parents
