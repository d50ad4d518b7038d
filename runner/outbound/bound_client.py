"""The HTTP client that a component uses in one call: its deadline, its Idempotency-Key, its credentials."""

from __future__ import annotations

import asyncio
import base64
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any, Final, TypeVar

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from flowhook.document.models.webhook import RESERVED_HEADERS
from flowhook.providers.scheme import TOKEN
from flowhook.security.address_policy import POLICY, is_policy_error
from flowhook.tracing.context import TRACEPARENT
from runner.interpreter import json_codec
from runner.interpreter.errors import Kind, TaskFault, fault
from runner.outbound.call_trace import CURRENT, NOT_TRACED, Exchange
from runner.outbound.destinations import NO_ANSWER, CallGate
from runner.outbound.dns import refused_status
from runner.outbound.http_client import HttpClient
from runner.outbound.http_response import (
    MAX_INTERIM_RESPONSES,
    Body,
    HttpRequest,
    HttpResponse,
    TooManyResponsesError,
    read_response,
    requested_delay,
)
from runner.outbound.policies import Policy

IDEMPOTENCY_KEY: Final = "Idempotency-Key"

_LINE_BREAK: Final = re.compile(r"[\r\n\0]")

Answer = TypeVar("Answer", HttpResponse, aiohttp.ClientResponse, aiohttp.ClientWebSocketResponse)
Response = TypeVar("Response", HttpResponse, aiohttp.ClientResponse)


@dataclass(frozen=True, slots=True)
class Authorization:
    """The value of `Authorization` for a request; `cached`: it is a cached token, which may have expired."""

    value: str = field(repr=False)
    cached: bool = False


