"""Effects of executions on other flows, and the IDs of what they cause there."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from flowhook import ids, limits
from flowhook.errors import InvalidError

MAX_IDEMPOTENCY_KEY: Final = 255
"""Characters."""


class Effect:
    """An effect that an execution performs: maybe again, then under the same key."""

    def __init__(self, idempotency_key: str, execution_id: str) -> None:
        """Take in an effect.

        Args:
            idempotency_key: begins with the ID of the execution that the effect belongs to.
            execution_id: the execution that performs it: that one, or a replay which took the effect over.

        Raises:
            InvalidError: the key has no or too many characters (`IDEMPOTENCY_KEY_INVALID`), or the ID is none.
        """
        if not 0 < len(idempotency_key) <= MAX_IDEMPOTENCY_KEY or not idempotency_key.isascii():
            raise InvalidError(
                f"an idempotency key has 1 to {MAX_IDEMPOTENCY_KEY} ASCII characters", reason="IDEMPOTENCY_KEY_INVALID"
            )
        self._key = idempotency_key
        self._began_ms = ids.time_ms_of(execution_id)
        with suppress(InvalidError):
            self._began_ms = ids.time_ms_of(idempotency_key[: ids.LENGTH])

    def id_of(self, consequence: str, flow_id: str) -> str:
        """Return the ID of what the effect causes in a flow; `consequence` tells what kind of thing that is."""
        return ids.derive(ids.slot_of(flow_id), self._began_ms, f"{consequence} {flow_id} {self._key}")


def check_depth(depth: int) -> None:
    """Check that an execution may start others: a loop of flows that start one another ends here.

    Args:
        depth: of the execution; see `Event.depth`.

    Raises:
        InvalidError: it is too deep (`WORKFLOW_TOO_DEEP`), or is no depth.
    """
    if depth < 0:
        raise InvalidError("the depth of an execution is at least 0", reason="DEPTH_INVALID")
    if depth >= limits.MAX_WORKFLOW_DEPTH:
        raise InvalidError(
            f"at most {limits.MAX_WORKFLOW_DEPTH} flows run within one another, or start one another by events",
            reason="WORKFLOW_TOO_DEEP",
        )
