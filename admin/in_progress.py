"""Requests and calls that are in progress."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Hashable
from contextlib import suppress
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class RequestsInProgress:
    """Handlers whose requests have no response yet, so that a process that stops can answer them first."""

    def __init__(self) -> None:
        self._handlers: set[object] = set()
        self._ended = asyncio.Event()

    def add(self, handler: object) -> None:
        self._handlers.add(handler)

    def discard(self, handler: object) -> None:
        self._handlers.discard(handler)
        self._ended.set()

    async def wait_for_end(self, seconds: float, *, excluding: Collection[object] = ()) -> None:
        """Wait until all requests have ended, but for `excluding`; for `seconds` at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._handlers.issubset(excluding):
                    self._ended.clear()
                    await self._ended.wait()


class SharedCalls(Generic[T]):
    """Calls that several requests need at a time, by key; each is made once for all of them."""

    def __init__(self) -> None:
        self._calls: dict[Hashable, asyncio.Task[T]] = {}

    async def share(self, key: Hashable, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return the result of the call of a key that is in progress, or of the one that `make` begins.

        Anyone who stops waiting does not end it: others may wait for it.
        """
        call = self._calls.get(key)
        if call is None:
            call = self._calls[key] = asyncio.create_task(make(), name="a shared call")
            call.add_done_callback(lambda _: self._calls.pop(key, None))
        return await asyncio.shield(call)
