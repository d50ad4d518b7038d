"""Computes the journal that a replay from the failed task takes over from the original execution.

A journal key consists of the JSON Pointer of a task, the indexes of the enclosing loops in brackets, `#` and the number
of earlier visits of the task, and after `:` the kind of entry: `:retry` and `:failed` belong to retries, `:timeout` and
`:attempt` to time limits, `:end` to another flow that the task runs. `/timeout` is the time limit of the whole flow.
Within a function defined in the workflow, or an extension, the key follows the key of the call, or of the extended
task, and a space. A deadline has two entries: `{"until": …}` when it is set, `{"over": …}` when it has passed. Held
entries (`flowhook.held_results`) are not ordered with the rest.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

import orjson

from flowhook import held_results
from flowhook.errors import ConflictError
from flowhook.model import SNAPSHOT_KEY, JournalEntry, Status
from router.storage.model import ExecutionContent, ExecutionRecord, Resumption

_TASK_LIMIT: Final = ":timeout"
_LIMITS: Final = (_TASK_LIMIT, ":attempt")
_RETRIES: Final = (":retry", ":failed")
_FLOW_LIMIT: Final = "/timeout"
_END: Final = ":end"
_WITHIN: Final = " /use/"
"""Separates the key of a call from the position in the function that it calls; names contain no slash."""

_TASK: Final = re.compile(
    r"(?P<pointer>.*?)(?P<iteration>(?:\[\d+\])*)#(?P<visit>\d+)(?P<what>(?::[a-z]+)?)", re.DOTALL
)


def resumption(original: ExecutionRecord, content: ExecutionContent, revision: int) -> Resumption:
    """Return the journal before the failure, and the scope of idempotency keys: that of the first of chained replays.

    Args:
        original: the execution to replay.
        content: its journal.
        revision: of the flow, that the replay runs.

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
    instance = "" if original.error is None else original.error.instance
    raising = None if original.error is None else original.error.raising
    if raising is None:
        retained = before_failure(ordered, instance)
    elif (found := _before_cause(ordered, raising.cause)) is not None:
        retained, dropped = found
        holding.update(_results(dropped))
    elif revision == original.flow_revision:
        raise ConflictError(
            f"{original.id} failed because {raising.task} raises an error of its own, and no earlier failure can be"
            " retried: no task would run again. Replay it from the start, or on a later revision of the flow",
            reason="NOTHING_TO_RUN_ANEW",
        )
    else:
        retained = _without_running_limits(ordered)
    retained = (*retained, *held_results.hold(holding.values()))
    return Resumption(original.effect_scope or original.id, retained, content.journal_start)


def before_failure(journal: Sequence[JournalEntry], instance: str) -> tuple[JournalEntry, ...]:
    """Return a journal without the entries that led to the failure of the task at `instance` (JSON Pointer).

    Removed from its end are the failures of the task, with the retries and time limits of the task and of those around
    it, so that it has all its tries again. Removed are also time limits that were running when the execution ended,
    which start again, and the start of another flow that failed, which is run again. All other results of successful
    tasks stay: these are never performed again. Failures that the flow recovered from stay, too.
    """
    places = [_place(entry.key) for entry in journal]
    last = (place for place in reversed(places) if place is not None and place.pointer == instance)
    failed = next(last, _JournalPosition("", instance, "", ""))
    end = len(journal)
    return _up_to(_first_of(failed, places, journal, end) if instance else end, journal)


def _up_to(end: int, journal: Sequence[JournalEntry]) -> tuple[JournalEntry, ...]:
    """Return the first `end` entries, without failed flows and without time limits that were running."""
    failed_flows = _failed_flows(journal[end:])
    return _without_running_limits([entry for entry in journal[:end] if entry.key not in failed_flows])


