"""An ownership of the shard, and the interface of what serves it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from router.cluster.fence_check import FenceCheck
from router.storage.replicated.recorder import LogRecorder
from router.storage.shard_state import ShardState
from router.storage.storage import Storage


class Serving(Protocol):
    """The ways to stop what serves the shard; see `serving.StopRequest`."""

    def drain(self, seconds: float) -> None:
        """Let what is under way finish."""
        ...

    def lose(self) -> None:
        """Fail what is under way."""
        ...


@dataclass(frozen=True, slots=True)
class Term:
    """An ownership of the shard."""

    storage: Storage  # open, and written by this router alone
    state: ShardState  # the shard
    fence: FenceCheck  # whether this router certainly still is the owner
    recorder: LogRecorder  # appends to the log


class TermRunner(Protocol):
    """Serves the shard, and answers calls while another router does."""

    async def stand_by(self) -> str:
        """Answer those who ask who the owner is, until `stand_down`; no effect if it does so already.

        Returns:
            The address at which clients reach this router.
        """
        ...

    async def stand_down(self) -> None:
        """Stop standing by."""
        ...

    async def serve(self, term: Term, stop: Any, serving: Callable[[], None]) -> None:
        """Serve until `stop` is requested; call `serving` once calls are answered."""
        ...
