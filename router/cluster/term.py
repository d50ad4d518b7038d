"""An ownership of the shard: what is served during it, how that is stopped, and whether it still holds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import attrs

from flowhook.errors import UnavailableError
from router.cluster.ownership import EXPIRE_SECONDS
from router.storage.commit_log.interface import CommitLog, LogReplacedError, LogTrimmedError
from router.storage.replicated.recorder import LogRecorder
from router.storage.shard_state import ShardState
from router.storage.storage import Storage

# for how long a confirmation counts: another router claims after twice that silence at the earliest
CONFIRMED_SECONDS: Final = EXPIRE_SECONDS / 2
# for how long an owner that can't reach the log goes on to answer; as long as edges wait for a router
UNREACHABLE_SECONDS: Final = 15.0


@attrs.define(eq=False, repr=False)
class FenceCheck:
    """Confirms that this router owned the shard a moment ago, so that it may hand out work.

    That is so if the end of the log is its own record. Nothing can be stored by a former owner, since the log refuses
    it; but work that it handed out would be done twice.
    """

    _log: CommitLog
    _recorder: LogRecorder
    _clock: Callable[[], float] = attrs.field(default=time.monotonic, kw_only=True)
    _confirmed: float = attrs.field(init=False, default=float("-inf"))
    _void: int = attrs.field(init=False, default=0)

    def confirmed(self) -> bool:
        """Whether the ownership was confirmed a moment ago. No I/O."""
        return self._clock() - max(self._confirmed, self._recorder.confirmed) < CONFIRMED_SECONDS

    def check(self) -> bool:
        """Ask the log, unless a record was appended meanwhile, and return whether this router still owns it. Blocks.

        A log that can't be reached confirms nothing, and refutes nothing at first: nobody may be able to reach it.
        After `UNREACHABLE_SECONDS` a router counts as cut off, since another may own the shard by then, and this
        one would answer reads from data that is no longer true. Nobody owns what was replaced. A void record takes
        nothing from its owner: anybody could write one.
        """
        start, position = self._clock(), self._recorder.position
        if start - self._recorder.confirmed < CONFIRMED_SECONDS / 2:
            return True
        try:
            tail = self._log.tail()
            if tail is not None and tail.position > position and not self._is_own(position):
                return False
        except UnavailableError:
            return self._clock() - max(self._confirmed, self._recorder.confirmed) < UNREACHABLE_SECONDS
        except (LogReplacedError, LogTrimmedError):
            return False
        self._confirmed = start
        return True

    def _is_own(self, after: int) -> bool:
        """Whether all records after a position are this owner's, or void."""
        for record in self._log.read(max(after, self._void)):
            if (record.damaged or not record.void) and not self._recorder.wrote(record.batch_id):
                return False
            if record.void:
                self._void = record.position
        return True


@attrs.define(eq=False, repr=False)
class StopRequest:
    """Ends the serving of a shard."""

    # for how long runners may finish what they have; None: the shard is lost, and whatever is under way fails at once
    drain_seconds: float | None = attrs.field(init=False, default=None)
    requested: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)

    def drain(self, seconds: float) -> None:
        """Let what is under way finish; no effect once the shard is lost."""
        if not self.requested.is_set():
            self.drain_seconds = seconds
            self.requested.set()

    async def drain_after(self, stop: asyncio.Event, seconds: float) -> None:
        await stop.wait()
        self.drain(seconds)

    def lose(self) -> None:
        """Fail what is under way."""
        self.drain_seconds = None
        self.requested.set()


@dataclass(frozen=True, slots=True)
class Term:
    """An ownership of the shard."""

    storage: Storage  # open, and written by this router alone
    state: ShardState
    fence: FenceCheck
    recorder: LogRecorder  # appends to the log


class TermRunner(Protocol):
    """Serves the shard, and answers calls while another router does."""

    async def stand_by(self) -> str:
        """Answer those who ask who the owner is, until `stand_down`; return the address at which clients reach it."""

    async def stand_down(self) -> None: ...

    async def serve(self, term: Term, stop: StopRequest, serving: Callable[[], None]) -> None:
        """Serve until `stop` is requested; call `serving` once calls are answered."""
