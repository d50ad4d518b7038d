"""Calls that several requests need at a time, and that are made once for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class SharedCalls(Generic[T]):
    """Calls in progress, by key."""

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
