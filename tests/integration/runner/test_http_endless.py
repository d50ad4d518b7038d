"""`call: http`: what servers send without end, or as much of as they like."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import itertools
import re
import zlib

import brotli
import pytest
from support.calls import kind
from support.patience import PATIENCE

from flowhook import limits
from runner.outbound.http_response import MAX_INTERIM_RESPONSES, LimitedConnector

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
MANY_BYTES = 24 * 1024 * 1024
ZEROS = bytes(256 * 1024 * 1024)


@pytest.fixture
async def raw_server():
    """Serve bytes, piece by piece, as the answer to each request; returns the base URL, and counts what was taken."""
    async with contextlib.AsyncExitStack() as servers:

        async def start(*pieces):
            async def serve(reader, writer):
                with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                    while request := await reader.readuntil(b"\r\n\r\n"):
                        await reader.readexactly(int((re.findall(rb"Content-Length: (\d+)", request) or [0])[0]))
                        for piece in itertools.chain.from_iterable(pieces):
                            writer.write(piece)
                            await writer.drain()
                writer.close()

            server = await servers.enter_async_context(await asyncio.start_server(serve, "127.0.0.1", 0))
            return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"

        yield start


def endless(piece):
    """The same piece again and again, many at a time."""
    return itertools.repeat(piece * (limits.CHUNK_BYTES // len(piece)))


INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.parametrize("piece", [INTERIM, EARLY_HINTS, INTERIM + EARLY_HINTS])
async def test_interim_answers_without_end_fail_their_call_and_hold_up_no_other(call, caller, raw_server, piece):
    interim = await raw_server(endless(piece))
    other = await raw_server([ANSWER])
    failing = asyncio.create_task(caller("http", method="post", endpoint=interim, body={"n": 1}))
    for _ in range(10):
        assert await call(method="get", endpoint=other) == "ok"
    error = (await failing).error
    assert kind(error) == ("communication", 500)
    assert f"more than {MAX_INTERIM_RESPONSES} interim" in error.detail


async def test_one_interim_answer_at_a_time_is_counted_as_well(call, raw_server):
    def slowly():
        while True:
            yield INTERIM

    error = await call(method="get", endpoint=await raw_server(slowly()), seconds=20.0)
    assert "interim" in error.detail


async def test_as_many_interim_answers_as_are_allowed_are_passed_over(raw_server, caller):
    endpoint = await raw_server([INTERIM * MAX_INTERIM_RESPONSES, ANSWER])
    for _ in range(3):  # over one connection
        result = await caller("http", method="get", endpoint=endpoint)
        assert result.output == b'"ok"'


@pytest.fixture
async def talkative():
    """Serve one answer, and then, once told to, answers that nobody asked for until the connection is lost.

    It says how many bytes it sent. Both ends buffer some megabytes before either notices; beyond twice that it
    gives up.
    """
    sent, idle = asyncio.get_running_loop().create_future(), asyncio.Event()

    async def serve(reader, writer):
        unrequested = ANSWER * (limits.CHUNK_BYTES // len(ANSWER))
        count = 0
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(ANSWER)
            await idle.wait()
            while count < MANY_BYTES:
                writer.write(unrequested)
                await writer.drain()
                count += len(unrequested)
        except OSError:
            pass
        finally:
            sent.set_result(count)
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield idle, sent, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


async def test_answers_that_nobody_requested_end_the_connection_and_no_call(caller, talkative):
    """They come on a connection that is kept, while nobody reads it."""
    idle, sent, endpoint = talkative
    assert (await caller("http", method="get", endpoint=endpoint)).output == b'"ok"'
    idle.set()
    async with asyncio.timeout(PATIENCE):
        assert await sent < MANY_BYTES


async def test_a_library_that_makes_connections_in_another_way_is_refused(monkeypatch):
    monkeypatch.setattr("runner.outbound.http_response.ResponseHandler", object)
    with pytest.raises(RuntimeError, match="can't be limited"):
        LimitedConnector()


@pytest.mark.parametrize(
    "pieces",
    [
        ([b"HTTP/1.1 200 "], endless(b"x")),
        ([b"HTTP/1.1 200 OK\r\n"], endless(b"X-A: b\r\n")),
        ([b"HTTP/1.1 200 OK\r\nX-A: "], endless(b"x")),
        ([b"HTTP/1.1 200 OK\r\n"], endless(b"x")),
        ([b"HTTP/1.1 200 OK\r\n"], endless(b"Set-Cookie: a=b; Path=/\r\n")),
        ([CHUNKED, b"\r\n0\r\n"], endless(b"X-A: b\r\n")),
        ([CHUNKED, b"\r\n0\r\nX-A: "], endless(b"x")),
        ([b"HTTP/1.1 200 OK\r\n\r\n"], endless(b"x")),
        ([CHUNKED, b"\r\n"], endless(b"1\r\nx\r\n")),
    ],
    ids=["reason", "fields", "value", "name", "cookies", "trailers", "trailer", "body", "chunks"],
)
async def test_a_part_of_an_answer_without_end_fails_its_call(call, raw_server, pieces):
    error = await call(method="get", endpoint=await raw_server(*pieces), seconds=20.0)
    assert kind(error) == ("communication", 500)


@pytest.mark.parametrize("pieces", [([CHUNKED, b"\r\n1;"], endless(b"x")), ([CHUNKED, b"\r\n"], endless(b"\r\n"))])
async def test_what_says_nothing_without_end_ends_by_the_deadline_at_the_latest(call, raw_server, pieces):
    error = await call(method="get", endpoint=await raw_server(*pieces), seconds=0.5)
    assert kind(error) in (("timeout", 408), ("communication", 500))


@pytest.mark.parametrize(
    ("coding", "compress"),
    [
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("br", lambda data, level: brotli.compress(data, quality=level)),
    ],
)
async def test_an_answer_that_is_large_once_decompressed_costs_what_its_limit_costs(call, raw_server, coding, compress):
    body = compress(ZEROS, 1)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: {len(body)}\r\n\r\n"
    error = await call(method="get", endpoint=await raw_server([head.encode(), body]))
    assert kind(error) == ("communication", 500)
    assert "larger" in error.detail
