"""Base classes of the HTTP handlers of the admin process: headers, problems, credentials, bodies, operations."""

from __future__ import annotations

import asyncio
import http
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import parse_qs

import attrs
import tornado.web
from tornado.iostream import StreamClosedError

from admin.security.request_checks import is_allowed_host, is_embedded_elsewhere, is_same_origin
from admin.security.router_clients import Recognition, RouterClients, SharedCalls
from admin.security.sessions import LoginLink, LoginRole, LoginSession, LoginSessions, SentLogins, digest
from flowhook import errors
from flowhook.client import AsyncClient, ProcessInfo
from flowhook.errors import (
    ExhaustedError,
    FlowhookError,
    InvalidError,
    InvalidFlowError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnavailableError,
)
from flowhook.http.forwarded import UNKNOWN, TrustedProxies
from flowhook.http.listening import peer_address
from flowhook.model.audit import client_address
from flowhook.process.process_state import ProcessState
from flowhook.sharing import Principal, Seat, SharedLimit, current_principal
from flowhook.sharing.limit import address_principal
from flowhook.sharing.table import AdminLimits
from operations.encoding import to_json
from operations.operation import Operation, P
from operations.tools import Tools

if TYPE_CHECKING:
    from tornado.http1connection import HTTP1Connection

# nothing but files of this process: no inline script or style, no eval, no frames. Source: CSP Level 3.
SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "Server": "flowhook",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": SECURITY_POLICY,
    "Referrer-Policy": "same-origin",  # `no-referrer` would make browsers send `Origin: null`
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# HTTP status by class of error; 500 for others
STATUSES: Final = (
    (errors.InvalidError, http.HTTPStatus.BAD_REQUEST),
    (errors.UnauthenticatedError, http.HTTPStatus.UNAUTHORIZED),
    (errors.PermissionDeniedError, http.HTTPStatus.FORBIDDEN),
    (errors.NotFoundError, http.HTTPStatus.NOT_FOUND),
    (errors.ConflictError, http.HTTPStatus.CONFLICT),
    (errors.OutOfRangeError, http.HTTPStatus.GONE),
    (errors.ExhaustedError, http.HTTPStatus.TOO_MANY_REQUESTS),
    (errors.UnavailableError, http.HTTPStatus.SERVICE_UNAVAILABLE),
)
# reason by HTTP status, for errors that are no `FlowhookError`
REASONS: Final[Mapping[int, str]] = {
    http.HTTPStatus.NOT_FOUND: "PATH_UNKNOWN",
    http.HTTPStatus.METHOD_NOT_ALLOWED: "METHOD_NOT_ALLOWED",
    http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "BODY_TOO_LARGE",
    http.HTTPStatus.SERVICE_UNAVAILABLE: "UNAVAILABLE",
}
# statuses that answer a request before its body was read: Tornado closes the connection, and clients must know
UNREAD: Final = (
    http.HTTPStatus.BAD_REQUEST,
    http.HTTPStatus.METHOD_NOT_ALLOWED,
    http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    http.HTTPStatus.MISDIRECTED_REQUEST,
)


