"""Confirms that this router owned the shard a moment ago, so that it may hand out work.

Nothing can be stored by a former owner, since the log refuses it. But work that it handed out would be done twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from flowhook.errors import UnavailableError
from router.cluster.ownership import EXPIRE_SECONDS
from router.storage.commit_log.interface import CommitLog, LogReplacedError, LogTrimmedError
from router.storage.replicated.recorder import LogRecorder

# for how long a confirmation counts: another router claims after twice that silence at the earliest
CONFIRMED_SECONDS: Final = EXPIRE_SECONDS / 2
# for how long an owner that can't reach the log goes on to answer; as long as edges wait for a router
UNREACHABLE_SECONDS: Final = 15.0


class FenceCheck:
    """Confirms that the end of the log is this owner's own record."""

    def __init__(self, log: CommitLog, recorder: LogRecorder, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._recorder = recorder
        self._clock = clock
        self._confirmed = recorder.confirmed
        self._void = 0

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
