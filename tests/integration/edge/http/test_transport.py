"""A connection as its delegate and its sender see it, over a real pair of sockets."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_address

import pytest
import pytest_asyncio
from support.budgets import budget_of
from support.patience import PATIENCE, until
from tornado.httputil import HTTPHeaders, HTTPMessageDelegate, ResponseStartLine

from edge.http import responses
from edge.http.connection import NEVER, Connection, ServerContext

MIB = 1024 * 1024
HEAD = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"

OTHER = ip_address("192.0.2.1")
"""Address of another sender."""


class StubServerContext(ServerContext):
    """What connections share; its delegates note what they are told."""

    def __init__(self):
        self.closed, self.requests, self.rooms = [], [], []
        super().__init__(NEVER, NEVER, NEVER, budget_of(MIB), self.begin, self.closed.append)
        self.keep_tail, self.close_tail = b"\r\n", b"Connection: close\r\n\r\n"

    def begin(self, _, connection):
        self.requests.append(Delegate(self, connection))
        return self.requests[-1]


class Delegate(HTTPMessageDelegate):
    """Takes a piece of a body whenever there is a room for it."""

    def __init__(self, server, connection):
        self.server = server
        self.connection = connection
        self.received = bytearray()
        self.events = []

    def headers_received(self, start_line, headers):
        self.events.append(f"{start_line.method} {start_line.path}")
        return self._room()

    def data_received(self, chunk):
        self.received += chunk
        return self._room()

    def finish(self):
        self.events.append("finish")

    def on_connection_close(self):
        self.events.append("close")

    def _room(self):
        self.server.rooms.append(asyncio.get_running_loop().create_future())
        return self.server.rooms[-1]

    def answer(self, body=b"", **fields):
        headers = HTTPHeaders({"Content-Length": str(len(body)), **fields})
        written = self.connection.write_headers(ResponseStartLine("", 200, "OK"), headers, body)
        self.connection.finish()
        return written


@pytest_asyncio.fixture
async def server():
    return StubServerContext()


@pytest_asyncio.fixture
async def ends(server):
    """The edge's end, and the sender's."""
    own, peer = socket.socketpair()
    own.setblocking(False)
    peer.setblocking(False)
    connection = Connection(server, "127.0.0.1")
    await asyncio.get_running_loop().connect_accepted_socket(lambda: connection, own)
    connection.start()
    with peer:
        yield connection, peer
        connection.close()


async def sent(peer, data):
    await asyncio.get_running_loop().sock_sendall(peer, data)


async def received(peer, count=100):
    async with asyncio.timeout(PATIENCE):
        return await asyncio.get_running_loop().sock_recv(peer, count)


def let_send(server):
    server.rooms[-1].set_result(None)


async def test_what_arrives_while_the_delegate_wants_nothing_is_delivered_later_and_charged_until_then(ends, server):
    _, peer = ends
    await sent(peer, HEAD % 6)
    await until(lambda: server.requests)
    await sent(peer, b"abc")
    await until(lambda: server.budget.used == 3)
    await sent(peer, b"def")
    assert server.requests[0].received == b""
    let_send(server)
    await until(lambda: len(server.requests[0].received) >= 3)
    assert server.budget.used == 0
    let_send(server)
    await until(lambda: server.requests[0].received == b"abcdef")
    assert server.requests[0].events == ["POST /a"]
    let_send(server)
    await until(lambda: server.requests[0].events == ["POST /a", "finish"])
    assert server.budget.used == 0


async def test_nothing_is_lost_and_nothing_piles_up_however_fast_the_sender_is(ends, server):
    _, peer = ends
    content = bytes(range(256)) * (32 * 1024)
    sending = asyncio.ensure_future(sent(peer, HEAD % len(content) + content))
    async with asyncio.timeout(PATIENCE):
        while not server.requests or "finish" not in server.requests[0].events:
            assert server.budget.used <= MIB // 2
            if server.rooms and not server.rooms[-1].done():
                let_send(server)
            await asyncio.sleep(0)
    await sending
    assert server.requests[0].received == content
    assert server.budget.used == 0


async def test_a_connection_for_whose_data_there_is_no_memory_ends_and_gives_back_what_it_had(ends, server):
    _, peer = ends
    await sent(peer, HEAD % (2 * MIB))
    await until(lambda: server.requests)
    server.budget.seat(OTHER).resize(MIB - 3)
    await sent(peer, b"abcdef")
    assert await received(peer) == b""
    assert server.budget.used == MIB - 3
    assert server.requests[0].events == ["POST /a", "close"]


async def test_what_arrives_on_a_connection_that_was_ended_takes_no_memory(ends, server):
    connection, peer = ends
    await sent(peer, HEAD % 3)
    await until(lambda: server.requests)
    connection.close()
    connection.data_received(b"late")  # as asyncio's TLS does while it says goodbye
    assert server.budget.used == 0


async def test_a_request_that_is_answered_before_its_body_arrives_is_followed_by_the_next_one(ends, server):
    _, peer = ends
    await sent(peer, HEAD % 6)
    await until(lambda: server.requests)
    server.requests[0].answer(b"one")
    assert (await received(peer)).endswith(b"\r\n\r\none")
    await sent(peer, b"abc")
    await sent(peer, b"def" + HEAD % 0)
    await until(lambda: len(server.requests) == 2)
    assert (server.requests[0].received, server.requests[0].events) == (b"", ["POST /a"])
    let_send(server)
    await until(lambda: server.requests[1].events[-1] == "finish")
    server.requests[1].answer(b"two")
    assert (await received(peer)).endswith(b"\r\n\r\ntwo")


async def test_a_delegate_that_requests_the_end_gets_it(ends, server):
    _, peer = ends
    await sent(peer, HEAD % 0)
    await until(lambda: server.requests)
    let_send(server)
    await until(lambda: server.requests[0].events[-1] == "finish")
    server.requests[0].answer(Connection="close", Date="never")
    answer = await received(peer)
    assert answer == b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    assert await received(peer) == b""


async def test_a_second_answer_is_ignored(ends, server):
    _, peer = ends
    await sent(peer, HEAD % 0)
    await until(lambda: server.requests)
    let_send(server)
    await until(lambda: server.requests[0].events[-1] == "finish")
    for body in (b"one", b"two"):
        server.requests[0].answer(body)
    assert (await received(peer)).endswith(b"\r\n\r\none")
    await sent(peer, HEAD % 0)
    await until(lambda: len(server.requests) == 2)


async def test_a_sender_that_ended_its_side_still_gets_its_answer(ends, server):
    _, peer = ends
    await sent(peer, HEAD % 4 + b"last")
    peer.shutdown(socket.SHUT_WR)
    await until(lambda: server.requests)
    for _ in range(2):
        await until(lambda: not server.rooms[-1].done())
        let_send(server)
    await until(lambda: server.requests[0].events[-1] == "finish")
    server.requests[0].answer(b"answer")
    assert (await received(peer)).endswith(b"answer")
    assert await received(peer) == b""


async def test_what_is_written_is_done_when_the_sender_has_taken_everything(ends, server):
    _, peer = ends
    await sent(peer, HEAD % 0)
    await until(lambda: server.requests)
    content = b"x" * (8 * MIB)
    written = server.requests[0].answer(content)
    taken = 0
    while taken < len(content):
        assert not written.done()
        taken += len(await received(peer, MIB))
    await asyncio.wait_for(written, PATIENCE)


@pytest.mark.parametrize("fields", [{}, {"Connection": "close"}], ids=["keep-alive", "close"])
async def test_a_sender_that_ends_its_side_while_it_receives_gets_the_whole_answer(ends, server, fields):
    _, peer = ends
    await sent(peer, HEAD % 0)
    await until(lambda: server.requests)
    let_send(server)
    await until(lambda: server.requests[0].events[-1] == "finish")
    content = b"x" * (8 * MIB)
    server.requests[0].answer(content, **fields)
    start = await received(peer, MIB)
    peer.shutdown(socket.SHUT_WR)
    taken = len(start) - start.index(b"\r\n\r\n") - 4
    while piece := await received(peer, MIB):
        taken += len(piece)
    assert taken == len(content)


async def test_whoever_waits_learns_that_the_connection_ended(ends, server):
    connection, peer = ends
    await sent(peer, HEAD % 1)
    await until(lambda: server.requests)
    let_send(server)
    written = connection.write(b"x" * (8 * MIB))
    connection.close()
    await asyncio.wait_for(written, PATIENCE)
    assert server.requests[0].events == ["POST /a", "close"]
    connection.write(b"into the void")
    server.requests[0].answer()
    connection.close()


@pytest.mark.parametrize(
    "begin",
    [Connection.start, lambda connection: connection.reject(responses.OVERLOADED, linger=True)],
    ids=["admitted", "turned away"],
)
async def test_a_connection_that_is_lost_before_it_begins_is_forgotten(server, begin):
    own, peer = socket.socketpair()
    own.setblocking(False)
    connection = Connection(server, "127.0.0.1")
    await asyncio.get_running_loop().connect_accepted_socket(lambda: connection, own)
    connection.connection_lost(None)
    peer.close()
    server.closed.clear()
    begin(connection)
    assert server.closed == [connection]


async def test_a_connection_that_ends_is_reported_once(ends, server):
    connection, peer = ends
    peer.close()
    await until(lambda: server.closed)
    connection.close()
    connection.connection_lost(None)
    assert server.closed == [connection]


async def test_a_delegate_that_fails_ends_its_connection_and_no_other(ends, server, caplog):
    _, peer = ends
    await sent(peer, HEAD % 1)
    await until(lambda: server.requests)
    server.rooms[-1].set_exception(ZeroDivisionError())
    assert await received(peer) == b""


@pytest.fixture
async def defects():
    """What the event loop reports of callbacks that failed."""
    found = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: found.append(context))
    return found


async def test_a_connection_that_ends_when_everything_is_written_ends_once(ends, server, defects):
    _, peer = ends
    await sent(peer, b"GET /a HTTP/1.0\r\n\r\n")
    await until(lambda: server.requests)
    let_send(server)
    await until(lambda: server.requests[0].events[-1] == "finish")
    server.requests[0].answer(b"x" * (8 * MIB))
    while await received(peer, MIB):
        pass
    await until(lambda: server.closed)
    await asyncio.sleep(0)
    assert defects == []


async def test_a_request_whose_delegate_fails_in_a_pipeline_ends_the_connection(ends, server, monkeypatch):
    connection, peer = ends
    await sent(peer, HEAD % 0 + HEAD % 0)
    await until(lambda: server.requests)
    let_send(server)
    await until(lambda: server.requests[0].events[-1] == "finish")
    server.start_request = lambda *_: 1 / 0
    server.requests[0].answer(b"one")
    assert (await received(peer)).endswith(b"\r\n\r\none")
    assert await received(peer) == b""
    assert server.closed == [connection]


@pytest.mark.parametrize("next_request", [b"", HEAD % 4 + b"next"])
async def test_what_came_along_with_a_head_is_charged_while_it_waits(ends, server, next_request):
    _, peer = ends
    await sent(peer, HEAD % 6 + b"abcdef" + next_request)
    await until(lambda: server.requests)
    assert server.budget.used == 6 + len(next_request)
    let_send(server)
    await until(lambda: server.requests[0].received == b"abcdef")
    let_send(server)
    await until(lambda: server.requests[0].events[-1] == "finish")
    assert server.budget.used == len(next_request)
    server.requests[0].answer(b"one")
    if next_request:
        await until(lambda: len(server.requests) == 2)
        assert server.budget.used == 4
        let_send(server)
    await until(lambda: server.budget.used == 0)


async def test_unparsed_chunks_are_charged_while_the_delegate_wants_nothing(ends, server):
    _, peer = ends
    chunks = b"1\r\nx\r\n" * 1000
    await sent(peer, b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
    await until(lambda: server.requests)
    assert server.budget.used == len(chunks)
    let_send(server)
    await until(lambda: server.requests[0].received)
    assert 0 < server.budget.used < len(chunks)


async def test_what_came_along_with_a_head_is_refused_without_memory_for_it(ends, server):
    _, peer = ends
    server.budget.seat(OTHER).resize(MIB)
    await sent(peer, HEAD % 6 + b"abcdef")
    assert (await received(peer, 1000)).startswith(b"HTTP/1.1 503 ")
    assert server.requests[0].events == ["POST /a", "close"]
    assert server.budget.used == MIB


async def test_pieces_that_arrive_while_the_delegate_wants_nothing_earn_time(ends, server):
    connection, peer = ends
    server.body_timeout = 100.0
    server.now = lambda: 0.0
    await sent(peer, HEAD % 1000)
    await until(lambda: server.requests)
    connection.set_minimum_rate(1.0)
    let_send(server)
    await until(lambda: connection.deadline == 100.0)
    server.now = lambda: 50.0
    await sent(peer, b"a")
    await until(lambda: server.requests[0].received == b"a")
    await sent(peer, b"b" * 9)
    await until(lambda: server.budget.used == 9)
    let_send(server)
    await until(lambda: len(server.requests[0].received) == 10)
    let_send(server)
    await until(lambda: connection.deadline < NEVER)
    assert connection.deadline == 50.0 + 100.0 - 50.0 + 10.0