class RequestsInProgress:
    """Handlers whose requests have no response yet, so that a process that stops can answer them first."""

    def __init__(self) -> None:
        self._handlers: set[object] = set()
        self._ended = asyncio.Event()

    def add(self, handler: object) -> None:
        self._handlers.add(handler)

    def discard(self, handler: object) -> None:
        self._handlers.discard(handler)
        self._ended.set()

    async def wait_for_end(self, seconds: float, *, excluding: Collection[object] = ()) -> None:
        """Wait until all requests have ended, but for `excluding`; for `seconds` at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._handlers.issubset(excluding):
                    self._ended.clear()
                    await self._ended.wait()


@attrs.define(eq=False, repr=False)
class AdminContext:
    """What all handlers share."""

    # client of the router with this process's own token, for health and metrics only; owned by the caller
    client: AsyncClient
    watch: AsyncClient  # the same with a longer timeout, which finds out whether the router hangs; owned by the caller
    names: Collection[str]  # names by which the process may be called (see `is_allowed_host`)
    clients: RouterClients  # clients with the tokens of people and programs
    sessions: LoginSessions = attrs.field(factory=LoginSessions)  # of the console
    login_link: LoginLink = attrs.field(factory=lambda: LoginLink("", str, 0.0))
    limits: AdminLimits = attrs.field(factory=AdminLimits)  # that principals share
    proxies: TrustedProxies = attrs.field(factory=TrustedProxies)  # that say whose requests they pass on
    sent_logins: SentLogins = attrs.field(factory=SentLogins)
    requests: RequestsInProgress = attrs.field(factory=RequestsInProgress)
    streams: set[object] = attrs.field(factory=set)  # handlers of live lists that are open
    process_state: ProcessState = attrs.field(factory=lambda: ProcessState(name="admin", role="admin"))  # of this one
    known_processes: list[ProcessInfo] = attrs.field(factory=list)  # those of which the router knew last
    tools: Tools = attrs.field(factory=Tools)  # what operations use of this process; owned by the caller
    trace_url: str = ""  # with `TRACE_ID` in place of the ID of a trace; empty: traces are not linked to
    clock: Callable[[], float] = time.monotonic  # in seconds
    shared_calls: SharedCalls[Any] = attrs.field(factory=SharedCalls)  # for requests without credentials
    recognition: Recognition = attrs.field(init=False)
    downloads: SharedLimit = attrs.field(init=False)  # in progress
    live_lists: SharedLimit = attrs.field(init=False)  # that are open
    response_bytes: SharedLimit = attrs.field(init=False)  # responses that their clients have not received yet
    request_bytes: SharedLimit = attrs.field(init=False)  # bodies of requests that have no response yet

    def __attrs_post_init__(self) -> None:
        self.recognition = Recognition(self.clients, self.limits.logins, clock=self.clock)
        for name in ("downloads", "live_lists", "response_bytes", "request_bytes"):
            setattr(self, name, SharedLimit(getattr(self.limits, name)))


def status_of(error: FlowhookError) -> http.HTTPStatus:
    return next((status for kind, status in STATUSES if isinstance(error, kind)), http.HTTPStatus.INTERNAL_SERVER_ERROR)


class BaseHandler(tornado.web.RequestHandler):
    """Base class of all handlers: HEAD like GET, problem details for errors, no caching."""

    SUPPORTED_METHODS: tuple[str, ...] = ("GET", "HEAD")

    def initialize(self, context: AdminContext) -> None:
        self.context = context
        context.requests.add(self)

    def on_finish(self) -> None:
        self.context.requests.discard(self)

    @cached_property
    def client_address(self) -> IPv4Address | IPv6Address:
        """Address of the client; behind trusted proxies, the one that they report."""
        given = [
            (name, value.encode("latin-1", "replace"))
            for name in ("forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host")
            for value in self.request.headers.get_list(name)
        ]
        peer = peer_address(self.request.remote_ip or str(UNKNOWN))
        return self.context.proxies.origin(peer, self.request.protocol, given).address

    @property
    def principal(self) -> Principal:
        return address_principal(self.client_address)

    def finish(self, chunk: str | bytes | dict[str, Any] | None = None) -> asyncio.Future[None]:
        """Send the rest of the response; end the connection if its client does not receive it in time.

        A response that waits for its client counts against its share; without room for it, the connection ends at once.
        """
        size = len(chunk) if isinstance(chunk, str | bytes) else 0
        sent = super().finish(chunk)
        if sent.done():
            return sent
        try:
            seat = self.context.response_bytes.acquire(self.principal, size)
        except FlowhookError:
            self.disconnect()
            return sent
        timer = asyncio.get_running_loop().call_later(self.context.limits.send_seconds, self.disconnect)
        sent.add_done_callback(lambda _: timer.cancel())
        sent.add_done_callback(lambda _: seat.release())
        return sent

    async def flush_in_time(self) -> None:
        """Send what was written so far. A client that does not receive it is disconnected: it would occupy its place.

        Raises:
            StreamClosedError: the connection has ended.
        """
        try:
            async with asyncio.timeout(self.context.limits.send_seconds):
                await self.flush()
        except TimeoutError:
            self.disconnect()
            raise StreamClosedError from None

    @property
    def connection(self) -> HTTP1Connection:
        return cast("HTTP1Connection", self.request.connection)

    def disconnect(self) -> None:
        self.connection.stream.close()

    def prepare(self) -> None:
        """Refuse a request whose Host is not a name of this process (see `is_allowed_host`)."""
        self.check_host()

    def check_host(self) -> bool:
        """Whether Host is a name of this process; else the request is answered."""
        stream = self.connection.stream
        own_address = "" if stream.closed() else stream.socket.getsockname()[0]  # the client may have disconnected
        if is_allowed_host(self.request.headers.get("Host"), own_address, self.context.names):
            return True
        detail = "Unknown Host header: FLOWHOOK_ADMIN_HOSTS lists the names of this server."
        self.set_error_headers(http.HTTPStatus.MISDIRECTED_REQUEST)
        self._finish_problem(http.HTTPStatus.MISDIRECTED_REQUEST, reason="HOST_UNKNOWN", detail=detail)
        return False

    def set_default_headers(self) -> None:
        """Set the headers of every response. Source: OWASP, "HTTP Headers Cheat Sheet"."""
        for name, value in HEADERS.items():
            self.set_header(name, value)

    async def head(self, *values: str) -> None:
        await self.get(*values)

    async def get(self, *values: str) -> None:  # noqa: ARG002 - those of the path, for subclasses
        raise tornado.web.HTTPError(http.HTTPStatus.NOT_FOUND)

    def write_error(self, status_code: int, **_kwargs: Any) -> None:
        self.set_error_headers(status_code)
        default = "INTERNAL" if status_code >= http.HTTPStatus.INTERNAL_SERVER_ERROR else "BAD_REQUEST"
        self._finish_problem(http.HTTPStatus(status_code), reason=REASONS.get(status_code, default))

    def set_error_headers(self, status_code: int) -> None:
        if status_code == http.HTTPStatus.METHOD_NOT_ALLOWED:
            self.set_header("Allow", ", ".join(self.SUPPORTED_METHODS))
        if status_code in UNREAD:
            self.set_header("Connection", "close")

    def set_status_of(self, error: FlowhookError) -> None:
        self.set_status(status_of(error))
        if isinstance(error, ExhaustedError | UnavailableError):
            self.set_header("Retry-After", str(error.retry_after))

    def finish_problem(self, error: FlowhookError) -> None:
        self.set_status_of(error)
        more: dict[str, object] = {"reason": error.reason, "detail": error.message}
        if isinstance(error, InvalidFlowError):
            more["faults"] = [{"line": fault.line, "key": fault.key, "cause": fault.cause} for fault in error.faults]
        self._finish_problem(status_of(error), **more)

    def _finish_problem(self, status: http.HTTPStatus, **more: object) -> None:
        self.set_status(status)
        problem = {"status": status, "title": status.phrase, **more}
        self.finish_json(problem, content_type="application/problem+json")

    def finish_json(self, value: object, *, content_type: str = "application/json") -> None:
        self.set_header("Content-Type", content_type)
        self.finish(to_json(value, indent=True) + b"\n")


COOKIE: Final = "flowhook_session"
MAX_TOKEN: Final = 512  # characters of a token at most
# bytes that a form or a JSON body may have: a flow's file of 256 KiB, each byte of it as `%XX`, and a rest
MAX_BODY: Final = 1024 * 1024
MAX_FIELDS: Final = 100  # fields that a form or a query may have


@tornado.web.stream_request_body
class SignedInHandler(BaseHandler):
    """Base class of the handlers that need credentials.

    The body is received only after `prepare` has checked them, and parsed only by `form`: Tornado would parse it first.
    A `FlowhookError` that a method raises becomes the response.
    """

    max_body = MAX_BODY
    operators_only = True
    token: str | None = None
    session: LoginSession | None = None
    is_complete = False  # whether the whole request has been received
    _seat: Seat | None = None  # share of memory that the body takes; Tornado ends some requests before `prepare`

    def prepare(self) -> None:
        """Authenticate and authorize the request before its body is received; a refusal is answered after the body."""
        self._body = bytearray()
        self._refusal: FlowhookError | None = None
        self._seat = None
        self._is_received = False
        self.connection.set_max_body_size(self.max_body)
        if not self.check_host():
            return
        if (self.content_length or 0) > self.max_body:
            raise tornado.web.HTTPError(http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        try:
            self.authenticate()
            self.authorize()
        except FlowhookError as error:
            self._refusal = error  # answered once the request was read: before, the connection would be closed
        self._is_received = self._refusal is None or self.is_unsent_form(self._refusal)

    @property
    def content_length(self) -> int | None:
        text = self.request.headers.get("Content-Length", "")
        return int(text[:20]) if text.isdecimal() else None

    def data_received(self, chunk: bytes) -> None:
        """Collect the body, whose size is limited; that of a request that is refused is dropped."""
        if not self._is_received:
            return
        try:
            if self._seat is None:
                self._seat = self.context.request_bytes.acquire(self._body_principal(), len(chunk))
            else:
                self._seat.resize(len(self._body) + len(chunk))
        except FlowhookError as error:
            self._refusal, self._is_received = self._refusal or error, False
            self._body.clear()
            self._release_body()
        else:
            self._body += chunk

    def _body_principal(self) -> Principal:
        """Return whose share of bodies the request uses: nobody chooses that by a token that is none."""
        known = self.session is not None or self.context.clients.is_known(self.token or "")
        return self.principal if known else super().principal

    def _release_body(self) -> None:
        if self._seat is not None:
            self._seat.release()

    def on_finish(self) -> None:
        super().on_finish()
        self._release_body()

    def on_connection_close(self) -> None:
        """End the request if the rest of it can't be received any more: Tornado drops it without `on_finish`."""
        super().on_connection_close()
        if not self.is_complete:
            self.context.requests.discard(self)
            self._release_body()

    def is_unsent_form(self, error: FlowhookError) -> bool:  # noqa: ARG002 - subclasses look at it
        """Whether the body of a refused request is received, because the response has it."""
        return False

    async def get(self, *values: str) -> None:
        await self._respond(self.show, values)

    async def post(self, *values: str) -> None:
        await self._respond(self.submit, values)

    async def _respond(self, perform: Callable[..., Awaitable[None]], values: tuple[str, ...]) -> None:
        self.is_complete = True
        try:
            if self._refusal is not None:
                raise self._refusal
            current_principal.set(self.principal)
            client_address.set(str(self.client_address))
            await perform(*values)
        except StreamClosedError:
            return  # nobody is left to receive the rest
        except FlowhookError as error:
            self.finish_error(error)

    async def show(self, *values: str) -> None:
        raise NotImplementedError

    async def submit(self, *values: str) -> None:
        raise NotImplementedError

    def authenticate(self) -> None:
        """Find the session. A page that updates itself does not use it: nobody asked for anything."""
        self.session = self.find_session(use=not self.is_update)
        if self.session is None:
            raise UnauthenticatedError("log in first: there is no session, or it has expired", reason="SESSION_MISSING")
        self.token = self.session.token

    def find_session(self, *, use: bool = True) -> LoginSession | None:
        """Return the session whose cookie the request has, and count it as used, if `use`."""
        return self.context.sessions.find(self.get_cookie(COOKIE, "") or "", self.context.clock(), use=use)

    def end_session(self) -> None:
        self.context.sessions.end(self.get_cookie(COOKIE, "") or "")

    @property
    def is_update(self) -> bool:
        """Whether a page updates itself: nothing else here is requested by htmx."""
        return "HX-Request" in self.request.headers

    def authorize(self) -> None:
        """Check the origin of the requests of a session, and its role if they change something."""
        if self.session is None:
            return
        self.check_origin()
        if self.request.method == "POST" and self.operators_only and self.session.role is not LoginRole.OPERATOR:
            raise PermissionDeniedError(
                "your token may only view: log in with one that has the scope admin", reason="SCOPE_MISSING"
            )

    def check_origin(self) -> None:
        given = self.request.headers.get
        if self.request.method == "POST":
            foreign = not is_same_origin(given("Host"), given("Origin"), given("Sec-Fetch-Site"))
        else:
            foreign = is_embedded_elsewhere(given("Sec-Fetch-Site"), given("Sec-Fetch-Mode"), given("Sec-Fetch-Dest"))
        if foreign:
            raise PermissionDeniedError("the request was sent by a page of another origin", reason="ORIGIN_FOREIGN")

    def finish_error(self, error: FlowhookError) -> None:
        self.finish_problem(error)

    @property
    def body(self) -> bytes:
        return bytes(self._body)

    def form(self) -> dict[str, list[str]]:
        content_type = self.request.headers.get("Content-Type", "").partition(";")[0].strip()
        if content_type != "application/x-www-form-urlencoded":
            raise InvalidError("send a form: application/x-www-form-urlencoded", reason="FORM_INVALID")
        return parse_fields(self.body, "FORM_INVALID")

    def query(self) -> dict[str, list[str]]:
        return parse_fields(self.request.query.encode("utf-8", "surrogateescape"), "QUERY_INVALID")

    async def run(
        self, operation: Operation[Any], path: Mapping[str, str], query: Mapping[str, Sequence[str]] | None = None
    ) -> Any:
        return await self.perform(operation, operation.read_query(path, self.query() if query is None else query))

    async def perform(self, operation: Operation[P], parameters: P) -> Any:
        async with self.router() as client:
            return await operation.perform(client, parameters, self.context.tools)

    @asynccontextmanager
    async def router(self) -> AsyncIterator[AsyncClient]:
        await self.recognize()
        async with self.context.clients.client(self.token or "") as client:
            yield client

    async def recognize(self) -> None:
        """Check that the router knows the token of the request, as `Recognition` does; a session's is known."""
        if self.session is None:
            await self.context.recognition.recognize(self.token or "", self.client_address)

    @property
    def principal(self) -> Principal:
        """The token; the address of a request without one."""
        if self.token is None:
            return super().principal
        return Principal("token", digest(self.token).hex())


def parse_fields(text: bytes, reason: str) -> dict[str, list[str]]:
    try:
        return parse_qs(
            text.decode("utf-8"), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS, encoding="utf-8"
        )
    except ValueError:
        raise InvalidError(f"write UTF-8, in at most {MAX_FIELDS} fields", reason=reason) from None
