"""What a replay from the failed task takes over from the execution it replays."""

from __future__ import annotations

from collections.abc import Sequence

from flowhook.errors import ConflictError
from flowhook.model import JournalEntry, Status
from router.storage.interface import ExecutionContent, ExecutionRecord, Resumption


def resumption(original: ExecutionRecord, content: ExecutionContent) -> Resumption:
    """Return the journal before the failure, and the scope of idempotency keys: that of the first in a row of replays.

    Raises:
        ConflictError: it did not fail (`EXECUTION_NOT_FAILED`).
    """
    if original.status not in (Status.FAULTED, Status.CANCELLED):
        raise ConflictError(
            f"{original.id} did not fail: {original.status}; replay it from the start", reason="EXECUTION_NOT_FAILED"
        )
    instance = "" if original.error is None else original.error.instance
    return Resumption(
        original.effect_scope or original.id, before_failure(content.journal, instance), content.journal_start
    )


def before_failure(journal: Sequence[JournalEntry], instance: str) -> tuple[JournalEntry, ...]:
    """Return a journal without the failures at its end that belong to the task at `instance` (JSON Pointer).

    Failures are journaled where a flow might have caught them. One that ended the execution is to happen anew, or not
    to happen. What succeeded stays, whatever it belongs to: it is never performed again.
    """
    end = len(journal)
    while end and instance and journal[end - 1].error is not None and _is_of(journal[end - 1].key, instance):
        end -= 1
    return tuple(journal[:end])


def _is_of(key: str, instance: str) -> bool:
    """Whether a journal key is of the task at `instance`, which lacks the iteration indexes that keys have."""
    task = iter(instance.split("/"))
    expected = next(task)
    for token in key.partition("#")[0].split("/"):
        if token == expected:
            expected = next(task, "")
        elif not token.isdecimal():
            return False
    return next(task, None) is None and not expected