def _before_cause(
    journal: Sequence[JournalEntry], cause: str
) -> tuple[tuple[JournalEntry, ...], Sequence[JournalEntry]] | None:
    """Split a journal before the failure under the key `cause`: the entries to keep, and those from the failure on.

    None: there is no such failure in the journal.
    """
    place = _place(cause)
    for index in range(len(journal) - 1, -1, -1):
        entry = journal[index]
        ended = entry.error is not None or (_is_limit(entry.key) and _is_over(entry))
        if entry.key == cause and ended and place is not None:
            places = [_place(each.key) for each in journal[:index]]
            return _up_to(_first_of(place, places, journal, index), journal), journal[index:]
    return None


def _results(dropped: Sequence[JournalEntry]) -> dict[str, JournalEntry]:
    """Return the results of performed tasks, by key; not the entries for deadlines or received events.

    The start of a flow that was run and failed is left out: it is run again.
    """
    failed = _failed_flows(dropped)
    results: dict[str, JournalEntry] = {}
    for entry in dropped:
        parts = _TASK.fullmatch(entry.key.rpartition(_WITHIN)[2])
        is_result = parts is not None and parts["what"] in ("", _END) and not _is_limit(entry.key)
        if is_result and entry.error is None and entry.key not in failed:
            results[entry.key] = entry
    return results


def _failed_flows(journal: Sequence[JournalEntry]) -> set[str]:
    return {entry.key.removesuffix(_END) for entry in journal if entry.error is not None and entry.key.endswith(_END)}


def _first_of(
    failed: _JournalPosition, places: Sequence[_JournalPosition | None], journal: Sequence[JournalEntry], end: int
) -> int:
    """Return the index from which on all entries before `end` led to the failure at a position."""
    while end and _led_to(failed, places[end - 1], journal[end - 1]):
        end -= 1
    return end


def _led_to(failed: _JournalPosition, place: _JournalPosition | None, entry: JournalEntry) -> bool:
    if place is None:
        return False
    if entry.error is not None or (entry.key.endswith(_TASK_LIMIT) and place[:3] == failed[:3]):
        return place == failed
    return (entry.key.endswith(_RETRIES) or _is_limit(entry.key)) and _is_around(place, failed)


def _without_running_limits(journal: Sequence[JournalEntry]) -> tuple[JournalEntry, ...]:
    retained: list[JournalEntry] = []
    over: set[str] = set()
    for entry in reversed(journal):
        if _is_limit(entry.key):
            if _is_over(entry):
                over.add(entry.key)
            elif entry.key in over:
                over.remove(entry.key)  # a block that is tried again has the same key
            else:
                continue
        retained.append(entry)
    return tuple(reversed(retained))


class _JournalPosition(NamedTuple):
    """Position that an entry belongs to: a task, its iteration (`[1][0]`), and the key of the enclosing call."""

    call: str
    pointer: str
    iteration: str
    visit: str


def _place(key: str) -> _JournalPosition | None:
    """Parse the position from a key; None: the key has none."""
    call, within, task = key.rpartition(_WITHIN)
    parts = _TASK.fullmatch(task)
    return (
        None
        if parts is None
        else _JournalPosition(call, within.lstrip() + parts["pointer"], parts["iteration"], parts["visit"])
    )


def _is_around(outer: _JournalPosition, inner: _JournalPosition) -> bool:
    """Whether a position equals or encloses another one."""
    if outer.pointer == _FLOW_LIMIT:
        return True
    if outer.call != inner.call:
        call = _place(inner.call)
        return call is not None and _is_around(outer, call)
    is_deeper = f"{inner.pointer}/".startswith(f"{outer.pointer}/")
    return is_deeper and inner.iteration.startswith(outer.iteration)


def _is_limit(key: str) -> bool:
    return key.endswith(_LIMITS) or key.startswith(f"{_FLOW_LIMIT}#")


def _is_over(entry: JournalEntry) -> bool:
    try:
        moment = orjson.loads(entry.output or b"")
    except orjson.JSONDecodeError:
        return False
    return isinstance(moment, dict) and "over" in moment
