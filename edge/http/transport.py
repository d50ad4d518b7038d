"""Flow control and the ends of one connection over TCP or TLS, on asyncio transports (which uvloop implements in C).

Source: RFC 9112, section 9.6: a server should not treat a half-closed connection as a closed one. (Tornado's `IOStream`
does, so some senders would never see the response.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import Concatenate, ParamSpec, TypeVar, cast

from edge.http.peer import Peer, certificate_names
from edge.http.receive_budget import Overloaded, ReceiveBudget, charge
from flowhook.http.listening import peer_address
from flowhook.process import logs

log = logs.get_logger(__name__)


_P = ParamSpec("_P")
_T = TypeVar("_T", bound="BufferedTransport")


def loop_callback(method: Callable[Concatenate[_T, _P], None]) -> Callable[Concatenate[_T, _P], None]:
    """Let a method that the loop calls end the connection if it fails, as the loop does for `data_received`."""

    def callback(self: _T, /, *args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception:
            log.exception("connection failed", address=self.context.remote_ip)
            self.abort()

    return callback


class BufferedTransport(asyncio.Protocol):
    """The transport of a connection, and the data that was received and not used yet.

    At most one piece is read ahead, of a size that the loop determines (256 KB); the rest stays in the kernel.
    """

    def __init__(self, budget: ReceiveBudget, remote_ip: str, *, common_names: bool = False) -> None:
        self._common_names = common_names  # whether they count in all certificates of senders
        self._transport: asyncio.Transport | None = None
        self._buffer = b""  # received and not yet used
        self._paused = False  # whether nothing is received
        self._blocked = False  # whether written data is still buffered here
        self._peer_ended = False
        self._written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._written.set_result(None)
        self.address: IPv4Address | IPv6Address = peer_address(remote_ip)  # address of the sender's side
        self.context = Peer(remote_ip, "http", self.address)  # the sender's side; valid when the connection is made
        self._memory = budget.seat(self.address)  # what is charged for the buffer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Attach the connection to its transport."""
        transport = cast("asyncio.Transport", transport)  # uvloop's has the same methods, but is no subclass
        secured = transport.get_extra_info("ssl_object")
        # without TLS `pause_writing` is called as soon as the kernel accepts no more, over TLS when `high` is reached
        transport.set_write_buffer_limits(high=0 if secured is None else 1, low=0)
        if secured is not None:
            names = certificate_names(secured.getpeercert(), common_names=self._common_names)
            self.context = self.context._replace(protocol="https", client_names=names)
        self._transport = transport

    def abort(self) -> None:
        """End the connection now."""
        raise NotImplementedError

    def pause_writing(self) -> None:
        """Record that the kernel accepts no more data."""
        self._blocked = True
        self._written = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        """Record that the kernel has accepted everything."""
        self._blocked = False
        self._written.set_result(None)

    def write(self, chunk: bytes) -> asyncio.Future[None]:
        """Send bytes; without effect on a connection that has ended.

        The returned future is done when the kernel has accepted everything, or the connection has ended.
        """
        if self._transport is not None:
            self._transport.write(chunk)
        return self._written

    def _store(self, size: int) -> bool:
        """Charge the last `size` bytes of the buffer, and receive nothing more; return False if there is no memory."""
        try:
            charge(self._memory, self._memory.size + size)
        except Overloaded:
            return False
        if not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        return True

    def _charge(self, size: int) -> None:
        """Charge `size` bytes for what is buffered, in place of what was charged so far, or raise Overloaded."""
        charge(self._memory, size)

    def _release(self) -> None:
        """Give back what is charged for the buffer, because it is used now."""
        if self._memory.size:
            self._memory.resize(0)

    def _read_on(self) -> None:
        """Receive again."""
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    def _shut_write_side(self) -> bool:
        """End the write side, and leave the read side open; return False if that is impossible, as with TLS."""
        if self._transport is None or not self._transport.can_write_eof():
            return False
        try:
            self._transport.write_eof()
        except OSError:  # asyncio's transport, after a reset that the loop has not seen yet
            return False
        return True

    def _disconnect(self) -> bool:
        """End both sides; what the sender has not received is discarded. Return False if they had ended before."""
        transport, self._transport = self._transport, None
        if transport is None:
            return False
        if self._blocked:
            transport.abort()
        else:
            transport.close()
        self._buffer = b""
        self._release()
        if not self._written.done():
            self._written.set_result(None)
        return True
