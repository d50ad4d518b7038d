"""Answers requests through Tornado's interfaces, with a handler that is a coroutine and pulls the body on demand.

`Application` and `IncomingRequest` are all that a server sees of the edge. They run on any server that implements
Tornado's interfaces, `tornado.httpserver.HTTPServer` included. What a connection offers beyond `HTTPConnection` is used
where it is there: see `edge.http.connection.Connection`.

Source: https://www.tornadoweb.org/en/stable/httputil.html#internal-apis (the interfaces).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

import attrs
from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.iostream import StreamClosedError

from edge.http import responses
from edge.http.head import Head, MalformedRequestError, head_from_tornado
from edge.http.header_views import RequestHeaders, ResponseHeaders
from edge.http.peer import Peer, peer_of
from edge.http.receive_budget import Overloaded, ReceiveBudget, charge
from edge.http.responses import ProblemTypes, Response
from edge.metrics import EdgeMetrics
from flowhook import limits
from flowhook.asyncio_tasks import end_tasks
from flowhook.process import logs
from flowhook.sandbox import INLINE_BYTES
from flowhook.sharing import Seat

LOOK_SECONDS: Final = 0.5  # how often to check whether a sender that waits for a flow is still connected
STREAM_BYTES: Final = 1 * limits.MIB  # share of the receive budget that is charged for a body in transit
# Minimum rate of a streamed body: a sender that stays below it for longer than the body timeout is cut off.
MIN_BYTES_PER_SECOND: Final = 4 * limits.KIB

log = logs.get_logger(__name__)


class BodyTooLargeError(Exception):
    """The body is larger than the endpoint accepts, or is declared to be."""


@attrs.define(eq=False, repr=False)
class BodyStream:
    """A body of at most `max_bytes`, as an iterator over pieces of `limits.CHUNK_BYTES`; the last may be shorter.

    The sender sends a piece when it is asked for, so that it is no faster than who reads it (back-pressure).

    Reading a piece raises BodyTooLargeError, or StreamClosedError if the sender disconnected, or was too slow.
    """

    _source: IncomingRequest
    size: int | None = attrs.field(kw_only=True)  # in bytes; None: unknown
    _max_bytes: int = attrs.field(kw_only=True)
    _consumed: int = attrs.field(init=False, default=0)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        content = self._source.content
        while len(content) < limits.CHUNK_BYTES and not self._source.complete:
            await self._source.more()
        if not content:
            raise StopAsyncIteration
        piece = bytes(content[: limits.CHUNK_BYTES])
        del content[: limits.CHUNK_BYTES]
        self._consumed += len(piece)
        if self._consumed + len(content) > self._max_bytes:
            raise BodyTooLargeError
        return piece


class IncomingRequest(HTTPMessageDelegate):
    """A request that may still be arriving."""

    head: Head
    route = ""  # pattern of the paths that are handled the same, set by the handler; empty: it knows no such path
    _began = 0.0
    complete = False  # whether the whole body was received
    _whole = b""  # a body that was received as one piece, as small ones are
    _received = 0  # bytes of another one
    _limit = INLINE_BYTES  # bytes in `content` above which the sender has to wait
    _room: asyncio.Future[None] | None = None  # what the connection waits for before it delivers more
    _arrived: asyncio.Future[None] | None = None  # what the handler waits for
    _memory: Seat | None = None  # what is charged for `content`
    _overloaded = False
    _refused = False  # because too many requests are handled
    _gone = False

    def __init__(self, application: Application, connection: HTTPConnection) -> None:
        self._application = application
        self._connection = connection
        self.content = bytearray()  # bytes of the body that were received and not consumed
        self.peer: Peer = peer_of(connection)

    # For handlers

    def charge_to(self, address: IPv4Address | IPv6Address) -> None:
        """Charge the body to the sender for whom a proxy has connected; Overloaded: that one has its share."""
        charged, self._memory = self._memory, self._application.budget.seat(address)
        if charged is not None:
            charge(self._memory, charged.size)
            charged.release()

    async def body(self, max_bytes: int) -> bytes:
        """Receive the body; call it once.

        Raises:
            BodyTooLargeError: the body is larger than `max_bytes`.
            Overloaded: there is no memory for it now.
            StreamClosedError: the sender disconnected, or its framing is invalid.
        """
        if self.head.length > max_bytes:
            raise BodyTooLargeError
        if not self.complete and self.head.length:
            await self._collect(max_bytes)
        if self._whole:
            return self._whole
        if len(self.content) > max_bytes:
            raise BodyTooLargeError
        return bytes(self.content)

    async def receive(self, max_bytes: int, in_memory: int) -> bytes | BodyStream:
        """Receive the body, or a stream of it if it has more than `in_memory` bytes; call it once; raises as `body`."""
        length = self.head.length
        if self._whole or 0 <= length <= in_memory or in_memory >= max_bytes or length > max_bytes:
            return await self.body(max_bytes)
        if length < 0:
            await self._collect(in_memory)
            if self.complete and len(self.content) <= in_memory:
                return bytes(self.content)
        self._limit = 0
        self._charge(max(0, STREAM_BYTES - (0 if self._memory is None else self._memory.size)))
        set_minimum_rate = getattr(self._connection, "set_minimum_rate", None)
        if set_minimum_rate is not None:
            set_minimum_rate(MIN_BYTES_PER_SECOND)
        return BodyStream(self, size=length if length >= 0 else None, max_bytes=max_bytes)

    async def more(self) -> None:
        """Let the next piece arrive, and wait for it or the end; StreamClosedError: disconnected, or too slow."""
        self._let_send()
        await self._wait()

    async def hold(self, answer: Coroutine[Any, Any, Response]) -> Response:
        """Wait for a response for as long as the sender is connected; exceptions of `answer` propagate.

        A sender that ended its side may have closed the connection, or may still wait for the response. Where the
        connection can find that out, it is asked to. StreamClosedError: it disconnected; `answer` was cancelled.
        """
        set_close_callback = getattr(self._connection, "set_close_callback", None)
        if set_close_callback is not None:
            set_close_callback(self.on_connection_close)
        probe = getattr(self._connection, "probe_sender", None)
        task = asyncio.ensure_future(answer)
        try:
            while True:
                await asyncio.wait((task,), timeout=LOOK_SECONDS)
                if task.done():
                    return task.result()
                if self._gone:
                    raise StreamClosedError
                if probe is not None:
                    probe()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait((task,))

    # For connections

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        """Start to handle the request; let the body wait, unless it is small."""
        self._began = time.monotonic()
        if isinstance(headers, RequestHeaders):
            self.head = head = headers.head
        else:
            try:
                self.head = head = head_from_tornado(start_line, headers)
            except MalformedRequestError as error:
                self._respond(responses.malformed_request(error.status, error.reason), start_line[0])
                return None
        self._refused = self._application.full
        self._task = self._application.start(self._run())
        if 0 <= head.length <= INLINE_BYTES and not head.expects_continue:
            return None
        self._room = asyncio.get_running_loop().create_future()
        return self._room

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        """Store a piece of the body; let the sender wait once there is more than the handler asked for."""
        if len(chunk) == self.head.length and self._limit:
            self._whole = chunk
            return None
        self.content += chunk
        self._received += len(chunk)
        if self._limit:
            try:
                self._charge(len(chunk))
            except Overloaded:
                self._overloaded = True
        if len(self.content) <= self._limit and not self._overloaded:
            return None
        self._wake()
        self._room = asyncio.get_running_loop().create_future()
        return self._room

    def finish(self) -> None:
        self.complete = True
        self._wake()

    def on_connection_close(self) -> None:
        self._gone = True
        self._wake()

    async def _run(self) -> None:
        try:
            response = responses.OVERLOADED if self._refused else await self._application.handler(self)
        except StreamClosedError:
            return
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and self._task.cancelling():
                raise
            log.exception("request failed", address=str(self.peer.address))
            response = responses.INTERNAL
        finally:
            self._application.ended(self._task)
            if self._memory is not None:
                self._memory.release()
            self._let_send()
        self._respond(response, self.head.method)

    def _respond(self, response: Response, method: str) -> None:
        seconds = time.monotonic() - self._began
        size = len(self._whole) or self._received
        self._application.metrics.answered(method, self.route, response.status, response.reason, seconds, size=size)
        if response.reason:
            response = self._application.types.of(response)
        if not self._gone:
            has_content = response.body and method != "HEAD"
            self._connection.write_headers(
                _start_line(response.status), ResponseHeaders(response), response.body if has_content else None
            )
            self._connection.finish()

    async def _collect(self, most: int) -> None:
        self._limit = most
        self._let_send()
        while not (self.complete or len(self.content) > most):
            await self._wait()

    async def _wait(self) -> None:
        if not (self.complete or self._gone or self._overloaded):
            self._arrived = asyncio.get_running_loop().create_future()
            try:
                await self._arrived
            finally:
                self._arrived = None
        if self._overloaded:
            raise Overloaded
        if self._gone:
            raise StreamClosedError

    def _let_send(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def _wake(self) -> None:
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)

    def _charge(self, size: int) -> None:
        if self._memory is None:
            self._memory = self._application.budget.seat(self.peer.address)
        charge(self._memory, self._memory.size + size)


Handler = Callable[[IncomingRequest], Awaitable[Response]]
"""Handles a request. May raise whatever `IncomingRequest.body` raises, except BodyTooLargeError and Overloaded."""


@attrs.define(eq=False, repr=False)
class Application(HTTPServerConnectionDelegate):
    """Handles all requests of a server with one handler."""

    handler: Handler
    metrics: EdgeMetrics
    budget: ReceiveBudget = attrs.field(factory=ReceiveBudget)
    # requests that are handled at a time; one lasts as long as its handler, also when its sender has left
    max_requests: int = attrs.field(default=20_000, kw_only=True)
    types: ProblemTypes = attrs.field(factory=lambda: ProblemTypes(""), kw_only=True)
    _tasks: set[asyncio.Task[None]] = attrs.field(init=False, factory=set)

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> IncomingRequest:  # noqa: ARG002
        return IncomingRequest(self, request_conn)

    @property
    def active(self) -> int:
        return len(self._tasks)

    @property
    def full(self) -> bool:
        return len(self._tasks) >= self.max_requests

    def start(self, handling: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(handling)
        self._tasks.add(task)
        return task

    def ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)

    async def cancel(self) -> None:
        """Cancel all requests in progress, which may wait for any length of time."""
        tasks = tuple(self._tasks)
        self._tasks.clear()  # one that is cancelled before it begins can't do that itself
        await end_tasks(tasks)


@lru_cache(512)
def _start_line(status: int) -> ResponseStartLine:
    return ResponseStartLine("HTTP/1.1", status, responses.reason_phrase(status))
