"""The framing of a request body, declared or chunked, and the time that its sender has for it. No I/O, no clock.

llhttp decides what is a chunk. It neither limits chunk extensions, nor can it be stopped at the end of a message. So
`ChunkedBody` hands it one line, or the content of one chunk, at a time: within limits on framing, and on the work of
one turn of the loop.

Source: RFC 9112, section 7.1.
"""

from __future__ import annotations

from typing import Final

from httptools import HttpParserError, HttpRequestParser

from edge.http.head import MalformedRequestError

MAX_CHUNK_LINE_BYTES: Final = 256  # bytes of the line with the size and the extensions of one chunk
MAX_CHUNK_BYTES: Final = 1 << 60  # bytes of one chunk, as declared; the limits on bodies are much lower
MAX_TRAILER_BYTES: Final = 8192  # bytes of the trailer section of a chunked body, which is read and dropped
# Framing of a chunked body beyond its allowance of `CHUNK_FRAMING_BYTES` per chunk, plus twice the chunk's content.
MAX_EXCESS_BYTES: Final = 16 * 1024
# Framing allowed for a chunk of any size: to stream a byte at a time is legitimate, long extensions are not.
CHUNK_FRAMING_BYTES: Final = 16
# Lines of a chunked body that are parsed in one turn of the loop: some 100 µs, the cost of a small request.
LINES_AT_ONCE: Final = 128
# a head after which llhttp expects a chunked body
_HEAD: Final = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"


class _Content:
    """The callbacks of llhttp that collect the content of a body."""

    __slots__ = ("bytes", "complete", "on_body")

    def __init__(self) -> None:
        self.bytes = bytearray()
        self.on_body = self.bytes.extend
        self.complete = False

    def on_message_complete(self) -> None:
        self.complete = True


class ChunkedBody:
    """Incremental decoder of a chunked body. Feed it input until `done`; extensions and trailers are dropped."""

    __slots__ = ("_buffer", "_content", "_excess", "_parser", "_pending", "_trailer", "content", "more", "rest")

    def __init__(self) -> None:
        self._content = _Content()
        self._parser = HttpRequestParser(self._content)
        self._parser.feed_data(_HEAD)
        # bytes of the body received so far; the caller may remove what it has consumed
        self.content = self._content.bytes
        self.more = False  # whether buffered input is not parsed yet: call `feed` without data after a turn of the loop
        self.rest = b""  # when `done`, the input that followed the body
        self._buffer = b""
        self._pending = 0  # bytes missing from the current chunk, its CRLF included
        self._trailer = -1  # bytes of the trailer section so far; -1 before the last chunk
        self._excess = 0  # bytes of framing in excess of the allowance of the chunks so far

    @property
    def done(self) -> bool:
        return self._content.complete

    @property
    def buffered(self) -> int:
        return len(self._buffer)

    def feed(self, data: bytes = b"") -> None:
        """Parse up to `LINES_AT_ONCE` more lines; MalformedRequestError: no chunked body, or almost only framing."""
        data = self._buffer + data if self._buffer else data
        position = 0
        self.more = False
        for _ in range(LINES_AT_ONCE):
            if self._pending:  # the available part of the current chunk, and of its CRLF
                end = min(len(data), position + self._pending)
                self._parse(data[position:end])
                self._pending -= end - position
                position = end
                if self._pending:
                    break
            end = data.find(b"\n", position, position + MAX_CHUNK_LINE_BYTES + MAX_TRAILER_BYTES) + 1
            if not end:
                self._check_line(len(data) - position)
                break
            self._take_line(data[position:end])
            position = end
            if self.done:
                break
        else:
            self.more = position < len(data)
        self._buffer = data[position:]
        if self.done:
            self.rest, self._buffer = self._buffer, b""

    def _take_line(self, line: bytes) -> None:
        """Consume a line: a chunk's size, or a line of the trailer section."""
        length = len(line) - 2
        self._check_line(length)
        self._parse(line)
        if self._trailer >= 0:
            self._trailer += len(line)
            return
        size = int(line.partition(b";")[0], 16)
        if size >= MAX_CHUNK_BYTES:
            raise MalformedRequestError(400, "FRAMING_INVALID", "a chunk's size is malformed")
        # 4 bytes for two CRLFs: that of the line, and that of the content
        self._excess = max(0, self._excess + length + 4 - CHUNK_FRAMING_BYTES - 2 * size)
        if self._excess > MAX_EXCESS_BYTES:
            raise MalformedRequestError(400, "FRAMING_INVALID", "next to nothing but chunk extensions")
        if size:
            self._pending = size + 2
        else:
            self._trailer = 0

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:
            raise MalformedRequestError(400, "FRAMING_INVALID", str(error)) from None

    def _check_line(self, length: int) -> None:
        """Check the length of a line that may be incomplete."""
        if self._trailer < 0 and length > MAX_CHUNK_LINE_BYTES:
            raise MalformedRequestError(400, "FRAMING_INVALID", "a chunk's size line is too long")
        if self._trailer >= 0 and self._trailer + length > MAX_TRAILER_BYTES:
            raise MalformedRequestError(431, "HEADER_TOO_LARGE", "the trailer section is too long")


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
        """Return the body's content in `data`, and the bytes after the body; may raise MalformedRequestError."""
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
