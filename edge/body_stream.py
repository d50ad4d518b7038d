"""A request body as an async iterator that reads from its connection one chunk at a time, on demand.

Nothing is read ahead, so the consumer's pace limits the sender's (back-pressure). The whole body may take any time, but
a sender that stays below a minimum rate for longer than `ServerContext.body_timeout` is cut off.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final, Protocol

from edge.chunked_body import ChunkedBody
from flowhook import limits

MIN_BYTES_PER_SECOND: Final = 4 * limits.KIB
"""Minimum rate: a sender that is slower uses up its `patience`."""

READ_BYTES: Final = 64 * limits.KIB
"""Bytes to read from a socket at once."""


class BodyTooLargeError(Exception):
    """The body is larger than the endpoint accepts, or is declared to be."""


class BodySource(Protocol):
    """The part of a connection that `BodyStream` reads from."""

    def now(self) -> float:
        """Return the loop's time in seconds."""
        ...

    async def take(self, most: int, seconds: float) -> bytes:
        """Return the next 1 to `most` bytes, waiting at most `seconds`.

        Raises:
            StreamClosedError: the sender disconnected, or sent nothing within `seconds`.
        """
        ...

    def complete(self, rest: bytes) -> None:
        """Record that the body is complete; `rest` is what was received after it."""
        ...


class BodyStream:
    """One body; an iterator over pieces of `limits.CHUNK_BYTES`, of which the last may be shorter.

    Reading the next piece may raise BodyTooLargeError, and whatever `Request.body` raises.

    Attributes:
        size: length of the body in bytes; None: unknown.
    """

    def __init__(
        self,
        source: BodySource,
        *,
        length: int,
        max_bytes: int,
        patience: float,
        first: bytes,
        chunks: ChunkedBody | None,
    ) -> None:
        """Start at the connection's current position.

        Args:
            source: the connection.
            length: length of a body that is not chunked; at least that of `first`.
            max_bytes: maximum size of the body.
            patience: seconds for which the sender may stay below the minimum rate.
            first: bytes of the body that were received already; those of a chunked body are in `chunks` instead.
            chunks: decoder of a chunked body; None: the body is not chunked.
        """
        self.size = None if chunks is not None else length
        self._source = source
        self._max_bytes = max_bytes
        self._patience = self._left = patience
        self._chunks = chunks
        self._ready = bytearray(first) if chunks is None else chunks.content
        self._missing = length - len(first)
        self._given = 0

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while len(self._ready) < limits.CHUNK_BYTES and not self._ended:
            await self._more()
        if not self._ready:
            raise StopAsyncIteration
        piece = bytes(self._ready[: limits.CHUNK_BYTES])
        del self._ready[: limits.CHUNK_BYTES]
        self._given += len(piece)
        if self._given + len(self._ready) > self._max_bytes:
            raise BodyTooLargeError
        return piece

    @property
    def _ended(self) -> bool:
        return self._chunks.done if self._chunks is not None else not self._missing

    async def _more(self) -> None:
        chunks = self._chunks
        data = b"" if chunks is not None and chunks.more else await self._take()
        if chunks is not None:
            chunks.feed(data)
        else:
            self._ready += data
            self._missing -= len(data)
        if self._ended:
            self._source.complete(b"" if chunks is None else chunks.rest)
        await asyncio.sleep(0)  # a fast sender must not monopolise the loop

    async def _take(self) -> bytes:
        began = self._source.now()
        most = READ_BYTES if self._chunks is not None else min(READ_BYTES, self._missing)
        data = await self._source.take(most, self._left)
        earned = len(data) / MIN_BYTES_PER_SECOND
        self._left = min(self._patience, self._left - (self._source.now() - began) + earned)
        return data
