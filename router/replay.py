"""What a replay from the failed task takes over from the execution it replays.

A key of a journal is the JSON Pointer of a task, the indexes of the loops around it in brackets, `#` and how often the
flow came there, and after `:` what was journaled: `:retry` and `:failed` belong to retries, `:timeout` and `:attempt`
to limits of time, `:end` to another flow that the task runs. `/timeout` is the limit of the whole flow. Within a
function of the workflow's own, or an extension, all of that stands behind the key of its call, or of the extended task,
and a space. A moment has two entries: `{"until": …}` when it is fixed, `{"over": …}` when it has come.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

import orjson

from flowhook.errors import ConflictError
from flowhook.model import SNAPSHOT_KEY, JournalEntry, Status
from router.storage.model import ExecutionContent, ExecutionRecord, Resumption

_TASK_LIMIT: Final = ":timeout"
_LIMITS: Final = (_TASK_LIMIT, ":attempt")
_RETRIES: Final = (":retry", ":failed")
_FLOW_LIMIT: Final = "/timeout"
_END: Final = ":end"
_WITHIN: Final = " /use/"
"""What stands between the key of a call and the place in the function that it calls: in no name is there a slash."""

_TASK: Final = re.compile(r"(?P<pointer>.*?)(?P<iteration>(?:\[\d+\])*)#(?P<visit>\d+)(?::[a-z]+)?", re.DOTALL)


def resumption(original: ExecutionRecord, content: ExecutionContent, revision: int) -> Resumption:
    """Return the journal before the failure, and the scope of idempotency keys: that of the first in a row of replays.

    Args:
        original: what is replayed.
        content: its journal.
        revision: of the flow, that the replay is to run.

    Raises:
        ConflictError: it did not fail (`EXECUTION_NOT_FAILED`), or its journal fits no other revision than its own
            (`JOURNAL_COMPACTED`).
    """
    if original.status not in (Status.FAULTED, Status.CANCELLED):
        raise ConflictError(
            f"{original.id} did not fail: {original.status}; replay it from the start", reason="EXECUTION_NOT_FAILED"
        )
    journal = content.journal
    # a snapshot counts tasks by position, so that it fits no other revision
    if revision != original.flow_revision and journal and journal[0].key == SNAPSHOT_KEY:
        raise ConflictError(
            f"the journal of {original.id} fits revision {original.flow_revision} only: replay it on that one, or from"
            " the start",
            reason="JOURNAL_COMPACTED",
        )
    instance = "" if original.error is None else original.error.instance
    return Resumption(original.effect_scope or original.id, before_failure(journal, instance), content.journal_start)


def before_failure(journal: Sequence[JournalEntry], instance: str) -> tuple[JournalEntry, ...]:
    """Return a journal without what led to the failure of the task at `instance` (JSON Pointer).

    Left out are the failures of the task at the end, with retries and limits of time of the task and of those around
    it, so that it has all its tries again; and limits of time that ran when the execution ended: they begin anew. Of
    another flow that failed the start is left out, too: it is run again. What succeeded stays otherwise, whatever it
    belongs to: it is never performed again. So do failures that the flow went on from.
    """
    places = [_place(entry.key) for entry in journal]
    last = (place for place in reversed(places) if place is not None and place.pointer == instance)
    failed = next(last, _Place("", instance, "", ""))
    end = len(journal)
    while end and instance and _led_to(failed, places[end - 1], journal[end - 1]):
        end -= 1
    failed_flows = {entry.key.removesuffix(_END) for entry in journal[end:] if entry.key.endswith(_END)}
    return _without_running_limits([entry for entry in journal[:end] if entry.key not in failed_flows])


def _led_to(failed: _Place, place: _Place | None, entry: JournalEntry) -> bool:
    if place is None:
        return False
    if entry.error is not None or (entry.key.endswith(_TASK_LIMIT) and place[:3] == failed[:3]):
        return place == failed
    return (entry.key.endswith(_RETRIES) or _is_limit(entry.key)) and _is_around(place, failed)


def _without_running_limits(journal: Sequence[JournalEntry]) -> tuple[JournalEntry, ...]:
    kept: list[JournalEntry] = []
    over: set[str] = set()
    for entry in reversed(journal):
        if _is_limit(entry.key):
            if _is_over(entry):
                over.add(entry.key)
            elif entry.key in over:
                over.remove(entry.key)  # a block that is tried again has the same key
            else:
                continue
        kept.append(entry)
    return tuple(reversed(kept))


class _Place(NamedTuple):
    """What an entry belongs to: a task, in an iteration (`[1][0]`), of the call of a function (its key)."""

    call: str
    pointer: str
    iteration: str
    visit: str


def _place(key: str) -> _Place | None:
    """Return the place in a key; None: it has none."""
    call, within, task = key.rpartition(_WITHIN)
    parts = _TASK.fullmatch(task)
    return (
        None if parts is None else _Place(call, within.lstrip() + parts["pointer"], parts["iteration"], parts["visit"])
    )


def _is_around(outer: _Place, inner: _Place) -> bool:
    """Whether a place is another one, or has it in it."""
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
