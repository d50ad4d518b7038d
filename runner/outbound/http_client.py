"""The HTTP client for outbound calls: one aiohttp session, an address policy, bounds on size and time.

The policy (`dns`) is applied to every redirect as well. Proxies from the environment are not used: the
environment is empty, and a proxy would resolve names where the policy can't check the addresses.

Redirects are followed here and not by aiohttp: on a redirect to another origin the author's headers are dropped, since
any of them may be a credential, and authentication challenges are not answered.
"""

from __future__ import annotations

import asyncio
import base64
import os
import re
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, Final, Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from multidict import CIMultiDict
from yarl import URL

import flowhook
from flowhook import limits
from flowhook.address_policy import POLICY, open_socket
from flowhook.document.header_rules import FIELD_NAME, RESERVED_HEADERS
from runner.authentication import digest
from runner.authentication.policy import Basic, Digest, Policy
from runner.authentication.tokens import Tokens
from runner.interpreter.errors import Kind, TaskFault, fault
from runner.interpreter.json_codec import encode
from runner.outbound.dns import lookup, numeric_host, refused_status
from runner.outbound.http_response import HttpResponse, is_harmless, public_url, read_response
from runner.outbound.request_bodies import StreamedBody
from runner.outbound.response_limits import MAX_INTERIM_RESPONSES, LimitedConnector, TooManyResponsesError

Body = bytes | StreamedBody | None
"""Body of a request; a streamed body is read again for each attempt."""

USER_AGENT: Final = f"flowhook/{flowhook.__version__}"
MAX_CONNECTIONS: Final = 1024
MAX_CONNECTIONS_PER_HOST: Final = 256
MAX_REDIRECTS: Final = 5
IDEMPOTENCY_KEY: Final = "Idempotency-Key"

_LINE_BREAK: Final = re.compile(r"[\r\n\0]")
_MOVED: Final = frozenset({301, 302})
_SEE_OTHER: Final = 303
_UNAUTHORIZED: Final = 401
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
TLS: Final = ssl.create_default_context()
"""TLS context for protocols other than HTTP.

Created on import: the environment says where certificates are, and a child clears its environment later.
"""
TRUSTED_ROOTS: Final = ssl.get_default_verify_paths().cafile
"""File with the trusted CA certificates, for libraries with their own TLS; None: this system has no such file."""


@dataclass(frozen=True, slots=True)
class Authorization:
    """The value of `Authorization` for a request; `kept`: it is a cached token, which may have expired."""

    value: str = field(repr=False)
    kept: bool = False


def _forget(_credential: str) -> None:
    pass


