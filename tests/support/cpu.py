"""What something costs in CPU time of the calling thread: the least of a few attempts.

Who shares the core, or its caches, makes the same instructions take longer; nobody makes them take less. So the time is
in proportion to what this machine takes for the same loop, at that moment, as the one that the limits were measured on.
"""

from __future__ import annotations

import time

ATTEMPTS = 5

LOOP_SECONDS = 0.011
"""CPU seconds of `loop` on the machine that the times were measured on, with any version of Python."""


def loop():
    """Compute for some milliseconds, and return the CPU seconds.

    What is computed takes the same time with Python 3.11 and 3.13 (integer arithmetic takes 1.4 times as long with the
    latter), and creates nothing that makes the garbage collector run.
    """
    began = time.thread_time()
    {str(number): number for number in range(80_000)}
    return time.thread_time() - began


def slowness():
    """Return how many times as long as there everything takes here and now; not less than once."""
    return max(1.0, min(loop() for _ in range(3)) / LOOP_SECONDS)


class _Attempts:
    """Iterates over attempts until one takes less than `enough` seconds, at most `ATTEMPTS` of them."""

    def __init__(self, enough):
        self._enough = enough
        self.least = float("inf")

    def __iter__(self):
        slower = 1.0
        for attempt in range(ATTEMPTS):
            began = time.thread_time()
            yield attempt
            self.least = min(self.least, (time.thread_time() - began) / slower)
            if self.least < self._enough:
                return
            slower = slowness()


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
