"""What something costs in CPU time of the calling thread: the least of a few attempts.

Who shares the core, or its caches, makes the same instructions take longer; nobody makes them take less.
"""

from __future__ import annotations

import time

ATTEMPTS = 5


def cpu_seconds(function, enough):
    """Call a function until it takes less than `enough` seconds, at most `ATTEMPTS` times, and return the least."""
    least = float("inf")
    for _ in range(ATTEMPTS):
        began = time.thread_time()
        function()
        least = min(least, time.thread_time() - began)
        if least < enough:
            break
    return least


async def loop_seconds(function, enough):
    """Do the same with a coroutine function: what counts is all that the loop does until that returns."""
    least = float("inf")
    for _ in range(ATTEMPTS):
        began = time.thread_time()
        await function()
        least = min(least, time.thread_time() - began)
        if least < enough:
            break
    return least
