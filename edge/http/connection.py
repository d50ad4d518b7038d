"""One HTTP/1.1 connection on an asyncio transport: parses with llhttp, behind Tornado's interfaces.

A connection calls an `HTTPMessageDelegate` as requests arrive, one at a time and in order, which allows pipelining, and
is the `HTTPConnection` to which the response is written. Beyond that interface it offers what Tornado's own connection
can't: a minimum rate for bodies, and the means to find out whether a sender that has ended its side still waits.

A sender that has ended its side still gets its response (RFC 9112, section 9.6); Tornado's `IOStream` takes a
half-closed connection for a closed one. At most one piece is read ahead, of a size that the loop determines (256 KB);
the rest stays in the kernel.

It has no task and no timer: a deadline is checked by the server a few times a second. A request that is refused before
its body was read gets its response at once. The rest of its body is drained for at most a second: closing a socket with
unread data makes the kernel reset it, and the sender would never see the response.

Source: RFC 9112, sections 9.3 (persistence, pipelining) and 9.6 (tear-down); RFC 9110, section 10.1.1 (Expect).
"""

from __future__ import annotations

import asyncio
import select
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from enum import Enum, auto
from ipaddress import IPv4Address, IPv6Address
from typing import Concatenate, Final, ParamSpec, cast

import attrs
from tornado.httputil import HTTPConnection, HTTPHeaders, HTTPMessageDelegate, RequestStartLine, ResponseStartLine

from edge.http import responses
from edge.http.body_framing import BodyFraming, BodyTime
from edge.http.head import Head, MalformedRequestError, take_head
from edge.http.header_views import RequestHeaders, ResponseHeaders, encode_head
from edge.http.peer import Peer, certificate_names
from edge.http.receive_budget import Overloaded, ReceiveBudget, charge
from edge.http.responses import ProblemTypes, Response
from edge.metrics import EdgeMetrics
from flowhook import limits
from flowhook.http.listening import peer_address
from flowhook.process import logs

LINGER_SECONDS: Final = 1.0  # how long input is still read and dropped after the last response was sent
# Unread bodies up to this size are read and dropped, and the connection persists; above it, the connection closes.
DISCARDED_BYTES: Final = 64 * limits.KIB
NEVER: Final = float("inf")
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
# Event of poll(2) after a peer's FIN, also behind unread data. Other systems than Linux report POLLHUP for it.
_PEER_ENDED: Final = getattr(select, "POLLRDHUP", 0)
_RESET: Final = select.POLLERR | select.POLLHUP | select.POLLNVAL

log = logs.get_logger(__name__)


class _Phase(Enum):
    """The state of a connection, by what received data is used for."""

    WAIT = auto()  # nothing yet: it is stored until the server, the loop or the sender of written data has its turn
    HEAD = auto()
    BODY = auto()
    RESPONSE = auto()  # nothing yet: the request is complete, and its response is not
    DISCARD = auto()  # the rest of a body whose request was answered
    END = auto()  # nothing any more


@attrs.define(eq=False, repr=False)
class ServerContext:
    """State and limits that all connections of a server share; times are seconds."""

    header_timeout: float  # for a head
    body_timeout: float  # for a body; see `BodyTime`
    idle_timeout: float  # between two requests
    budget: ReceiveBudget  # memory for incomplete heads and for what is read ahead
    start_request: Callable[[object, HTTPConnection], HTTPMessageDelegate]  # see `HTTPServerConnectionDelegate`
    on_close: Callable[[object], None]  # the same
    metrics: EdgeMetrics = attrs.field(factory=EdgeMetrics)
    types: ProblemTypes = attrs.field(factory=lambda: ProblemTypes(""))
    client_common_names: bool = False  # whether common names count in all certificates of senders; see `edge.http.peer`
    draining: bool = attrs.field(init=False, default=False)  # whether connections end after their current request
    now: Callable[[], float] = attrs.field(init=False, factory=lambda: asyncio.get_running_loop().time)
    keep_tail: bytes = attrs.field(init=False)  # end of a head after which the connection persists, with the Date
    close_tail: bytes = attrs.field(init=False)  # the same, with `Connection: close`
    _date: int = attrs.field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        self.tick()

    def tick(self) -> None:
        """Renew the Date of responses."""
        now = int(time.time())
        if now != self._date:
            self._date = now
            date = b"Date: " + formatdate(now, usegmt=True).encode("ascii") + b"\r\n"
            self.keep_tail = date + b"\r\n"
            self.close_tail = date + b"Connection: close\r\n\r\n"

    def answered(self, response: Response) -> Response:
        """Count a response that no delegate gave, and return it as it is to be sent."""
        self.metrics.answered("", "", response.status, response.reason, 0.0)
        return self.types.of(response)


