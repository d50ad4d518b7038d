"""Access tokens that are kept for as long as they are good.

A token belongs to a policy with all its credentials: whoever has others, be it another scope, gets another token. What
asks for the same one at a time waits for it together.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from cachetools import LRUCache, TTLCache

from runner.authentication.discovery import Provider, configuration_url, parse_configuration
from runner.authentication.policy import OAuth2, OpenIdConnect
from runner.authentication.token_request import Issued, check_issuer, parse_token, token_endpoint, token_request
from runner.interpreter.errors import Kind, fault

MAX_TOKENS: Final = 1024
"""Tokens that are kept, the most recently used ones."""

MAX_PROVIDERS: Final = 256
PROVIDER_SECONDS: Final = 3600.0
"""How long the configuration of an OpenID provider is kept."""

MARGIN_SECONDS: Final = 30.0
"""A token is used no more when it is good for less than this, or than a tenth of its lifetime, if that is less."""

_OK: Final = 200


class Answer(Protocol):
    """What an endpoint answered."""

    @property
    def status(self) -> int:
        """Of HTTP."""
        ...

    @property
    def body(self) -> bytes:
        """At most a megabyte or so."""
        ...

    @property
    def retry_after_ms(self) -> int:
        """How long it asks to be left alone."""
        ...


class Send(Protocol):
    """Makes a request for whoever needs a token; raises TaskFault when there is no answer."""

    async def __call__(self, method: str, url: str, *, headers: dict[str, str], body: bytes | None = None) -> Answer:
        """Return the answer, whatever its status."""
        ...


@dataclass(slots=True)
class _Entry:
    """A token, and the lock of those who have it renewed."""

    token: str = field(default="", repr=False)
    good_until: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Tokens:
    """The tokens of a process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, now: Callable[[], float] = time.time) -> None:
        """Keep none yet.

        Args:
            clock: monotonic, in seconds.
            now: Unix time in seconds.
        """
        self._clock = clock
        self._now = now
        self._entries: LRUCache[bytes, _Entry] = LRUCache(MAX_TOKENS)
        self._providers: TTLCache[tuple[str, ...], Provider] = TTLCache(MAX_PROVIDERS, PROVIDER_SECONDS, timer=clock)

    async def get(self, policy: OAuth2 | OpenIdConnect, send: Send, *, refused: str | None = None) -> tuple[str, bool]:
        """Return a token, and whether it was kept from earlier.

        Args:
            policy: how to get one.
            send: makes the requests that are needed.
            refused: a token that is good no more, whatever was said of it.

        Raises:
            TaskFault: there is none to be had.
        """
        entry = self._entry(policy)
        if (token := self._kept(entry, refused)) is not None:
            return token, True
        async with entry.lock:
            if (token := self._kept(entry, refused)) is not None:  # somebody else was quicker
                return token, True
            issued_at = self._clock()
            issued = await self._issue(policy, send)
            entry.token = issued.token
            entry.good_until = issued_at + issued.lifetime - min(MARGIN_SECONDS, issued.lifetime / 10)
            return issued.token, False

    def _entry(self, policy: OAuth2 | OpenIdConnect) -> _Entry:
        # by a hash, so that the credentials are not kept once more
        key = hashlib.sha256(f"{type(policy).__name__}{policy.model_dump_json()}".encode()).digest()
        return self._entries.setdefault(key, _Entry())

    def _kept(self, entry: _Entry, refused: str | None) -> str | None:
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

    async def _provider(self, policy: OpenIdConnect, send: Send) -> Provider:
        key = (policy.authority, *policy.issuers)
        if (kept := self._providers.get(key)) is not None:
            return kept
        answer = await send("GET", configuration_url(policy.authority), headers={"Accept": "application/json"})
        if answer.status != _OK:
            raise fault(
                Kind.COMMUNICATION,
                f"the OpenID provider answered {answer.status} when asked for its configuration",
                status=answer.status,
                retry_after_ms=answer.retry_after_ms,
            )
        provider = parse_configuration(answer.body, policy.authority, policy.issuers)
        self._providers[key] = provider
        return provider
