"""Waits for one of several things."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any


async def first(*waits: Awaitable[Any]) -> None:
    """Wait until one of several is done; cancel the others."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def unless(work: Awaitable[Any], stop: asyncio.Event, abandon: Callable[[], None]) -> Any:
    """Return the result of `work`; when `stop` is set meanwhile, call `abandon`, which makes it end."""
    task = asyncio.ensure_future(work)
    await first(asyncio.shield(task), stop.wait())
    if not task.done():
        abandon()
    return await task
