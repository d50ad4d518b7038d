"""Cache of access tokens.

A token is cached for a policy with all its credentials: a policy that differs in anything, even in a scope, has a token
of its own. Concurrent requests for one token share one call to the token endpoint.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

import attrs
from cachetools import LRUCache, TTLCache

from runner.authentication.discovery import ProviderMetadata, configuration_url, parse_configuration
from runner.authentication.policy import OAuth2, OpenIdConnect
from runner.authentication.token_request import Issued, check_issuer, parse_token, token_endpoint, token_request
from runner.interpreter.errors import Kind, fault

MAX_TOKENS: Final = 1024
"""Maximum number of cached tokens (LRU)."""

MAX_PROVIDERS: Final = 256
PROVIDER_SECONDS: Final = 3600.0
"""Time for which the configuration of an OpenID provider is cached."""

MARGIN_SECONDS: Final = 30.0
"""A token is renewed when it is valid for less than this, or than a tenth of its lifetime, whichever is less."""



class EndpointResponse(Protocol):
    """Response of an endpoint."""

    @property
    def status(self) -> int:
        """HTTP status."""
        ...

    @property
    def body(self) -> bytes:
        """Body, of at most about 1 MB."""
        ...

    @property
    def retry_after_ms(self) -> int:
        """Delay before a retry that it asks for; 0: none."""
        ...


class Send(Protocol):
    """Sends a request to the token endpoint or the provider; raises TaskFault when there is no response."""

    async def __call__(
        self, method: str, url: str, *, headers: dict[str, str], body: bytes | None = None
    ) -> EndpointResponse:
        """Return the response, whatever its status."""
        ...


@dataclass(slots=True)
class _Entry:
    """A cached token, and the lock that is held while it is renewed."""

    token: str = field(default="", repr=False)
    good_until: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


@attrs.define(eq=False, repr=False)
class Tokens:
    """The token cache of a process.

    `clock` is monotonic, `now` Unix time, both in seconds.
    """

    _clock: Callable[[], float] = time.monotonic
    _now: Callable[[], float] = time.time
    _entries: LRUCache[bytes, _Entry] = attrs.field(init=False, factory=lambda: LRUCache(MAX_TOKENS))
    _providers: TTLCache[tuple[str, ...], ProviderMetadata] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._providers = TTLCache(MAX_PROVIDERS, PROVIDER_SECONDS, timer=self._clock)

    async def get(self, policy: OAuth2 | OpenIdConnect, send: Send, *, refused: str | None = None) -> tuple[str, bool]:
        """Return a token, and whether it came from the cache.

        Args:
            policy: policy that describes how to obtain it.
            send: sends the requests that are needed.
            refused: a token that was refused, and is not to be used again although it has not expired.

        Raises:
            TaskFault: no token can be obtained.
        """
        entry = self._entry(policy)
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

    def _entry(self, policy: OAuth2 | OpenIdConnect) -> _Entry:
        # by a hash, so that the cache does not hold another copy of the credentials
        key = hashlib.sha256(f"{type(policy).__name__}{policy.model_dump_json()}".encode()).digest()
        return self._entries.setdefault(key, _Entry())

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
        answer = await send("POST", request.url, headers=request.headers, body=request.body)
        issued = parse_token(answer.status, answer.body, retry_after_ms=answer.retry_after_ms)
        if policy.issuers:
            check_issuer(issued.token, policy.issuers, issuer)
        return issued

    async def _provider(self, policy: OpenIdConnect, send: Send) -> ProviderMetadata:
        key = (policy.authority, *policy.issuers)
        if (provider := self._providers.get(key)) is not None:
            return provider
        answer = await send("GET", configuration_url(policy.authority), headers={"Accept": "application/json"})
        if answer.status != _OK:
            raise fault(
                Kind.COMMUNICATION,
                f"the OpenID provider answered {answer.status} to the request for its configuration",
                status=answer.status,
                retry_after_ms=answer.retry_after_ms,
            )
        provider = parse_configuration(answer.body, policy.authority, policy.issuers)
        self._providers[key] = provider
        return provider