class HttpClient:
    """The HTTP session of a child, with cached tokens and digest challenges. Use it as an async context manager."""

    def __init__(self, *, allow_private_addresses: bool) -> None:
        self.tokens = Tokens()
        self._challenges = digest.Sessions()
        self._allow_private = allow_private_addresses
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = LimitedConnector(
            limit=MAX_CONNECTIONS,
            limit_per_host=MAX_CONNECTIONS_PER_HOST,
            resolver=_Resolver(),
            socket_factory=self._open_socket,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            timeout=aiohttp.ClientTimeout(total=None),
            headers={"User-Agent": USER_AGENT},
            trace_configs=[_tracing()],
        )
        return self

    async def __aexit__(self, *_exception: object) -> None:
        if self._session is not None:
            await self._session.close()

    def bind(
        self,
        *,
        idempotency_key: str,
        deadline: float,
        discreet: bool = False,
        learn: Callable[[str], None] = _forget,
    ) -> BoundClient:
        """Return the client for one call; see `components.Context`.

        Args:
            idempotency_key: sent with each request.
            deadline: on the event loop's clock, in seconds.
            discreet: see `http_response.public_url`.
            learn: called with each credential that the client creates or receives, so that no error shows it.
        """
        return BoundClient(self, idempotency_key, deadline, discreet, learn)

    def _open_socket(self, info: tuple[Any, ...]) -> socket.socket:
        return open_socket(info, allow_private_addresses=self._allow_private)

    async def send(
        self,
        method: str,
        url: URL,
        headers: CIMultiDict[str],
        body: Body,
        *,
        follow: bool,
        discreet: bool,
        account: Digest | None = None,
    ) -> HttpResponse:
        """Send one request and read the response; used through `BoundClient`, which sets the deadline.

        Args:
            method: in upper case.
            url: absolute.
            headers: all of them.
            body: sent unchanged.
            follow: whether to follow redirects.
            discreet: see `http_response.public_url`.
            account: answers the challenges of the origin of `url`.

        Raises:
            TaskFault: there is no response (communication).
        """
        origin = url.origin()
        for _ in range(MAX_REDIRECTS + 1):
            entitled = account if url.origin() == origin else None
            async with await self._exchange(method, url, headers, body, entitled) as answer:
                location = answer.headers.get("Location")
                if not (follow and answer.status in _REDIRECTS and location):
                    return await read_response(
                        answer, public_url(url, discreet=discreet), hidden=url if discreet else None
                    )
                target = url.join(URL(location))
                if _becomes_get(answer.status, method):
                    method, body = "GET", None
                    headers.popall("Content-Type", None)
            if target.scheme not in ("http", "https") or (url.scheme == "https" and target.scheme == "http"):
                shown = public_url(url, discreet=discreet)
                raise fault(Kind.COMMUNICATION, f"{shown} redirects to {target.scheme}:, which is not followed")
            if target.origin() != url.origin():
                headers = CIMultiDict((name, value) for name, value in headers.items() if is_harmless(name))
            url = target
        shown = public_url(url, discreet=discreet)
        raise fault(Kind.COMMUNICATION, f"more than {MAX_REDIRECTS} redirects, the last one to {shown}")

    async def _exchange(
        self, method: str, url: URL, headers: CIMultiDict[str], body: Body, account: Digest | None
    ) -> aiohttp.ClientResponse:
        """Send one request, and repeat it once if the server challenges the account; the response body is unread."""
        if account is None:
            return await self._answer(method, url, headers, body)
        origin = str(url.origin())
        for attempt in range(2):
            value = self._challenges.authorization(origin, account, method=method, target=url.raw_path_qs)
            with_account = headers if value is None else CIMultiDict(headers, Authorization=value)
            answer = await self._answer(method, url, with_account, body)
            if answer.status != _UNAUTHORIZED or attempt:
                return answer
            if not self._challenges.remember(origin, account, answer.headers.getall("WWW-Authenticate", ())):
                return answer
            answer.close()
        raise AssertionError("unreachable")

    async def _answer(self, method: str, url: URL, headers: CIMultiDict[str], body: Body) -> aiohttp.ClientResponse:
        """Send one request and return its response, whose body is unread.

        A server may close a keep-alive connection at the moment it is reused. Then, and only then, the request is sent
        once more, over a new connection. If the receiver got both, it recognises the second one by the Idempotency-Key.
        """
        if self._session is None:
            raise AssertionError("the client is not open")
        for attempt in range(2):
            use = _Use()
            try:
                return await self._session.request(
                    method,
                    url,
                    headers=headers,
                    data=body if body is None or isinstance(body, bytes) else body.payload(),
                    skip_auto_headers=("Content-Type",) if body is None else (),
                    allow_redirects=False,
                    max_line_size=limits.MAX_HEADER_BYTES,
                    trace_request_ctx=use,
                )
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                if not use.kept_connection or attempt:
                    raise
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


@dataclass(slots=True)
class _Use:
    """Whether a request reused a keep-alive connection."""

    kept_connection: bool = False


def _tracing() -> aiohttp.TraceConfig:
    async def note(_session: aiohttp.ClientSession, context: SimpleNamespace, _parameters: object) -> None:
        context.trace_request_ctx.kept_connection = True

    tracing = aiohttp.TraceConfig()
    tracing.on_connection_reuseconn.append(note)
    return tracing


