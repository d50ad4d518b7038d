"""Computes the journal that a replay takes over from the original execution: from its failed task, or from a given one.

A replay from a given task has the journal before the first entry that was written after the task began. A prefix of a
journal is the journal of an execution that crashed there, so a runner resumes from it, in loops, `try`, functions and
forks as well. Results that tasks beside it in a `fork` had after the cut are held (`flowhook.model.held_results`) if
those tasks began before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from flowhook.errors import ConflictError, NotFoundError
from flowhook.model import SNAPSHOT_KEY, JournalEntry, Status, held_results
from router.replay.journal_keys import (
    RETRIES,
    TASK_LIMIT,
    JournalPosition,
    LocatedRun,
    is_around,
    is_limit,
    is_over,
    position_of,
    position_of_task,
    results_of,
    retained_before,
    without_running_limits,
)
from router.storage.model import ExecutionContent, ExecutionRecord, Resumption

MAX_NAMED: Final = 5  # tasks that an error names at most


def from_failed_task(original: ExecutionRecord, content: ExecutionContent, revision: int) -> Resumption:
    """Return the journal before the failure, and the scope of idempotency keys: that of the first of chained replays.

    Raises:
        ConflictError: it did not fail (`EXECUTION_NOT_FAILED`), no task of it would run again (`NOTHING_TO_RUN_ANEW`),
            or its journal is compacted, and so fits its own revision only (`JOURNAL_COMPACTED`).
    """
    if original.status not in (Status.FAULTED, Status.CANCELLED):
        raise ConflictError(
            f"{original.id} did not fail: {original.status}; replay it from the start", reason="EXECUTION_NOT_FAILED"
        )
    ordered, holding = held_results.split_held(content.journal)
    # a snapshot refers to tasks by position, so it fits no other revision
    if revision != original.flow_revision and ordered and ordered[0].key == SNAPSHOT_KEY:
        raise ConflictError(
            f"the journal of {original.id} fits revision {original.flow_revision} only: replay it on that one, or from"
            " the start",
            reason="JOURNAL_COMPACTED",
        )
    # Three ways to have failed: a task failed and no `catch` took it; a `catch` took the failure of a task and raised
    # an error of its own; the flow raised an error without an earlier failure.
    instance = "" if original.error is None else original.error.instance
    raising = None if original.error is None else original.error.raising
    if raising is None:
        retained = before_failure(ordered, instance)
    elif (found := _before_cause(ordered, raising.cause)) is not None:
        # what was performed between the first failure and the `raise` is held: the flow may get there on another way,
        # and then uses the results by key
        retained, dropped = found
        holding.update(results_of(dropped))
    elif revision == original.flow_revision:
        # the same revision would read its whole journal and reach the same `raise`
        raise ConflictError(
            f"{original.id} failed because {raising.task} raises an error of its own, and no earlier failure can be"
            " retried: no task would run again. Replay it from the start, or on a later revision of the flow",
            reason="NOTHING_TO_RUN_ANEW",
        )
    else:
        retained = without_running_limits(ordered)
    retained = (*retained, *held_results.hold(holding.values()))
    return Resumption(original.effect_scope or original.id, retained, content.journal_start)


def before_failure(journal: Sequence[JournalEntry], instance: str) -> tuple[JournalEntry, ...]:
    """Return a journal without the entries that led to the failure of the task at `instance` (JSON Pointer).

    Removed from its end are the failures of the task, with the retries and time limits of the task and of those around
    it, so that it has all its tries again. Removed are also time limits that were running when the execution ended,
    which start again, and the start of another flow that failed, which is run again. All other results of successful
    tasks stay: these are never performed again. Failures that the flow recovered from stay, too.
    """
    # A journal in, and what is taken over of it; `pay` failed at its second try:
    #     /do/0/load#0         {"n": 1}         stays: it was performed, and is not performed again
    #     /do/1/pay#0          error            goes: the first try
    #     /do/1/pay#0:retry    {"until": 6000}  goes: the delay before the second, so that it has all its tries again
    #     /do/1/pay#0:retry    {"over": 6001}   goes
    #     /do/1/pay#0          error            goes: the last try
    # The replay reads {"n": 1} and then performs `pay`.
    places = [position_of(entry.key) for entry in journal]
    last = (place for place in reversed(places) if place is not None and place.pointer == instance)
    failed = next(last, JournalPosition("", instance, "", ""))
    end = _first_of(failed, places, journal, len(journal)) if instance else len(journal)
    return retained_before(journal[:end], journal[end:])


def _before_cause(
    journal: Sequence[JournalEntry], cause: str
) -> tuple[tuple[JournalEntry, ...], Sequence[JournalEntry]] | None:
    """Split a journal before the failure under the key `cause`: the entries to keep, and those from the failure on.

    None: there is no such failure in the journal.
    """
    place = position_of(cause)
    for index in range(len(journal) - 1, -1, -1):
        entry = journal[index]
        # the last failure under the key counts: a `try` in a loop has one for each time it came there
        ended = entry.error is not None or (is_limit(entry.key) and is_over(entry))
        if entry.key == cause and ended and place is not None:
            end = _first_of(place, [position_of(each.key) for each in journal[:index]], journal, index)
            return retained_before(journal[:end], journal[end:]), journal[index:]
    return None


def _first_of(
    failed: JournalPosition, places: Sequence[JournalPosition | None], journal: Sequence[JournalEntry], end: int
) -> int:
    """Return the index from which on all entries before `end` led to the failure at a position."""
    # from the end backwards, and no further than the first entry of something else: a failure of the same task before
    # that is one that the flow has recovered from
    while end and _led_to(failed, places[end - 1], journal[end - 1]):
        end -= 1
    return end


def _led_to(failed: JournalPosition, place: JournalPosition | None, entry: JournalEntry) -> bool:
    # a snapshot, for example, which no single task has led to
    if place is None:
        return False
    if entry.error is not None or (entry.key.endswith(TASK_LIMIT) and place[:3] == failed[:3]):
        # of another task it is an error that a `catch` took, or the time limit of an earlier visit: both stay
        return place == failed
    # those of the tasks around it go as well: else it would have only the tries, and the time, that were left of theirs
    return (entry.key.endswith(RETRIES) or is_limit(entry.key)) and is_around(place, failed)


class Cut(NamedTuple):
    """Where a journal is cut."""

    position: int  # index of the first entry that is not taken over
    number: int | None  # of the first run that begins there; None: unknown
    begins_with: int = 0  # number of the run of the task that the replay begins with; 0: its first one


def cut_before(
    task: str, original: ExecutionRecord, content: ExecutionContent, runs: Sequence[LocatedRun], revision: int
) -> Cut:
    """Return where the journal of an execution is cut for a replay that begins at the first run of a task.

    `runs` are in the order in which they began; `revision` is what the replay runs.

    Raises:
        NotFoundError: no run of the task is known (`TASK_NOT_FOUND`).
        ConflictError: the entries before it are compacted, or fit the original's revision only (`JOURNAL_COMPACTED`).
    """
    run = next((each for each in runs if each.task == task), None)
    begins = [] if run is None or run.begin is None else [run.begin]
    if (entry := _first_entry(task, content, inner=run is not None)) is not None:
        begins.append(entry)
    is_compacted = bool(content.journal) and content.journal[0].key == SNAPSHOT_KEY
    if not begins and (run is None or not is_compacted):
        raise NotFoundError(_not_run(task, original, runs), reason="TASK_NOT_FOUND")
    cut = _cut(min(begins, default=0), run, runs)
    if revision != original.flow_revision:
        cut = cut._replace(begins_with=0)  # its tasks may have other numbers
    if not is_compacted:
        return cut
    if cut.position <= content.journal_start:
        raise ConflictError(_compacted(task, original, content, runs), reason="JOURNAL_COMPACTED")
    if revision != original.flow_revision:
        raise ConflictError(
            f"the journal of {original.id} is compacted and fits revision {original.flow_revision} only: replay it on"
            " that one, or from the start",
            reason="JOURNAL_COMPACTED",
        )
    return cut


def from_task(
    task: str, cut: Cut, content: ExecutionContent, runs: Sequence[LocatedRun], output: bytes | None
) -> Resumption:
    """Return the journal that a replay takes over, with idempotency keys of its own.

    `output` is the raw output of the task, as JSON, which then is not performed.
    """
    ordered = [
        (index, entry)
        for index, entry in enumerate(content.journal, content.journal_start)
        if not entry.key.startswith(held_results.PREFIX)
    ]
    # Two branches of a fork, a: x then y, and b: z; the replay begins at y:
    #     0 /do/0/fork/branches/0/a/do/0/x#0   head: the runner reads it, and is where the original was then
    #     1 /do/0/fork/branches/0/a/do/1/y#0   tail: y runs again
    #     2 /do/0/fork/branches/1/b/do/0/z#0   tail, and held, if z began before y: it is used by its key when z asks
    head = [entry for index, entry in ordered if index < cut.position]
    tail = [entry for index, entry in ordered if index >= cut.position]
    held = _results_beside(task, cut, tail, runs)
    if head and head[0].key == SNAPSHOT_KEY:
        # a snapshot has held results of its own, perhaps of tasks that are to run again: see `Journal.hold`
        held.append(JournalEntry(held_results.ONLY_THESE, b"null"))
    if output is not None:
        held.append(JournalEntry(held_results.given_output_key(task, cut.begins_with), output))
    retained = (*retained_before(head, tail), *held_results.hold(held))
    return Resumption("", retained, content.journal_start)


def _cut(position: int, run: LocatedRun | None, runs: Sequence[LocatedRun]) -> Cut:
    """Return a cut before a run, or before an earlier run of its task, which is not among the known `runs`."""
    if run is None:
        return Cut(position, None)
    number = min((each.number for each in runs if each.begin is not None and each.begin > position), default=run.number)
    return Cut(position, run.number, run.number) if run.begin == position else Cut(position, min(number, run.number))


def _first_entry(task: str, content: ExecutionContent, *, inner: bool) -> int | None:
    """Return the index of the first entry of a task, or, with `inner`, of one that it encloses."""
    outer = position_of_task(task)
    for index, entry in enumerate(content.journal, content.journal_start):
        position = position_of(entry.key)
        if position is None or outer is None or entry.key.startswith(held_results.PREFIX):
            continue
        if position.task == task or (inner and is_around(outer, position)):
            return index
    return None


def _results_beside(
    task: str, cut: Cut, tail: Sequence[JournalEntry], runs: Sequence[LocatedRun]
) -> list[JournalEntry]:
    """Return the results, after the cut, of tasks that had begun before the task of the cut, and not ended.

    Not those of a task around it: if it belongs to an extension, the extended task comes after it.
    """
    inner = position_of_task(task)
    if cut.number is None or inner is None:
        return []
    # the last run counts: of several runs of one task before the cut, the others had ended
    last = {run.task: run for run in runs if run.number < cut.number}
    unfinished = {each for each, run in last.items() if run.end is None or run.end > cut.position}
    visits: dict[str, str] = {}
    for entry in tail:
        if (position := position_of(entry.key)) is not None:
            visits.setdefault(position.task, position.visit)
    beside: list[JournalEntry] = []
    for key, entry in results_of(tail, earliest=True).items():
        position = position_of(key)
        # a later visit began after the cut
        if position is None or position.task not in unfinished or position.visit != visits[position.task]:
            continue
        if not is_around(position, inner):
            beside.append(replace(entry, key=held_results.unused_key(key)))
    return beside


def _not_run(task: str, original: ExecutionRecord, runs: Sequence[LocatedRun]) -> str:
    known = list(dict.fromkeys(run.task for run in runs if run.begin is not None and run.task != task))
    named = ", ".join(known[:MAX_NAMED]) + (", …" if len(known) > MAX_NAMED else "")
    stored = f"; it ran {named}" if known else ""
    said = f"{original.id} did not run the task {task[:200]}, or when it began is not stored{stored}"
    return f"{said}. {original.replay_of} ran the tasks before those" if original.replay_of else said


def _compacted(task: str, original: ExecutionRecord, content: ExecutionContent, runs: Sequence[LocatedRun]) -> str:
    said = f"the journal of {original.id} is compacted beyond {task[:200]}"
    later = (run.task for run in runs if run.begin is not None and run.begin > content.journal_start)
    first = next(later, None)
    if first is None:
        return f"{said}, and no task began after that: replay it from the start"
    return f"{said}: replay it from {first} or a later task, or from the start"
