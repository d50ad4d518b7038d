"""A byte stream over TCP or TLS, on asyncio transports (which uvloop implements in C).

Tornado's `IOStream` closes both directions when the peer has shut one. A sender that ends its side right after the
request, as `nc` and some HTTP/1.0 clients do, would never see the response. It also costs a third of the total time of
a small request (docs/performance.md).

Source: RFC 9112, section 9.6: a server should not treat a half-closed connection as a closed one.
"""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

from tornado.iostream import StreamClosedError

from edge.tls import certificate_names


class ReceiveBudget(Protocol):
    """The receive budget that all connections share: bytes of received data in memory, and their maximum."""

    received: int
    max_received: int


class ByteStream(asyncio.Protocol):
    """One connection, with one reader and one writer at a time.

    At most one piece is read ahead, of a size that the loop determines (256 KB); the rest stays in the kernel.

    Attributes:
        scheme: scheme of the URLs called over it: `http`, or `https` over TLS.
        client_names: names in the sender's certificate, verified by TLS; empty without a certificate.
    """

    __slots__ = ("_ahead", "_blocked", "_budget", "_ended", "_loop", "_lost", "_reader", "_transport", "_writer",
                 "client_names", "scheme")  # fmt: skip

    def __init__(self, budget: ReceiveBudget) -> None:
        self._loop = asyncio.get_running_loop()
        self._budget = budget
        self._transport: asyncio.Transport | None = None
        self._reader: asyncio.Future[bytes] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._ahead = b""  # received while there was no reader; reading is paused until it is consumed
        self._blocked = False  # whether written data is still buffered here
        self._ended = False
        self._lost = False
        self.scheme = "http"
        self.client_names: tuple[str, ...] = ()

    async def read(self, most: int) -> bytes:
        """Return the next 1 to `most` bytes; if cancelled, no data is lost.

        Raises:
            StreamClosedError: the stream has ended.
        """
        if self._ahead:
            return self._take_ahead(most)
        if self._ended or self._lost:
            raise StreamClosedError
        self._reader = reader = self._loop.create_future()
        try:
            data: bytes = await reader
        except asyncio.CancelledError:
            if reader.done() and not reader.cancelled() and reader.exception() is None:  # received in the same turn
                self._keep(reader.result() + self._ahead)
            raise
        finally:
            self._reader = None
        if len(data) > most:
            self._keep(data[most:] + self._ahead)
            return data[:most]
        return data

    def write(self, data: bytes) -> None:
        """Send bytes, buffering what the kernel does not accept at once; without effect on a lost connection."""
        if self._transport is not None:
            self._transport.write(data)

    def has_unsent(self) -> bool:
        """Whether written data is still buffered, waiting for the sender to receive it."""
        return self._blocked

    async def flush(self) -> None:
        """Wait until the sender has received what was written.

        Raises:
            StreamClosedError: the connection is lost.
        """
        if self._lost:
            raise StreamClosedError
        if self._blocked:
            self._writer = self._loop.create_future()
            try:
                await self._writer
            finally:
                self._writer = None

    def closed(self) -> bool:
        """Whether neither side can send any more."""
        return self._lost

    def close(self) -> None:
        """End the connection; buffered data is discarded."""
        transport, self._transport = self._transport, None
        if transport is None:
            return
        if self._blocked:
            transport.abort()
        else:
            transport.close()
        self._lose()

    def peer_has_ended(self) -> bool:
        """Whether the peer has ended its side; False while data that it sent before is unread.

        Raises:
            StreamClosedError: the connection is lost.
        """
        if self._lost:
            raise StreamClosedError
        return self._ended and not self._ahead

    def shut_write_side(self) -> bool:
        """End the write side, and leave the read side open; return False if that is impossible, as with TLS."""
        if self._transport is None or not self._transport.can_write_eof():
            return False
        self._transport.write_eof()
        return True

    def has_unread(self) -> bool:
        """Whether received data is unread."""
        return bool(self._ahead)

    # Callbacks of asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Attach the stream to its transport."""
        transport = cast("asyncio.Transport", transport)  # uvloop's has the same methods, but is no subclass
        secured = transport.get_extra_info("ssl_object")
        # without TLS `pause_writing` is called as soon as the kernel accepts no more, over TLS when `high` is reached
        transport.set_write_buffer_limits(high=0 if secured is None else 1, low=0)
        if secured is not None:
            self.scheme = "https"
            self.client_names = certificate_names(secured.getpeercert())
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Pass data to the reader, or buffer it; drop what TLS still delivers after the connection was ended."""
        reader = self._reader
        if reader is not None and not reader.done():
            reader.set_result(data)
        else:
            self._keep(self._ahead + data)

    def eof_received(self) -> bool:
        """Record that the peer has ended its side, and leave the write side open, except over TLS, which can't."""
        self._ended = True
        self._wake_reader()
        return self.scheme == "http"

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the cause makes no difference
        """Record that the connection is lost."""
        self._transport = None
        self._lose()

    def pause_writing(self) -> None:
        """Record that the kernel accepts no more data."""
        self._blocked = True

    def resume_writing(self) -> None:
        """Record that the kernel has accepted everything."""
        self._blocked = False
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(None)

    def _keep(self, data: bytes) -> None:
        """Set the read-ahead data and pause reading; end the connection when it exceeds the receive budget."""
        if self._lost:  # the budget it would take would never be returned
            return
        budget = self._budget
        budget.received += len(data) - len(self._ahead)
        self._ahead = data
        if budget.received > budget.max_received:
            self.close()
        elif self._transport is not None:
            self._transport.pause_reading()

    def _take_ahead(self, most: int) -> bytes:
        data = self._ahead[:most]
        self._ahead = self._ahead[most:]
        self._budget.received -= len(data)
        if not self._ahead and self._transport is not None:
            self._transport.resume_reading()
        return data

    def _lose(self) -> None:
        if not self._lost:
            self._lost = True
            self._budget.received -= len(self._ahead)
            self._ahead = b""
        self._wake_reader()
        if self._writer is not None and not self._writer.done():
            self._writer.set_exception(StreamClosedError())

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_exception(StreamClosedError())
