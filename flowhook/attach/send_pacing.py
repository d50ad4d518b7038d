"""Paces stream writes: under load, coalesces messages for up to 10 ms.

A message costs both ends of the stream about as much as the report on one execution inside it. Content that is already
in the stream can no longer be scheduled by flow: later content waits behind it. So while many executions are in
progress, content is buffered for some milliseconds and sent in few, large messages. Content of a flow with few
executions in progress does not wait (`expedite`): it is sent at once, together with what is buffered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import attrs

QUIET: Final = 4  # executions in progress up to which a flow's messages are sent at once
SECONDS_EACH: Final = 0.0003  # buffering time for each execution in progress
MAX_SECONDS: Final = 0.01  # maximum buffering time


@attrs.define(eq=False, repr=False)
class SendPacer:
    """Paces one sender, which awaits `turn()` before each message."""

    _under_way: Callable[[], int]  # returns the number of executions in progress: the more, the longer the delay
    _urgent: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)
    _last: float = attrs.field(init=False, default=float("-inf"))

    def expedite(self) -> None:
        """Let the next message, or the one that waits for its turn, be sent at once."""
        self._urgent.set()

    async def turn(self) -> None:
        loop = asyncio.get_running_loop()
        seconds = self.wait(loop.time())
        if seconds > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._urgent.wait()
        self.sent(loop.time())

    def wait(self, now: float) -> float:
        """Return the seconds to wait from `now`, a time of a monotonic clock, unless `expedite` is called meanwhile."""
        if self._urgent.is_set():
            return 0.0
        return max(0.0, self._last + min(MAX_SECONDS, SECONDS_EACH * self._under_way()) - now)

    def sent(self, now: float) -> None:
        self._urgent.clear()
        self._last = now
