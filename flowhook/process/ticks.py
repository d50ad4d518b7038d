"""Common times for what is done every now and then, so that a process at rest wakes up seldom."""

from __future__ import annotations

import asyncio


def until_tick(seconds: float) -> float:
    """Return how long it takes until the event loop's time is a multiple of `seconds`: at least half of them.

    What several parts of a process do, and on most systems several processes, is thus due at the same time: a wake-up
    of a processor at rest costs a multiple of what most of them do.
    """
    if not seconds:
        return 0.0
    left = seconds - asyncio.get_running_loop().time() % seconds
    return left if left > seconds / 2 else left + seconds


async def next_tick(seconds: float) -> None:
    """Sleep for `until_tick`."""
    await asyncio.sleep(until_tick(seconds))
