"""Cache with a time to live, for values that are expensive to load."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Generic, TypeVar
from weakref import WeakValueDictionary

from cachetools import TTLCache

from runner.interpreter.json_codec import encode

Value = TypeVar("Value")


def fingerprint(*parts: Any) -> bytes:
    """Return a cache key for JSON that may hold credentials: a hash, so that the cache does not retain them."""
    return hashlib.sha256(encode(parts)).digest()


class Cache(Generic[Value]):
    """Values by key; one caller at a time loads a value, while others that need it wait."""

    def __init__(self, *, seconds: float, weight: int) -> None:
        """Create a cache of values that live for `seconds`; above `weight`, the least recently used are evicted."""
        self._entries: TTLCache[Hashable, tuple[Value, int]] = TTLCache(
            weight, seconds, timer=time.monotonic, getsizeof=lambda entry: entry[1]
        )
        self._locks: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()

    async def get(self, key: Hashable, load: Callable[[], Awaitable[tuple[Value, int]]]) -> Value:
        """Return the value of a key.

        Args:
            key: must cover all that the value depends on, credentials included; see `fingerprint`.
            load: returns the value and its weight, which is at most that of the cache; exceptions are not cached.
        """
        entry = self._entries.get(key)
        if entry is None:
            lock = self._locks.setdefault(key, asyncio.Lock())
            async with lock:
                entry = self._entries.get(key)  # the last holder of the lock may have loaded it
                if entry is None:
                    entry = self._entries[key] = await load()
        return entry[0]
