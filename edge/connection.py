"""One HTTP/1.1 connection: reads requests and writes responses, one at a time and in order, which allows pipelining.

Each connection has one task, a request has none of its own; timers are deadlines that the server checks a few times a
second. A request that is refused before its body was read gets its response at once. The rest of its body is drained
for at most a second: closing a socket with unread data makes the kernel reset it, and the sender would never see the
response.

Source: RFC 9112, sections 9.3 (persistence, pipelining) and 9.6 (tear-down); RFC 9110, section 10.1.1 (Expect).
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final, Protocol

from tornado.iostream import StreamClosedError

from edge import http_responses
from edge.body_stream import READ_BYTES, BodyStream, BodyTooLargeError
from edge.chunked_body import ChunkedBody
from edge.http1 import Head, MalformedRequestError, check_partial_head, parse_head, skip_empty_lines
from edge.http_responses import Response
from edge.request import Handler, Overloaded
from edge.transport import ByteStream
from flowhook import limits, logs

LINGER_SECONDS: Final = 1.0
"""How long input is still read and dropped after the last response was sent."""

DISCARDED_BYTES: Final = 64 * limits.KIB
"""Unread bodies up to this size are read and dropped, and the connection persists; above it, the connection closes."""

LOOK_SECONDS: Final = 0.5
"""How often to check whether a sender that waits for a flow is still connected."""

STREAM_BYTES: Final = 1 * limits.MIB
"""Share of the receive budget (`ServerContext.max_received`) that is charged for a body in transit."""

NEVER: Final = float("inf")
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

log = logs.get_logger(__name__)


class ServerContext(Protocol):
    """State and limits that all connections of a server share."""

    header_timeout: float
    body_timeout: float
    idle_timeout: float
    keep_tail: bytes
    """End of a response head after which the connection persists: Date and the empty line."""
    close_tail: bytes
    """The same, with `Connection: close`."""
    draining: bool
    """Whether connections are to end after their current request."""
    received: int
    """Bytes of incomplete heads, and of bodies, in memory; a body received along with its head is not counted."""
    max_received: int

    def now(self) -> float:
        """Return the loop's time in seconds."""
        ...

    def answered(self, answer: Response) -> None:
        """Count a response."""
        ...

    def count_incomplete(self) -> None:
        """Count a request whose sender disconnected before it was complete."""
        ...


