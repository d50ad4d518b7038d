"""Ends tasks, and waits for something for a limited time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from contextlib import suppress
from typing import Any


async def end_tasks(tasks: Iterable[asyncio.Future[Any]]) -> list[Any]:
    """Cancel tasks, wait until they have ended, and return their results, or the errors with which they ended."""
    ending = list(tasks)
    for task in ending:
        task.cancel()
    return await asyncio.gather(*ending, return_exceptions=True)


async def wait_at_most(seconds: float | None, awaited: Awaitable[object]) -> bool:
    """Wait for something, up to `seconds` (None: without end), and return whether it has come."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await awaited
            return True
    return False
