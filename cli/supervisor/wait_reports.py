"""Reports what a start is waiting for, with exponential backoff and no timeout: the duration depends on the machine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from flowhook.retrying import ExponentialBackoff

REMINDERS = ExponentialBackoff(10.0, 60.0, jitter=0.0)  # between two lines


async def report_waiting(
    lack: Callable[[], str],
    print_line: Callable[[str], None],
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Print what is being waited for, periodically, until cancelled.

    Args:
        lack: returns what is missing at present; empty when nothing is.
        print_line: prints one line.
        sleep: waits for the given number of seconds.
    """
    for pause in REMINDERS.pauses():
        await sleep(pause)
        if what := lack():
            print_line(f"waiting for {what}")
