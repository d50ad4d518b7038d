"""Delays at random what a busy machine may delay: threads that begin or end, sockets that are ready, loops that run.

`FLOWHOOK_TEST_DELAYS=SEED make test` installs it in every process of pytest. Nothing is put in another order that
asyncio or the kernel promises to keep, so a test that fails with it depends on being scheduled in time. A seed makes
a run similar to another one, not equal: threads draw from the same random numbers.
"""

from __future__ import annotations

import os
import random
import selectors
import threading
import time
from asyncio import base_events
from typing import Final

LONGEST: Final = 0.25
"""Seconds that a delay takes at most; it takes half of it on average."""

OF_A_THREAD: Final = 0.15
"""Probability that a thread begins late, or that a function in the pool of a loop does, or ends late."""

OF_A_SOCKET: Final = 0.03
"""Probability that a loop sees late that a socket is ready."""

OF_A_LOOP: Final = 0.002
"""Probability that a loop stands still before an iteration."""


def install(seed):
    """Delay from now on, in this process."""
    draw = random.Random(f"{seed} {os.environ.get('PYTEST_XDIST_WORKER', '')}")

    def delay(probability):
        return draw.random() * LONGEST if draw.random() < probability else 0.0

    _delay_threads(delay)
    _delay_loops(delay)
    _delay_sockets(delay)


def _delay_threads(delay):
    start, run_in_executor = threading.Thread.start, base_events.BaseEventLoop.run_in_executor

    def start_late(thread):
        if seconds := delay(OF_A_THREAD):
            run = thread.run

            def run_late():
                time.sleep(seconds)
                run()

            thread.run = run_late
        return start(thread)

    def run_late_in_executor(loop, executor, function, *arguments):
        before, after = delay(OF_A_THREAD), delay(OF_A_THREAD)

        def late():
            time.sleep(before)
            try:
                return function(*arguments)
            finally:
                time.sleep(after)

        return run_in_executor(loop, executor, late)

    threading.Thread.start = start_late
    base_events.BaseEventLoop.run_in_executor = run_late_in_executor


def _delay_loops(delay):
    run_once = base_events.BaseEventLoop._run_once

    def run_once_late(loop):
        time.sleep(delay(OF_A_LOOP))
        run_once(loop)

    base_events.BaseEventLoop._run_once = run_once_late


def _delay_sockets(delay):
    class Selector(selectors.DefaultSelector):
        """Holds back some of what is ready; who asks meanwhile gets the rest."""

        def __init__(self):
            super().__init__()
            self._held = {}  # when it may be seen, by file descriptor and kind

        def select(self, timeout=None):
            if self._held:
                rest = max(0.0, min(self._held.values()) - time.monotonic())
                timeout = rest if timeout is None else min(timeout, rest)
            ready = [each for each in super().select(timeout) if self._is_due(each)]
            now = time.monotonic()
            self._held = {held: due for held, due in self._held.items() if due > now}  # else it is ready no more
            if not ready and self._held:
                time.sleep(0.001)  # the kernel reports what is held back again at once
            return ready

        def unregister(self, file):
            key = super().unregister(file)
            self._held = {held: due for held, due in self._held.items() if held[0] != key.fd}
            return key

        def _is_due(self, ready):
            key, events = ready
            held = key.fd, events
            if held not in self._held:
                seconds = delay(OF_A_SOCKET)
                if seconds:
                    self._held[held] = time.monotonic() + seconds
                return not seconds
            if self._held[held] > time.monotonic():
                return False
            del self._held[held]
            return True

    selectors.DefaultSelector = Selector
