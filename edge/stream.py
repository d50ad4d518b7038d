"""A sender's connection, as bytes: over TCP or TLS, on the transports of asyncio (which uvloop has in C).

Tornado's `IOStream` closes both directions when the peer has shut one, so that a sender that ends its side right after
the request, as `nc` and some HTTP/1.0 clients do, would never see the answer. It also costs a third of all the time
that a small request takes (docs/performance.md).

Source: RFC 9112, section 9.6: a server should not take a half-closed connection for a closed one.
"""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

from tornado.iostream import StreamClosedError

from edge.tls import names_of


class Budget(Protocol):
    """What all connections share: how much of what was received may be in memory."""

    received: int
    max_received: int


class Stream(asyncio.Protocol):
    """One connection. One reader and one writer at a time.

    At most one piece is read ahead, of a size that the loop sets (256 KB); the rest stays in the kernel.

    Attributes:
        scheme: of the URLs that are called over it: `http`, or `https` over TLS.
        client_names: of the sender's certificate, which TLS verified; none without one.
    """

    __slots__ = ("_ahead", "_blocked", "_budget", "_ended", "_loop", "_lost", "_reader", "_transport", "_writer",
                 "client_names", "scheme")  # fmt: skip

    def __init__(self, budget: Budget) -> None:
        self._loop = asyncio.get_running_loop()
        self._budget = budget
        self._transport: asyncio.Transport | None = None
        self._reader: asyncio.Future[bytes] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._ahead = b""  # came while nobody read; nothing more comes until it is taken
        self._blocked = False  # whether something written is still here
        self._ended = False
        self._lost = False
        self.scheme = "http"
        self.client_names: tuple[str, ...] = ()

    async def read(self, most: int) -> bytes:
        """Return what comes next, 1 to `most` bytes; when cancelled, the next call does.

        Raises:
            StreamClosedError: nothing comes any more.
        """
        if self._ahead:
            return self._take_ahead(most)
        if self._ended or self._lost:
            raise StreamClosedError
        self._reader = reader = self._loop.create_future()
        try:
            data: bytes = await reader
        except asyncio.CancelledError:
            if reader.done() and not reader.cancelled() and reader.exception() is None:  # it came in the same turn
                self._keep(reader.result() + self._ahead)
            raise
        finally:
            self._reader = None
        if len(data) > most:
            self._keep(data[most:] + self._ahead)
            return data[:most]
        return data

    def write(self, data: bytes) -> None:
        """Send bytes, or keep what the kernel does not take at once; without effect on a connection that is gone."""
        if self._transport is not None:
            self._transport.write(data)

    def writing(self) -> bool:
        """Whether something that was written waits for the sender to take it."""
        return self._blocked

    async def flush(self) -> None:
        """Wait until the sender has taken what was written.

        Raises:
            StreamClosedError: it never will.
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
        """End the connection; what the sender has not taken yet is lost."""
        transport, self._transport = self._transport, None
        if transport is None:
            return
        if self._blocked:
            transport.abort()
        else:
            transport.close()
        self._lose()

    def peer_ended(self) -> bool:
        """Whether the peer has ended its side; false while something it sent before was not read yet.

        Raises:
            StreamClosedError: the connection is gone.
        """
        if self._lost:
            raise StreamClosedError
        return self._ended and not self._ahead

    def shut_write_side(self) -> bool:
        """Tell the peer that nothing more comes; what it sends can still be read. False: TLS has no such thing."""
        if self._transport is None or not self._transport.can_write_eof():
            return False
        self._transport.write_eof()
        return True

    def read_ahead(self) -> bool:
        """Whether something has come that was not read yet."""
        return bool(self._ahead)

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection over."""
        transport = cast("asyncio.Transport", transport)  # uvloop's has its methods, and is none
        secured = transport.get_extra_info("ssl_object")
        # `pause_writing` is called as soon as the kernel takes no more; over TLS when as much is left as is said here
        transport.set_write_buffer_limits(high=0 if secured is None else 1, low=0)
        if secured is not None:
            self.scheme = "https"
            self.client_names = names_of(secured.getpeercert())
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Hand on what has come, or keep it; drop what TLS still brings of a connection that was ended."""
        reader = self._reader
        if reader is not None and not reader.done():
            reader.set_result(data)
        else:
            self._keep(self._ahead + data)

    def eof_received(self) -> bool:
        """Note that the peer has ended its side, and keep ours; TLS has no half-closed connections."""
        self._ended = True
        self._wake_reader()
        return self.scheme == "http"

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why makes no difference
        """Note that the connection is gone."""
        self._transport = None
        self._lose()

    def pause_writing(self) -> None:
        """Note that the kernel takes no more."""
        self._blocked = True

    def resume_writing(self) -> None:
        """Note that the kernel has taken everything."""
        self._blocked = False
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(None)

    def _keep(self, data: bytes) -> None:
        """Have this read ahead, and nothing more; end the connection when there is no memory for it."""
        if self._lost:  # nobody gives back what it would take
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
