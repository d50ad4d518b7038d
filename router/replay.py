"""What a replay from the failed task takes over from the execution it replays.

Keys of a journal begin with the JSON Pointer of a task; what follows `#` tells visits apart and, after `:`, what was
journaled: `:retry` and `:failed` belong to retries, `:timeout` and `:attempt` to limits of time. `/timeout` is the
limit of the whole flow. A moment has two entries: `{"until": …}` when it is fixed, `{"over": …}` when it has come.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import orjson

from flowhook.errors import ConflictError
from flowhook.model import JournalEntry, Status
from router.storage.interface import ExecutionContent, ExecutionRecord, Resumption

SNAPSHOT_KEY: Final = "@"
"""Key of an entry that compacted: it counts tasks by position, so that it fits no other revision."""

_LIMITS: Final = (":timeout", ":attempt")
_RETRIES: Final = (":retry", ":failed")
_FLOW_LIMIT: Final = "/timeout"


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
    it, so that it has all its tries again; and limits of time that ran when the execution ended: they begin anew. What
    succeeded stays, whatever it belongs to: it is never performed again.
    """
    end = len(journal)
    while end and instance and _led_to_failure(journal[end - 1], instance):
        end -= 1
    kept = journal[:end]
    over = {entry.key for entry in kept if _is_limit(entry.key) and _is_over(entry)}
    return tuple(entry for entry in kept if not _is_limit(entry.key) or entry.key in over)


def _led_to_failure(entry: JournalEntry, instance: str) -> bool:
    place = _place(entry.key)
    if entry.error is not None:
        return place == instance
    if not entry.key.endswith(_RETRIES) and not _is_limit(entry.key):
        return False
    return place in {_FLOW_LIMIT, instance} or instance.startswith(f"{place}/")


def _place(key: str) -> str:
    """Return the JSON Pointer in a key, without visits and iterations."""
    return key.partition("#")[0].partition("[")[0]


def _is_limit(key: str) -> bool:
    return key.endswith(_LIMITS) or _place(key) == _FLOW_LIMIT


def _is_over(entry: JournalEntry) -> bool:
    try:
        moment = orjson.loads(entry.output or b"")
    except orjson.JSONDecodeError:
        return False
    return isinstance(moment, dict) and "over" in moment