def _poll(descriptor: int) -> int:
    """Return whether a connection has unread input (POLLIN), has ended, or was reset, as events of poll(2)."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN | _PEER_ENDED)
    return next((events for _, events in poll.poll(0)), 0)


_P = ParamSpec("_P")


def loop_callback(method: Callable[Concatenate[Connection, _P], None]) -> Callable[Concatenate[Connection, _P], None]:
    """Let a method that the loop calls end the connection if it fails, as the loop does for `data_received`."""

    def callback(self: Connection, /, *args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception:
            log.exception("connection failed", address=self.context.remote_ip)
            self.close()

    return callback


class Connection(asyncio.Protocol, HTTPConnection):
    """Serves one sender until either side ends the connection, on an asyncio transport (which uvloop has in C)."""

    head: Head  # of the current request; unset before the first one

    def __init__(self, server: ServerContext, remote_ip: str) -> None:
        """Create a connection that stores what it receives until `start` is called."""
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._buffer = b""  # received and not yet used
        self._paused = False  # whether nothing is received
        self._blocked = False  # whether written data is still buffered here
        self._peer_ended = False
        self._written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._written.set_result(None)
        self.address: IPv4Address | IPv6Address = peer_address(remote_ip)  # of the sender's side
        self.context = Peer(remote_ip, "http", self.address)  # the sender's side; valid when the connection is made
        self._memory = server.budget.seat(self.address)  # what is charged for the buffer
        self._phase = _Phase.WAIT
        self._searched = 0  # bytes of the buffer that contain no end of a head
        self._delegate: HTTPMessageDelegate | None = None  # of a request that is not complete, or not answered
        self._room: Awaitable[None] | None = None  # what the delegate lets the body wait for
        self._body = BodyFraming(0)
        self._body_time: BodyTime | None = None  # of a body that has to be waited for
        self._continued = False  # whether `100 Continue` was sent, or is not needed any more
        self._served = False
        self._responding = False
        self._keep_alive = False  # whether the connection persists after the response
        self._is_last = False  # whether the current request is the last one
        self._lingers = False
        self.deadline = NEVER  # loop time after which `expire` is called
        self.idle = True  # whether no request has begun
        self.waiting_since = server.now()  # loop time since which it waits for a head; `NEVER` once it has one

    # For the server

    def start(self) -> None:
        if self._transport is None:  # lost meanwhile
            self._server.on_close(self)
        else:
            self._next()

    def expire(self) -> None:
        """End the connection, past its deadline; send a 408 if a request has begun and no output is pending."""
        if self._phase in (_Phase.HEAD, _Phase.BODY) and not self.idle and not self._blocked:
            self._refuse(responses.REQUEST_TIMEOUT)
        self.close()

    def retire(self) -> None:
        """End an idle connection: shut the write side, and give the sender a moment to end its side.

        A request that crosses the shutdown is dropped without a response, so it can be sent again. It causes no reset
        either, which could destroy an earlier response that the sender has not read yet.
        """
        self._phase = _Phase.END
        self.waiting_since = NEVER
        self.deadline = self._server.now() + LINGER_SECONDS
        if not self._shut_write_side():
            self.close()

    def end_after_response(self) -> None:
        """Serve no further request than the current one, whatever was received already; end an idle connection now."""
        self._is_last = True
        if self.idle:
            self.retire()

    def reject(self, response: Response, *, linger: bool) -> None:
        """Send a response without waiting for a request, and end the connection.

        With `linger`, what the sender has sent already is read for a while, so that it sees the response.
        """
        self._refuse(response)
        if self._transport is None:
            self._server.on_close(self)
        elif not linger:
            self.close()

    # For delegates: `HTTPConnection`, and more

    def write_headers(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders, chunk: bytes | None = None
    ) -> asyncio.Future[None]:
        """Write the head of a response, and content; without effect when no response is expected any more.

        Date and Connection are added. The headers have a Content-Length, or the response has no content.
        """
        if self._delegate is None or self._responding:
            return self._written
        self._responding = True
        if isinstance(headers, ResponseHeaders):
            encoded, close = headers.response.head, headers.response.close
        else:
            encoded, close = encode_head(start_line, headers), headers.get("Connection", "").lower() == "close"
        head, unread, server = self.head, self._body.unread, self._server
        if unread:
            few = 0 < unread <= DISCARDED_BYTES and not head.expects_continue
            self._keep_alive = few and head.keep_alive and not close and not server.draining
        else:
            self._keep_alive = head.keep_alive and not close and not (server.draining and not self._buffer)
        self._keep_alive = self._keep_alive and not self._is_last
        self._lingers = bool(unread) or close or head.keep_alive  # else the sender expects the end
        if not self._keep_alive:
            encoded += server.close_tail
        elif head.http10:
            encoded += b"Connection: keep-alive\r\n" + server.keep_tail
        else:
            encoded += server.keep_tail
        return self.write(encoded + chunk if chunk else encoded)

    def write(self, chunk: bytes) -> asyncio.Future[None]:
        """Send bytes, unless ended; done when the kernel has accepted everything, or the connection has ended."""
        if self._transport is not None:
            self._transport.write(chunk)
        return self._written

    def finish(self) -> None:
        """End the response: go on with the next request, or end the connection."""
        if not self._responding:
            return
        self._responding = False
        self._delegate = self._room = None
        if not self._keep_alive:
            self._end(LINGER_SECONDS if self._body.unread else self._server.body_timeout)
        elif self._body.unread:
            self.idle = True  # the response is out: should the rest of the body never arrive, no 408 follows
            self.waiting_since = self._server.now()  # and it gives way to others
            self.deadline = self._server.now() + self._server.body_timeout
            self._phase = _Phase.DISCARD
            self._discard()
        else:
            self._served = True
            self._next()

    def set_minimum_rate(self, bytes_per_second: float) -> None:
        """Let the body of the current request take any time, unless its sender stays below a rate for long."""
        self._body_time = BodyTime(self._server.body_timeout, bytes_per_second)

    def probe_sender(self) -> None:
        """Find out whether the sender still waits, and end the connection if it does not.

        While input is stored, nothing is read that would show the sender's end, so the kernel is asked. A sender that
        has ended its side, or whose end may be behind unread input, gets an interim response: one that waits ignores
        it, and the host of one that has closed its socket replies with a reset. Where no interim response is possible,
        such a sender is gone.

        Source: RFC 9110, section 15.2: a client parses interim responses even when it expects none.
        """
        events = 0
        if self._paused and not self._peer_ended and self._transport is not None:
            events = _poll(self._transport.get_extra_info("socket").fileno())
            self._peer_ended = bool(events & _PEER_ENDED)
        half_closed_tls = self._peer_ended and self.context.protocol == "https"
        if events & _RESET or ((events or self._peer_ended) and (self.head.http10 or half_closed_tls)):
            self.close()
        elif (events or self._peer_ended) and not self._blocked:
            self.write(_CONTINUE)

    # Callbacks of asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop's has the same methods, but is no subclass
        secured = transport.get_extra_info("ssl_object")
        # without TLS `pause_writing` is called as soon as the kernel accepts no more, over TLS when `high` is reached
        transport.set_write_buffer_limits(high=0 if secured is None else 1, low=0)
        if secured is not None:
            names = certificate_names(secured.getpeercert(), common_names=self._server.client_common_names)
            self.context = self.context._replace(protocol="https", client_names=names)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Pass what arrived to the phase that reads it; what none reads now is kept, and reading pauses."""
        phase = self._phase
        if phase is _Phase.END:
            return
        self._buffer = self._buffer + data if self._buffer else data
        if phase is _Phase.HEAD:
            if self.idle:
                self.idle = False
                self.deadline = self._server.now() + self._server.header_timeout
            self._read_head()
        elif phase is _Phase.BODY and self._room is None:
            self._continued = True
            if self._body_time is not None:
                self._body_time.stop(self._server.now(), len(data))
            self._read_body()
        elif phase is _Phase.DISCARD:
            self._discard()
        else:
            if phase is _Phase.BODY and self._body_time is not None:
                self._body_time.earn(len(data))
            self._store(len(data))

    def eof_received(self) -> bool:
        """Record that the peer has ended its side, and leave the write side open, except over TLS, which can't."""
        self._peer_ended = True
        waits = self._phase in (_Phase.WAIT, _Phase.RESPONSE) or self._room is not None or self._blocked
        if not waits:
            self._cut_short()
        return self.context.protocol == "http"

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the cause makes no difference
        if self._transport is not None:
            self._cut_short()

    def pause_writing(self) -> None:
        self._blocked = True
        self._written = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        """Go on, in another call: a transport of asyncio that is closed within this one closes a second time."""
        self._blocked = False
        self._written.set_result(None)
        asyncio.get_running_loop().call_soon(self._go_on)

    @loop_callback
    def _go_on(self) -> None:
        if self._transport is None or self._blocked:  # if it is blocked again, it will be resumed again
            return
        if self._phase is _Phase.END:
            self._linger()
        elif self._phase is _Phase.WAIT:
            self._next()
        elif self._peer_ended and self._phase is not _Phase.RESPONSE and self._room is None:
            self._cut_short()

    # Heads

    def _next(self) -> None:
        """Wait for the next request; first for the sender to receive what was written."""
        server = self._server
        if self._blocked:
            self._phase = _Phase.WAIT
            self.deadline = server.now() + server.body_timeout
            return
        self._release()
        self._searched = 0
        if self._buffer:  # a pipeline of refused requests must not monopolise the loop
            self._phase = _Phase.WAIT
            self.idle = False
            self.deadline = NEVER
            asyncio.get_running_loop().call_soon(self._take_turn)
            return
        self._phase = _Phase.HEAD
        self.idle = True
        self.waiting_since = now = server.now()
        # on a new connection the first request gets the header timeout, not the longer idle timeout
        self.deadline = now + (server.idle_timeout if self._served else server.header_timeout)
        self._await_head()

    @loop_callback
    def _take_turn(self) -> None:
        if self._phase is _Phase.WAIT:
            self._phase = _Phase.HEAD
            self.waiting_since = now = self._server.now()
            self.deadline = now + self._server.header_timeout
            self._read_head()

    def _read_head(self) -> None:
        try:
            head, self._buffer = take_head(self._buffer, self._searched)
            if head is None:
                charge(self._memory, len(self._buffer))
        except MalformedRequestError as error:
            self._malformed(error)
            return
        except Overloaded:
            self._refuse(responses.OVERLOADED)
            return
        if head is None:
            self._searched = max(0, len(self._buffer) - 3)
            self._await_head()
            return
        self._release()
        self.head = head
        self.deadline = self.waiting_since = NEVER
        self._phase = _Phase.BODY
        self._body = BodyFraming(head.length)
        self._body_time = None
        self._continued = not head.expects_continue
        self._delegate = delegate = self._server.start_request(self, self)
        version = "HTTP/1.0" if head.http10 else "HTTP/1.1"
        room = delegate.headers_received(RequestStartLine(head.method, head.target, version), RequestHeaders(head))
        if self._delegate is delegate:
            if room is not None:
                self._wait_for(room)
            else:
                self._read_body()

    def _await_head(self) -> None:
        if self._peer_ended:
            self._cut_short()
        else:
            self._read_on()

    # Bodies

    def _read_body(self) -> None:
        """Deliver what was received of the body, then wait for more, or for the response."""
        delegate = self._delegate
        try:
            data, self._buffer = self._body.take(self._buffer)
        except MalformedRequestError as error:
            self._malformed(error)
            return
        room = delegate.data_received(data) if data and delegate is not None else None
        if delegate is None or self._delegate is not delegate:  # it was answered meanwhile
            return
        if room is not None:
            self._wait_for(room)
        elif not self._body.unread:
            self._phase = _Phase.RESPONSE
            self.deadline = NEVER
            if self._charge_buffered():
                if not self._buffer:
                    self._read_on()  # shows the sender's end
                delegate.finish()
        elif self._body.has_more:
            self._wait_for(asyncio.sleep(0))
        else:
            self._await_body()

    def _wait_for(self, room: Awaitable[None]) -> None:
        """Deliver nothing more until the delegate lets the body continue."""
        self._room = future = asyncio.ensure_future(room)
        self.deadline = NEVER
        future.add_done_callback(self._continue_body)
        self._charge_buffered()

    def _charge_buffered(self) -> bool:
        """Charge what was received and can't be used yet; end the connection and return False if there is no memory."""
        try:
            charge(self._memory, len(self._buffer) + self._body.buffered)
        except Overloaded:
            if self._responding:
                self.close()
            else:
                self._refuse(responses.OVERLOADED)
            return False
        return True

    @loop_callback
    def _continue_body(self, room: asyncio.Future[None]) -> None:
        if self._room is room:
            self._room = None
            self._release()
            if room.cancelled() or room.exception() is not None:
                log.error("delegate failed", address=self.context.remote_ip)
                self.close()
            elif self._buffer or not self._body.unread or self._body.has_more:
                self._continued = self._continued or bool(self._buffer)
                self._read_body()
            else:
                self._await_body()

    def _await_body(self) -> None:
        if self._peer_ended:
            self._cut_short()
            return
        if not self._continued:
            self._continued = True
            self.write(_CONTINUE)
        if self._body_time is None:
            self._body_time = BodyTime(self._server.body_timeout)
        self.deadline = self._body_time.start(self._server.now())
        self._read_on()

    def _discard(self) -> None:
        _, self._buffer = self._body.take(self._buffer)
        if not self._body.unread:
            self._next()
        elif self._peer_ended:
            self._cut_short()
        else:
            self._read_on()

    # Flow control, and the end

    def _store(self, size: int) -> None:
        """Charge the last `size` bytes of the buffer, and receive nothing more; if there is no memory, end it all."""
        try:
            charge(self._memory, self._memory.size + size)
        except Overloaded:
            self.close()
            return
        if not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def _release(self) -> None:
        if self._memory.size:
            self._memory.resize(0)

    def _read_on(self) -> None:
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    def _shut_write_side(self) -> bool:
        """End the write side, and leave the read side open; return False if that is impossible, as with TLS."""
        if self._transport is None or not self._transport.can_write_eof():
            return False
        try:
            self._transport.write_eof()
        except OSError:  # asyncio's transport, after a reset that the loop has not seen yet
            return False
        return True

    def _malformed(self, error: MalformedRequestError) -> None:
        log.debug("malformed request", address=self.context.remote_ip, reason=error.reason, detail=error.detail)
        self._refuse(responses.malformed_request(error.status, error.reason))

    def _refuse(self, response: Response) -> None:
        response = self._server.answered(response)
        self.write(response.head + self._server.close_tail + response.body)
        self._lingers = True
        self._end(LINGER_SECONDS)

    def _end(self, seconds: float) -> None:
        """End the connection when the sender has received what was written, for which it has some seconds."""
        self._phase = _Phase.END
        self._buffer = b""
        self._release()
        self._drop_delegate()
        self.deadline = self._server.now() + seconds
        if not self._blocked:
            self._linger()

    def _linger(self) -> None:
        """Shut the write side and drop further input, so that no reset destroys the last response."""
        if not self._lingers or self._peer_ended:
            self.close()
            return
        self.deadline = self._server.now() + LINGER_SECONDS
        self._shut_write_side()
        self._read_on()

    def _cut_short(self) -> None:
        """End the connection because the sender has; count a request that is incomplete for that."""
        if self._phase is _Phase.BODY or (self._phase is _Phase.HEAD and not self.idle):
            self._server.metrics.incomplete += 1
        self.close()

    def close(self) -> None:
        """Close the connection, at once if its sender takes nothing; called again, it does nothing."""
        self.deadline = NEVER
        transport, self._transport = self._transport, None
        if transport is None:
            return
        if self._blocked:
            transport.abort()
        else:
            transport.close()
        self._buffer = b""
        self._release()
        if not self._written.done():
            self._written.set_result(None)
        self._phase = _Phase.END
        self._drop_delegate()
        self._server.on_close(self)

    def _drop_delegate(self) -> None:
        delegate, self._delegate = self._delegate, None
        self._room = None
        if delegate is not None:
            delegate.on_connection_close()
