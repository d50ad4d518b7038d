"""A request as a handler sees it, driven through Tornado's interfaces by a connection that only takes notes."""

from __future__ import annotations

import asyncio

import pytest
from support.budgets import budget_of
from tornado.httputil import HTTPConnection, HTTPHeaders, RequestStartLine
from tornado.iostream import StreamClosedError

from edge.http.receive_budget import Overloaded
from edge.http.request import Application, BodyStream, BodyTooLargeError
from edge.http.responses import FLOW_FOUND, build_response
from edge.metrics import EdgeMetrics
from flowhook.sandbox import INLINE_BYTES

LARGE = 2 * INLINE_BYTES


class Notes(HTTPConnection):
    """A connection of some server that has nothing but Tornado's interface."""

    def __init__(self):
        self.written = []
        self.finished = 0

    def write_headers(self, start_line, headers, chunk=None):
        self.written.append((start_line.code, dict(headers), chunk))

    def finish(self):
        self.finished += 1


class Exchange:
    """One request to a handler."""

    def __init__(self, handler, *, most=1_000_000):
        self.budget = budget_of(most)
        self.application = Application(handler, EdgeMetrics(), self.budget)
        self.connection = Notes()
        self.request = self.application.start_request(None, self.connection)

    def begin(self, method="POST", target="/a", version="HTTP/1.1", **fields):
        headers = HTTPHeaders({"Host": "a", **{name.replace("_", "-"): str(value) for name, value in fields.items()}})
        return self.request.headers_received(RequestStartLine(method, target, version), headers)

    async def end(self):
        while self.application._tasks:
            await asyncio.sleep(0)
        return self.connection.written


@pytest.fixture
def got():
    return []


@pytest.fixture
def handler(got):
    async def handle(request):
        try:
            got.append(await request.body(LARGE))
        except Exception as error:
            got.append(type(error))
            raise
        return build_response(200, (), b"ok")

    return handle


async def test_a_small_body_need_not_wait(handler, got):
    exchange = Exchange(handler)
    assert exchange.begin(Content_Length=3) is None
    assert exchange.request.data_received(b"abc") is None
    exchange.request.finish()
    ((status, headers, chunk),) = await exchange.end()
    assert (status, headers["Content-Length"], chunk) == (200, "2", b"ok")
    assert (got, exchange.connection.finished) == ([b"abc"], 1)


async def test_a_large_body_waits_until_the_handler_wants_it(handler, got):
    exchange = Exchange(handler)
    room = exchange.begin(Content_Length=LARGE)
    assert not room.done()
    await asyncio.sleep(0)
    assert room.done()
    for _ in range(2):
        assert exchange.request.data_received(b"x" * INLINE_BYTES) is None
    assert exchange.budget.used == LARGE
    exchange.request.finish()
    await exchange.end()
    assert got == [b"x" * LARGE]
    assert exchange.budget.used == 0


async def test_a_sender_that_expects_it_gets_a_100_continue_only_when_the_handler_wants_the_body():
    async def refuse(_request):
        return FLOW_FOUND

    exchange = Exchange(refuse)
    room = exchange.begin(Content_Length=3, Expect="100-continue")
    assert not room.done()
    await exchange.end()
    assert exchange.connection.finished == 1
    assert room.done()  # Tornado's connection waits for it


async def test_a_declared_length_that_is_too_large_is_refused_before_anything_arrives(handler, got):
    exchange = Exchange(handler)
    exchange.begin(Content_Length=LARGE + 1)
    await exchange.end()
    assert got == [BodyTooLargeError]


async def test_a_chunked_body_that_grows_too_large_is_refused_as_soon_as_it_is(handler, got):
    exchange = Exchange(handler)
    exchange.begin(Transfer_Encoding="chunked")
    await asyncio.sleep(0)
    assert exchange.request.data_received(b"x" * LARGE) is None
    assert exchange.request.data_received(b"x") is not None
    await exchange.end()
    assert got == [BodyTooLargeError]


async def test_a_body_for_which_there_is_no_memory_is_refused(handler, got):
    exchange = Exchange(handler, most=10)
    exchange.begin(Content_Length=LARGE)
    await asyncio.sleep(0)
    assert exchange.request.data_received(b"x" * 11) is not None
    await exchange.end()
    assert got == [Overloaded]
    assert exchange.budget.used == 0