@dataclass(frozen=True, slots=True)
class BoundClient:
    """The client of one call, with its deadline and its Idempotency-Key."""

    _client: HttpClient
    _idempotency_key: str
    _deadline: float
    _discreet: bool = False
    _learn: Callable[[str], None] = _forget

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
        target = _checked(url, query)
        fields = _checked_fields(headers or {})
        if self._idempotency_key:
            fields.setdefault(IDEMPOTENCY_KEY, self._idempotency_key)
        if json is not None:
            body = encode(json)
            fields.setdefault("Content-Type", "application/json")
        if authentication is None or "Authorization" in fields:
            return await self._send(method, target, fields, body, follow=follow_redirects)
        if authentication.digest is not None:
            account = authentication.digest
            return await self._send(method, target, fields, body, follow=follow_redirects, account=account)
        authorization = await self.authorization(authentication)
        for attempt in range(2):
            fields["Authorization"] = authorization.value
            response = await self._send(method, target, fields.copy(), body, follow=follow_redirects)
            if response.status != _UNAUTHORIZED or not authorization.kept or attempt:
                return response
            authorization = await self.authorization(authentication, refused=authorization)
        raise AssertionError("unreachable")

    async def authorization(self, policy: Policy, *, refused: Authorization | None = None) -> Authorization:
        """Return the Authorization value for a policy, for calls that aren't made by `request`.

        Args:
            policy: of the call; not `digest`, whose value depends on the request.
            refused: a `kept` value that the server refused: a new token is fetched.

        Raises:
            TaskFault: the policy has no such value (configuration); the token server refuses (authentication) or does
                not answer (communication, timeout).
        """
        if policy.basic is not None:
            return self._learned(f"Basic {_encode(policy.basic)}")
        if policy.bearer is not None:
            return self._learned(f"Bearer {policy.bearer.token}")
        grant = policy.oauth2 or policy.oidc
        if grant is None:
            raise fault(Kind.CONFIGURATION, "digest authentication is for HTTP alone")
        token = None if refused is None else refused.value.removeprefix("Bearer ")
        try:
            async with asyncio.timeout_at(self._deadline):
                token, kept = await self._client.tokens.get(grant, self._send_for_token, refused=token)
        except TimeoutError:
            raise fault(Kind.TIMEOUT, "there was no access token in time") from None
        return self._learned(f"Bearer {token}", kept=kept)

    def _learned(self, value: str, *, kept: bool = False) -> Authorization:
        if _LINE_BREAK.search(value):
            raise fault(Kind.CONFIGURATION, "there is a line break in a credential")
        self._learn(value.partition(" ")[2])
        return Authorization(value, kept)

    async def _send_for_token(
        self, method: str, url: str, *, headers: dict[str, str], body: bytes | None = None
    ) -> HttpResponse:
        # without the call's key: fetching a token is another effect, and the token server has no part in the call
        return await self._send(method, _checked(url, None), CIMultiDict(headers), body)

    async def _send(
        self,
        method: str,
        url: URL,
        fields: CIMultiDict[str],
        body: Body,
        *,
        follow: bool = False,
        account: Digest | None = None,
    ) -> HttpResponse:
        shown = public_url(url, discreet=self._discreet)
        try:
            async with asyncio.timeout_at(self._deadline):
                return await self._client.send(
                    method, url, fields, body, follow=follow, discreet=self._discreet, account=account
                )
        except TimeoutError:
            raise fault(Kind.TIMEOUT, f"{method} {shown}: no answer in time") from None
        except TaskFault:
            raise
        except (aiohttp.ClientError, OSError, ValueError, UnicodeError) as problem:
            detail = f"{method} {shown}: {_explain(problem)}"
            raise fault(Kind.COMMUNICATION, detail, status=refused_status(problem)) from None


def _checked(url: str | URL, query: Mapping[str, str | list[str]] | None) -> URL:
    try:
        target = URL(url).extend_query(query or {})
    except (ValueError, TypeError):
        target = URL()
    if target.scheme not in ("http", "https") or not target.host:
        raise fault(Kind.CONFIGURATION, "the endpoint is not an absolute http or https URL")
    return target


def _checked_fields(headers: Mapping[str, str]) -> CIMultiDict[str]:
    for name, value in headers.items():
        if not FIELD_NAME.fullmatch(name):
            raise fault(Kind.CONFIGURATION, "there is a header whose name is none")
        if name.lower() in RESERVED_HEADERS:
            raise fault(Kind.CONFIGURATION, f"the HTTP client sets {name}, not a flow")
        if _LINE_BREAK.search(value):
            raise fault(Kind.CONFIGURATION, f"the header {name} has a line break in its value")
    return CIMultiDict(headers)


def _becomes_get(status: int, method: str) -> bool:
    """Whether the request after a redirect is a GET without a body. Source: RFC 9110, sections 15.4.2 to 15.4.4."""
    return (status == _SEE_OTHER and method != "HEAD") or (status in _MOVED and method == "POST")


def _encode(account: Basic) -> str:
    return base64.b64encode(f"{account.username}:{account.password}".encode()).decode()


_CAUSES: Final[tuple[tuple[type[Exception], str], ...]] = (
    (aiohttp.ClientConnectorDNSError, "the name can't be resolved"),
    (aiohttp.ClientConnectorCertificateError, "the certificate is not valid"),
    (aiohttp.ClientConnectorSSLError, "TLS failed"),
    (aiohttp.ClientConnectorError, "can't connect"),
    (TooManyResponsesError, f"the server sent more than {MAX_INTERIM_RESPONSES} interim answers"),
    (aiohttp.ServerDisconnectedError, "the server closed the connection"),
    (aiohttp.ClientPayloadError, "the answer ended early"),
    (aiohttp.ClientResponseError, "the answer is not HTTP"),
    (OSError, "the connection broke"),
)
"""Texts for aiohttp's errors, the first match counts; aiohttp's own messages contain the whole URL."""


def _explain(problem: Exception) -> str:
    if POLICY in str(problem):
        return POLICY
    cause = next((text for kind, text in _CAUSES if isinstance(problem, kind)), "the request could not be sent")
    reason = os.strerror(problem.errno) if isinstance(problem, OSError) and problem.errno else ""
    return f"{cause} ({reason})" if reason and not isinstance(problem, aiohttp.ClientConnectorDNSError) else cause
