"""External resources that describe a call and are fetched before it: a .proto, an OpenAPI document.

Source: dsl-reference.md, "External Resource", "Endpoint".
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import hashlib
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

from cachetools import TTLCache

from flowhook.document.models.calls import EMBEDDED, ExternalResource
from runner.components import http
from runner.components.base import Context
from runner.components.http import EvaluatedEndpoint
from runner.interpreter.errors import Kind, fault
from runner.interpreter.json_codec import encode
from runner.outbound.http_response import ResponseTooLargeError

Value = TypeVar("Value")


def fingerprint(*parts: Any) -> bytes:
    """Return a cache key for JSON that may hold credentials: a hash, so that the cache does not retain them."""
    return hashlib.sha256(encode(parts)).digest()


class Cache(Generic[Value]):
    """Values by key; one caller at a time loads a value, while others that need it wait.

    A value lives for `seconds`; above `weight`, the least recently used ones are evicted.
    """

    def __init__(self, *, seconds: float, weight: int) -> None:
        self._entries: TTLCache[Hashable, tuple[Value, int]] = TTLCache(
            weight, seconds, timer=time.monotonic, getsizeof=lambda entry: entry[1]
        )
        self._locks: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()

    async def get(self, key: Hashable, load: Callable[[], Awaitable[tuple[Value, int]]]) -> Value:
        """Return the value of a key, which covers all that it depends on, credentials included; see `fingerprint`.

        `load` returns the value and its weight, which is at most that of the cache; exceptions are not cached.
        """
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:  # its last holder may have loaded the value
            entry = self._entries.get(key)
            if entry is None:
                entry = self._entries[key] = await load()
        return entry[0]


class Resource(ExternalResource):
    """An external resource, evaluated."""

    endpoint: str | EvaluatedEndpoint

    @property
    def uri(self) -> str:
        return self.endpoint if isinstance(self.endpoint, str) else self.endpoint.uri


async def fetch(resource: Resource, context: Context, place: str) -> bytes:
    """Return the content of a resource, at most `limits.MAX_RESULT_BYTES`; redirects are followed.

    `place` is the path of its endpoint in the arguments, for errors.

    The request does not carry the call's Idempotency-Key: a server that receives both requests would treat the call as
    a repetition.
    """
    if resource.uri.startswith(EMBEDDED):
        text = resource.uri.removeprefix(EMBEDDED)
        try:
            return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except ValueError:
            raise fault(Kind.CONFIGURATION, f"{place}: what follows {EMBEDDED} is not in base64url") from None
    scheme = urlsplit(resource.uri).scheme.lower()
    if scheme == "file":
        raise fault(Kind.CONFIGURATION, f"{place}: files of a runner are not read: serve the document over https")
    policy = None if isinstance(resource.endpoint, str) else resource.endpoint.authentication
    keyless = dataclasses.replace(context, http=context.http.without_key())
    try:
        content: str = await http.exchange(
            "GET", resource.uri, keyless, headers={}, authentication=policy, output="raw", redirect=True
        )
    except ResponseTooLargeError as problem:  # a retry would change nothing
        raise fault(Kind.CONFIGURATION, f"{place}: {problem}") from None
    return base64.b64decode(content)
