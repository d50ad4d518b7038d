"""TLS on the event loop that processes run on, which is not the one of the other tests."""

from __future__ import annotations

import asyncio
import socket
import ssl

import uvloop
from support.certificates import Authority

from edge import answers
from edge.metrics import Counts
from edge.server import Server
from edge.tls import Certificates
from flowhook.config import EdgeSettings


def test_a_request_over_tls_is_answered(tmp_path):
    authority = Authority(tmp_path)
    certificate, key = authority.issue("edge")

    async def handle(_request):
        return answers.FLOW_NOT_FOUND

    async def ask():
        certificates = Certificates(certificate, key, None)
        server = Server(EdgeSettings(), handle, Counts(), max_connections=10, certificates=certificates)
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setblocking(False)
        server.add_sockets([listening])
        context = ssl.create_default_context(cafile=str(authority.ca_file))
        reader, writer = await asyncio.open_connection(*listening.getsockname(), ssl=context)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        received = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        writer.transport.abort()
        server.stop()
        await server.ended()
        listening.close()
        return received

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(ask()).startswith(b"HTTP/1.1 404 ")
