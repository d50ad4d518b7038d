"""How long tests wait, and what they count instead of seconds where a promise about time is judged.

A process that shares its core with others may stand still for a second between two lines. So a test that waits for what
must happen waits for `PATIENCE`; and one that judges how soon it happens counts looks, or turns of its own loop.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import Final

PATIENCE: Final = 240.0
"""Seconds to wait for what must happen; it ends a hang and judges nothing. pytest's own timeout is behind it."""

LOOKS_A_SECOND: Final = 100
"""How often one looks in a second when nothing else runs, with `PAUSE` between looks."""

PAUSE: Final = 0.01


async def until(condition):
    """Wait until `condition()` is true, for `PATIENCE` at most."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)


def wait_until(condition, what):
    """Wait until `condition()` is true, for `PATIENCE` at most, and block meanwhile; `what` says what that is."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE:g} s: {what}"
        time.sleep(0.01)


async def seen_within(seconds, look):
    """Look again and again until what is looked for is there; `look` is asynchronous.

    Counts looks and no time: what is looked at gets its share of the machine as often as whoever looks.

    Raises:
        AssertionError: it was not there at so many looks as fit into `seconds` when nothing else runs.
    """
    looks = round(seconds * LOOKS_A_SECOND)
    for _ in range(looks):
        if found := await look():
            return found
        await asyncio.sleep(PAUSE)
    raise AssertionError(f"not at the first {looks} looks")


class Turns:
    """Counts the pauses that the loop of this process took: fewer than the time has room for when it stands still."""

    def __init__(self):
        self._count = 0

    @property
    def seconds(self):
        """What the pauses come to: the time that passed when the loop got all the turns it wanted, else less."""
        return self._count * PAUSE

    async def count(self):
        while True:
            await asyncio.sleep(PAUSE)
            self._count += 1


@asynccontextmanager
async def turns():
    """Count from here on, for what happens in this process."""
    counted = Turns()
    counting = asyncio.create_task(counted.count())
    try:
        yield counted
    finally:
        counting.cancel()
