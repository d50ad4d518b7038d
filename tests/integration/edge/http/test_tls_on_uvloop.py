"""TLS on the event loop that processes run on, which is not the one of the other tests, and on that one."""

from __future__ import annotations

import asyncio
import socket
import ssl

import pytest
import uvloop
from support.certificates import Authority
from support.patience import PATIENCE

from edge.http import responses
from edge.http.request import Application
from edge.http.server import Server
from edge.metrics import EdgeMetrics
from flowhook.process.server_certificates import Certificates
from flowhook.process.settings import EdgeSettings

COUNT = 500
"""Requests."""


@pytest.mark.parametrize("new_loop", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_requests_over_tls_are_answered_however_many_come_at_once(tmp_path, new_loop):
    authority = Authority(tmp_path)
    certificate, key = authority.issue("edge")

    async def handle(_request):
        return responses.FLOW_NOT_FOUND

    async def ask():
        certificates = Certificates(certificate, key, None)
        server = Server(
            Application(handle, EdgeMetrics()),
            EdgeSettings(),
            EdgeMetrics(),
            max_connections=10,
            certificates=certificates,
        )
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setblocking(False)
        server.add_sockets([listening])
        context = ssl.create_default_context(cafile=str(authority.ca_file))
        reader, writer = await asyncio.open_connection(*listening.getsockname(), ssl=context)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * COUNT)
        received = b""
        async with asyncio.timeout(PATIENCE):
            while received.count(b"HTTP/1.1 404 ") < COUNT:
                received += await reader.read(65536)
        writer.transport.abort()
        server.stop()
        await server.ended()
        listening.close()
        return received.count(b"HTTP/1.1 404 ")

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(ask()) == COUNT
