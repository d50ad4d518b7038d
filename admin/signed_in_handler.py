"""Base class of the handlers that need credentials: sessions, bearer tokens, bodies, and calls of operations."""

from __future__ import annotations

import http
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import parse_qs

import tornado.web
from tornado.iostream import StreamClosedError

from admin.base_handler import BaseHandler
from admin.security.request_checks import is_embedded_elsewhere, is_same_origin
from admin.security.sessions import LoginRole, LoginSession, digest
from flowhook.client import AsyncClient
from flowhook.errors import FlowhookError, InvalidError, PermissionDeniedError, UnauthenticatedError
from flowhook.model.audit import client_address
from flowhook.sharing import Principal, Seat, current_principal
from operations.operation import Operation, P

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
