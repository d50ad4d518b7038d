"""What something costs in CPU time of the calling thread: the least of a few attempts.

Who shares the core, or its caches, makes the same instructions take longer; nobody makes them take less.
"""

from __future__ import annotations

import time

ATTEMPTS = 5


class _Attempts:
    """Iterates over attempts until one takes less than `enough` seconds, at most `ATTEMPTS` of them."""

    def __init__(self, enough):
        self._enough = enough
        self.least = float("inf")

    def __iter__(self):
        for attempt in range(ATTEMPTS):
            began = time.thread_time()
            yield attempt
            self.least = min(self.least, time.thread_time() - began)
            if self.least < self._enough:
                return


def cpu_seconds(function, enough):
    """Call a function until that takes less than `enough` seconds, and return the least."""
    attempts = _Attempts(enough)
    for _ in attempts:
        function()
    return attempts.least


async def loop_seconds(function, enough):
    """Do the same with a coroutine function: what counts is all that the loop does until that returns."""
    attempts = _Attempts(enough)
    for _ in attempts:
        await function()
    return attempts.least
