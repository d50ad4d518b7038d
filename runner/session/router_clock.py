"""The router's clock, as its messages tell it to a runner. No I/O.

One clock decides when waits, timeouts and retries are over: that of the router that owns the shard. A runner never
compares it with its own, which may be wrong by any amount. It keeps the difference between the router's time and a
monotonic clock of its own, within what messages prove:

- A message that the router sent at T and that is read at M: the router's clock shows at least T at M. So an execution
  that the router woke at its time is past that time here too.
- The answer to a request that was made at A: the router's clock showed at most T at A. This bound takes the difference
  down again after the router's clock was set back.

Example: a renewal is made at 10.0 s of the monotonic clock, its answer says 500.0 s and is read at 10.4 s. The
difference is at least 489.6 s and at most 490.0 s; an earlier value in between stays, any other becomes the nearer end.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

MILLISECONDS: Final = 1000


class RouterClock:
    """Tells the router's time: what it said last, and the time that has passed since."""

    def __init__(
        self, monotonic: Callable[[], float] = time.monotonic, fallback: Callable[[], float] = time.time
    ) -> None:
        """Start without a message.

        Args:
            monotonic: seconds; the clock of all times `now` and `asked`.
            fallback: Unix time in seconds, which is told until a message says the router's.
        """
        self._monotonic = monotonic
        self._ahead_ms = (fallback() - monotonic()) * MILLISECONDS

    def now_ms(self) -> int:
        """Return the router's time, Unix milliseconds."""
        return int(self._monotonic() * MILLISECONDS + self._ahead_ms)

    def attached(self, sent_ms: int, now: float) -> None:
        """Process the first message of a stream, maybe of another router than before, read at `now`."""
        self._ahead_ms = _difference(sent_ms, now)

    def read(self, sent_ms: int, now: float) -> None:
        """Process a message of the router, read at `now`."""
        self._ahead_ms = max(self._ahead_ms, _difference(sent_ms, now))

    def answered(self, sent_ms: int, asked: float) -> None:
        """Process the answer to a request that was made at `asked`, after `read`."""
        # the router's time is cut to milliseconds: it may have been one later
        self._ahead_ms = min(self._ahead_ms, _difference(sent_ms + 1, asked))


def _difference(router_ms: int, monotonic: float) -> float:
    return router_ms - monotonic * MILLISECONDS
