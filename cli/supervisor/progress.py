"""Prints the progress of a start, and what it waits for."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable

from flowhook.retrying import BackoffPolicy

REMINDERS = BackoffPolicy(10.0, 60.0, jitter=0.0)  # between two lines about what is waited for


def print_progress(line: str) -> None:
    """Print a line and flush it; if stdout is closed, discard this and all further lines."""
    try:
        print(line, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


async def report_waiting(lack: Callable[[], str], *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
    """Print what is missing at present, which `lack` returns, until cancelled; nothing while that is empty.

    It backs off exponentially and has no timeout: how long a start takes depends on the machine.
    """
    for pause in REMINDERS.pauses():
        await sleep(pause)
        if what := lack():
            print_progress(f"waiting for {what}")
