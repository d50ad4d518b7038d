"""Requests for access tokens, and their cache.

joserfc creates the JWTs, as it does for Authlib. Authlib's own OAuth 2 client is not used: it writes credentials into
forms without encoding them, and does not support JSON.

Source: RFC 6749, sections 2.3.1 (credentials), 4.3, 4.4, 5 and 6; RFC 7523, section 2.2 (assertions); RFC 8693 (token
exchange); OpenID Connect Core 1.0, section 9 (client authentication); OpenID Connect Discovery 1.0, section 4.

A token is cached for a policy with all its credentials: a policy that differs in anything, even in a scope, has a token
of its own. Concurrent requests for one token share one call to the token endpoint.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import secrets
import time
import warnings
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote_plus, urlencode, urlsplit

import attrs
import orjson
from cachetools import LRUCache, TTLCache
from joserfc import jws, jwt
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import OctKey

from flowhook.document.models.authentication import TOKEN_EXCHANGE
from flowhook.json import object_of
from runner.interpreter.errors import Kind, TaskFault, fault
from runner.outbound.http_response import HttpResponse
from runner.outbound.policies import Client, Grant, OAuth2, OpenIdConnect

WELL_KNOWN: Final = "/.well-known/openid-configuration"
ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_SECONDS: Final = 60  # validity of an assertion, which is used for one request
DEFAULT_LIFETIME: Final = 300.0  # assumed lifetime of a token, in seconds, when the server states none
MAX_LIFETIME: Final = 24 * 3600.0
MAX_TOKEN_LENGTH: Final = 16 * 1024  # maximum number of characters of an access token: servers accept no longer header
_TOKEN: Final = re.compile(r"[\x21-\x7e]+")
_ERROR: Final = re.compile(r"[a-z_]{1,40}")
_TRANSIENT: Final = frozenset({408, 425, 429})
MAX_TOKENS: Final = 1024  # maximum number of cached tokens (LRU)
MAX_PROVIDERS: Final = 256
PROVIDER_SECONDS: Final = 3600.0  # time for which the configuration of an OpenID provider is cached
# a token is renewed when it is valid for less than this, or than a tenth of its lifetime, whichever is less
MARGIN_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class ProviderMetadata:
    """The part of a provider's configuration that is used."""

    issuer: str
    token_endpoint: str


def configuration_url(authority: str) -> str:
    """Return the URL of the configuration of an authority; `authority` may be that URL already."""
    return authority if authority.endswith(WELL_KNOWN) else authority.rstrip("/") + WELL_KNOWN


