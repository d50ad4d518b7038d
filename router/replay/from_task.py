"""Computes the journal that a replay from a given task takes over from the original execution.

The journal is cut before the first entry that was written after the task began. A prefix of a journal is the journal of
an execution that crashed there, so a runner resumes from it, in loops, `try`, functions and forks as well. Results that
tasks beside it in a `fork` had after the cut are held (`flowhook.model.held_results`) if those tasks began before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from flowhook.errors import ConflictError, NotFoundError
from flowhook.model import SNAPSHOT_KEY, JournalEntry, held_results
from router.replay.journal_keys import is_around, position_of, position_of_task, results_of, retained_before
from router.replay.task_runs import LocatedRun
from router.storage.model import ExecutionContent, ExecutionRecord, Resumption

MAX_NAMED: Final = 5  # tasks that an error names at most


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


def resumption(
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
