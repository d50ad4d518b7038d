"""How connections end on the event loop that processes run on, not that of the other tests; and on that one."""

from __future__ import annotations

import asyncio
import socket
import struct
from itertools import product

import pytest
import uvloop
from support.patience import PATIENCE, until

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


@pytest.mark.parametrize("new_loop", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_senders_that_are_gone_are_not_held_whatever_they_sent_before(monkeypatch, new_loop):
    monkeypatch.setattr("edge.http.request.LOOK_SECONDS", 0.01)
    ends = {"closed": b"", "reset": struct.pack("ii", 1, 0)}
    behind = {"nothing": b"", "empty-line": b"\r\n", "request": REQUEST, "more-than-is-read": REQUEST * 40_000}
    held = set()

    async def handle(request):
        held.add(request.head.query)
        try:
            return await request.hold(asyncio.Event().wait())
        finally:
            held.remove(request.head.query)

    async def run():
        application = Application(handle, EdgeMetrics())
        server = Server(application, EdgeSettings(), EdgeMetrics(), max_connections=100)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.setblocking(False)
            server.add_sockets([listening])
            senders = []
            for version, end, data in product(("1.0", "1.1"), ends, behind):
                sender = socket.create_connection(listening.getsockname())
                sender.setblocking(False)
                # it arrives before the connection is accepted
                sender.send(f"GET /?{version},{end},{data} HTTP/{version}\r\nHost: a\r\n\r\n".encode() + behind[data])
                senders.append((sender, ends[end]))
            await until(lambda: len(held) == len(senders))
            for sender, linger in senders:
                if linger:
                    sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                sender.close()
            await until(lambda: not held)
            await server.ended()
            await application.cancel()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(asyncio.wait_for(run(), PATIENCE))
