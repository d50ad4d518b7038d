"""A link that logs in once, which `flowhook up` prints; pure: the time is an argument, in seconds of a monotonic clock.

The link is `/login#CODE`. Browsers send no fragment, so the code is in no log of a server; a script of the page posts
it. It is accepted from this machine only, and expires, because what `up` prints may be kept.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from ipaddress import ip_address
from typing import Final

from flowhook.errors import UnauthenticatedError
from flowhook.security.address_policy import is_loopback

SECONDS: Final = 3600.0  # time after the start for which the link is good


class LoginLink:
    """The code of a link, as a hash, and the token that it stands for.

    Args:
        code: the code; empty: there is no link.
        token: returns the bearer token that anyone who follows the link logs in with.
        now: time of the start.
    """

    def __init__(self, code: str, token: Callable[[], str], now: float) -> None:
        self._digest = _digest(code) if code else None
        self._token = token
        self._until = now + SECONDS

    def redeem(self, code: str, peer: str, now: float) -> str:
        """Return the token, once.

        Args:
            code: what was posted.
            peer: address at the other end of the connection; empty: a proxy sent the request for somebody else.
            now: the time.

        Raises:
            UnauthenticatedError: the code is not the one, was redeemed before, has expired, or comes from elsewhere
                (`LOGIN_LINK_INVALID`).
            InvalidError: there is no token (`TOKEN_MISSING`).
        """
        digest = self._digest
        if digest is None or now >= self._until or not _is_here(peer) or not hmac.compare_digest(digest, _digest(code)):
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


def _digest(code: str) -> bytes:
    return hashlib.sha256(code.encode("utf-8", "surrogatepass")).digest()
