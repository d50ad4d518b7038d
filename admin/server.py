"""The HTTP server of the admin process: Tornado's, with limits of connections in total and for each address.

At a limit, the connection that has waited longest for a request gives way; if each has one, the new one is closed.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections.abc import Callable, Iterable
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from socket import socket
from typing import Any, cast

import attrs
import tornado.httpserver
from tornado.httputil import HTTPConnection, HTTPMessageDelegate, HTTPServerConnectionDelegate
from tornado.ioloop import IOLoop
from tornado.iostream import IOStream, SSLIOStream

from flowhook.http.listening import ListeningSocket, peer_address
from flowhook.http.open_connections import NEVER, OpenConnections


@attrs.define(eq=False, repr=False)
class _Connection:
    """A connection in the table; see `ClosableConnection`."""

    stream: IOStream
    address: IPv4Address | IPv6Address
    waiting_since: float
    idle: bool = True


class Server(tornado.httpserver.HTTPServer):
    """The HTTP server."""

    def initialize(  # type: ignore[override]
        self,
        application: HTTPServerConnectionDelegate,
        *,
        max_connections: int,
        max_of_one: int,
        shared: Callable[[IPv4Address | IPv6Address], bool],
        tls: ssl.SSLContext | None = None,
        **options: Any,
    ) -> None:
        """Create a server; Tornado calls this with the arguments of the constructor, `options` of which are its own.

        `max_connections` may be open, of one address, or one /64 of IPv6, `max_of_one`, unless many clients share it.
        """
        super().initialize(application, ssl_options=tls, **options)
        self._now = asyncio.get_running_loop().time
        self._open = OpenConnections[_Connection](
            most=max_connections, most_of_one=max_of_one, shared=shared, now=self._now
        )
        self._by_stream: dict[IOStream, _Connection] = {}

    @property
    def connections(self) -> int:
        return len(self._open)

    def renew_tls(self, context: ssl.SSLContext) -> None:
        self.ssl_options = context

    def add_sockets(self, sockets: Iterable[socket]) -> None:
        listening = list(sockets)
        super().add_sockets(listening)
        for each in listening:
            if isinstance(each, ListeningSocket):
                each.stop = partial(IOLoop.current().update_handler, each, 0)
                each.go_on = partial(IOLoop.current().update_handler, each, IOLoop.READ)

    def handle_stream(self, stream: IOStream, address: tuple[Any, ...]) -> None:
        """Register a connection; if its address or the server has too many, an idle one is closed, or this one."""
        connection = _Connection(stream, peer_address(str(address[0])), self._now())
        while True:
            room, other = self._open.check_room(connection.address)
            if room:
                break
            if other is None:
                stream.close()
                return
            self._open.discard(other)
            other.stream.close()
        if isinstance(stream, SSLIOStream):
            stream.read_from_fd = partial(_reset_if_broken, stream.read_from_fd)  # type: ignore[method-assign]
            stream.write_to_fd = partial(_reset_if_broken, stream.write_to_fd)  # type: ignore[assignment,method-assign]
        self._open.add(connection)
        self._by_stream[stream] = connection
        super().handle_stream(stream, address)

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        delegate = super().start_request(server_conn, request_conn)
        connection = self._by_stream.get(cast("Any", server_conn).stream)
        if connection is not None:
            connection.idle, connection.waiting_since = True, self._now()
            delegate.headers_received = partial(_begin, connection, delegate.headers_received)  # type: ignore[method-assign]
        return delegate

    def on_close(self, server_conn: object) -> None:
        super().on_close(server_conn)
        if (connection := self._by_stream.pop(cast("Any", server_conn).stream, None)) is not None:
            self._open.discard(connection)


def _begin(connection: _Connection, receive: Callable[..., Any], *head: Any) -> Any:
    """Pass the head of a request on, and note that its connection has one."""
    connection.idle, connection.waiting_since = False, NEVER
    return receive(*head)


def _reset_if_broken(move: Callable[[Any], int | None], data: Any) -> int | None:
    """Receive or send over TLS; a client that breaks off, or sends anything else than TLS, counts as a reset.

    Tornado knows that only of OpenSSL before 3.0: it would log a traceback.
    """
    try:
        return move(data)
    except ssl.SSLError:
        raise ConnectionResetError(errno.ECONNRESET, "the TLS connection broke") from None
