"""A log that senders can make us write to: enough for an operator to see why, too little to fill a disk with.

Each flow has an allowance of its own, so that a flood at one of them hides nothing of the others; and there is one for
all of them together.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import structlog

FLOW_PER_SECOND: Final = 5.0
FLOW_BURST: Final = 25.0
"""Lines that may be written about one flow: a token bucket."""

PER_SECOND: Final = 50.0
BURST: Final = 250.0
"""Lines that may be written at all."""

MAX_FLOWS: Final = 1000
"""Flows whose allowance is remembered: those that were heard of last."""


class Allowances:
    """A token bucket for each flow that was heard of lately, and one for all."""

    def __init__(self, now: Callable[[], float]) -> None:
        """Go by `now`, in seconds."""
        self._now = now
        self._all = Bucket(PER_SECOND, BURST, now())
        self._flows: OrderedDict[str, Bucket] = OrderedDict()

    def take(self, flow_id: str) -> bool:
        """Whether something may be said about a flow; if not, it is counted as kept back."""
        now = self._now()
        bucket = self._flows.get(flow_id)
        if bucket is None:
            bucket = self._flows[flow_id] = Bucket(FLOW_PER_SECOND, FLOW_BURST, now)
            if len(self._flows) > MAX_FLOWS:
                self._flows.popitem(last=False)
        self._flows.move_to_end(flow_id)
        if bucket.take(now) and self._all.take(now):
            return True
        bucket.suppressed += 1
        return False

    def kept_back(self, flow_id: str) -> int:
        """Return how much about a flow was kept back since this was asked last."""
        bucket = self._flows.get(flow_id)
        if bucket is None:
            return 0
        count, bucket.suppressed = bucket.suppressed, 0
        return count


class LimitedLog:
    """Writes warnings, and with the next one of a flow how many about it were kept back."""

    def __init__(self, log: structlog.stdlib.BoundLogger, now: Callable[[], float]) -> None:
        """Write to `log`; `now` tells the time in seconds."""
        self._log = log
        self._allowances = Allowances(now)

    def warning(self, event: str, **fields: object) -> None:
        """Write a line unless there were too many lately; the field `flow` says whose allowance it takes."""
        flow_id = str(fields.get("flow", ""))
        if self._allowances.take(flow_id):
            self._log.warning(event, suppressed=self._allowances.kept_back(flow_id), **fields)


class Bucket:
    """A token bucket, full at first; `suppressed` counts what was kept back."""

    __slots__ = ("_burst", "_last", "_per_second", "_tokens", "suppressed")

    def __init__(self, per_second: float, burst: float, now: float) -> None:
        self._per_second = per_second
        self._burst = self._tokens = burst
        self._last = now
        self.suppressed = 0

    def take(self, now: float) -> bool:
        """Take one token; whether there was one."""
        self._tokens = min(self._burst, self._tokens + (now - self._last) * self._per_second)
        self._last = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
