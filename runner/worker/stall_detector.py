"""Notices that the process stood still: it was stopped, its container frozen, or its machine suspended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

TICK_SECONDS: Final = 0.25
STALL_SECONDS: Final = 1.0
"""Time without a tick that counts as a stall; a router keeps the leases of a stream that ended for 2 s."""


class StallDetector:
    """Calls back after a stall, at the latest before the next check.

    After a stall it is not known which runs first on the event loop, a tick or what was read meanwhile: so those who
    rely on the time call `check`, too.
    """

    def __init__(self, clock: Callable[[], float], on_stall: Callable[[float], None]) -> None:
        """Count from now on; `on_stall` is called with the time (monotonic, seconds) at which a stall was noticed."""
        self._clock = clock
        self._on_stall = on_stall
        self._seen = clock()

    def check(self) -> None:
        """Call back if the last tick or check is too long ago."""
        now = self._clock()
        if now - self._seen > STALL_SECONDS:
            self._on_stall(now)
        self._seen = now

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            self.check()
            await asyncio.sleep(TICK_SECONDS)
