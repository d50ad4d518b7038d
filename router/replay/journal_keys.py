"""Parses the keys of journal entries: the task of an entry, and what kind of result it holds; locates runs of tasks.

A journal key consists of the JSON Pointer of a task, the indexes of the enclosing loops in brackets, `#` and the number
of earlier visits of the task, and after `:` the kind of entry: `:retry` and `:failed` belong to retries, `:timeout` and
`:attempt` to time limits, `:end` to another flow that the task runs, `:output` to an output that a replay gave to the
task, whose key has other numbers (`flowhook.model.held_results`). `/timeout` is the time limit of the whole flow.
Within a function defined in the workflow, or an extension, the key follows the key of the call, or of the extended
task, and a space. A deadline has two entries: `{"until": …}` when it is set, `{"over": …}` when it has passed. Held
entries (`flowhook.model.held_results`) are not ordered with the rest.

Runs of tasks are known by the task history that runners reported. A fragment of it is stored with the entry that was
written next, so a task that a fragment mentions for the first time began between that entry and the one before it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from flowhook.json import object_of
from flowhook.model import JournalEntry, TaskState
from router.executions.reading import read_items, state_of

TASK_LIMIT: Final = ":timeout"
RETRIES: Final = (":retry", ":failed")
_LIMITS: Final = (TASK_LIMIT, ":attempt")
_FLOW_LIMIT: Final = "/timeout"
_END: Final = ":end"
_RESULTS: Final = ("", _END, ":output")
# separates the key of a call from the position in the function that it calls; names contain no slash
_WITHIN: Final = " /use/"

_TASK: Final = re.compile(
    r"(?P<pointer>.*?)(?P<iteration>(?:\[\d+\])*)#(?P<visit>\d+(?:\.\d+)?)(?P<what>(?::[a-z]+)?)", re.DOTALL
)


class JournalPosition(NamedTuple):
    """Position that an entry belongs to: a task, its iteration (`[1][0]`), and the key of the enclosing call."""

    call: str
    pointer: str
    iteration: str
    visit: str

    @property
    def task(self) -> str:
        return f"{self.call}{' ' if self.call else ''}{self.pointer}{self.iteration}"


def position_of(key: str) -> JournalPosition | None:
    # /do/2/each/do/0/send[4]#1:retry
    #     -> call "", pointer /do/2/each/do/0/send, iteration [4], visit 1: a retry in the fifth iteration, when the
    #        flow came there for the second time
    # /do/0/ask#0 /use/functions/f/do/0/x#0
    #     -> call /do/0/ask#0, pointer /use/functions/f/do/0/x: a task of the function that `ask` calls
    call, within, task = key.rpartition(_WITHIN)
    parts = _TASK.fullmatch(task)
    if parts is None:
        return None
    return JournalPosition(call, within.lstrip() + parts["pointer"], parts["iteration"], parts["visit"])


def position_of_task(task: str) -> JournalPosition | None:
    return position_of(f"{task}#0")


def is_around(outer: JournalPosition, inner: JournalPosition) -> bool:
    """Whether a position equals or encloses another."""
    if outer.pointer == _FLOW_LIMIT:
        return True
    # the inner one is in a function: what is around its call is around it
    if outer.call != inner.call:
        call = position_of(inner.call)
        return call is not None and is_around(outer, call)
    # with a slash at both ends /do/1/a is around /do/1/a/do/0/b, and not around /do/1/ab
    is_deeper = f"{inner.pointer}/".startswith(f"{outer.pointer}/")
    return is_deeper and inner.iteration.startswith(outer.iteration)


def is_limit(key: str) -> bool:
    return key.endswith(_LIMITS) or key.startswith(f"{_FLOW_LIMIT}#")


def is_over(entry: JournalEntry) -> bool:
    return "over" in (object_of(entry.output or b"") or {})


def results_of(dropped: Iterable[JournalEntry], *, earliest: bool = False) -> dict[str, JournalEntry]:
    """Return the results of performed tasks, by key; not the entries for deadlines or received events.

    The start of a flow that was run and failed is left out: it is run again. Of several results under one key, which a
    `try` that was tried again leaves, return the last one, or the `earliest`.
    """
    results: dict[str, JournalEntry] = {}
    for entry in dropped:
        if entry.error is not None:
            # `K:end` with an error: the flow that `K` started has failed, so neither its start nor its end is a result
            start = entry.key.removesuffix(_END)
            if start != entry.key and not (earliest and entry.key in results):
                results.pop(start, None)
                results.pop(entry.key, None)
            continue
        parts = _TASK.fullmatch(entry.key.rpartition(_WITHIN)[2])
        is_result = parts is not None and parts["what"] in _RESULTS and not is_limit(entry.key)
        if is_result and not (earliest and entry.key in results):
            results.pop(f"{entry.key}{_END}", None)  # that is of an earlier start
            results[entry.key] = entry
    return results


def retained_before(head: Sequence[JournalEntry], tail: Iterable[JournalEntry]) -> tuple[JournalEntry, ...]:
    """Return the entries before a cut, without starts of flows that failed after it and without running time limits."""
    ends: dict[str, JournalEntry] = {}
    for entry in tail:
        if entry.key.endswith(_END):
            ends.setdefault(entry.key.removesuffix(_END), entry)
    # keys under which flows were started whose first end in `tail` is a failure
    failed = {key for key, entry in ends.items() if entry.error is not None}
    retained: list[JournalEntry] = []
    for entry in reversed(head):
        if entry.key in failed:
            failed.remove(entry.key)
            continue
        failed.discard(entry.key.removesuffix(_END))  # what was started before that ended before the cut
        retained.append(entry)
    return without_running_limits(retained[::-1])


def without_running_limits(journal: Sequence[JournalEntry]) -> tuple[JournalEntry, ...]:
    """Return a journal without time limits that were running at its end: these start again."""
    retained: list[JournalEntry] = []
    over: set[str] = set()
    for entry in reversed(journal):
        if is_limit(entry.key):
            if is_over(entry):
                over.add(entry.key)
            elif entry.key in over:
                over.remove(entry.key)  # a block that is tried again has the same key
            else:
                continue
        retained.append(entry)
    return tuple(reversed(retained))


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
