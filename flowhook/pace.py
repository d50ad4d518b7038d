"""When what gathers for the other end of a stream is sent.

A message costs both ends about as much as what it tells of an execution, and what is in the stream can't be sorted by
flow any more: what comes late waits behind it. So while much is under way it gathers for some milliseconds, and the
messages are few and large. What concerns a flow with little under way does not wait for that (`hurry`): it goes at
once, and takes along what gathered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

QUIET: Final = 4
"""Executions under way up to which a flow's messages are sent at once."""

SECONDS_EACH: Final = 0.0003
"""How long messages may gather for each execution that is under way."""

MAX_SECONDS: Final = 0.01
"""How long they gather at most."""


class Pace:
    """For one sender: `await turn()` before each message."""

    def __init__(self, under_way: Callable[[], int]) -> None:
        """Send seldom while `under_way` gives a high number of executions."""
        self._under_way = under_way
        self._urgent = asyncio.Event()
        self._last = float("-inf")

    def hurry(self) -> None:
        """Have the next message, or the one that waits for its turn, sent at once."""
        self._urgent.set()

    async def turn(self) -> None:
        """Wait until the next message may be sent."""
        loop = asyncio.get_running_loop()
        seconds = self.wait(loop.time())
        if seconds > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._urgent.wait()
        self.sent(loop.time())

    def wait(self, now: float) -> float:
        """Return how many seconds of a monotonic clock there are to wait from `now`, unless something urgent comes."""
        if self._urgent.is_set():
            return 0.0
        return max(0.0, self._last + min(MAX_SECONDS, SECONDS_EACH * self._under_way()) - now)

    def sent(self, now: float) -> None:
        """Note that a message is sent."""
        self._urgent.clear()
        self._last = now
