"""Rate-limited logging of events that senders cause: enough to diagnose them, too little to fill a disk.

Each flow has a token bucket of its own, so that a flood at one flow does not suppress lines about others. One more
bucket limits all flows together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from cachetools import LRUCache

from flowhook.sharing.token_bucket import TokenBucket, TokenBuckets

if TYPE_CHECKING:
    import structlog

FLOW_PER_SECOND: Final = 5.0
FLOW_BURST: Final = 25.0  # rate and burst of the lines about one flow
PER_SECOND: Final = 50.0
BURST: Final = 250.0  # rate and burst of all lines
MAX_FLOWS: Final = 1000  # flows that have a token bucket: those that were used last


class PerFlowLimiter:
    """Token buckets: one for each recently used flow, and one for all flows together."""

    def __init__(self, now: Callable[[], float]) -> None:
        """Create the buckets; `now` returns the time in seconds."""
        self._now = now
        self._all = TokenBucket(per_second=PER_SECOND, burst=BURST, now=now())
        self._flows = TokenBuckets(per_second=FLOW_PER_SECOND, burst=FLOW_BURST, most=MAX_FLOWS)
        self._suppressed = LRUCache[str, int](MAX_FLOWS)

    def admit(self, flow_id: str) -> bool:
        """Count a line about a flow, and return whether it may be written; if not, count one suppression."""
        now = self._now()
        if not self._flows.take(flow_id, now) and not self._all.take(now):  # neither has to wait
            return True
        self._suppressed[flow_id] = self._suppressed.get(flow_id, 0) + 1
        return False

    def pop_suppressed(self, flow_id: str) -> int:
        """Return the number of suppressions for a flow since the last call."""
        return self._suppressed.pop(flow_id, 0)


class RateLimitedLogger:
    """A rate-limited logger of warnings; each line reports how many lines about its flow were suppressed before it."""

    def __init__(self, log: structlog.stdlib.BoundLogger, now: Callable[[], float]) -> None:
        """Write to `log`; `now` returns the time in seconds."""
        self._log = log
        self._allowances = PerFlowLimiter(now)

    def warning(self, event: str, **fields: object) -> None:
        """Write a line unless the rate limit is exceeded; the field `flow` selects the token bucket."""
        flow_id = str(fields.get("flow", ""))
        if self._allowances.admit(flow_id):
            self._log.warning(event, suppressed=self._allowances.pop_suppressed(flow_id), **fields)
