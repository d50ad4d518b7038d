"""TCP proxies between routers and the servers of the log, which cut, delay, or swallow answers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from chaos.peers import Peers

LOOPBACK: Final = "127.0.0.1"
CHUNK_BYTES: Final = 64 * 1024


class Mode(StrEnum):
    """What a disturbance does."""

    CUT = "cut"
    """Connections are reset, and new ones, too."""
    DELAY = "delay"
    """All that is sent, in both directions, arrives later."""
    SWALLOW = "swallow answers"
    """What servers send is dropped; what they get has an effect."""


@dataclass(frozen=True, slots=True)
class Disturbance:
    """A disturbance of some connections.

    Attributes:
        mode: what happens.
        router: the router at their one end; empty: all.
        server: the server at their other end; empty: all.
        delay: of each piece (s), if that is the mode.
    """

    mode: Mode
    router: str = ""
    server: str = ""
    delay: float = 0.0

    def concerns(self, router: str, server: str) -> bool:
        """Whether the connections of a router with a server are disturbed."""
        return self.router in ("", router) and self.server in ("", server)


class Proxies:
    """A proxy before each server.

    Args:
        targets: ports of the servers, by name.
        peers: finds the routers of connections.

    Attributes:
        ports: ports of the proxies, by name of the server.
    """

    def __init__(self, targets: Mapping[str, int], peers: Peers) -> None:
        self._targets = targets
        self._peers = peers
        self._listening: list[asyncio.Server] = []
        self._connections: set[_Connection] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._closed = False
        self._disturbance: Disturbance | None = None
        self.ports: dict[str, int] = {}

    async def start(self) -> None:
        """Listen."""
        for server, target in self._targets.items():

            async def accept(
                reader: asyncio.StreamReader,
                writer: asyncio.StreamWriter,
                server: str = server,
                target: int = target,
            ) -> None:
                serving = asyncio.ensure_future(self._serve(reader, writer, server, target))
                self._serving.add(serving)
                serving.add_done_callback(self._serving.discard)
                await serving

            listening = await asyncio.start_server(accept, LOOPBACK, 0)
            self._listening.append(listening)
            self.ports[server] = listening.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and end all connections."""
        self._closed = True
        for listening in self._listening:
            listening.close()
        for connection in [*self._connections]:
            connection.abort()
        for listening in self._listening:
            await listening.wait_closed()
        await asyncio.gather(*self._serving)

    async def disturb(self, disturbance: Disturbance, seconds: float) -> None:
        """Disturb connections for some time."""
        self._disturbance = disturbance
        if disturbance.mode is Mode.CUT:
            self._reset(disturbance)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._disturbance = None
            if disturbance.mode is Mode.SWALLOW:  # their streams of bytes have a gap
                self._reset(disturbance)

    def mode_of(self, router: str, server: str) -> tuple[Mode | None, float]:
        """Return what happens to the connections of a router with a server, and the delay."""
        disturbance = self._disturbance
        if disturbance is None or not disturbance.concerns(router, server):
            return None, 0.0
        return disturbance.mode, disturbance.delay

    def _reset(self, disturbance: Disturbance) -> None:
        for connection in [*self._connections]:
            if disturbance.concerns(connection.router, connection.server):
                connection.abort()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: str, target: int
    ) -> None:
        router = self._peers.name_of(writer.transport)
        if self.mode_of(router, server)[0] is Mode.CUT:
            writer.transport.abort()
            return
        try:
            to_server = await asyncio.open_connection(LOOPBACK, target)
        except OSError:
            writer.transport.abort()
            return
        connection = _Connection(self, router, server, (reader, writer), to_server)
        if self._closed:  # while this connection was opened
            connection.abort()
            return
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)


class _Connection:
    def __init__(
        self,
        proxies: Proxies,
        router: str,
        server: str,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        upstream: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self._proxies = proxies
        self.router = router
        self.server = server
        self._client = client
        self._upstream = upstream

    def abort(self) -> None:
        for _, writer in (self._client, self._upstream):
            writer.transport.abort()

    async def run(self) -> None:
        questions = asyncio.create_task(self._pass(self._client[0], self._upstream[1], answers=False))
        answers = asyncio.create_task(self._pass(self._upstream[0], self._client[1], answers=True))
        try:
            await asyncio.wait({questions, answers}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (questions, answers):
                task.cancel()
            await asyncio.wait({questions, answers})
            self.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                mode, delay = self._proxies.mode_of(self.router, self.server)
                if mode is Mode.SWALLOW and answers:
                    continue
                if mode is Mode.DELAY:
                    await asyncio.sleep(delay)
                writer.write(data)
                await writer.drain()
