"""Says which tasks a replay takes over, and which run again, from the history of the original execution."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from flowhook import held_results
from flowhook.document.task_kinds import kind_of
from flowhook.model import JournalEntry, TaskState, WorkflowError
from flowhook.replays import ReplayedTask
from router.replay.journal_keys import is_around, position_of, position_of_task, results_of
from router.replay.task_runs import LocatedRun

MAX_TASKS: Final = 1000
"""Tasks in each list of a preview."""

_EFFECTS: Final = frozenset({"call", "emit", "listen", "run", "wait"})
"""Kinds of tasks whose results are in the journal."""


class Preview:
    """The tasks of one execution, as a replay sees them."""

    def __init__(self, definition: Any, runs: Sequence[LocatedRun]) -> None:
        """Describe runs of tasks by the flow that the replay runs."""
        self._definition = definition
        self._runs = runs

    def taken_over(self, retained: Sequence[JournalEntry], cut: int) -> tuple[ReplayedTask, ...]:
        """Return the tasks whose results are taken over.

        Args:
            retained: journal that the replay begins with.
            cut: index of the first entry of the original journal that is not part of it.
        """
        ended = (run for run in self._runs if run.end is not None and run.end <= cut)
        done = [run.task for run in ended if run.state is TaskState.COMPLETED and self._kind(run.task) in _EFFECTS]
        entries = [entry for entry in retained if not entry.key.endswith(held_results.GIVEN_OUTPUT)]
        return self._described([*done, *tasks_of(entries)])

    def again(
        self, number: int | None, cut: int, retained: Sequence[JournalEntry] = (), *, task: str = ""
    ) -> tuple[ReplayedTask, ...]:
        """Return the tasks that run again: those from a run on, and those that were under way beside it.

        Args:
            number: of the first run that is run again; None: none is known.
            cut: as in `taken_over`.
            retained: as in `taken_over`. Tasks whose results are held do not run again although they come later.
            task: that the replay begins with, if that is given.
        """
        held = frozenset(tasks_of([entry for entry in retained if entry.key.startswith(held_results.PREFIX)]))
        known, inner = frozenset(tasks_of(retained)), position_of_task(task)
        found = []
        for run in self._runs:
            if run.state is TaskState.SKIPPED or run.task in held:
                continue
            if number is not None and run.number >= number:
                found.append(run.task)
            elif (run.end is None or run.end > cut) and run.task not in known and self._kind(run.task) in _EFFECTS:
                outer = position_of_task(run.task)
                if outer is None or inner is None or not is_around(outer, inner):
                    found.append(run.task)
        return self._described(found)

    def failed(self, error: WorkflowError | None) -> int | None:
        """Return the number of the run that a replay from the failed task begins with; None: unknown."""
        if error is None:
            return None
        cause = None if error.raising is None else position_of(error.raising.cause)
        if cause is not None:
            runs = (run for run in self._runs if run.task == cause.task)
        else:
            runs = (
                run
                for run in self._runs
                if (at := position_of_task(run.task)) is not None and at.pointer == error.instance
            )
        return max((run.number for run in runs if run.state is not TaskState.COMPLETED), default=None)

    def _described(self, tasks: Iterable[str]) -> tuple[ReplayedTask, ...]:
        distinct = list(dict.fromkeys(tasks))[:MAX_TASKS]
        return tuple(ReplayedTask(task, self._kind(task)) for task in distinct)

    def _kind(self, task: str) -> str:
        """Return the kind of a task; empty: the flow has no such task."""
        position = position_of_task(task)
        text = "" if position is None else position.pointer + position.iteration
        while not (kind := kind_of(_at(self._definition, text))) and text.endswith("]"):
            text = text.rpartition("[")[0]  # an index, unless names end like one
        return kind or ""


def tasks_of(entries: Sequence[JournalEntry]) -> list[str]:
    """Return the tasks of the results among the entries of a journal, held ones included."""
    ordered, held = held_results.split_held(entries)
    results = [*results_of(ordered).values(), *held.values()]
    positions = (position_of(entry.key) for entry in results)
    return [position.task for position in positions if position is not None]


def _at(value: Any, pointer: str) -> Any:
    """Return the value at a JSON Pointer; None: there is none."""
    if not pointer.startswith("/"):
        return None
    for token in pointer.split("/")[1:]:
        name = token.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict):
            value = value.get(name)
        elif isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        else:
            return None
    return value
