"""Digest authentication: parses challenges and computes the `Authorization` that answers them.

aiohttp's middleware is not used. It reads only the first `WWW-Authenticate`, so that a challenge of a server that also
offers `Basic` may stay unanswered. It uses `auth-int` where that is offered. It can't be tested against the vectors of
the RFC, because the client nonce can't be set.

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

from runner.outbound.policies import Digest

MAX_CHALLENGE_LENGTH: Final = 8192  # characters of one field that are parsed
MAX_SESSIONS: Final = 1024  # maximum number of cached challenges (LRU)
_ALGORITHMS: Final = frozenset({"", "md5", "sha-256"})
_NAME: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# a parameter, or the name of a scheme, with a token68 if that follows in place of parameters
_PART: Final = re.compile(
    rf'[\s,]*+(?:(?P<name>{_NAME})\s*+=\s*+(?:"(?P<quoted>(?:[^"\\]|\\.)*+)"|(?P<plain>{_NAME}))(?=[\s,]|$)'
    rf"|(?P<scheme>{_NAME})(?:\x20++[A-Za-z0-9._~+/-]++=*+(?=\s*+(?:,|$)))?)"
)

_ESCAPED: Final = re.compile(r"\\(.)")
_UNQUOTABLE: Final = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Challenge:
    """A Digest challenge of a server."""

    realm: str
    nonce: str
    algorithm: str  # as the server writes it; empty if it names none, which means MD5
    counted: bool  # whether the answer contains a count and a client nonce (`qop`); if not, it has the form of RFC 2069
    opaque: str | None  # value to return unchanged; None if absent

    @property
    def is_session(self) -> bool:
        """Whether the nonces are part of the key of all answers (`-sess`)."""
        return self.algorithm.lower().endswith("-sess")

    def hash(self, *parts: str) -> str:
        """Return H() or KD() of the parts, joined with colons, in hexadecimal."""
        data = ":".join(parts).encode()
        if self.algorithm.lower().startswith("sha-256"):
            return hashlib.sha256(data).hexdigest()
        return hashlib.md5(data, usedforsecurity=False).hexdigest()  # required by the protocol and the server


def choose(fields: Iterable[str]) -> Challenge | None:
    """Return the first challenge that can be answered: servers list them by preference. None if absent.

    Each of the `fields` (`WWW-Authenticate`) has one or more challenges of any scheme.
    """
    given = (each for field in fields for each in _challenges(field[:MAX_CHALLENGE_LENGTH]))
    understood = (_understood(parameters) for scheme, parameters in given if scheme == "digest")
    return next(filter(None, understood), None)


def answer(challenge: Challenge, account: Digest, *, method: str, target: str, count: int, nonce: str) -> str:
    """Return the value of `Authorization` for a request to `target`, its path and query as sent.

    `count` is the number of answers to the challenge, this one included; the client's `nonce` is the same in all.
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
    """Cache of challenges of a process, which saves a round trip for each later request to a server. No I/O."""

    def __init__(self) -> None:
        self._sessions: LRUCache[tuple[str, bytes], _Session] = LRUCache(MAX_SESSIONS)

    def remember(self, origin: str, account: Digest, fields: Iterable[str]) -> bool:
        """Cache the challenge of a server for an account that it refused; returns whether it can be answered."""
        challenge = choose(fields)
        key = _key(origin, account)
        if challenge is None:
            self._sessions.pop(key, None)
            return False
        self._sessions[key] = _Session(challenge, secrets.token_urlsafe(16))
        return True

    def authorization(self, origin: str, account: Digest, *, method: str, target: str) -> str | None:
        """Return the value of `Authorization` for the next request; None: no challenge is cached."""
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
    scheme, position = "", 0
    parameters: dict[str, str] = {}
    while (match := _PART.match(field, position)) is not None:
        position = match.end()
        if match["scheme"] is not None:
            if scheme:
                yield scheme, parameters
            scheme, parameters = match["scheme"].lower(), {}
        else:
            value = match["plain"] if match["quoted"] is None else _ESCAPED.sub(r"\1", match["quoted"])
            parameters.setdefault(match["name"].lower(), value)
    if scheme:
        yield scheme, parameters


def _understood(parameters: dict[str, str]) -> Challenge | None:
    realm, nonce, offered = (parameters.get(name) for name in ("realm", "nonce", "qop"))
    counted = offered is not None and "auth" in re.split(r"[\s,]+", offered.lower())
    if realm is None or not nonce or any(map(_UNQUOTABLE.search, parameters.values())):
        return None
    challenge = Challenge(realm, nonce, parameters.get("algorithm", ""), counted, parameters.get("opaque"))
    is_known = challenge.algorithm.lower().removesuffix("-sess") in _ALGORITHMS
    return challenge if is_known and (counted or (offered is None and not challenge.is_session)) else None


def _quote(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
