"""Paces stream writes: under load, coalesces messages for up to 10 ms.

A message costs both ends of the stream about as much as the report on one execution inside it. Content that is already
in the stream can no longer be scheduled by flow: later content waits behind it. So while many executions are in
progress, content is buffered for some milliseconds and sent in few, large messages. Content of a flow with few
executions in progress does not wait (`expedite`): it is sent at once, together with what is buffered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import attrs

QUIET: Final = 4  # executions in progress up to which a flow's messages are sent at once
SECONDS_EACH: Final = 0.0003  # buffering time for each execution in progress
MAX_SECONDS: Final = 0.01  # maximum buffering time


@attrs.define(eq=False, repr=False)
class SendPacer:
    """Paces one sender, which awaits `turn()` before each message."""

    _under_way: Callable[[], int]  # returns the number of executions in progress: the more, the longer the delay
    _urgent: bool = attrs.field(init=False, default=False)
    # done when the turn that is awaited begins. A future and a timer: a timeout around an event costs twice as much
    _begun: asyncio.Future[None] | None = attrs.field(init=False, default=None)
    _last: float = attrs.field(init=False, default=float("-inf"))

    def expedite(self) -> None:
        """Let the next message, or the one that waits for its turn, be sent at once."""
        self._urgent = True
        self._begin()

    async def turn(self) -> None:
        loop = asyncio.get_running_loop()
        seconds = self.wait(loop.time())
        if seconds > 0:
            self._begun = loop.create_future()
            timer = loop.call_later(seconds, self._begin)
            try:
                await self._begun
            finally:
                timer.cancel()
        self.sent(loop.time())

    def _begin(self) -> None:
        if self._begun is not None and not self._begun.done():
            self._begun.set_result(None)

    def wait(self, now: float) -> float:
        """Return the seconds to wait from `now`, a time of a monotonic clock, unless `expedite` is called meanwhile."""
        if self._urgent:
            return 0.0
        return max(0.0, self._last + min(MAX_SECONDS, SECONDS_EACH * self._under_way()) - now)

    def sent(self, now: float) -> None:
        self._urgent = False
        self._last = now
