"""How connections end on the event loop that processes run on, not that of the other tests; and on that one."""

from __future__ import annotations

import asyncio
import socket

import pytest
import uvloop
from support.patience import PATIENCE

from edge.http import responses
from edge.http.request import Application
from edge.http.server import Server
from edge.metrics import EdgeMetrics
from flowhook.process.settings import EdgeSettings

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize("new_loop", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_what_crosses_the_end_of_an_idle_connection_is_not_reset(monkeypatch, new_loop):
    monkeypatch.setattr("edge.http.server.ANNOUNCE_SECONDS", 0.0)
    monkeypatch.setattr("edge.http.connection.LINGER_SECONDS", 3600.0)

    async def handle(_request):
        return responses.FLOW_NOT_FOUND

    async def cross():
        server = Server(Application(handle, EdgeMetrics()), EdgeSettings(), EdgeMetrics(), max_connections=10)
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setblocking(False)
        server.add_sockets([listening])
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        writer.write(REQUEST)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 404 ")
        drained = asyncio.create_task(server.drain(3 * 3600.0))
        assert b"HTTP" not in await reader.read()  # to its end
        for _ in range(3):
            writer.write(REQUEST)
            await writer.drain()
            assert writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
            await asyncio.sleep(0)
        assert not drained.done()
        writer.close()
        await drained
        assert server.connections == 0

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(asyncio.wait_for(cross(), PATIENCE))


@pytest.mark.parametrize("new_loop", [uvloop.new_event_loop, asyncio.new_event_loop])
@pytest.mark.parametrize("begun", [REQUEST, b"PROXY TCP4"], ids=["request", "handshake"])
def test_what_never_comes_to_an_end_does_not_keep_the_edge_from_ending(monkeypatch, new_loop, begun):
    monkeypatch.setattr("edge.http.server.HANDSHAKE_SECONDS", 3600.0)

    async def run():
        arrived, cancelled = asyncio.Event(), []

        async def handle(_request):
            arrived.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(True)
                raise

        settings = EdgeSettings(proxy_protocol=begun != REQUEST)
        application = Application(handle, EdgeMetrics())
        server = Server(application, settings, EdgeMetrics(), max_connections=10)
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setblocking(False)
        server.add_sockets([listening])
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        writer.write(begun)
        if begun == REQUEST:
            await arrived.wait()
        await server.drain(0.0)
        assert cancelled == []
        await server.ended()
        await application.cancel()
        assert cancelled == [True] * (begun == REQUEST)
        assert server.connections == 0
        assert await reader.read() == b""
        writer.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(asyncio.wait_for(run(), PATIENCE))
