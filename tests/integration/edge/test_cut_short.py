"""A body whose upload the router ends, in the very turn of the loop in which more of the body comes."""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from types import SimpleNamespace

import pytest_asyncio
from support.patience import PATIENCE

from edge import http_responses
from edge.body_stream import BodyStream
from edge.body_uploads import _until_it_ends
from edge.connection import NEVER, Connection
from edge.transport import ByteStream
from flowhook.errors import ExhaustedError

BEGINNING, REST = b"x" * 1000, b"y" * 500
UPLOAD = b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (len(BEGINNING) + len(REST))
NEXT = b"POST /victim HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"


class Host(SimpleNamespace):
    """What connections share; takes down which requests there were."""

    def __init__(self):
        super().__init__(
            header_timeout=NEVER,
            body_timeout=NEVER,
            idle_timeout=NEVER,
            keep_tail=b"\r\n",
            close_tail=b"Connection: close\r\n\r\n",
            draining=False,
            received=0,
            max_received=16 * 1024 * 1024,
            answered=lambda _: None,
            cut_short=lambda: None,
            now=asyncio.get_running_loop().time,
        )
        self.paths = []
        self.arrived = asyncio.Event()
        self.end = None
        """Ends the upload."""

    async def handle(self, request):
        self.paths.append(request.head.path)
        body = await request.receive(1024 * 1024, 100)
        if not isinstance(body, BodyStream):
            return http_responses.FLOW_FOUND

        async def take():
            self.arrived.set()
            async for _ in body:
                pass

        async def outcome():
            raise ExhaustedError("full", reason="FLOW_UPLOADS_FULL")

        def on_end(callback):
            self.end = callback

        try:
            await _until_it_ends(SimpleNamespace(on_end=on_end, outcome=outcome), take())
        except ExhaustedError:
            return http_responses.OVERLOADED
        return http_responses.FLOW_FOUND


@pytest_asyncio.fixture
async def connection(monkeypatch):
    monkeypatch.setattr("edge.connection.LINGER_SECONDS", 3600.0)
    own, peer = socket.socketpair()
    own.setblocking(False)
    peer.setblocking(False)
    host = Host()
    _, stream = await asyncio.get_running_loop().connect_accepted_socket(partial(ByteStream, host), own)
    serving = asyncio.ensure_future(Connection(stream, "127.0.0.1", host, host.handle).serve())
    with peer:
        yield SimpleNamespace(host=host, stream=stream, peer=peer)
        stream.close()
        await asyncio.wait_for(serving, PATIENCE)


async def test_no_byte_of_what_follows_is_taken_for_the_body_nor_of_the_body_for_a_request(connection):
    loop, host, peer = asyncio.get_running_loop(), connection.host, connection.peer
    await loop.sock_sendall(peer, UPLOAD + BEGINNING)
    await asyncio.wait_for(host.arrived.wait(), PATIENCE)
    while connection.stream._reader is None:
        await asyncio.sleep(0)
    connection.stream.data_received(REST)
    host.end()
    async with asyncio.timeout(PATIENCE):
        answer = await loop.sock_recv(peer, 4096)
    await loop.sock_sendall(peer, NEXT * 20)
    peer.shutdown(socket.SHUT_WR)
    async with asyncio.timeout(PATIENCE):
        while piece := await loop.sock_recv(peer, 4096):
            answer += piece
    assert host.paths == ["/upload"]
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"\r\nConnection: close\r\n" in answer
