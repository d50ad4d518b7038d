"""Computes the journal that a replay from the failed task takes over from the original execution."""

from __future__ import annotations

from collections.abc import Sequence

from flowhook.errors import ConflictError
from flowhook.model import SNAPSHOT_KEY, JournalEntry, Status, held_results
from router.replay.journal_keys import (
    RETRIES,
    TASK_LIMIT,
    JournalPosition,
    is_around,
    is_limit,
    is_over,
    position_of,
    results_of,
    retained_before,
    without_running_limits,
)
from router.storage.model import ExecutionContent, ExecutionRecord, Resumption


def resumption(original: ExecutionRecord, content: ExecutionContent, revision: int) -> Resumption:
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
