"""A log that senders can make us write to: enough for an operator to see why, too little to fill a disk with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import structlog

PER_SECOND: Final = 10.0
BURST: Final = 50.0
"""Lines that may be written: a token bucket for all of them together."""


class LimitedLog:
    """Writes warnings, and with the next one how many it kept to itself."""

    def __init__(self, log: structlog.stdlib.BoundLogger, now: Callable[[], float]) -> None:
        """Write to `log`; `now` tells the time in seconds."""
        self._log = log
        self._now = now
        self._tokens = BURST
        self._last = now()
        self._suppressed = 0

    def warning(self, event: str, **fields: object) -> None:
        """Write a line unless there were too many lately."""
        now = self._now()
        self._tokens = min(BURST, self._tokens + (now - self._last) * PER_SECOND)
        self._last = now
        if self._tokens < 1.0:
            self._suppressed += 1
            return
        self._tokens -= 1.0
        self._log.warning(event, suppressed=self._suppressed, **fields)
        self._suppressed = 0
