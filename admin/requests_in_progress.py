"""Knows which requests are in progress, so that a process that stops can answer them first."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import suppress


class RequestsInProgress:
    """Handlers whose requests have no response yet."""

    def __init__(self) -> None:
        self._handlers: set[object] = set()
        self._ended = asyncio.Event()

    def add(self, handler: object) -> None:
        """A request has arrived."""
        self._handlers.add(handler)

    def discard(self, handler: object) -> None:
        """The response to a request is complete, or its client is gone."""
        self._handlers.discard(handler)
        self._ended.set()

    async def wait_for_end(self, seconds: float, *, excluding: Collection[object] = ()) -> None:
        """Wait until all requests have ended, but for `excluding`; for `seconds` at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._handlers.issubset(excluding):
                    self._ended.clear()
                    await self._ended.wait()
