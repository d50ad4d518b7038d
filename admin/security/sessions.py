"""Sessions and logins of the console, in memory; pure: the time is an argument, in seconds of one monotonic clock.

A session holds the bearer token that its owner logged in with, because each of her calls to the router carries it. It
stays in this process: an encrypted cookie would hand it to the browser, where logging out could not revoke it, and
would need a key that survives. After a restart of the admin process people log in again.

Source: OWASP, "Session Management Cheat Sheet" (256 random bits; idle and absolute expiry; the ID is not stored).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import operator
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import ip_address
from typing import Final

from cachetools import FIFOCache

from flowhook.errors import UnauthenticatedError
from flowhook.security.address_policy import is_loopback

MAX_AGE_SECONDS: Final = 12 * 3600.0  # time after which a session ends, whatever happens in it
MAX_IDLE_SECONDS: Final = 3600.0  # time without a request after which a session ends
MAX_SESSIONS: Final = 1000  # sessions at a time; beyond it the one that is idle longest ends
# sessions of one token at a time; beyond it the one of them that is idle longest ends, so that the owner of one token
# can't end the sessions of others by logging in again and again
MAX_PER_TOKEN: Final = 100
_SECRET_BYTES: Final = 32


class LoginRole(StrEnum):
    """What the owner of a session may do, as the router's answers about her token show."""

    VIEWER = "viewer"
    """Read; a token with the scope `view`."""
    OPERATOR = "operator"
    """Read and write; a token with the scope `admin`."""


@dataclass(slots=True)
class LoginSession:
    """A session."""

    token: str = field(repr=False)  # the bearer token, never shown
    role: LoginRole
    csrf_secret: bytes = field(repr=False)  # what every form of the session has to contain, masked
    began: float  # time of the login
    used: float  # time of the last request
    notice: str = ""  # what the next page of the session says about an action that was performed, once; empty: nothing

    def take_notice(self) -> str:
        notice, self.notice = self.notice, ""
        return notice

    def csrf_token(self) -> str:
        """Return a token for a form: the secret under a new mask.

        Pages are compressed, so the size of one that had the secret itself would betray it to anyone who can put texts
        of her own into the page. Source: BREACH (https://www.breachattack.com), "Masking Secrets".
        """
        mask = secrets.token_bytes(_SECRET_BYTES)
        return base64.urlsafe_b64encode(mask + bytes(map(operator.xor, mask, self.csrf_secret))).decode()

    def has_csrf_token(self, value: str) -> bool:
        """Whether a form contains a token of the session; the time that it takes says nothing about the secret."""
        try:
            masked = base64.b64decode(value.encode("ascii"), b"-_", validate=True)
        except ValueError:
            return False
        secret = bytes(map(operator.xor, masked[:_SECRET_BYTES], masked[_SECRET_BYTES:]))
        return len(masked) == 2 * _SECRET_BYTES and hmac.compare_digest(secret, self.csrf_secret)


class LoginSessions:
    """All sessions, by the hash of their IDs: a copy of this process's memory does not show the IDs themselves."""

    def __init__(self) -> None:
        self._sessions: dict[bytes, LoginSession] = {}  # in the order of last use

    def begin(self, token: str, role: LoginRole, now: float) -> str:
        """Begin a session and return its ID, for the cookie."""
        self._sessions = {key: each for key, each in self._sessions.items() if not _is_expired(each, now)}
        own = [key for key, each in self._sessions.items() if each.token == token]
        if len(own) >= MAX_PER_TOKEN:
            del self._sessions[own[0]]
        elif len(self._sessions) >= MAX_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        session_id = secrets.token_urlsafe(_SECRET_BYTES)
        self._sessions[digest(session_id)] = LoginSession(token, role, secrets.token_bytes(_SECRET_BYTES), now, now)
        return session_id

    def find(self, session_id: str, now: float, *, use: bool = True) -> LoginSession | None:
        """Return a session that has not expired, and count it as used now, if `use`."""
        key = digest(session_id)
        session = self._sessions.get(key)
        if session is None or (not use and not _is_expired(session, now)):
            return session
        del self._sessions[key]
        if _is_expired(session, now):
            return None
        session.used = now
        self._sessions[key] = session
        return session

    def end(self, session_id: str) -> None:
        self._sessions.pop(digest(session_id), None)

    def __len__(self) -> int:
        return len(self._sessions)


def _is_expired(session: LoginSession, now: float) -> bool:
    return now - session.began >= MAX_AGE_SECONDS or now - session.used >= MAX_IDLE_SECONDS


def digest(secret: str | bytes) -> bytes:
    """Return the SHA-256 of what is not kept itself: a session's ID, a token, a login."""
    return hashlib.sha256(secret if isinstance(secret, bytes) else secret.encode("utf-8", "surrogatepass")).digest()


MAX_LOGINS: Final = 10_000  # logins that are remembered; beyond it the oldest one is forgotten
LINK_SECONDS: Final = 3600.0  # time after the start for which the link is good


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
