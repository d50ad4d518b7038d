"""A request body as an async iterator that lets the sender send one piece at a time, on demand.

The next piece is not read before it is asked for, so the consumer's pace limits the sender's (back-pressure).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final, Protocol

import attrs

from flowhook import limits

MIN_BYTES_PER_SECOND: Final = 4 * limits.KIB
"""Minimum rate: a sender that stays below it for longer than the body timeout is cut off."""


class BodyTooLargeError(Exception):
    """The body is larger than the endpoint accepts, or is declared to be."""


class BodySource(Protocol):
    """A request whose body arrives.

    Attributes:
        content: bytes of the body that were received and not consumed.
        complete: whether the whole body was received.
    """

    content: bytearray
    complete: bool

    async def more(self) -> None:
        """Let the sender send the next piece, and wait for it or for the end of the body.

        Raises:
            StreamClosedError: the sender disconnected, or was too slow.
        """
        ...


@attrs.define(eq=False, repr=False)
class BodyStream:
    """One body; an iterator over pieces of `limits.CHUNK_BYTES`, of which the last may be shorter.

    Reading the next piece may raise BodyTooLargeError, and whatever `BodySource.more` raises.

    Attributes:
        size: length of the body in bytes; None: unknown.

    It streams what was received already, then the rest, of at most `max_bytes`.
    """

    _source: BodySource
    size: int | None = attrs.field(kw_only=True)
    _max_bytes: int = attrs.field(kw_only=True)
    _consumed: int = attrs.field(init=False, default=0)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        source = self._source
        content = source.content
        while len(content) < limits.CHUNK_BYTES and not source.complete:
            await source.more()
        if not content:
            raise StopAsyncIteration
        piece = bytes(content[: limits.CHUNK_BYTES])
        del content[: limits.CHUNK_BYTES]
        self._consumed += len(piece)
        if self._consumed + len(content) > self._max_bytes:
            raise BodyTooLargeError
        return piece
