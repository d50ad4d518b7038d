"""How a supervisor finds out whether an edge serves, whatever its connections begin with."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest
from support.certificates import Authority

from cli.supervisor.http_probe import probe
from edge.http import responses
from edge.http.request import Application
from edge.http.server import Server
from edge.metrics import EdgeMetrics
from flowhook.process.server_certificates import Certificates
from flowhook.process.settings import EdgeSettings


async def handle(_request):
    return responses.FLOW_NOT_FOUND


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("proxied", [False, True])
async def test_an_edge_is_asked_as_it_wants_to_be(tmp_path, tls, proxied):
    certificates = Certificates(*Authority(tmp_path).issue("edge"), None) if tls else None
    settings = EdgeSettings(proxy_protocol=proxied)
    server = Server(
        Application(handle, EdgeMetrics()), settings, EdgeMetrics(), max_connections=10, certificates=certificates
    )
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        server.add_sockets([listening])
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        status, body = await probe("GET", address, "/hook/-", tls=tls, proxied=proxied)
        assert (status, json.loads(body)["status"]) == (404, 404)
        assert (await probe("GET", address, "/hook/-", tls=tls, proxied=not proxied))[0] != 404
        server.stop()
        await server.ended()


@pytest.fixture
async def server():
    """Starts servers that answer a connection as a function says, and returns their addresses."""
    running = []

    async def serve(handler):
        running.append(await asyncio.start_server(handler, "127.0.0.1", 0))
        return f"127.0.0.1:{running[-1].sockets[0].getsockname()[1]}"

    yield serve
    for each in running:
        each.close()


async def test_an_answer_may_come_in_parts(server):
    async def answer(reader, writer):
        await reader.readline()
        for part in (b"HTTP/1.1 503 ", b"No\r\nA: b\r\n", b"\r\n{", b"}"):
            writer.write(part)
            await writer.drain()
        writer.close()

    assert await probe("GET", await server(answer), "/readyz") == (503, b"{}")


async def test_without_an_answer_there_is_no_status(server):
    async def hang_up(_reader, writer):
        writer.close()

    async def say_nothing(reader, writer):
        await reader.read()
        writer.close()

    assert await probe("GET", await server(hang_up), "/") == (0, b"")
    assert await probe("GET", await server(say_nothing), "/", timeout_seconds=0.05) == (0, b"")
