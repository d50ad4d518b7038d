"""Runs tasks beside others and ends them, waits for something for a limited time, and runs what may never return."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

T = TypeVar("T")


async def end_tasks(tasks: Iterable[asyncio.Future[Any]]) -> list[Any]:
    """Cancel tasks, wait until they have ended, and return their results, or the errors with which they ended."""
    ending = list(tasks)
    for task in ending:
        task.cancel()
    return await asyncio.gather(*ending, return_exceptions=True)


@asynccontextmanager
async def beside(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run coroutines while the block runs, and cancel them at its end; asyncio logs the error with which one ended."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def first(*waits: Awaitable[Any]) -> None:
    """Wait until one of several is done; cancel the others."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end_tasks(tasks)


async def wait_at_most(seconds: float | None, awaited: Awaitable[object]) -> bool:
    """Wait for something, up to `seconds` (None: without end), and return whether it has come."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await awaited
            return True
    return False


def run_in_daemon(function: Callable[..., T], *arguments: Any) -> Future[T]:
    """Run a function in a thread of its own, which the end of the process or of its loop does not wait for."""
    result: Future[T] = Future()
    result.set_running_or_notify_cancel()  # it can't be cancelled
    threading.Thread(target=_settle, name=function.__name__, args=(result, function, arguments), daemon=True).start()
    return result


def _settle(result: Future[T], function: Callable[..., T], arguments: Iterable[Any]) -> None:
    try:
        outcome = function(*arguments)
    except BaseException as error:  # noqa: BLE001 - raised where the result is read
        result.set_exception(error)
        del result  # else a cycle of references would keep what the function had open
    else:
        result.set_result(outcome)