@dataclass(frozen=True, slots=True, repr=False)
class BoundClient:
    """The HTTP client of one call; see `components.Context`."""

    _client: HttpClient  # shared by all calls of the process
    _idempotency_key: str  # sent with each request; empty: none
    _deadline: float  # on the event loop's clock, in seconds
    _hide_path: bool = False  # see `http_response.public_url`
    # called with each credential that the client creates or receives, so that no error shows it
    _on_credential: Callable[[str], None] = lambda _credential: None
    _gate: CallGate | None = None  # before requests to destinations that are down; None: there are none

    def without_key(self) -> BoundClient:
        """Return the client without Idempotency-Key, for auxiliary requests that are not the call itself."""
        return replace(self, _idempotency_key="")

    async def request(
        self,
        method: str,
        url: str | URL,
        *,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str | list[str]] | None = None,
        body: Body = None,
        json: Any = None,
        follow_redirects: bool = False,
        authentication: Policy | None = None,
    ) -> HttpResponse:
        """Send a request and return the response, whatever its status.

        Args:
            method: in upper case.
            url: absolute, http or https.
            headers: to add; an Idempotency-Key among them replaces the call's own.
            query: parameters to add to those of `url`.
            body: bytes, or a streamed body.
            json: instead of `body`, sent as application/json.
            follow_redirects: at most `MAX_REDIRECTS`, never from https to http.
            authentication: of the call; ignored if `headers` contains an Authorization. A cached token that the server
                refuses with 401 is replaced once.

        Raises:
            TaskFault: the URL or a header is wrong (configuration), there is no response (communication) or none in
                time (timeout); no token can be obtained (`authorization`).
        """
        request = self._request(method, url, headers or {}, body, query)
        request.follow = follow_redirects
        if self._idempotency_key:
            request.headers.setdefault(IDEMPOTENCY_KEY, self._idempotency_key)
        if json is not None:
            request.body = json_codec.encode(json)
            request.headers.setdefault("Content-Type", "application/json")
        return await self._authorized(request, authentication, self._send)

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str | URL,
        *,
        headers: Mapping[str, str] | None = None,
        body: Body = None,
        authentication: Policy | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request and provide its response, whose body the caller reads, in bounds of its own.

        Arguments and errors are those of `request`, but redirects are not followed.
        """
        request = self._request(method, url, headers or {}, body)
        async with await self._authorized(request, authentication, self._open) as response:
            self._answered(request, response.status, requested_delay(response.headers))
            with self._explained(request, begins=False):
                yield response

    @asynccontextmanager
    async def websocket(
        self,
        url: str,
        *,
        headers: Mapping[str, str],
        authentication: Policy | None = None,
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """Open a WebSocket connection and close it in the end; it may outlast the call.

        Arguments and errors are those of `request`.
        """
        request = self._request("GET", url, headers)
        if authentication is not None and "Authorization" not in request.headers:
            request.headers["Authorization"] = (await self.authorization(authentication)).value
        async with await self._exchange(request, self._client.open_websocket) as socket:
            self._answered(request, HTTPStatus.OK)
            with self._explained(request, begins=False):
                yield socket

    async def read(self, response: aiohttp.ClientResponse) -> HttpResponse:
        """Read the body of a response of `stream`; TaskFault (communication): it is too large."""
        return await read_response(response, self._request(response.method, response.url, {}))

    async def authorization(self, policy: Policy, *, refused: Authorization | None = None) -> Authorization:
        """Return the Authorization value for a policy (not `digest`), for calls that aren't made by `request`.

        A new token is fetched if the server `refused` a `cached` value.

        Raises:
            TaskFault: the policy has no such value (configuration); the token server refuses (authentication) or does
                not answer (communication, timeout).
        """
        if policy.basic is not None:
            pair = f"{policy.basic.username}:{policy.basic.password}"
            return self._authorization(f"Basic {base64.b64encode(pair.encode()).decode()}")
        if policy.bearer is not None:
            return self._authorization(f"Bearer {policy.bearer.token}")
        grant = policy.oauth2 or policy.oidc
        if grant is None:
            raise fault(Kind.CONFIGURATION, "`authentication.digest` works for HTTP calls only")
        token = None if refused is None else refused.value.removeprefix("Bearer ")
        try:
            async with asyncio.timeout_at(self._deadline):
                token, cached = await self._client.tokens.get(grant, self._send_for_token, refused=token)
        except TimeoutError:
            raise fault(Kind.TIMEOUT, "the token server did not respond within the timeout of the call") from None
        return self._authorization(f"Bearer {token}", cached=cached)

    def _authorization(self, value: str, *, cached: bool = False) -> Authorization:
        if _LINE_BREAK.search(value):
            raise fault(Kind.CONFIGURATION, "a credential contains a line break, which HTTP does not allow")
        self._on_credential(value.partition(" ")[2])
        return Authorization(value, cached)

    async def _send_for_token(
        self, method: str, url: str, *, headers: dict[str, str], body: bytes | None = None
    ) -> HttpResponse:
        # without key and trace of the call: fetching a token is another effect, and its server has no part in the call
        return await self._send(self._request(method, url, headers, body), is_traced=False)

    def _request(
        self,
        method: str,
        url: str | URL,
        headers: Mapping[str, str],
        body: Body = None,
        query: Mapping[str, str | list[str]] | None = None,
    ) -> HttpRequest:
        return HttpRequest(method, _checked(url, query), _checked_fields(headers), body, hides_path=self._hide_path)

    async def _authorized(
        self, request: HttpRequest, policy: Policy | None, send: Callable[[HttpRequest], Awaitable[Response]]
    ) -> Response:
        """Send a request with the credentials of a policy, and once more if the server refuses a cached token."""
        if policy is None or "Authorization" in request.headers:
            return await send(request)
        if policy.digest is not None:
            return await send(replace(request, account=policy.digest))
        authorization = await self.authorization(policy)
        response = await send(request.with_headers(Authorization=authorization.value))
        if response.status != HTTPStatus.UNAUTHORIZED or not authorization.cached:
            return response
        if isinstance(response, aiohttp.ClientResponse):
            response.close()
        authorization = await self.authorization(policy, refused=authorization)
        return await send(request.with_headers(Authorization=authorization.value))

    async def _open(self, request: HttpRequest) -> aiohttp.ClientResponse:
        return await self._exchange(request, self._client.open)

    async def _send(self, request: HttpRequest, *, is_traced: bool = True) -> HttpResponse:
        response = await self._exchange(request, self._client.send, is_traced=is_traced)
        self._answered(request, response.status, response.retry_after_ms)
        return response

    async def _exchange(
        self, request: HttpRequest, perform: Callable[[HttpRequest], Awaitable[Answer]], *, is_traced: bool = True
    ) -> Answer:
        with self._traced(request) if is_traced else NOT_TRACED as exchange, self._explained(request):
            async with asyncio.timeout_at(self._deadline):
                answer = await perform(request)
            # without a status: a socket, for which the server switched protocols
            exchange.set("http.response.status_code", getattr(answer, "status", 101))
            return answer
        raise AssertionError("unreachable")

    def _traced(self, request: HttpRequest) -> AbstractContextManager[Exchange]:
        trace = CURRENT.get()
        if trace is not None:
            return trace.http(request)
        if request.headers.get(TRACEPARENT) == "":  # see `CallTrace.http`
            del request.headers[TRACEPARENT]
        return NOT_TRACED

    def _answered(self, request: HttpRequest, status: int, retry_after_ms: int = 0) -> None:
        if self._gate is not None:
            self._gate.answered(str(request.url.origin()), status, retry_after_ms)

    @contextmanager
    def _explained(self, request: HttpRequest, *, begins: bool = True) -> Iterator[None]:
        """Raise what fails in a request as a `TaskFault`; if it `begins`, pass the gate."""
        gate, origin = (self._gate, str(request.url.origin())) if self._gate is not None and begins else (None, "")
        if gate is not None:
            gate.enter(origin)
        shown = f"{request.method} {request.shown_url()}"
        try:
            yield
        except TimeoutError:
            if gate is not None:
                gate.failed(origin, NO_ANSWER)
            raise fault(Kind.TIMEOUT, f"{shown}: no response within the timeout") from None
        except TaskFault:
            if gate is not None:
                gate.answered(origin, HTTPStatus.OK)  # the response is not acceptable, but there is one
            raise
        except (aiohttp.ClientError, OSError, ValueError, UnicodeError) as problem:
            cause = _explain(problem)
            if gate is not None and isinstance(problem, aiohttp.WSServerHandshakeError):
                gate.answered(origin, problem.status, requested_delay(problem.headers or {}))
            elif (
                gate is not None and isinstance(problem, aiohttp.ClientError | OSError) and not is_policy_error(problem)
            ):
                gate.failed(origin, cause, sent=not isinstance(problem, aiohttp.ClientConnectorError))
            raise fault(Kind.COMMUNICATION, f"{shown}: {cause}", status=refused_status(problem)) from None


def _checked(url: str | URL, query: Mapping[str, str | list[str]] | None) -> URL:
    try:
        target = URL(url).extend_query(query or {})
    except (ValueError, TypeError):
        target = URL()
    if target.scheme not in ("http", "https") or not target.host:
        raise fault(Kind.CONFIGURATION, "the endpoint must be an absolute http or https URL")
    return target


def _checked_fields(headers: Mapping[str, str]) -> CIMultiDict[str]:
    for name, value in headers.items():
        if not TOKEN.fullmatch(name):
            raise fault(Kind.CONFIGURATION, f"the header name {name!r} is not allowed in HTTP")
        if name.lower() in RESERVED_HEADERS:
            raise fault(Kind.CONFIGURATION, f"the HTTP client sets the header {name} itself; remove it")
        if _LINE_BREAK.search(value):
            raise fault(Kind.CONFIGURATION, f"the value of the header {name} contains a line break")
    return CIMultiDict(headers)


# texts for aiohttp's errors, the first match counts; aiohttp's own messages contain the whole URL
_CAUSES: Final[tuple[tuple[type[Exception], str], ...]] = (
    (aiohttp.ClientConnectorDNSError, "the host name can't be resolved"),
    (aiohttp.ClientConnectorCertificateError, "the server's certificate is not valid"),
    (aiohttp.ClientConnectorSSLError, "the TLS handshake failed"),
    (aiohttp.ClientConnectorError, "can't connect"),
    (aiohttp.WSServerHandshakeError, "the server does not accept the WebSocket connection"),
    (TooManyResponsesError, f"the server sent more than {MAX_INTERIM_RESPONSES} interim responses"),
    (aiohttp.ServerDisconnectedError, "the server closed the connection"),
    (aiohttp.ClientPayloadError, "the response ended early"),
    (aiohttp.ClientResponseError, "the response is not valid HTTP"),
    (OSError, "the connection was lost"),
)


def _explain(problem: Exception) -> str:
    if POLICY in str(problem):
        return POLICY
    cause = next((text for kind, text in _CAUSES if isinstance(problem, kind)), "the request could not be sent")
    reason = os.strerror(problem.errno) if isinstance(problem, OSError) and problem.errno else ""
    return f"{cause} ({reason})" if reason and not isinstance(problem, aiohttp.ClientConnectorDNSError) else cause
