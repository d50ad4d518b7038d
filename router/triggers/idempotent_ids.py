"""Idempotent IDs for the executions and events that an execution causes in other flows."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from flowhook import limits
from flowhook.errors import InvalidError
from flowhook.events import ids

MAX_IDEMPOTENCY_KEY: Final = 255  # length of an idempotency key, characters


class EffectIds:
    """An effect of an execution on other flows; when it is repeated, it has the same idempotency key."""

    def __init__(self, idempotency_key: str, execution_id: str) -> None:
        """Check the key, and take the time of derived IDs from it, or else from `execution_id`.

        The key begins with the ID of the execution that the effect belongs to; the one that performs it is the same, or
        a replay of it.
        """
        if not 0 < len(idempotency_key) <= MAX_IDEMPOTENCY_KEY or not idempotency_key.isascii():
            raise InvalidError(
                f"`idempotency_key` must have 1 to {MAX_IDEMPOTENCY_KEY} ASCII characters",
                reason="IDEMPOTENCY_KEY_INVALID",
            )
        self._key = idempotency_key
        self._began_ms = ids.time_ms_of(execution_id)
        with suppress(InvalidError):
            self._began_ms = ids.time_ms_of(idempotency_key[: ids.LENGTH])

    def derive(self, consequence: str, flow_id: str) -> str:
        """Derive the ID of the execution or event that the effect causes in a flow; `consequence` is its kind."""
        return ids.derive(ids.slot_of(flow_id), self._began_ms, f"{consequence} {flow_id} {self._key}")


def check_depth(depth: int) -> None:
    """Refuse to let an execution start others beyond the limit: stops loops of flows that start one another."""
    if depth < 0:
        raise InvalidError("`depth` must be at least 0", reason="DEPTH_INVALID")
    if depth >= limits.MAX_WORKFLOW_DEPTH:
        raise InvalidError(
            f"flows may start one another at most {limits.MAX_WORKFLOW_DEPTH} levels deep", reason="WORKFLOW_TOO_DEEP"
        )
