"""A log that senders can make us write to: enough for an operator to see why, too little to fill a disk with.

Each flow has an allowance of its own, so that a flood at one of them hides nothing of the others; and there is one for
all of them together.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import structlog

FLOW_PER_SECOND: Final = 5.0
FLOW_BURST: Final = 25.0
"""Lines that may be written about one flow: a token bucket."""

PER_SECOND: Final = 50.0
BURST: Final = 250.0
"""Lines that may be written at all."""

MAX_FLOWS: Final = 1000
"""Flows whose allowance is remembered: those that were heard of last."""


class LimitedLog:
    """Writes warnings, and with the next one of a flow how many about it were kept back."""

    def __init__(self, log: structlog.stdlib.BoundLogger, now: Callable[[], float]) -> None:
        """Write to `log`; `now` tells the time in seconds."""
        self._log = log
        self._now = now
        self._all = _Bucket(PER_SECOND, BURST, now())
        self._flows: OrderedDict[str, _Bucket] = OrderedDict()

    def warning(self, event: str, **fields: object) -> None:
        """Write a line unless there were too many lately; the field `flow` says whose allowance it takes."""
        now = self._now()
        bucket = self._bucket(str(fields.get("flow", "")), now)
        if not (bucket.take(now) and self._all.take(now)):
            bucket.suppressed += 1
            return
        self._log.warning(event, suppressed=bucket.suppressed, **fields)
        bucket.suppressed = 0

    def _bucket(self, flow: str, now: float) -> _Bucket:
        bucket = self._flows.get(flow)
        if bucket is None:
            bucket = self._flows[flow] = _Bucket(FLOW_PER_SECOND, FLOW_BURST, now)
            if len(self._flows) > MAX_FLOWS:
                self._flows.popitem(last=False)
        self._flows.move_to_end(flow)
        return bucket


class _Bucket:
    """A token bucket, full at first."""

    __slots__ = ("_burst", "_last", "_per_second", "_tokens", "suppressed")

    def __init__(self, per_second: float, burst: float, now: float) -> None:
        self._per_second = per_second
        self._burst = self._tokens = burst
        self._last = now
        self.suppressed = 0

    def take(self, now: float) -> bool:
        self._tokens = min(self._burst, self._tokens + (now - self._last) * self._per_second)
        self._last = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
