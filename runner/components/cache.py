"""What is costly to get, kept for a while."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Generic, TypeVar
from weakref import WeakValueDictionary

from cachetools import TTLCache

from runner.interpreter.data import encode

Value = TypeVar("Value")


def fingerprint(*parts: Any) -> bytes:
    """Return a key made of JSON that may hold credentials, and that is not kept for that."""
    return hashlib.sha256(encode(parts)).digest()


class Cache(Generic[Value]):
    """Values by key: each is got by one caller at a time, while others who want it wait."""

    def __init__(self, *, seconds: float, weight: int) -> None:
        """Keep nothing yet.

        Args:
            seconds: how long a value is kept.
            weight: of all values that are kept, in whatever `get` counts; those used last stay.
        """
        self._kept: TTLCache[Hashable, tuple[Value, int]] = TTLCache(
            weight, seconds, timer=time.monotonic, getsizeof=lambda kept: kept[1]
        )
        self._locks: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()

    async def get(self, key: Hashable, load: Callable[[], Awaitable[tuple[Value, int]]]) -> Value:
        """Return the value of a key.

        Args:
            key: with all that the value depends on, credentials included; see `fingerprint`.
            load: returns the value and its weight, which is at most that of the cache; what it raises is not kept.
        """
        kept = self._kept.get(key)
        if kept is None:
            lock = self._locks.setdefault(key, asyncio.Lock())
            async with lock:
                kept = self._kept.get(key)  # the one who had the lock before may have got it
                if kept is None:
                    kept = self._kept[key] = await load()
        return kept[0]
