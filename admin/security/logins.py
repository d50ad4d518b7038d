"""Limits logins, and makes each good for once; pure: the time is an argument, in seconds of a monotonic clock."""

from __future__ import annotations

import hmac
import math
from collections.abc import Callable
from ipaddress import ip_address
from typing import Final

from cachetools import FIFOCache, LRUCache

from admin.security.sessions import digest
from flowhook.errors import UnauthenticatedError
from flowhook.security.address_policy import is_loopback
from flowhook.sharing.limit import network_of
from flowhook.sharing.token_bucket import TokenBucket

BURST: Final = 10  # attempts that an address may make at once
SECONDS_PER_ATTEMPT: Final = 6.0  # time in which an address gains one further attempt
# addresses that are remembered; beyond it the one that was seen least recently is forgotten
MAX_ADDRESSES: Final = 10_000
MAX_LOGINS: Final = 10_000  # logins that are remembered; beyond it the oldest one is forgotten
LINK_SECONDS: Final = 3600.0  # time after the start for which the link is good


class LoginLimiter:
    """Counts how often an address, or an IPv6 network (/64), presents tokens that the router does not know.

    Tokens can't be guessed (256 random bits). The limit protects the router from the calls that each attempt makes.
    """

    def __init__(self) -> None:
        self._buckets = LRUCache[str, TokenBucket](MAX_ADDRESSES)

    def attempt(self, address: str, now: float) -> int:
        """Count an attempt and return 0, or return the seconds, rounded up, until one is allowed."""
        key = _network(address)
        if key not in self._buckets:
            self._buckets[key] = TokenBucket(per_second=1 / SECONDS_PER_ATTEMPT, burst=BURST, now=now)
        return math.ceil(self._buckets[key].take(now))

    def give_back(self, address: str) -> None:
        """Undo an attempt of an address, because it presented a valid token. Those with others count."""
        if (bucket := self._buckets.get(_network(address))) is not None:
            bucket.give_back()


def _network(address: str) -> str:
    try:
        return network_of(ip_address(address.partition("%")[0]))
    except ValueError:
        return address  # of a socket that has no address


class LoginLink:
    """A link that logs in once, which `flowhook up` prints: its code as a hash, and the token that it stands for.

    The link is `/login#CODE`. Browsers send no fragment, so the code is in no log of a server; a script of the page
    posts it. It is accepted from this machine only, and expires, because what `up` prints may be kept. An empty `code`:
    there is no link. `now`: time of the start.
    """

    def __init__(self, code: str, token: Callable[[], str], now: float) -> None:
        self._digest = digest(code) if code else None
        self._token = token
        self._until = now + LINK_SECONDS

    def redeem(self, code: str, peer: str, now: float) -> str:
        """Return the token, once.

        `peer`: address at the other end of the connection; empty: a proxy sent the request for somebody else.

        Raises:
            UnauthenticatedError: the code is not the one, was redeemed before, has expired, or comes from elsewhere
                (`LOGIN_LINK_INVALID`).
            InvalidError: there is no token (`TOKEN_MISSING`).
        """
        known = self._digest
        if known is None or now >= self._until or not _is_here(peer) or not hmac.compare_digest(known, digest(code)):
            raise UnauthenticatedError(
                "this link was used before, has expired, or is not for this machine: log in with a token",
                reason="LOGIN_LINK_INVALID",
            )
        token = self._token()
        self._digest = None
        return token


def _is_here(peer: str) -> bool:
    try:
        return is_loopback(ip_address(peer.partition("%")[0]))
    except ValueError:
        return False


class SentLogins:
    """Remembers logins whose responses are pages, as hashes: they contain tokens.

    A browser stores such a request, with its token, as long as the tab is open: going back and reloading would log in
    anyone who uses the browser after a logout. Other logins are answered with a redirect, so they are in no history.
    """

    def __init__(self) -> None:
        self._digests = FIFOCache[bytes, None](MAX_LOGINS)

    def add(self, body: bytes) -> None:
        self._digests.setdefault(digest(body))

    def __contains__(self, body: bytes) -> bool:
        return digest(body) in self._digests
