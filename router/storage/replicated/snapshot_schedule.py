"""Decides when the next snapshot is due, and makes it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

import attrs

from flowhook.errors import FlowhookError
from flowhook.process import logs
from router.storage.commit_log.interface import CommitLog
from router.storage.replicated.snapshots import SnapshotStore

LOG_SHARE: Final = 8
"""Part of a limited log by which it grows until a snapshot is due at the latest: it is purged behind the older of two
snapshots, and must not refuse new events until then."""
CROWDED_SHARE: Final = 0.65
"""Share of the log's limit from which on each minute's growth is worth a snapshot: new events will be refused soon."""
CROWDED_SECONDS: Final = 60.0  # time between two snapshots of a log that is nearly full
RETRY_SECONDS: Final = 60.0  # time between a failed attempt and the next one
ALARM_SECONDS: Final = 3600.0  # time without success after a failure that raises the alarm

log = logs.get_logger(__name__)


@attrs.define(eq=False, repr=False)
class SnapshotSchedule:
    """When snapshots are due. Does no I/O.

    `grew` may be called by one thread, everything else by another. Times are those of a monotonic clock, in s.
    """

    _last: float = attrs.field(alias="now")  # of the last snapshot; at first, the beginning of the first period
    _log_bytes: int = attrs.field(kw_only=True)  # growth of the log after which a snapshot is due
    _seconds: float = attrs.field(kw_only=True)  # after which a snapshot is due, if the log grew at all
    _grown: int = attrs.field(init=False, default=0)
    _begun: int = attrs.field(init=False, default=0)
    _covered: int = attrs.field(init=False, default=0)
    _failing_since: float | None = attrs.field(init=False, default=None)
    _retry: float = attrs.field(init=False, default=attrs.Factory(lambda self: self._last, takes_self=True))

    @classmethod
    def of_log(cls, log: CommitLog, now: float, *, log_bytes: int, seconds: float) -> Self:
        """Return the schedule for a log, which may have grown more without a snapshot than it should. No I/O."""
        room, size = log.room(), log.max_bytes
        if room is None or size is None:
            return cls(now, log_bytes=log_bytes, seconds=seconds)
        log_bytes = min(log_bytes, size // LOG_SHARE)
        schedule = cls(now, log_bytes=log_bytes, seconds=seconds)
        # what two snapshots and the time until the next one leave in it is no sign of that
        schedule.grew(max(0, size - room - 2 * log_bytes))
        return schedule

    def grew(self, size: int) -> None:
        self._grown += size

    def due(self, now: float, *, crowded: bool = False, erased: bool = False) -> bool:
        """Whether a snapshot is to be made; the log is nearly full (`crowded`), or has what was erased (`erased`)."""
        grown = self._grown - self._covered
        seconds = min(CROWDED_SECONDS, self._seconds) if crowded or erased else self._seconds
        if erased:
            return now >= self._retry and now - self._last >= seconds
        return grown > 0 and now >= self._retry and (grown >= self._log_bytes or now - self._last >= seconds)

    def begin(self) -> None:
        self._begun = self._grown

    def succeeded(self, now: float) -> None:
        self._covered = self._begun
        self._last = now
        self._failing_since = None

    def failed(self, now: float) -> None:
        self._retry = now + RETRY_SECONDS
        if self._failing_since is None:
            self._failing_since = now

    def failing(self, now: float) -> float:
        """Return for how many seconds snapshots have failed; 0: the last one succeeded."""
        return 0.0 if self._failing_since is None else now - self._failing_since

    def alarm(self, now: float) -> bool:
        """Whether snapshots have failed for so long that the log may become full."""
        return self.failing(now) >= ALARM_SECONDS


@attrs.define(eq=False, repr=False)
class SnapshotTask:
    """Makes the snapshots of a view when they are due, and purges the log behind them; on one thread."""

    _store: SnapshotStore
    _log: CommitLog
    _view: Path
    _schedule: SnapshotSchedule = attrs.field(kw_only=True)
    _clock: Callable[[], float] = attrs.field(kw_only=True)  # monotonic, s
    _last_erasure: Callable[[], int] = attrs.field(default=lambda: 0, kw_only=True)
    """Returns the number of the last erasure that the view contains; 0 if absent."""
    _purged_erasure: int = attrs.field(init=False, default=0)
    """Last erasure behind which this process has purged the log; of former processes that is not known."""

    @property
    def alarm(self) -> bool:
        """Whether snapshots have failed for an hour, for a metric; may be read by any thread."""
        return self._schedule.alarm(self._clock())

    @property
    def failing(self) -> float:
        """For how many seconds snapshots have failed; 0: the last one succeeded."""
        return self._schedule.failing(self._clock())

    def run_if_due(self) -> bool:
        """Make a snapshot if one is due, and return whether one was made. Blocks; failures are logged, not raised."""
        last_erasure = self._last_erasure()
        erased = last_erasure > self._purged_erasure
        if not self._schedule.due(self._clock(), crowded=self._is_crowded(), erased=erased):
            return False
        self._schedule.begin()
        try:
            # what was erased is in the snapshots and the records before
            made = self._store.make(self._view, alone=True) if erased else self._store.make(self._view)
            if made.purge_through:
                self._log.purge(made.purge_through)
        except Exception as error:  # noqa: BLE001 - a defect must not end the snapshots, without which the log fills up
            self._failed(error)
            return False
        self._schedule.succeeded(self._clock())
        self._purged_erasure = last_erasure
        log.info("snapshot made", position=made.position, purged_through=made.purge_through)
        return True

    def _is_crowded(self) -> bool:
        room, size = self._log.room(), self._log.max_bytes
        return room is not None and size is not None and room < size * (1 - CROWDED_SHARE)

    def _failed(self, error: Exception) -> None:
        now = self._clock()
        self._schedule.failed(now)
        if isinstance(error, FlowhookError):
            log.warning("snapshot failed", reason=error.reason, cause=error.message)
        else:
            log.error("snapshot failed", exc_info=error)
        if self._schedule.alarm(now):
            log.warning("snapshots have failed for long: the log grows until it is full", seconds=self.failing)
