"""The framing of a request body, and the time that its sender has for it. No I/O, no clock."""

from __future__ import annotations

from edge.http.chunked_body import ChunkedBody


class BodyFraming:
    """Takes one body out of the bytes of its connection, whether its length is declared or it is chunked."""

    __slots__ = ("_chunks", "unread")

    def __init__(self, length: int) -> None:
        self.unread = length  # bytes of the body that were not taken yet; -1: at least one, and their number is unknown
        self._chunks = ChunkedBody() if length < 0 else None

    @property
    def has_more(self) -> bool:
        """Whether to call `take` after a turn of the loop, even without further data."""
        return self._chunks is not None and self._chunks.more

    @property
    def buffered(self) -> int:
        return 0 if self._chunks is None else self._chunks.buffered

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """Return the content of the body in `data`, and the bytes that follow the body.

        Raises:
            MalformedRequestError: this is no chunked body.
        """
        chunks = self._chunks
        if not self.unread:
            return b"", data
        if chunks is None:
            content, rest = (data, b"") if len(data) <= self.unread else (data[: self.unread], data[self.unread :])
            self.unread -= len(content)
            return content, rest
        chunks.feed(data)
        content = bytes(chunks.content)
        chunks.content.clear()
        if not chunks.done:
            return content, b""
        self.unread = 0
        return content, chunks.rest


class BodyTime:
    """The seconds that a sender has for a body. Time in which it is not let send does not count.

    Without a minimum rate (0) they are for the whole body. With one they are those for which the sender may stay below
    it: each received byte earns time again.
    """

    __slots__ = ("_left", "_rate", "_since", "_timeout")

    def __init__(self, timeout: float, bytes_per_second: float = 0.0) -> None:
        self._timeout = self._left = timeout
        self._rate = bytes_per_second
        self._since = 0.0

    def start(self, now: float) -> float:
        """Begin to wait for data; return until when it has to arrive."""
        self._since = now
        return now + self._left

    def stop(self, now: float, size: int) -> None:
        self._left -= now - self._since
        self.earn(size)

    def earn(self, size: int) -> None:
        """Record that `size` bytes arrived while they were not waited for."""
        if self._rate:
            self._left = min(self._timeout, self._left + size / self._rate)
