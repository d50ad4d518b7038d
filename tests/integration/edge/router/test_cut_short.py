"""A body whose upload the router ends, in the very turn of the loop in which more of the body comes."""

from __future__ import annotations

import asyncio
import socket
from types import SimpleNamespace

import pytest
import pytest_asyncio
from support.patience import PATIENCE

from edge.http import responses
from edge.http.connection import NEVER, Connection, ServerContext
from edge.http.receive_budget import ReceiveBudget
from edge.http.request import Application, BodyStream
from edge.metrics import EdgeMetrics
from edge.router.body_uploads import _until_it_ends
from flowhook.errors import ExhaustedError

BEGINNING, REST = b"x" * 100_000, b"y" * 500
UPLOAD = b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (len(BEGINNING) + len(REST))
NEXT = b"POST /victim HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"


class StubServerContext(ServerContext):
    """What connections share; takes down which requests there were."""

    def __init__(self):
        application = Application(self.handle, EdgeMetrics())
        super().__init__(NEVER, NEVER, NEVER, ReceiveBudget(), application.start_request, lambda _: None)
        self.requests = []
        self.arrived = asyncio.Event()
        self.end = None
        """Ends the upload."""

    async def handle(self, request):
        self.requests.append(f"{request.head.method} {request.head.path}")
        body = await request.receive(1024 * 1024, 100)
        if not isinstance(body, BodyStream):
            return responses.FLOW_FOUND

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
            return responses.OVERLOADED
        return responses.FLOW_FOUND


@pytest_asyncio.fixture
async def connection(monkeypatch):
    monkeypatch.setattr("edge.http.connection.LINGER_SECONDS", 3600.0)
    own, peer = socket.socketpair()
    own.setblocking(False)
    peer.setblocking(False)
    server = StubServerContext()
    connection = Connection(server, "127.0.0.1")
    await asyncio.get_running_loop().connect_accepted_socket(lambda: connection, own)
    connection.start()
    with peer:
        yield SimpleNamespace(server=server, own=connection, peer=peer)
        connection.close()


@pytest.mark.parametrize("whole", [True, False], ids=["the rest of it", "a part of the rest"])
async def test_no_byte_of_what_follows_is_taken_for_the_body_nor_of_the_body_for_a_request(connection, whole):
    loop, server, peer = asyncio.get_running_loop(), connection.server, connection.peer
    await loop.sock_sendall(peer, UPLOAD + BEGINNING)
    await asyncio.wait_for(server.arrived.wait(), PATIENCE)
    async with asyncio.timeout(PATIENCE):
        while connection.own._body.unread > len(REST) or connection.own._room is not None:
            await asyncio.sleep(0)
    connection.own.data_received(REST if whole else REST[1:])
    server.end()
    async with asyncio.timeout(PATIENCE):
        answer = await loop.sock_recv(peer, 4096)
    await loop.sock_sendall(peer, NEXT * 20)
    peer.shutdown(socket.SHUT_WR)
    async with asyncio.timeout(PATIENCE):
        while piece := await loop.sock_recv(peer, 4096):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert answer.count(b"HTTP/1.1 200 ") == 20
    # of a body that is not complete the next byte is a part, whatever it looks like
    assert server.requests == ["POST /upload", "POST /victim" if whole else "OST /victim"] + ["POST /victim"] * 19
