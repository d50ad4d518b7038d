"""asyncio timers of the scheduling core: one for deadlines of runners, one for executions that wait for a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from router.dispatch.durable_writes import RetryingWriter
from router.scheduling.shard import Shard

CLOCK_LOOK: Final = 0.5
"""Seconds after which the wall clock is read again while executions wait: it may be set, and it goes on while the
machine sleeps, when the monotonic clock of the timers may stand still."""

LATE_SECONDS: Final = 0.5
"""Seconds; a deadline noticed later than this means that this process was stalled, not its runners."""

CATCH_UP_SECONDS: Final = 0.25
"""Seconds that a stalled process then waits, to read what runners sent meanwhile."""


class DeadlineTimer:
    """Calls back when runners have been silent for too long."""

    def __init__(
        self, core: Shard, durable: RetryingWriter, *, clock: Callable[[], float], expire: Callable[[float], None]
    ) -> None:
        """Create the timer, not armed.

        Args:
            core: the scheduling core, which knows the deadlines.
            durable: knows whether the shard runtime runs.
            clock: monotonic clock, seconds.
            expire: called with the time when a deadline has passed; the timer is armed again after that.
        """
        self._core = core
        self._durable = durable
        self._clock = clock
        self._expire = expire
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0

    def arm(self) -> None:
        """Set the timer to the core's next deadline."""
        self.cancel()
        deadline = self._core.next_deadline()
        if deadline is not None:
            self._arm_at(max(deadline, self._clock() + 0.01))

    def cancel(self) -> None:
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm_at(self, due: float) -> None:
        if self._durable.is_open:
            self._due = due
            self._timer = asyncio.get_running_loop().call_later(due - self._clock(), self._on_deadline)

    def _on_deadline(self) -> None:
        now = self._clock()
        if now - self._due > LATE_SECONDS:
            self._arm_at(now + CATCH_UP_SECONDS)
        else:
            self._expire(now)
            self.arm()


class WakeTimer:
    """Wakes executions that wait for a time."""

    def __init__(
        self, core: Shard, durable: RetryingWriter, *, now_ms: Callable[[], int], woken: Callable[[Sequence[int]], None]
    ) -> None:
        """Create the timer, not armed.

        Args:
            core: the scheduling core, which knows the waiting executions and their times.
            durable: knows whether the shard runtime runs.
            now_ms: Unix time in ms.
            woken: called with executions that are ready again.
        """
        self._core = core
        self._durable = durable
        self._now_ms = now_ms
        self._woken = woken
        self._timer: asyncio.TimerHandle | None = None

    def arm(self) -> None:
        """Set the timer to the first execution that is due, or to `CLOCK_LOOK` if that is sooner."""
        earliest = self._core.next_wake()
        if earliest is None or not self._durable.is_open:
            return
        delay = min(max((earliest - self._now_ms()) / 1000, 0.001), CLOCK_LOOK)
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            if self._timer.when() <= loop.time() + delay:
                return
            self._timer.cancel()
        self._timer = loop.call_later(delay, self._on_wake)

    def cancel(self) -> None:
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_wake(self) -> None:
        self._timer = None
        woken = self._core.wake(self._now_ms())
        if woken:
            self._woken(woken)
        self.arm()