async def test_a_sender_that_disconnects_in_the_middle_gets_no_answer(handler, got):
    exchange = Exchange(handler)
    exchange.begin(Content_Length=3)
    exchange.request.data_received(b"a")
    await asyncio.sleep(0)
    exchange.request.on_connection_close()
    assert await exchange.end() == []
    assert got == [StreamClosedError]
    assert exchange.budget.used == 0


async def test_a_stream_lets_the_sender_send_one_piece_at_a_time():
    pieces = []

    async def take(request):
        body = await request.receive(LARGE, 10)
        assert isinstance(body, BodyStream)
        assert body.size == LARGE
        pieces.extend([piece async for piece in body])
        return FLOW_FOUND

    exchange = Exchange(take, most=2**30)
    room = exchange.begin(Content_Length=LARGE)
    for _ in range(2):
        while not room.done():
            await asyncio.sleep(0)
        room = exchange.request.data_received(b"x" * INLINE_BYTES)
        assert not room.done()
    while not room.done():
        await asyncio.sleep(0)
    exchange.request.finish()
    ((status, _, chunk),) = await exchange.end()
    assert (status, chunk) == (200, None)
    assert b"".join(pieces) == b"x" * LARGE
    assert exchange.budget.used == 0


@pytest.mark.parametrize("pieces", [[b"abcdef"], [b"ab", b"cdef"], [b"ab"]], ids=["whole", "complete", "begun"])
async def test_what_arrived_before_a_body_is_requested_is_part_of_it(pieces):
    got = []

    async def take(request):
        body = await request.receive(LARGE, 3)
        got.append(body if isinstance(body, bytes) else b"".join([piece async for piece in body]))
        return FLOW_FOUND

    exchange = Exchange(take, most=2**30)
    assert exchange.begin(Content_Length=6) is None
    for piece in pieces:
        assert exchange.request.data_received(piece) is None
    if len(b"".join(pieces)) < 6:
        await asyncio.sleep(0)
        exchange.request.data_received(b"cdef")
    exchange.request.finish()
    await exchange.end()
    assert got == [b"abcdef"]
    assert exchange.budget.used == 0


@pytest.mark.parametrize(("method", "chunk"), [("GET", b"ok"), ("HEAD", None)])
async def test_head_is_answered_without_content(handler, method, chunk):
    exchange = Exchange(handler)
    exchange.begin(method)
    exchange.request.finish()
    ((_, headers, sent),) = await exchange.end()
    assert (headers["Content-Length"], sent) == ("2", chunk)


async def test_a_head_that_another_server_lets_through_is_refused_with_a_reason(handler, got):
    exchange = Exchange(handler)
    assert exchange.begin(Transfer_Encoding="gzip") is None
    ((status, headers, chunk),) = await exchange.end()
    assert (status, headers["Connection"]) == (501, "close")
    assert b"TRANSFER_CODING_UNKNOWN" in chunk
    assert got == []


async def test_a_defect_is_answered_and_logged(caplog):
    async def fail(_request):
        raise ZeroDivisionError

    exchange = Exchange(fail)
    exchange.begin()
    exchange.request.finish()
    ((status, _, _),) = await exchange.end()
    assert status == 500


async def test_a_handler_that_is_cancelled_from_within_is_a_defect():
    async def fail(_request):
        raise asyncio.CancelledError

    exchange = Exchange(fail)
    exchange.begin()
    exchange.request.finish()
    ((status, _, _),) = await exchange.end()
    assert (status, exchange.connection.finished) == (500, 1)


async def test_requests_in_progress_are_cancelled_at_the_end():
    cancelled = []

    async def wait(_request):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    exchange = Exchange(wait)
    exchange.begin()
    await asyncio.sleep(0)
    other = exchange.application.start_request(None, Notes())
    other.headers_received(RequestStartLine("GET", "/", "HTTP/1.1"), HTTPHeaders({"Host": "a"}))
    await exchange.application.cancel()
    assert cancelled == [True]
    assert exchange.connection.written == []


async def test_senders_that_leave_do_not_make_room_for_more_requests_than_may_be_handled():
    released = asyncio.Event()

    async def wait(_request):
        await released.wait()
        return FLOW_FOUND

    exchange = Exchange(wait)
    exchange.application.max_requests = 2
    exchange.begin()
    exchange.request.on_connection_close()  # its handler goes on
    for _ in range(2):
        exchange.request = exchange.application.start_request(None, Notes())
        exchange.begin()
    refused = exchange.request
    await asyncio.sleep(0)
    ((status, _, _),) = refused._connection.written
    assert status == 503
    released.set()
    assert await exchange.end() == []
