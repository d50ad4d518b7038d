"""What a connection is like: persistence, order, time limits, its end; and bytes of every bad kind."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import time

import pytest
from prometheus_client import CollectorRegistry
from support.patience import PATIENCE

from edge.http.body_framing import LINES_AT_ONCE

POST = b"POST /hook/open HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n%02d"


pytestmark = pytest.mark.usefixtures("open_flow", "quiet")


async def test_pipelined_requests_are_answered_in_order(edge):
    sender = await edge.connect()
    sender.write(b"".join(POST % number for number in range(50)))
    answers = [await sender.response() for _ in range(50)]
    bodies = {event.id: event.body for event in edge.events()}
    assert [bodies[answer.json()["id"]] for answer in answers] == [b"%02d" % number for number in range(50)]


async def test_pipelined_refusals_do_not_keep_others_waiting(edge):
    flooder = await edge.connect()
    flooder.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 3000)
    assert (await edge.post("/hook/open")).status == 202
    for _ in range(3000):
        assert (await flooder.response()).status == 404


UNREAD = b"POST /hook/nope HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"


class LoopTurns:
    """Counts the turns of the loop while something is done."""

    def __init__(self):
        self.count = 0

    async def _turn(self):
        while True:
            await asyncio.sleep(0)
            self.count += 1

    async def __aenter__(self):
        self._task = asyncio.create_task(self._turn())
        return self

    async def __aexit__(self, *_):
        self._task.cancel()


async def test_pipelined_refusals_of_requests_with_bodies_do_not_keep_others_waiting(edge):
    flooder = await edge.connect()
    async with LoopTurns() as turns:
        flooder.write(UNREAD * 1000)
        for _ in range(1000):
            assert (await flooder.response()).status == 404
    assert turns.count >= 1000


@pytest.mark.parametrize("target", [b"/hook/open", b"/hook/raw"])
async def test_tiny_chunks_do_not_keep_others_waiting(edge, target):
    edge.router.put_flow("raw", parse="raw", max_body="2MiB")
    sender = await edge.connect()
    async with LoopTurns() as turns:
        sender.write(b"POST " + target + b" HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        sender.write(b"1\r\nx\r\n" * 30_000 + b"0\r\n\r\n" + POST % 7)
        assert (await sender.response()).status == 202
    assert turns.count >= 30_000 / LINES_AT_ONCE
    assert (await sender.response()).status == 202
    assert [event.body for event in edge.events()] == [b"x" * 30_000, b"07"]


async def test_a_large_body_of_tiny_chunks_comes_through(edge):
    edge.router.put_flow("raw", parse="raw", max_body="2MiB")
    sender = await edge.connect()
    sender.write(b"POST /hook/raw HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    sender.write(b"10\r\n0123456789abcdef\r\n" * 80_000 + b"0\r\n\r\n" + POST % 7)
    assert (await sender.response()).status == 202
    assert (await sender.response()).status == 202
    assert list(edge.router.bodies.values()) == [b"0123456789abcdef" * 80_000]


@pytest.mark.parametrize("request_", [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", UNREAD])
async def test_a_sender_that_reads_nothing_piles_nothing_up(start_edge, request_):
    edge = await start_edge(body_timeout=0.3)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, ("127.0.0.1", edge.port))

    async def flood():
        while True:
            await loop.sock_sendall(sock, request_ * 1000)

    try:
        with pytest.raises(ConnectionError):  # it is cut off
            await asyncio.wait_for(flood(), PATIENCE)
    finally:
        sock.close()


async def test_the_answer_carries_a_date(edge):
    answer = await edge.post("/hook/open")
    assert answer.headers["date"].endswith(" GMT")


@pytest.mark.parametrize(
    ("version", "headers", "connection"),
    [
        ("1.1", [("Connection", "close")], "close"),
        ("1.0", [], "close"),
        ("1.0", [("Connection", "keep-alive")], "keep-alive"),
        ("1.1", [], None),
    ],
)
async def test_the_connection_persists_as_the_sender_wants(edge, version, headers, connection):
    sender = await edge.connect()
    answer = await sender.request("POST", "/hook/open", body=b"{}", headers=headers, version=version)
    assert answer.status == 202
    assert answer.headers.get("connection") == connection
    if connection == "close":
        assert await sender.at_eof() == b""
    else:
        assert (await sender.request("POST", "/hook/open", body=b"{}")).status == 202


async def test_empty_lines_before_a_request_are_ignored(edge):
    sender = await edge.connect()
    for piece in (b"\r", b"\n\r\n\r", b"\n" + POST % 1):
        sender.write(piece)
        await sender.writer.drain()
        await edge.post("/hook/nope")  # the pieces are read one by one
    assert (await sender.response()).status == 202


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\r\n\r\n \r\n\r\n", 400),
        (b"hello\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"GET / HTTP/3.0\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: a\n\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: a\n", 400),
        (b"\n", 400),
        (b"\r\n\n", 400),
        (b"\r", 400),
        (b"\r\n\r\r\n", 400),
        (b"GET /%zz%00 HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /hook/\xff HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 1000 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 70_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"y" * 200_000, 431),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1e1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"POST /hook/open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST /hook/open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", 400),
        (b"POST /hook/open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 1000, 400),
        (b"POST /hook/open HTTP/1.1\r\nHost: a\r\nExpect: miracle\r\n\r\n", 417),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"\x16\x03\x01\x00\x05\r\n\r\n", 400),
    ],
)
async def test_what_is_no_request_is_refused_and_the_connection_closed(edge, data, status):
    sender = await edge.connect()
    sender.write(data + b"POST /hook/open HTTP/1.1\r\nHost: a\r\n\r\n" * (status != 404))
    answer = await sender.response()
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    if status != 404:
        assert answer.headers["connection"] == "close"
        assert await sender.at_eof() == b""
    assert edge.events() == []


async def test_no_bytes_do_any_harm(edge):
    source = random.Random(7)
    parts = [
        b"POST ", b"GET ", b"/hook/open", b"?a=%zz", b" HTTP/1.1", b"\r\n", b"\r\n\r\n", b"\n", b"Host: a\r\n",
        b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n", b"5\r\nhello\r\n",
        b"0\r\n\r\n", b"hello", b"\x00", b"\xff\xfe", b": ", b"Connection: close\r\n",
        b"Content-Type: application/json\r\n",
    ]  # fmt: skip

    async def attack():
        sender = await edge.connect()
        for _ in range(source.randrange(1, 5)):
            sender.write(
                b"".join(source.choices(parts, k=source.randrange(1, 15))) + source.randbytes(source.randrange(9))
            )
            await asyncio.sleep(0)
        if source.random() < 0.5:
            sender.writer.write_eof()
            await sender.at_eof()
        elif source.random() < 0.5:
            sock = sender.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sender.close()

    for _ in range(20):
        await asyncio.gather(*(attack() for _ in range(20)))
    assert (await edge.post("/hook/open")).status == 202


async def test_a_sender_that_goes_away_in_the_middle_leaves_nothing_but_a_count(start_edge):
    registry = CollectorRegistry()
    edge = await start_edge(registry=registry)
    post = b"POST /hook/open HTTP/1.1\r\nHost: a\r\n"
    chunked = b"Transfer-Encoding: chunked\r\n\r\n5\r\nhalf"
    for data in (b"POST /ho", post + b"Content-Length: 100\r\n\r\nhalf", post + chunked):
        sender = await edge.connect()
        sender.write(data)
        await sender.writer.drain()
        sender.close()
        await sender.writer.wait_closed()
    assert (await edge.post("/hook/open", b'"whole"')).status == 202
    assert [event.body for event in edge.events()] == [b'"whole"']
    assert registry.get_sample_value("flowhook_edge_incomplete_requests_total") == 3


async def test_only_what_a_sender_cut_short_is_counted_so(start_edge):
    registry = CollectorRegistry()
    edge = await start_edge(registry=registry, body_timeout=1.0)
    (await edge.connect()).close()
    answered, refused, slow = [await edge.connect() for _ in range(3)]
    assert (await answered.request("POST", "/hook/open", body=b"1")).status == 202
    answered.close()
    refused.write(b"POST /hook/nope HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf")
    assert (await refused.response()).status == 404
    refused.close()
    slow.write(b"POST /hook/open HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf")
    assert (await slow.response()).status == 408
    assert await slow.at_eof() == b""
    assert registry.get_sample_value("flowhook_edge_incomplete_requests_total") == 0


async def test_a_sender_that_goes_away_after_the_whole_request_is_served_all_the_same(edge):
    edge.router.gate.clear()
    sender = await edge.connect()
    sender.write(POST % 1)
    await edge.router.arrived.wait()
    sender.close()
    await sender.writer.wait_closed()
    edge.router.gate.set()
    assert (await edge.post("/hook/open", b"2")).status == 202
    assert [event.body for event in edge.events()] == [b"01", b"2"]


class TestHalfClosed:
    """A sender that sends its last request and shuts its side, as `nc` does, still waits for the answer."""

    @pytest.mark.parametrize("count", [1, 3])
    async def test_what_arrived_before_is_answered(self, edge, count):
        edge.router.gate.clear()
        sender = await edge.connect()
        sender.write(b"".join(POST % number for number in range(count)))
        sender.writer.write_eof()
        await edge.router.arrived.wait()
        await edge.post("/hook/nope")  # by now the edge has been told of the end, too
        edge.router.gate.set()
        for _ in range(count):
            assert (await sender.response()).status == 202
        assert await sender.at_eof() == b""
        assert [event.body for event in edge.events()] == [b"%02d" % number for number in range(count)]

    async def test_an_end_that_comes_while_the_request_is_handled_is_no_end_of_the_answer(self, edge):
        edge.router.gate.clear()
        sender = await edge.connect()
        sender.write(POST % 1)
        await edge.router.arrived.wait()
        sender.writer.write_eof()
        await edge.post("/hook/nope")
        edge.router.gate.set()
        assert (await sender.response()).status == 202
        assert await sender.at_eof() == b""

    async def test_waiting_for_the_answer_keeps_nobody_busy(self, edge):
        edge.router.gate.clear()
        sender = await edge.connect()
        sender.write(POST % 1)
        sender.writer.write_eof()
        await edge.router.arrived.wait()
        await edge.post("/hook/nope")
        before = time.process_time()
        await asyncio.sleep(0.5)
        assert time.process_time() - before < 0.25
        edge.router.gate.set()
        assert (await sender.response()).status == 202

    @pytest.mark.parametrize("data", [b"", b"POST", (POST % 1)[:-1]])
    async def test_what_is_incomplete_is_dropped(self, edge, data):
        sender = await edge.connect()
        sender.write(data)
        sender.writer.write_eof()
        assert await sender.at_eof() == b""
        assert edge.events() == []


class TestTimeouts:
    async def test_a_slow_head_is_cut_off(self, start_edge):
        edge = await start_edge(header_timeout=0.2)
        sender = await edge.connect()
        sender.write(b"POST /hook/open HTT")
        assert (await sender.response()).status == 408
        assert await sender.at_eof() == b""

    async def test_a_head_that_trickles_is_cut_off(self, start_edge):
        edge = await start_edge(header_timeout=0.3)
        sender = await edge.connect()
        sender.write(b"POST /hook/open HTTP/1.1\r\n")
        answer = asyncio.create_task(sender.response())
        async with asyncio.timeout(PATIENCE):
            while not answer.done():
                sender.write(b"X: y\r\n")
                await asyncio.wait({answer}, timeout=0.05)
        assert answer.result().status == 408

    async def test_a_slow_body_is_cut_off(self, start_edge):
        edge = await start_edge(body_timeout=0.2)
        sender = await edge.connect()
        sender.write(b"POST /hook/open HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf")
        assert (await sender.response()).status == 408
        assert await sender.at_eof() == b""
        assert edge.events() == []

    async def test_a_request_that_was_refused_is_not_answered_again_when_the_rest_of_its_body_never_comes(
        self, start_edge
    ):
        edge = await start_edge(body_timeout=0.2)
        sender = await edge.connect()
        sender.write(b"POST /hook/nope HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf")
        assert (await sender.response()).status == 404
        assert await sender.at_eof() == b""

    async def test_a_connection_without_a_request_is_closed(self, start_edge):
        edge = await start_edge(header_timeout=0.2)
        assert await (await edge.connect()).at_eof() == b""

    async def test_an_idle_connection_is_closed(self, start_edge):
        edge = await start_edge(idle_timeout=0.2)
        sender = await edge.connect()
        assert (await sender.request("POST", "/hook/open", body=b"1")).status == 202
        assert await sender.at_eof() == b""

    async def test_waiting_for_the_router_is_not_slowness_of_the_sender(self, start_edge, router):
        edge = await start_edge(header_timeout=1.0, body_timeout=1.0, idle_timeout=1.0)
        router.gate.clear()
        post = asyncio.create_task(edge.post("/hook/open", b'"' + b"x" * 100_000 + b'"'))
        await router.arrived.wait()
        await asyncio.wait({post}, timeout=2.5)
        router.gate.set()
        assert (await post).status == 202
