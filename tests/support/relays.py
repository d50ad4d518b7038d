"""A relay before a server, which counts what either side took of what the other one sent, and can stand still."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from contextlib import asynccontextmanager
from typing import Final

BUFFER: Final = 64 * 1024
"""Bytes that the relay's own sockets hold at the most, or so: what a server did not read shows as not taken."""


class Relay:
    """Counts bytes on their way to the server (`taken`) and back (`returned`)."""

    def __init__(self, target, source=""):
        self._source = source
        self.lead_to(target)
        self._writers = []
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.taken = self.returned = 0
        self.connections = 0
        self.target = ""

    def lead_to(self, target):
        """Relay new connections to this server."""
        self._host, _, self._port = target.rpartition(":")

    async def connect(self, reader, writer):
        ours = socket.socket()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        ours.setblocking(False)
        if self._source:
            ours.bind((self._source, 0))
        await asyncio.get_running_loop().sock_connect(ours, (self._host, int(self._port)))
        server_reader, server_writer = await asyncio.open_connection(sock=ours, limit=BUFFER)
        self._writers += [writer, server_writer]
        self.connections += 1
        try:
            with contextlib.suppress(ConnectionError):
                await asyncio.gather(
                    self._pass(reader, server_writer, "taken"), self._pass(server_reader, writer, "returned")
                )
        finally:
            self.connections -= 1

    def pause(self):
        """Pass nothing on, as if the server had been stopped by SIGSTOP: connections stay open, new ones are taken."""
        self._flowing.clear()

    def resume(self):
        """Pass on what has arrived meanwhile, and go on."""
        self._flowing.set()

    def abort(self):
        """End all connections."""
        for writer in self._writers:
            writer.transport.abort()

    async def _pass(self, reader, writer, counter):
        try:
            while data := await reader.read(BUFFER):
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()
                setattr(self, counter, getattr(self, counter) + len(data))
        finally:
            writer.close()


@asynccontextmanager
async def relayed(target, source=""):
    """Relay to a server at `target`, from the address `source`."""
    relay = Relay(target, source)
    server = await asyncio.start_server(relay.connect, "127.0.0.1", 0, limit=BUFFER)
    relay.target = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        try:
            yield relay
        finally:
            relay.abort()
