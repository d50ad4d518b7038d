"""Accepts connections, looks after their deadlines, and ends them in good order."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from email.utils import formatdate
from functools import partial
from typing import Any, Final

from tornado.iostream import IOStream
from tornado.tcpserver import TCPServer

from edge import answers
from edge.answers import Answer
from edge.connection import Connection
from edge.metrics import Counts
from edge.proxy_protocol import ProxyProtocolError, read_header
from edge.request import Handler
from edge.stream import Stream
from edge.tls import HANDSHAKE_SECONDS, Certificates
from flowhook import limits
from flowhook.config import EdgeSettings

SWEEP_SECONDS: Final = 0.25
"""How often deadlines are looked at; a timeout is this much late at the most."""

MAX_RECEIVED_BYTES: Final = 512 * limits.MIB
"""Bodies and incomplete heads in memory; beyond it large or slow ones are refused with 503."""

MAX_TURNED_AWAY: Final = 128
"""Connections that were one too many and may linger, so that their senders see the 503; others may see a reset."""


class Server(TCPServer):
    """The HTTP server. Give it sockets (`add_sockets`), keep `sweep` running, and `drain` it in the end."""

    def __init__(
        self,
        settings: EdgeSettings,
        handler: Handler,
        counts: Counts,
        *,
        max_connections: int,
        certificates: Certificates | None = None,
    ) -> None:
        super().__init__()
        self._certificates = certificates
        self._proxy_protocol = settings.proxy_protocol
        self.header_timeout = settings.header_timeout
        self.body_timeout = settings.body_timeout
        self.idle_timeout = settings.idle_timeout
        self.draining = False
        self.received = 0
        self.max_received = MAX_RECEIVED_BYTES
        self.keep_tail = b""
        self.close_tail = b""
        self.now = asyncio.get_running_loop().time
        self._max_connections = max_connections
        self._handler = handler
        self._counts = counts
        self._connections: set[Connection] = set()
        self._turned_away: set[Connection] = set()
        self._beginning = 0
        self._empty = asyncio.Event()
        self._date = 0
        self._tick()

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    async def handle_stream(self, stream: IOStream, address: tuple[Any, ...]) -> None:
        """Serve a new connection to its end."""
        peer = str(address[0])
        own, peer = await self._begin(stream.socket, peer)
        if own is None:
            return
        connection = Connection(own, peer, self, self._handler)
        if len(self._connections) >= self._max_connections:
            await self._turn_away(connection)
            return
        self._connections.add(connection)
        try:
            await connection.serve()
        finally:
            self._connections.discard(connection)
            self._tell_if_empty()

    async def _begin(self, sock: socket.socket, peer: str) -> tuple[Stream | None, str]:
        """Take what comes before HTTP: who is behind a balancer, and the handshake of TLS; None: it did not go well."""
        if self._beginning >= self._max_connections:
            sock.close()
            return None, peer
        self._beginning += 1
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                if self._proxy_protocol:
                    peer = str(await read_header(partial(_read_exactly, sock)) or peer)
                stream = Stream(self)
                # of a connection over TLS uvloop returns a protocol of its own, not ours
                await asyncio.get_running_loop().connect_accepted_socket(
                    lambda: stream, sock, ssl=None if self._certificates is None else self._certificates.context
                )
                return stream, peer
        except (ProxyProtocolError, EOFError, OSError, TimeoutError):  # SSLError among them
            self._counts.incomplete += 1
            sock.close()
            return None, peer
        finally:
            self._beginning -= 1

    async def _turn_away(self, connection: Connection) -> None:
        linger = len(self._turned_away) < MAX_TURNED_AWAY
        self._turned_away.add(connection)
        try:
            await connection.reject(answers.TOO_MANY_CONNECTIONS, linger=linger)
        finally:
            self._turned_away.discard(connection)
            self._tell_if_empty()

    def _tell_if_empty(self) -> None:
        if not self._connections and not self._turned_away:
            self._empty.set()

    def answered(self, answer: Answer) -> None:
        """Count an answer."""
        self._counts.answered(answer.status, answer.reason)

    def cut_short(self) -> None:
        """Count a request whose sender went away before it was complete."""
        self._counts.incomplete += 1

    async def sweep(self) -> None:
        """End connections that are past their deadline, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self._tick()
            if self._certificates is not None:
                self._certificates.refresh()
            now = self.now()
            for connection in [each for each in self._connections if each.deadline < now]:
                connection.expire()

    async def drain(self, seconds: float) -> None:
        """Stop accepting, and let requests that are under way finish for at most `seconds`."""
        self.stop()
        self.draining = True
        self._empty.clear()
        for connection in tuple(self._connections):
            connection.close_if_idle()
        if self._connections or self._turned_away:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._empty.wait()

    async def ended(self) -> None:
        """Wait until no connection is left; call it when nothing is to be waited for any more."""
        for connection in (*self._connections, *self._turned_away):
            connection.abort()
        while self._connections or self._turned_away:
            self._empty.clear()
            await self._empty.wait()

    def _tick(self) -> None:
        now = int(time.time())
        if now != self._date:
            self._date = now
            date = b"Date: " + formatdate(now, usegmt=True).encode("ascii") + b"\r\n"
            self.keep_tail = date + b"\r\n"
            self.close_tail = date + b"Connection: close\r\n\r\n"


async def _read_exactly(sock: socket.socket, count: int) -> bytes:
    loop = asyncio.get_running_loop()
    data = b""
    while len(data) < count:
        piece = await loop.sock_recv(sock, count - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data
