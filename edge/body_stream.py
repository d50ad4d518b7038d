"""A body that is taken from its connection a piece at a time, when somebody asks for the next one.

Nothing is read ahead, so that a sender is as fast as whoever takes the pieces. It may take as long as it likes in all,
but not stand still: who is slower than a minimum rate for longer than `Host.body_timeout` is cut off.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final, Protocol

from edge.http1 import ChunkedBody
from flowhook import limits

MIN_BYTES_PER_SECOND: Final = 4 * limits.KIB
"""Rate below which a sender uses up its time."""

READ_BYTES: Final = 64 * limits.KIB
"""Read from a socket at once."""


class BodyTooLargeError(Exception):
    """The body is, or says that it will be, larger than the endpoint takes."""


class Source(Protocol):
    """The connection, as far as its body is concerned."""

    def now(self) -> float:
        """Return the loop's time in seconds."""
        ...

    async def take(self, most: int, seconds: float) -> bytes:
        """Return what comes next, 1 to `most` bytes.

        Raises:
            StreamClosedError: the sender went away, or sent nothing for so long.
        """
        ...

    def complete(self, rest: bytes) -> None:
        """Note that the body has come, and what came behind it."""
        ...


class BodyStream:
    """One body; an iterator over its pieces, of `limits.CHUNK_BYTES` but for the last one.

    Taking the next piece may raise BodyTooLargeError, and what `Request.body` raises.

    Attributes:
        size: its length in bytes; None: nobody knows.
    """

    def __init__(
        self, source: Source, *, length: int, max_bytes: int, patience: float, first: bytes, chunks: ChunkedBody | None
    ) -> None:
        """Go on where the connection is.

        Args:
            source: the connection.
            length: of a body that is not chunked, at least that of `first`.
            max_bytes: what there may be of it.
            patience: seconds for which the sender may keep below the minimum rate.
            first: what has come of it already; chunked, it is in `chunks`.
            chunks: takes a chunked body apart.
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
        await asyncio.sleep(0)  # a fast sender must not keep the loop

    async def _take(self) -> bytes:
        began = self._source.now()
        most = READ_BYTES if self._chunks is not None else min(READ_BYTES, self._missing)
        data = await self._source.take(most, self._left)
        earned = len(data) / MIN_BYTES_PER_SECOND
        self._left = min(self._patience, self._left - (self._source.now() - began) + earned)
        return data
