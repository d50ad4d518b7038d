"""The clock of a flow that runs without a cluster; it can skip idle time."""

from __future__ import annotations

import asyncio
import time


class LocalClock:
    """Real time plus the time that was skipped."""

    def __init__(self, *, skips: bool = False) -> None:
        """Start at the present time; `skips`: `sleep_until` takes no time."""
        self.skips = skips
        self._skipped_ms = 0

    def now_ms(self) -> int:
        """Return Unix milliseconds."""
        return time.time_ns() // 1_000_000 + self._skipped_ms

    def seconds_until(self, moment_ms: int) -> float:
        """Return the seconds until a moment, 0 if it has passed."""
        return max(0.0, (moment_ms - self.now_ms()) / 1000)

    async def sleep_until(self, moment_ms: int) -> None:
        """Wait until a moment, or skip the time."""
        if self.skips:
            self._skipped_ms += max(0, moment_ms - self.now_ms())
        await asyncio.sleep(self.seconds_until(moment_ms))
