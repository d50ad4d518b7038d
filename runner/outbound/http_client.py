"""The HTTP client for outbound calls: one aiohttp session, an address policy, bounds on size and time.

The policy (`dns`) is applied to every redirect as well. Proxies from the environment are not used: the
environment is empty, and a proxy would resolve names where the policy can't check the addresses.

Redirects are followed here and not by aiohttp: on a redirect to another origin the author's headers are dropped, since
any of them may be a credential, and authentication challenges are not answered.
"""

from __future__ import annotations

import socket
import time
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from types import SimpleNamespace
from typing import Final, Self

import aiohttp
import attrs
from aiohttp.abc import AbstractResolver, ResolveResult
from multidict import CIMultiDict
from yarl import URL

import flowhook
from flowhook import limits
from flowhook.security.address_policy import AddressPolicy, open_socket
from runner.interpreter.errors import Kind, fault
from runner.metrics import METRICS
from runner.outbound import digest
from runner.outbound.dns import lookup, numeric_host
from runner.outbound.http_response import HttpRequest, HttpResponse, LimitedConnector, is_harmless, read_response
from runner.outbound.tokens import Tokens

USER_AGENT: Final = f"flowhook/{flowhook.__version__}"
MAX_CONNECTIONS: Final = 1024
MAX_CONNECTIONS_PER_HOST: Final = 256
MAX_REDIRECTS: Final = 5
HEARTBEAT_SECONDS: Final = 20.0  # interval of pings on WebSocket connections
CLOSE_SECONDS: Final = 5.0  # time that a server has to answer the close of a WebSocket connection

_BECOME_GET: Final = frozenset({(301, "POST"), (302, "POST")})
_FOLLOWED: Final = {"http": ("http", "https"), "https": ("https",)}  # schemes of targets, by that of the redirect
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


@attrs.define(eq=False, repr=False, kw_only=True)
class HttpClient:
    """The HTTP session of a child, with cached tokens and digest challenges. Use it as an async context manager."""

    _address_policy: AddressPolicy
    tokens: Tokens = attrs.field(init=False, factory=Tokens)
    _challenges: digest.Sessions = attrs.field(init=False, factory=digest.Sessions)
    _session: aiohttp.ClientSession = attrs.field(init=False)

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=LimitedConnector(
                limit=MAX_CONNECTIONS,
                limit_per_host=MAX_CONNECTIONS_PER_HOST,
                resolver=_Resolver(),
                socket_factory=partial(open_socket, policy=self._address_policy),
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            timeout=aiohttp.ClientTimeout(total=None),
            headers={"User-Agent": USER_AGENT},
            trace_configs=[_tracing()],
        )
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self._session.close()

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Send one request and read the response; used through `bound_client.BoundClient`, which sets the deadline."""
        account, origin = request.account, request.url.origin()
        for _ in range(MAX_REDIRECTS + 1):
            async with await self.open(request) as response:
                location = response.headers.get("Location")
                if not (request.follow and response.status in _REDIRECTS and location):
                    return await read_response(response, request)
                answered, request = request, replace(request, url=request.url.join(URL(location)))
                # Source: RFC 9110, sections 15.4.2 to 15.4.4
                becomes_get = response.status == HTTPStatus.SEE_OTHER and request.method != "HEAD"
                if becomes_get or (response.status, request.method) in _BECOME_GET:
                    request.method, request.body = "GET", None
                    request.headers.popall("Content-Type", None)
            if request.url.scheme not in _FOLLOWED.get(answered.url.scheme, ()):
                detail = f"{answered.shown_url()} redirects to {request.url.scheme}:, which is not followed"
                raise fault(Kind.COMMUNICATION, detail)
            request.account = account if request.url.origin() == origin else None
            if request.url.origin() != answered.url.origin():
                harmless = ((name, value) for name, value in request.headers.items() if is_harmless(name))
                request.headers = CIMultiDict(harmless)
        detail = f"more than {MAX_REDIRECTS} redirects, the last one to {request.shown_url()}"
        raise fault(Kind.COMMUNICATION, detail)

    async def open(self, request: HttpRequest) -> aiohttp.ClientResponse:
        """Send one request, and repeat it once if the server challenges the account; the response body is unread."""
        account = request.account
        if account is None:
            return await self._request(request)
        origin, target = str(request.url.origin()), request.url.raw_path_qs
        for attempt in range(2):
            value = self._challenges.authorization(origin, account, method=request.method, target=target)
            response = await self._request(request if value is None else request.with_headers(Authorization=value))
            given = response.headers.getall("WWW-Authenticate", ())
            is_challenge = response.status == HTTPStatus.UNAUTHORIZED and not attempt
            if not is_challenge or not self._challenges.remember(origin, account, given):
                return response
            response.close()
        raise AssertionError("unreachable")

    async def open_websocket(self, request: HttpRequest) -> aiohttp.ClientWebSocketResponse:
        """Open a WebSocket connection; the caller closes it."""
        return await self._session.ws_connect(
            request.url,
            headers=request.headers,
            heartbeat=HEARTBEAT_SECONDS,
            max_msg_size=limits.MAX_RESULT_BYTES,
            timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_SECONDS),
        )

    async def _request(self, request: HttpRequest) -> aiohttp.ClientResponse:
        """Send one request and return its response, whose body is unread.

        A server may close a keep-alive connection at the moment it is reused. Then, and only then, the request is sent
        once more, over a new connection. If the receiver got both, it recognises the second one by the Idempotency-Key.
        """
        began, host, body = time.monotonic(), request.url.raw_host or "", request.body
        for attempt in range(2):
            use = SimpleNamespace(reused_connection=False)
            try:
                response = await self._session.request(
                    request.method,
                    request.url,
                    headers=request.headers,
                    data=body if body is None or isinstance(body, bytes) else body.payload(),
                    skip_auto_headers=("Content-Type",) if body is None else (),
                    allow_redirects=False,
                    max_line_size=limits.MAX_HEADER_BYTES,
                    trace_request_ctx=use,
                )
            except BaseException as error:
                is_closed = isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError)
                if is_closed and use.reused_connection and not attempt:
                    continue
                METRICS.requested(host, "", type(error).__name__, time.monotonic() - began)
                raise
            METRICS.requested(host, str(response.status), "", time.monotonic() - began)
            return response
        raise AssertionError("unreachable")


class _Resolver(AbstractResolver):
    """Adapts `dns.lookup` to aiohttp's resolver interface."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=numeric_host(address),
                port=port,
                family=found,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for found, _, protocol, _, address in await lookup(host, port, family=family)
        ]

    async def close(self) -> None:
        """Do nothing: there is nothing to close."""


def _tracing() -> aiohttp.TraceConfig:
    async def note(_session: aiohttp.ClientSession, context: SimpleNamespace, _parameters: object) -> None:
        context.trace_request_ctx.reused_connection = True

    async def refuse(
        _session: aiohttp.ClientSession, _context: SimpleNamespace, given: aiohttp.TraceRequestRedirectParams
    ) -> None:
        # only aiohttp's WebSocket client follows redirects by itself, with all headers and to any scheme
        answer = given.response
        answer.close()
        raise aiohttp.WSServerHandshakeError(answer.request_info, answer.history, status=answer.status)

    tracing = aiohttp.TraceConfig()
    tracing.on_connection_reuseconn.append(note)
    tracing.on_request_redirect.append(refuse)
    return tracing