class Connection:
    """Serves one sender until either side ends the connection.

    Attributes:
        deadline: loop time after which `expire` is called.
        idle: whether no request has begun.
        waiting_since: loop time since which the connection waits for a request head; `NEVER` once it has one.
    """

    __slots__ = (
        "_buffer",
        "_continued",
        "_handler",
        "_held",
        "_host",
        "_leaving",
        "_peer",
        "_served",
        "_stream",
        "_unread",
        "address",
        "deadline",
        "head",
        "idle",
        "waiting_since",
    )

    head: Head
    """Head of the current request; unset before the first one."""

    def __init__(self, stream: ByteStream, peer: str, host: ServerContext, handler: Handler) -> None:
        self._stream = stream
        self._peer = peer
        self._host = host
        self._handler = handler
        self._buffer = b""  # received and not yet parsed
        self._continued = False  # whether `100 Continue` was sent
        self._unread = 0  # bytes of the body that were not read yet; -1: at least one, and its end is unknown
        self._served = False
        self._leaving = False  # whether no response can be sent any more
        self._held = 0  # bytes of the head or the body that are counted in the server's `received`
        self.address = peer_address(peer)
        self.deadline = NEVER
        self.idle = True
        self.waiting_since = host.now()

    @property
    def scheme(self) -> str:
        """See `Request`."""
        return self._stream.scheme

    @property
    def client_names(self) -> tuple[str, ...]:
        """See `Request`."""
        return self._stream.client_names

    async def serve(self) -> None:
        """Serve requests until the connection ends. Raises nothing; closes the stream."""
        try:
            while not self._leaving and await self._serve_one():
                if self._stream.has_unsent():
                    await self._flush()
                if self._buffer:
                    await asyncio.sleep(0)  # a pipeline of refused requests must not monopolise the loop
        except StreamClosedError:
            pass
        except Exception:
            log.exception("connection failed", address=self._peer)
        finally:
            self._release()
            self._stream.close()

    def expire(self) -> None:
        """End the connection, past its deadline; send a 408 if a request has begun and no output is pending."""
        if not self.idle and not self._stream.closed() and not self._stream.has_unsent():
            self._send(http_responses.REQUEST_TIMEOUT, None, keep_alive=False)
            self._host.answered(http_responses.REQUEST_TIMEOUT)
        self.abort()

    def retire(self) -> None:
        """End an idle connection: shut the write side, and give the sender a moment to end its side.

        A request that crosses the shutdown is dropped without a response, so it can be sent again. It causes no reset
        either, which could destroy an earlier response that the sender has not read yet.
        """
        self._leaving = True
        self.waiting_since = NEVER
        self.deadline = self._host.now() + LINGER_SECONDS
        if not self._stream.shut_write_side():
            self._stream.close()

    async def reject(self, answer: Response, *, linger: bool) -> None:
        """Send a response without waiting for a request, and end the connection. Raises nothing.

        Args:
            answer: the response.
            linger: whether to read what the sender has sent already for a while, so that it sees the response.
        """
        try:
            if linger:
                await self._refuse(answer, None)
            else:
                self._host.answered(answer)
                self._send(answer, None, keep_alive=False)
        finally:
            self._stream.close()

    def abort(self) -> None:
        """End the connection now."""
        self.deadline = NEVER
        self._stream.close()

    async def _serve_one(self) -> bool:
        """Serve the next request; return whether there may be another one after it."""
        host = self._host
        head: Head | None = None
        try:
            head = self.head = parse_head(await self._read_head())
            self._unread = head.length
            self._continued = False
            answer = await self._handler(self)
        except MalformedRequestError as error:
            log.debug("malformed request", address=self._peer, reason=error.reason, detail=error.detail)
            await self._refuse(http_responses.malformed_request(error.status, error.reason), head)
            return False
        except Overloaded:  # caused by a head: for bodies, the handler responds
            await self._refuse(http_responses.OVERLOADED, head)
            return False
        except StreamClosedError:
            if self.deadline != NEVER and not self.idle:  # the request was incomplete
                host.count_incomplete()
            raise
        except Exception:
            log.exception("request failed", address=self._peer)
            await self._refuse(http_responses.INTERNAL, head)
            return False

        self._release()
        if answer.close or not head.keep_alive or self._unread or (host.draining and self._is_last()):
            return await self._finish_unread(answer)
        host.answered(answer)
        self._served = True
        if head.http10 or head.method == "HEAD":
            self._send(answer, head, keep_alive=True)
        else:
            self._stream.write(answer.head + host.keep_tail + answer.body)
        return True

    async def _read_head(self) -> bytes:
        """Return the next request's head up to its last CRLF."""
        host = self._host
        buffer = self._buffer
        self.idle = not buffer
        self.waiting_since = now = host.now()
        # on a new connection the first request gets the header timeout, not the longer idle timeout
        self.deadline = now + (host.idle_timeout if self.idle and self._served else host.header_timeout)
        searched = 0
        while True:
            if buffer.startswith((b"\r", b"\n")):
                buffer = skip_empty_lines(buffer)
            end = buffer.find(b"\r\n\r\n", searched)
            if end >= 0 or len(buffer) > limits.MAX_HEADER_BYTES:
                break
            check_partial_head(buffer, searched)
            self._hold(len(buffer) - self._held)
            searched = max(0, len(buffer) - 3)
            data = await self._stream.read(READ_BYTES)
            if self._leaving:
                continue
            if self.idle:
                self.idle = False
                self.deadline = host.now() + host.header_timeout
            buffer = buffer + data if buffer else data
        self.deadline = self.waiting_since = NEVER
        self._release()
        if not 0 <= end <= limits.MAX_HEADER_BYTES:
            raise MalformedRequestError(431, "HEADER_TOO_LARGE", "the head is too large")
        self._buffer = buffer[end + 4 :]
        return buffer[: end + 2]

    async def body(self, max_bytes: int) -> bytes:
        """Receive the body; see `Request.body`."""
        length = self._unread
        if length == 0:
            return b""
        if length > max_bytes:
            raise BodyTooLargeError
        if length > 0:
            buffer = self._buffer
            if len(buffer) == length:  # the usual case: the body arrived along with the head
                self._buffer = b""
                self._unread = 0
                return buffer
            if len(buffer) > length:
                self._buffer = buffer[length:]
                self._unread = 0
                return buffer[:length]
        self._begin_body()
        if length > 0:
            body = await self._read_fixed(length)
        else:
            chunks = ChunkedBody()
            if not await self._read_chunked(chunks, max_bytes):
                raise BodyTooLargeError
            body = bytes(chunks.content)
        self.deadline = NEVER
        return body

    async def receive(self, max_bytes: int, in_memory: int) -> bytes | BodyStream:
        """Receive the body, or start to stream it; see `Request.receive`."""
        length = self._unread
        if length > max_bytes:
            raise BodyTooLargeError
        if 0 <= length <= in_memory or in_memory >= max_bytes:
            return await self.body(max_bytes)
        chunks, first = None, b""
        if length < 0:
            self._begin_body()
            chunks = ChunkedBody()
            if await self._read_chunked(chunks, in_memory):
                self.deadline = NEVER
                return bytes(chunks.content)
        else:
            first, self._buffer = self._buffer[:length], self._buffer[length:]
            # The consumer may be cancelled in the middle of a read. So until the body is complete, the number of
            # missing bytes is not relied on: the connection ends rather than confuse part of the body with the next
            # request.
            self._unread = -1 if len(first) < length else 0
        self.deadline = NEVER
        self._hold(max(0, STREAM_BYTES - self._held))
        return BodyStream(
            self,
            length=length,
            max_bytes=max_bytes,
            patience=self._host.body_timeout,
            first=first,
            chunks=chunks,
        )

    def now(self) -> float:
        """Return the loop's time in seconds."""
        return self._host.now()

    async def take(self, most: int, seconds: float) -> bytes:
        """Return the next bytes of a body; see `body_stream.BodySource`."""
        if self.head.expects_continue and not self._continued:
            self._continued = True
            self._stream.write(_CONTINUE)
        self.deadline = self._host.now() + seconds
        data = await self._stream.read(most)
        self.deadline = NEVER
        return data

    def complete(self, rest: bytes) -> None:
        """Record that a body is complete; see `body_stream.BodySource`."""
        self._unread = 0
        self._buffer += rest

    def _begin_body(self) -> None:
        self.deadline = self._host.now() + self._host.body_timeout
        if self.head.expects_continue and not self._buffer:
            self._continued = True
            self._stream.write(_CONTINUE)

    async def hold(self, answer: Coroutine[Any, Any, Response]) -> Response:
        """Wait for a slow response; see `Request.hold`.

        A sender that ended its side may have closed the connection, or may still wait for the response. An interim
        response tells which: a sender that waits ignores it; the host of one that has closed replies with a reset.

        Source: RFC 9110, section 15.2: a client parses interim responses even when it expects none.
        """
        task = asyncio.ensure_future(answer)
        try:
            while True:
                await asyncio.wait((task,), timeout=LOOK_SECONDS)
                if task.done():
                    return task.result()
                if self._stream.peer_has_ended() and not self.head.http10 and not self._stream.has_unsent():
                    self._stream.write(_CONTINUE)
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait((task,))

    async def _read_fixed(self, length: int) -> bytes:
        self._unread = length - len(self._buffer)
        body = bytearray(self._buffer)
        self._buffer = b""
        while self._unread:
            piece = await self._stream.read(min(READ_BYTES, self._unread))
            self._unread -= len(piece)
            if not self._unread and not body:  # received as one piece, as small bodies are
                return piece
            body += piece
            if self._unread:
                self._hold(len(piece))
                await asyncio.sleep(0)  # a fast sender must not monopolise the loop
        return bytes(body)

    async def _read_chunked(self, chunks: ChunkedBody, most: int) -> bool:
        """Read a chunked body to its end; return False as soon as it exceeds `most` bytes."""
        data, self._buffer = self._buffer, b""
        while True:
            if data or chunks.more:
                before = len(chunks.content)
                chunks.feed(data)
                data = b""
                if chunks.done:
                    self._unread = 0
                    self._buffer = chunks.rest
                    return len(chunks.content) <= most
                if len(chunks.content) > most:
                    return False
                self._hold(len(chunks.content) - before)
                await asyncio.sleep(0)  # a fast sender, or one of tiny chunks, must not monopolise the loop
                continue
            data = await self._stream.read(READ_BYTES)

    def _hold(self, size: int) -> None:
        host = self._host
        self._held += size
        host.received += size
        if host.received > host.max_received:
            raise Overloaded

    def _release(self) -> None:
        if self._held:
            self._host.received -= self._held
            self._held = 0

    async def _finish_unread(self, answer: Response) -> bool:
        """Send a response after which the connection ends, or whose request was not read to its end."""
        head = self.head
        host = self._host
        modest = 0 < self._unread <= DISCARDED_BYTES and not head.expects_continue
        if modest and head.keep_alive and not answer.close and not host.draining:
            host.answered(answer)
            self._send(answer, head, keep_alive=True)
            self.idle = True  # the response is out: should the rest of the body never arrive, no 408 follows
            await self._discard()
            return True
        if self._unread or answer.close:
            await self._refuse(answer, head)
        else:
            host.answered(answer)
            self.deadline = host.now() + host.body_timeout
            self._send(answer, head, keep_alive=False)
            await self._flush()
            if head.keep_alive:  # the sender does not expect the connection to end
                await self._linger()
        return False

    async def _discard(self) -> None:
        """Read and drop the rest of a body whose end is known."""
        self.deadline = self._host.now() + self._host.body_timeout
        left = self._unread - len(self._buffer)
        self._buffer = self._buffer[self._unread :]
        while left > 0:
            left -= len(await self._stream.read(left))
        self._unread = 0
        self.deadline = NEVER

    def _is_last(self) -> bool:
        """Whether no byte of another request was received."""
        return not (self._buffer or self._stream.has_unread())

    async def _refuse(self, answer: Response, head: Head | None) -> None:
        """Send a response, then drop further input for at most `LINGER_SECONDS`; the connection ends."""
        self._host.answered(answer)
        self.deadline = NEVER
        self._buffer = b""
        self._release()
        self._send(answer, head, keep_alive=False)
        await self._linger()

    async def _linger(self) -> None:
        """Shut the write side and drop further input, so that no reset destroys the last response."""
        self.deadline = NEVER
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                await self._flush()
                self._stream.shut_write_side()
                while True:
                    await self._stream.read(READ_BYTES)
                    await asyncio.sleep(0)
        except (TimeoutError, OSError):  # StreamClosedError among them
            pass

    def _send(self, answer: Response, head: Head | None, *, keep_alive: bool) -> None:
        data = answer.head
        if keep_alive and head is not None and head.http10:
            data += b"Connection: keep-alive\r\n"
        data += self._host.keep_tail if keep_alive else self._host.close_tail
        if head is None or head.method != "HEAD":
            data += answer.body
        self._stream.write(data)

    async def _flush(self) -> None:
        """Wait until the sender has received what was written, so that one that reads nothing fills no buffer."""
        if self._stream.has_unsent():
            if self.deadline == NEVER:
                self.deadline = self._host.now() + self._host.body_timeout
            await self._stream.flush()
            self.deadline = NEVER


def peer_address(peer: str) -> IPv4Address | IPv6Address:
    """Parse a peer's address as sockets report it; IPv4-mapped addresses become IPv4, scope IDs are dropped."""
    address = ip_address(peer.partition("%")[0])
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
