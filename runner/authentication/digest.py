"""Digest authentication: how a challenge is answered.

aiohttp has a middleware for it, which looks at the first `WWW-Authenticate` alone, so that a server which offers
`Basic` as well may never be answered; it takes `auth-int` where it is offered, and can't be held against the vectors of
the RFC, since nobody can tell it a client nonce.

Source: RFC 7616; RFC 9110, section 11.6.1 (challenges).
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from cachetools import LRUCache

from runner.authentication.policy import Digest

MAX_CHALLENGE_LENGTH: Final = 8192
"""Characters of one field that are looked at."""

MAX_SESSIONS: Final = 1024
"""Challenges that are remembered, the most recently used ones."""

_ALGORITHMS: Final = frozenset({"", "md5", "sha-256"})
_NAME: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PART: Final = re.compile(
    rf'[\s,]*+(?:(?P<name>{_NAME})\s*+=\s*+(?:"(?P<quoted>(?:[^"\\]|\\.)*+)"|(?P<plain>{_NAME}))(?=[\s,]|$)'
    rf"|(?P<scheme>{_NAME})(?:\x20++[A-Za-z0-9._~+/-]++=*+(?=\s*+(?:,|$)))?)"
)
"""A parameter, or the name of a scheme with what may follow it instead of parameters."""

_ESCAPED: Final = re.compile(r"\\(.)")
_UNQUOTABLE: Final = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a server asks to be answered.

    Attributes:
        algorithm: as the server writes it; empty when it says none, which means MD5.
        counted: whether the answer has a count and a nonce of ours (`qop`); without it, as RFC 2069 had it.
        opaque: to be sent back; None: there is none.
    """

    realm: str
    nonce: str
    algorithm: str
    counted: bool
    opaque: str | None

    @property
    def is_session(self) -> bool:
        """Whether the first answer goes into the key of all that follow."""
        return self.algorithm.lower().endswith("-sess")

    def hash(self, *parts: str) -> str:
        """Return H() or KD() of what is joined with colons, in hexadecimal."""
        data = ":".join(parts).encode()
        if self.algorithm.lower().startswith("sha-256"):
            return hashlib.sha256(data).hexdigest()
        return hashlib.md5(data, usedforsecurity=False).hexdigest()  # what protocol and server demand


def choose(fields: Iterable[str]) -> Challenge | None:
    """Return the first challenge that can be answered, for servers name what they like best first.

    Args:
        fields: `WWW-Authenticate`, each with one or more challenges of any scheme.
    """
    for field in fields:
        for scheme, parameters in _challenges(field[:MAX_CHALLENGE_LENGTH]):
            challenge = _understood(parameters) if scheme == "digest" else None
            if challenge is not None:
                return challenge
    return None


def answer(challenge: Challenge, account: Digest, *, method: str, target: str, count: int, nonce: str) -> str:
    """Return the value of `Authorization`.

    Args:
        challenge: to be answered.
        account: whose password it takes.
        method: of the request.
        target: of the request, as it is sent: path and query.
        count: how often the challenge was answered so far, with this one; from 1.
        nonce: the client's; the same in all answers to one challenge.
    """
    key = challenge.hash(account.username, challenge.realm, account.password)
    if challenge.is_session:
        key = challenge.hash(key, challenge.nonce, nonce)
    request = challenge.hash(method, target)
    counter = f"{count:08x}"
    between = (counter, nonce, "auth") if challenge.counted else ()
    response = challenge.hash(key, challenge.nonce, *between, request)
    name = account.username
    parts = [
        f'username="{_quote(name)}"' if name.isascii() else f"username*=UTF-8''{quote(name, safe='')}",
        f'realm="{_quote(challenge.realm)}"',
        f'uri="{_quote(target)}"',
        *([f"algorithm={challenge.algorithm}"] if challenge.algorithm else []),
        f'nonce="{_quote(challenge.nonce)}"',
        f'response="{response}"',
    ]
    if challenge.counted:
        parts += [f"nc={counter}", f'cnonce="{nonce}"', "qop=auth"]
    if challenge.opaque is not None:
        parts.append(f'opaque="{_quote(challenge.opaque)}"')
    return "Digest " + ", ".join(parts)


@dataclass(slots=True)
class _Session:
    challenge: Challenge
    nonce: str
    count: int = 0


class Sessions:
    """The challenges of a process, so that one round trip is enough where a server was asked before. No I/O."""

    def __init__(self) -> None:
        self._sessions: LRUCache[tuple[str, bytes], _Session] = LRUCache(MAX_SESSIONS)

    def remember(self, origin: str, account: Digest, fields: Iterable[str]) -> bool:
        """Note with what a server challenges an account; whether it can be answered.

        Args:
            origin: of the server: scheme, host and port.
            account: that was not let in.
            fields: `WWW-Authenticate`.
        """
        challenge = choose(fields)
        key = _key(origin, account)
        if challenge is None:
            self._sessions.pop(key, None)
            return False
        self._sessions[key] = _Session(challenge, secrets.token_urlsafe(16))
        return True

    def authorization(self, origin: str, account: Digest, *, method: str, target: str) -> str | None:
        """Return the value of `Authorization` for the next request; None: the server has not been asked yet."""
        session = self._sessions.get(_key(origin, account))
        if session is None:
            return None
        session.count += 1
        return answer(
            session.challenge, account, method=method, target=target, count=session.count, nonce=session.nonce
        )


def _key(origin: str, account: Digest) -> tuple[str, bytes]:
    return origin, hashlib.sha256(f"{len(account.username)}:{account.username}{account.password}".encode()).digest()


def _challenges(field: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield schemes, in lower case, with their parameters, by lower-case name."""
    scheme, position = "", 0
    parameters: dict[str, str] = {}
    while (match := _PART.match(field, position)) is not None:
        position = match.end()
        if match["scheme"] is not None:
            if scheme:
                yield scheme, parameters
            scheme, parameters = match["scheme"].lower(), {}
        else:
            quoted = match["quoted"]
            value = match["plain"] if quoted is None else _ESCAPED.sub(r"\1", quoted)
            parameters.setdefault(match["name"].lower(), value)
    if scheme:
        yield scheme, parameters


def _understood(parameters: dict[str, str]) -> Challenge | None:
    realm, nonce = parameters.get("realm"), parameters.get("nonce")
    algorithm = parameters.get("algorithm", "")
    offered = parameters.get("qop")
    counted = offered is not None and "auth" in re.split(r"[\s,]+", offered.lower())
    session = algorithm.lower().endswith("-sess")
    if (
        realm is None
        or not nonce
        or algorithm.lower().removesuffix("-sess") not in _ALGORITHMS
        or not (counted or (offered is None and not session))
        or any(map(_UNQUOTABLE.search, parameters.values()))
    ):
        return None
    return Challenge(realm, nonce, algorithm, counted, parameters.get("opaque"))


def _quote(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
