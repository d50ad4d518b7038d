"""Locates the runs of tasks in the journal of their execution, by the task history that runners reported.

A fragment of the history is stored with the entry that was written next, so a task that a fragment mentions for the
first time began between that entry and the one before it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from flowhook.model import TaskState
from router.executions.reading import read_items, state_of


class LocatedRun(NamedTuple):
    """One run of one task."""

    number: int  # ordinal among all task runs of the execution, from 1
    task: str  # as in `TaskRun.task`
    state: TaskState  # when the execution ended
    begin: int | None  # index of the first journal entry that was written after the run began; None: unknown
    # index of the first journal entry that was written after the run ended; None: it did not end, or unknown
    end: int | None


def locate_runs(fragments: Iterable[tuple[int, bytes]]) -> tuple[LocatedRun, ...]:
    """Return the runs that fragments of a history mention, in the order in which they began.

    With each is the index of the journal entry that was written next. Malformed ones are ignored.
    """
    runs: dict[int, LocatedRun] = {}
    for index, fragment in fragments:
        for number, task, began, ended, _, result in read_items(fragment):
            run = runs.get(number) or LocatedRun(number, task, TaskState.CANCELLED, None, None)
            if began and run.begin is None:  # without a time: it began while a journal was replayed, some time before
                run = run._replace(begin=index)
            if ended and run.end is None:
                run = run._replace(end=index, state=state_of(result))
            runs[number] = run
    # a report of the beginning may have been left out: what began later gives an upper bound
    located: list[LocatedRun] = []
    bound: int | None = None
    for number in sorted(runs, reverse=True):
        run = runs[number]
        if run.begin is not None:
            bound = run.begin if bound is None else min(bound, run.begin)
            run = run._replace(begin=bound)
        located.append(run)
    return tuple(reversed(located))