def parse_configuration(body: bytes, authority: str, issuers: Collection[str]) -> ProviderMetadata:
    """Parse the configuration of an authority, from the body of the response; empty `issuers`: it is the only issuer.

    Raises:
        TaskFault: it is the configuration of another issuer, or its token endpoint is not https although the
            authority is (authentication); or it is no configuration (communication).
    """
    configuration = object_of(body) or {}
    issuer, endpoint = configuration.get("issuer"), configuration.get("token_endpoint")
    if not isinstance(issuer, str) or not isinstance(endpoint, str):
        raise fault(Kind.COMMUNICATION, "the OpenID provider's configuration lacks `issuer` or `token_endpoint`")
    expected = issuers or {authority.removesuffix(WELL_KNOWN).rstrip("/")}
    if issuer not in expected and issuer.rstrip("/") not in expected:
        raise fault(
            Kind.AUTHENTICATION,
            "the issuer in the OpenID provider's configuration is not the authority; list it under `issuers`",
        )
    if urlsplit(authority).scheme == "https" and urlsplit(endpoint).scheme != "https":
        detail = "the token endpoint in the OpenID provider's configuration is not an https URL"
        raise fault(Kind.AUTHENTICATION, detail)
    return ProviderMetadata(issuer, endpoint)


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A POST to a token endpoint."""

    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Issued:
    """An access token, and its lifetime in seconds, in [0, `MAX_LIFETIME`]."""

    token: str = field(repr=False)
    lifetime: float


def token_endpoint(policy: OAuth2) -> str:
    """Return the URL for token requests: below the authority, unless `endpoints.token` is an absolute URL."""
    path = policy.endpoints.token
    return path if "://" in path else f"{policy.authority.rstrip('/')}/{path.lstrip('/')}"


def token_request(policy: Grant, url: str, now: float) -> TokenRequest:
    """Return the request for a token to the URL of the token endpoint; `now` is Unix time in seconds."""
    headers = {"Accept": "application/json"}
    parameters = [("grant_type", policy.grant), *_grant(policy)]
    if policy.scopes:
        parameters.append(("scope", " ".join(policy.scopes)))
    parameters += (("audience", audience) for audience in policy.audiences)
    client = policy.client or Client(authentication="none")
    if client.authentication == "client_secret_basic":
        pair = f"{quote_plus(client.id or '')}:{quote_plus(client.secret or '')}"
        headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    else:
        parameters += _credentials(client, url, now)
    headers["Content-Type"] = policy.request.encoding
    if policy.request.encoding == "application/json":
        return TokenRequest(headers, orjson.dumps(_as_object(parameters)))
    return TokenRequest(headers, urlencode(parameters).encode())


def parse_token(status: int, body: bytes, *, retry_after_ms: int = 0) -> Issued:
    """Return the token in a response.

    Raises:
        TaskFault: the server refuses, or issues another type of token (authentication); it fails, or its response
            has no usable token (communication). Of the response the message contains only the error code.
    """
    answer = object_of(body) or {}
    if status != HTTPStatus.OK:
        raise _refusal(status, answer.get("error"), retry_after_ms)
    token, kind = answer.get("access_token"), answer.get("token_type", "Bearer")
    if not isinstance(token, str) or len(token) > MAX_TOKEN_LENGTH or not _TOKEN.fullmatch(token):
        raise fault(Kind.COMMUNICATION, "the response of the token endpoint contains no usable token")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise fault(Kind.AUTHENTICATION, "the token endpoint issued a token that is not a bearer token")
    return Issued(token, _lifetime(answer.get("expires_in")))


def check_issuer(token: str, issuers: Collection[str], issuer: str | None = None) -> None:
    """Check the issuer of a token. Its signature is not verified: the token endpoint itself returned it.

    A token that is no JWT, or names none, is assumed to be of `issuer`; None: unknown.

    Raises:
        TaskFault: the issuer is not accepted, or unknown (authentication).
    """
    try:
        claims: Any = orjson.loads(jws.extract_compact(token.encode()).payload)
        issuer = claims.get("iss", issuer)
    except (JoseError, ValueError, AttributeError):
        pass
    if issuer not in issuers:
        raise fault(Kind.AUTHENTICATION, "the access token's `iss` is missing, or not one of the `issuers`")


def _grant(policy: Grant) -> list[tuple[str, str]]:
    if policy.grant == "password":
        return [("username", policy.username or ""), ("password", policy.password or "")]
    if policy.grant == "refresh_token" and policy.subject is not None:
        return [("refresh_token", policy.subject.token)]
    if policy.grant != TOKEN_EXCHANGE or policy.subject is None:
        return []
    given = {"subject": policy.subject} | ({"actor": policy.actor} if policy.actor else {})
    return [
        pair
        for name, security_token in given.items()
        for pair in ((f"{name}_token", security_token.token), (f"{name}_token_type", security_token.type))
    ]


def _credentials(client: Client, url: str, now: float) -> list[tuple[str, str]]:
    parameters = [] if client.id is None else [("client_id", client.id)]
    match client.authentication:
        case "client_secret_post":
            if client.secret is not None:
                parameters.append(("client_secret", client.secret))
        case "client_secret_jwt" | "private_key_jwt":
            assertion = client.assertion or _sign(client, url, now)
            parameters += [("client_assertion_type", ASSERTION_TYPE), ("client_assertion", assertion)]
    return parameters


def _sign(client: Client, url: str, now: float) -> str:
    claims = {
        "iss": client.id,
        "sub": client.id,
        "aud": url,
        "jti": secrets.token_urlsafe(24),
        "iat": int(now),
        "exp": int(now) + ASSERTION_SECONDS,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)  # the server chose the length of the secret
        return jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(client.secret or ""))


def _as_object(parameters: list[tuple[str, str]]) -> dict[str, str | list[str]]:
    """Return parameters as a JSON object; repeated ones become arrays."""
    values: dict[str, list[str]] = {}
    for name, value in parameters:
        values.setdefault(name, []).append(value)
    return {name: value[0] if len(value) == 1 else value for name, value in values.items()}


def _refusal(status: int, error: object, retry_after_ms: int) -> TaskFault:
    code = f" ({error})" if isinstance(error, str) and _ERROR.fullmatch(error) else ""
    if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in _TRANSIENT:
        return fault(Kind.AUTHENTICATION, f"the token endpoint refused the request with {status}{code}")
    said = f"the token endpoint answered {status}{code}"
    return fault(Kind.COMMUNICATION, said, status=status, retry_after_ms=retry_after_ms)


def _lifetime(seconds: object) -> float:
    try:
        return min(max(float(seconds), 0.0), MAX_LIFETIME)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return DEFAULT_LIFETIME


# sends (method, url, *, headers, body=None); returns the response, whatever its status, or raises TaskFault
Send = Callable[..., Awaitable[HttpResponse]]


@dataclass(slots=True)
class _Entry:
    """A cached token, and the lock that is held while it is renewed."""

    token: str = field(default="", repr=False)
    good_until: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


@attrs.define(eq=False, repr=False)
class Tokens:
    """The token cache of a process."""

    _clock: Callable[[], float] = time.monotonic  # in seconds
    _now: Callable[[], float] = time.time  # Unix time in seconds
    _entries: LRUCache[bytes, _Entry] = attrs.field(init=False, factory=lambda: LRUCache(MAX_TOKENS))
    _providers: TTLCache[tuple[str, ...], ProviderMetadata] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._providers = TTLCache(MAX_PROVIDERS, PROVIDER_SECONDS, timer=self._clock)

    async def get(self, policy: OAuth2 | OpenIdConnect, send: Send, *, refused: str | None = None) -> tuple[str, bool]:
        """Return a token, and whether it came from the cache; not `refused`, although that has not expired.

        Raises:
            TaskFault: no token can be obtained.
        """
        # by a hash, so that the cache does not hold another copy of the credentials
        key = hashlib.sha256(f"{type(policy).__name__}{policy.model_dump_json()}".encode()).digest()
        entry = self._entries.setdefault(key, _Entry())
        if (token := self._cached_token(entry, refused)) is not None:
            return token, True
        async with entry.lock:
            if (token := self._cached_token(entry, refused)) is not None:  # another caller has renewed it
                return token, True
            issued_at = self._clock()
            issued = await self._issue(policy, send)
            entry.token = issued.token
            entry.good_until = issued_at + issued.lifetime - min(MARGIN_SECONDS, issued.lifetime / 10)
            return issued.token, False

    def _cached_token(self, entry: _Entry, refused: str | None) -> str | None:
        good = entry.token and entry.token != refused and self._clock() < entry.good_until
        return entry.token if good else None

    async def _issue(self, policy: OAuth2 | OpenIdConnect, send: Send) -> Issued:
        issuer = None
        if isinstance(policy, OpenIdConnect):
            provider = await self._provider(policy, send)
            url, issuer = provider.token_endpoint, provider.issuer
        else:
            url = token_endpoint(policy)
        request = token_request(policy, url, self._now())
        answer = await send("POST", url, headers=request.headers, body=request.body)
        issued = parse_token(answer.status, answer.body, retry_after_ms=answer.retry_after_ms)
        if policy.issuers:
            check_issuer(issued.token, policy.issuers, issuer)
        return issued

    async def _provider(self, policy: OpenIdConnect, send: Send) -> ProviderMetadata:
        key = (policy.authority, *policy.issuers)
        if (provider := self._providers.get(key)) is not None:
            return provider
        answer = await send("GET", configuration_url(policy.authority), headers={"Accept": "application/json"})
        if answer.status != HTTPStatus.OK:
            said = f"the OpenID provider answered {answer.status} to the request for its configuration"
            raise fault(Kind.COMMUNICATION, said, status=answer.status, retry_after_ms=answer.retry_after_ms)
        provider = parse_configuration(answer.body, policy.authority, policy.issuers)
        self._providers[key] = provider
        return provider
