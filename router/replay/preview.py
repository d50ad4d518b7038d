"""Says which tasks a replay takes over, and which run again, from the history of the original execution."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

import attrs

from flowhook.document.definition import kind_of
from flowhook.model import JournalEntry, TaskState, WorkflowError, held_results
from flowhook.model.replays import ReplayedTask
from router.replay.journal_keys import JournalPosition, is_around, position_of, position_of_task, results_of
from router.replay.task_runs import LocatedRun

MAX_TASKS: Final = 1000  # tasks in each list of a preview
# kinds of tasks whose results are in the journal
_EFFECTS: Final = frozenset({"call", "emit", "listen", "run", "wait"})
_EXTENDED: Final = ":extended"


@attrs.define(eq=False, repr=False)
class Preview:
    """The tasks of one execution, as a replay sees them."""

    _definition: Any
    _runs: Sequence[LocatedRun]

    def taken_over(self, retained: Sequence[JournalEntry], cut: int) -> tuple[ReplayedTask, ...]:
        """Return the tasks whose results are taken over.

        The replay begins with the journal `retained`; `cut` is the index of the first entry of the original journal
        that is not part of it.
        """
        ended = (run for run in self._runs if run.end is not None and run.end <= cut)
        done = [run.task for run in ended if run.state is TaskState.COMPLETED and self._kind(run.task) in _EFFECTS]
        entries = [entry for entry in retained if not entry.key.endswith(held_results.GIVEN_OUTPUT)]
        return self._described([*done, *tasks_of(entries)])

    def again(
        self,
        number: int | None,
        cut: int,
        retained: Sequence[JournalEntry] = (),
        *,
        task: str = "",
        dropped: Sequence[JournalEntry] = (),
    ) -> tuple[ReplayedTask, ...]:
        """Return the tasks that run again: those from a run on, and those that were under way beside it.

        Args:
            number: of the first run that is run again; None: none is known.
            cut: as in `taken_over`.
            retained: as in `taken_over`. Tasks whose results are held do not run again although they come later.
            task: that the replay begins with, if that is given.
            dropped: entries of the original journal that are not retained. Some may be of tasks that the original took
                over itself, so that it has no runs of them.
        """
        prefix = held_results.PREFIX
        keys = (entry.key.removeprefix(prefix) for entry in retained if entry.key.startswith(prefix))
        held = Counter(position.task for position in {*_positions(keys)})
        known, inner = frozenset(_positions_of(retained)), position_of_task(task)
        known_tasks = {position.task for position in known}
        ran = {run.task for run in self._runs}
        in_order = _positions(entry.key for entry in dropped if not entry.key.startswith(held_results.PREFIX))
        unseen = (at.task for at in in_order if at.task not in ran and at.task not in held)
        found = [each for each in unseen if self._kind(each)]
        for run in self._runs:
            if run.state is TaskState.SKIPPED:
                continue
            is_later = number is not None and run.number >= number
            if held[run.task] and (is_later or run.end is None or run.end > cut):
                held[run.task] -= 1
            elif is_later:
                found.append(run.task)
            elif (run.end is None or run.end > cut) and self._kind(run.task) in _EFFECTS:
                outer = position_of_task(run.task)
                is_again = run.task not in known_tasks
                if outer is not None and inner is not None and is_around(outer, inner):
                    # an extension of a task is performed after it, unless it was before that visit of the task
                    visit = task.removeprefix(f"{run.task}#").partition(" ")[0]
                    at = outer._replace(visit=visit.removesuffix(_EXTENDED))
                    is_again = visit != task and visit.endswith(_EXTENDED) and at not in known
                if is_again:
                    found.append(run.task)
        return self._described(found)

    def failed(self, error: WorkflowError | None) -> int | None:
        """Return the number of the run that a replay from the failed task begins with; None: unknown."""
        if error is None:
            return None
        cause = None if error.raising is None else position_of(error.raising.cause)
        failed = (run for run in self._runs if run.state is not TaskState.COMPLETED)
        if cause is not None:
            return max((run.number for run in failed if run.task == cause.task), default=None)
        places = ((run.number, position_of_task(run.task)) for run in failed)
        return max((number for number, at in places if at is not None and at.pointer == error.instance), default=None)

    def _described(self, tasks: Iterable[str]) -> tuple[ReplayedTask, ...]:
        distinct = list(dict.fromkeys(tasks))[:MAX_TASKS]
        return tuple(ReplayedTask(task, self._kind(task)) for task in distinct)

    def _kind(self, task: str) -> str:
        position = position_of_task(task)
        text = "" if position is None else position.pointer + position.iteration
        while not (kind := kind_of(_at(self._definition, text))) and text.endswith("]"):
            text = text.rpartition("[")[0]  # an index, unless names end like one
        return kind or ""


def tasks_of(entries: Sequence[JournalEntry]) -> list[str]:
    return [position.task for position in _positions_of(entries)]


def _positions_of(entries: Sequence[JournalEntry]) -> list[JournalPosition]:
    ordered, held = held_results.split_held(entries)
    return _positions(entry.key for entry in (*results_of(ordered).values(), *held.values()))


def _positions(keys: Iterable[str]) -> list[JournalPosition]:
    return [position for key in keys if (position := position_of(key)) is not None]


def _at(value: Any, pointer: str) -> Any:
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
