"""The HTTP server: Tornado's, with connections that llhttp parses, that have deadlines and limits, and that drain."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final, cast

from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPServerConnectionDelegate
from tornado.ioloop import IOLoop
from tornado.iostream import IOStream

from edge.http import responses
from edge.http.connection import LINGER_SECONDS, Connection, ServerContext
from edge.http.peer import ProxyProtocolError, read_header
from edge.http.receive_budget import ReceiveBudget
from edge.http.responses import ProblemTypes
from edge.metrics import EdgeMetrics
from flowhook.asyncio_tasks import end_tasks, wait_at_most
from flowhook.http.listening import ListeningSocket, peer_address
from flowhook.http.open_connections import OpenConnections
from flowhook.process.server_certificates import Certificates
from flowhook.process.settings import EdgeSettings
from flowhook.process.ticks import until_tick
from flowhook.sharing.limit import network_of

HANDSHAKE_SECONDS: Final = 10.0  # time for the handshake of TLS
SWEEP_SECONDS: Final = 0.25  # interval of deadline checks; a timeout fires at most this much late
CERTIFICATE_SECONDS: Final = 1.0  # the same without connections, when only certificates are looked at, if there are any
# Refused excess connections that may linger, so that their senders see the 503; further ones may see a reset.
MAX_TURNED_AWAY: Final = 128
MAX_GIVING_WAY: Final = 64  # connections closed to make room for others that may linger; further ones may see a reset
# Time for which a stopping edge still serves its connections and marks each response as the last one (`Connection:
# close`), before it ends idle connections. A sender that is warned sends nothing into a closing one.
ANNOUNCE_SECONDS: Final = 1.0
# Connections that a stopping edge still accepts from each socket, because the kernel would reset them.
MAX_ACCEPTED_LATE: Final = 1024


class Server(HTTPServer):
    """The HTTP server. The caller adds sockets (`add_sockets`), runs `sweep` as a task, and finally calls `drain`."""

    def initialize(  # type: ignore[override]
        self,
        application: HTTPServerConnectionDelegate,
        settings: EdgeSettings,
        metrics: EdgeMetrics,
        *,
        max_connections: int,
        budget: ReceiveBudget | None = None,
        shared: Callable[[IPv4Address | IPv6Address], bool] = lambda _: False,
        certificates: Certificates | None = None,
    ) -> None:
        """Create a server; Tornado calls this with the arguments of the constructor.

        `budget` is for incomplete heads and for what is read ahead; `shared` returns whether many senders share an
        address.
        """
        super().initialize(application)
        self._certificates = certificates
        self._proxy_protocol = settings.proxy_protocol
        self._context = ServerContext(
            settings.header_timeout,
            settings.body_timeout,
            settings.idle_timeout,
            budget or ReceiveBudget(),
            self.start_request,
            self.on_close,
            metrics,
            ProblemTypes(settings.docs_url),
            settings.tls_client_common_names,
        )
        self._max_connections = max_connections
        self._metrics = metrics
        self._shared = shared
        self._max_of_one = settings.max_connections_per_address
        self._open = OpenConnections[Connection](
            most=max_connections, most_of_one=self._max_of_one, shared=shared, now=self._context.now
        )
        self._turned_away, self._giving_way = set[Connection](), set[Connection]()
        self._beginning = 0
        self._beginning_by_site: Counter[str] = Counter()
        self._listening: list[socket.socket] = []
        self._accepted_late, self._handshakes = set[asyncio.Task[None]](), set[asyncio.Task[None]]()
        self._one_less, self._one_more = asyncio.Event(), asyncio.Event()

    @property
    def connections(self) -> int:
        return len(self._open)

    def add_sockets(self, sockets: Iterable[socket.socket]) -> None:
        self._listening = list(sockets)
        super().add_sockets(self._listening)
        for each in self._listening:
            if isinstance(each, ListeningSocket):
                each.stop = partial(IOLoop.current().update_handler, each, 0)
                each.go_on = partial(IOLoop.current().update_handler, each, IOLoop.READ)

    async def handle_stream(self, stream: IOStream, address: tuple[Any, ...]) -> None:  # type: ignore[override]
        """Begin a connection, after TLS if the port has it; above the limits it is answered with 503, and closed."""
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._handshakes.add(task)
        trusted = self._authorities_version
        self._context.tick()
        self._one_more.set()
        try:
            connection = await self._begin(stream.socket, str(address[0]))
        finally:
            self._handshakes.discard(task)
        if connection is None:
            return
        if trusted != self._authorities_version:  # its certificate was checked against authorities that were replaced
            connection.close()
        elif self._make_room(connection.address):
            self._open.add(connection)
            connection.start()
        else:
            linger = len(self._turned_away) < MAX_TURNED_AWAY
            self._turned_away.add(connection)
            connection.reject(responses.TOO_MANY_CONNECTIONS, linger=linger)

    def on_close(self, server_conn: object) -> None:
        connection = cast("Connection", server_conn)
        self._open.discard(connection)
        self._giving_way.discard(connection)
        self._turned_away.discard(connection)
        self._one_less.set()

    def _make_room(self, address: IPv4Address | IPv6Address) -> bool:
        """Close connections until there is room for one more of an address; return False if there can be none."""
        while True:
            room, other = self._open.check_room(address)
            if room or other is None:
                return room
            self._open.discard(other)
            if not other.idle:
                other.expire()
            elif len(self._giving_way) < MAX_GIVING_WAY:
                self._giving_way.add(other)
                other.retire()
            else:
                other.close()

    async def _begin(self, sock: socket.socket, peer: str) -> Connection | None:
        """Read the PROXY header and do the TLS handshake; return the connection, or None when that fails."""
        if self._beginning >= self._max_connections:
            sock.close()
            return None
        self._beginning += 1
        site = ""  # whose count this connection increments; empty: none
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                if self._proxy_protocol:
                    peer = str(await read_header(partial(_read_exactly, sock)) or peer)
                address = peer_address(peer)
                if not self._shared(address):
                    site = network_of(address)
                    self._beginning_by_site[site] += 1
                    if self._beginning_by_site[site] > self._max_of_one:
                        sock.close()
                        return None
                connection = Connection(self._context, peer)
                # the protocol is not taken from the result: over TLS uvloop returns one of its own
                secure: dict[str, Any] = {}
                if self._certificates is not None:
                    # a peer that never confirms the end of TLS must not hold a descriptor for uvloop's 30 s
                    secure = {"ssl": self._certificates.context, "ssl_shutdown_timeout": LINGER_SECONDS}
                await asyncio.get_running_loop().connect_accepted_socket(lambda: connection, sock, **secure)
                return connection
        except (ProxyProtocolError, EOFError, OSError, TimeoutError):  # SSLError among them
            self._metrics.incomplete += 1
            sock.close()
            return None
        except asyncio.CancelledError:
            sock.close()
            raise
        finally:
            self._beginning -= 1
            if site:
                self._beginning_by_site[site] -= 1
                if not self._beginning_by_site[site]:
                    del self._beginning_by_site[site]
            self._one_less.set()

    def _is_empty(self) -> bool:
        return not (self._open or self._turned_away or self._giving_way or self._beginning or self._accepted_late)

    async def sweep(self) -> None:
        while True:
            await self._until_sweep()
            self._context.tick()
            self._renew_certificates()
            now = self._context.now()
            for connection in [each for each in self._all() if each.deadline < now]:
                connection.expire()

    async def _until_sweep(self) -> None:
        if not self._is_empty():
            await asyncio.sleep(SWEEP_SECONDS)
            return
        self._one_more.clear()
        seconds = None if self._certificates is None else until_tick(CERTIFICATE_SECONDS)
        await wait_at_most(seconds, self._one_more.wait())

    @property
    def _authorities_version(self) -> int:
        return 0 if self._certificates is None else self._certificates.authorities_version

    def _renew_certificates(self) -> None:
        """Reload certificates that changed; end the connections of senders whose authority may have been removed."""
        before = self._authorities_version
        if self._certificates is None or not self._certificates.refresh() or before == self._authorities_version:
            return
        for connection in self._open:
            if connection.context.client_names:
                connection.end_after_response()

    async def drain(self, seconds: float) -> None:
        """Stop accepting, and wait at most `seconds` for requests in progress, or arriving now, to finish.

        Source: RFC 9112, section 9.6: a server announces the end of a connection in the last response, and continues to
        read for a while.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        self._context.draining = True
        self._accept_late()
        self.stop()
        await asyncio.sleep(0)  # lets connections that were accepted just before start
        if await self._emptied(min(ANNOUNCE_SECONDS, seconds / 2)):
            return
        for connection in self._open:
            await asyncio.sleep(0)  # lets received data reach its connection
            if connection.idle:
                connection.retire()
        await self._emptied(end - loop.time())

    def _accept_late(self) -> None:
        for sock in self._listening:
            for _ in range(MAX_ACCEPTED_LATE):
                try:
                    connection, address = sock.accept()
                except OSError:  # none is left, or the process is out of file descriptors
                    break
                connection.setblocking(False)
                task = asyncio.ensure_future(self.handle_stream(IOStream(connection), address))
                self._accepted_late.add(task)
                task.add_done_callback(self._accepted_late.discard)
                task.add_done_callback(lambda _: self._one_less.set())

    async def _emptied(self, seconds: float) -> bool:
        """Wait at most `seconds` until no connection is left; return whether none is left."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._is_empty():
                    self._one_less.clear()
                    await self._one_less.wait()
        return self._is_empty()

    async def ended(self) -> None:
        """End all connections at once, after `drain`. The application has to cancel requests in progress."""
        for connection in self._all():
            connection.close()
        handshakes = tuple(self._handshakes)
        await end_tasks(handshakes)

    def _all(self) -> tuple[Connection, ...]:
        return (*self._open, *self._giving_way, *self._turned_away)


async def _read_exactly(sock: socket.socket, count: int) -> bytes:
    loop = asyncio.get_running_loop()
    data = b""
    while len(data) < count:
        piece = await loop.sock_recv(sock, count - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data
