"""Bearer tokens of the gRPC services: `<data_dir>/tokens.json` holds their hashes, never a token.

A token is `fhk_` and 256 random bits, so a plain SHA-256 is enough to keep it: there is nothing to guess. The prefix
lets secret scanners, and the redaction of our own logs, recognise one.

A token has a name, and a value that can be replaced: the earlier value is good until a time of its own. Times are Unix
seconds.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from flowhook import limits
from flowhook.errors import ConflictError, InvalidError, NotFoundError
from flowhook.private_files import create, make_directory, write_private

PREFIX: Final = "fhk_"
FILE: Final = "tokens.json"
MAX_FLOWS: Final = 100
"""Flows that one token may be for."""

MAX_EARLIER: Final = 4
"""Earlier values of one token that are good at a time."""

MAX_OVERLAP_SECONDS: Final = 30 * 86_400.0
"""How long an earlier value may be good."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class Scope(StrEnum):
    """What a token permits."""

    INGEST = "ingest"
    """Hand in events."""
    VERIFY = "verify"
    """Read the secrets that webhooks are verified with; for edges."""
    RUN = "run"
    """Attach as a runner, and read any secret."""
    VIEW = "view"
    """Read everything but the values of secrets, and change nothing."""
    ADMIN = "admin"
    """Manage flows, secrets and executions."""


BUILT_IN: Final = {
    "admin": frozenset(Scope),
    "edge": frozenset({Scope.INGEST, Scope.VERIFY}),
    "runner": frozenset({Scope.RUN}),
    "view": frozenset({Scope.VIEW}),
}
"""Tokens that a fresh data directory gets, each in a file `<name>.token` of its own."""


class EarlierValue(NamedTuple):
    """A value that was replaced: its hash in hex, and until when it is good."""

    sha256: str
    until: int


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """What is kept of a token.

    Attributes:
        name: 1 to 63 characters.
        scopes: what it permits.
        sha256: hash of its value, in hex.
        flows: IDs of the only flows it hands in events to; empty: any.
        created: when its value was made; None: nobody knows.
        expires: when it is good no more; None: never.
        earlier: values it had before that are still good, the latest first.
    """

    name: str
    scopes: frozenset[Scope]
    sha256: str
    flows: frozenset[str] = frozenset()
    created: int | None = None
    expires: int | None = None
    earlier: tuple[EarlierValue, ...] = ()


def ensure_tokens(data_dir: Path) -> None:
    """Make the built-in tokens of a data directory that has no `tokens.json` yet; otherwise change nothing.

    Blocking. Every file is readable by its owner only.

    Raises:
        InvalidError: the directory can't be written (`DATA_DIR_UNUSABLE`) or the file is damaged (`TOKENS_DAMAGED`).
    """
    with _locked(data_dir):
        if (data_dir / FILE).exists():
            _load(data_dir)
            return
        infos = []
        for name, scopes in BUILT_IN.items():
            token = _mint()
            write_private(data_dir / f"{name}.token", token.encode() + b"\n")
            infos.append(TokenInfo(name, scopes, _hash(token), created=int(time.time())))
        # last, so that a crash before here leaves a directory that is simply done again
        _store(data_dir, infos)


def create_token(
    data_dir: Path,
    name: str,
    scopes: Collection[Scope],
    *,
    flows: Collection[str] = (),
    expires_in: float | None = None,
) -> str:
    """Add a token and return it; it can't be read again.

    Blocking.

    Args:
        data_dir: of the router.
        name: 1 to 63 letters, digits, '.', '_' or '-'.
        scopes: what it permits; one at least.
        flows: IDs of the only flows it hands in events to, at most 100; empty: any.
        expires_in: seconds after which it is good no more; None: it is good until it is revoked.

    Raises:
        InvalidError: the name, the scopes, the flows or the time are not acceptable (`TOKEN_NAME_INVALID`,
            `TOKEN_SCOPES_MISSING`, `TOKEN_FLOWS_INVALID`, `TOKEN_EXPIRY_INVALID`), or the directory is unusable.
        ConflictError: there is one of this name (`TOKEN_EXISTS`).
    """
    if not _NAME.fullmatch(name):
        raise InvalidError("a token's name is 1 to 63 letters, digits, '.', '_' or '-'", reason="TOKEN_NAME_INVALID")
    if not scopes:
        raise InvalidError("a token needs at least one scope", reason="TOKEN_SCOPES_MISSING")
    _check_flows(scopes, flows)
    now = int(time.time())
    expires = _expiry(now, expires_in)
    ensure_tokens(data_dir)
    with _locked(data_dir):
        infos = _load(data_dir)
        if any(info.name == name for info in infos):
            raise ConflictError(f"there is a token {name} already; revoke it first", reason="TOKEN_EXISTS")
        token = _mint()
        info = TokenInfo(name, frozenset(scopes), _hash(token), frozenset(flows), now, expires)
        _store(data_dir, [*infos, info])
    return token


def rotate_token(data_dir: Path, name: str, *, overlap: float, expires_in: float | None = None) -> str:
    """Give a token a new value and return that; it can't be read again. A built-in one's file has it then, too.

    Blocking. The new value is good at once, for the same as the one before, which is good for `overlap` more.

    Args:
        data_dir: of the router.
        name: of the token.
        overlap: seconds for which the value before is good, in [0, `MAX_OVERLAP_SECONDS`]; not beyond its own end.
        expires_in: seconds after which the new value is good no more; None: when the one before was to end.

    Raises:
        NotFoundError: there is none of this name (`TOKEN_NOT_FOUND`).
        InvalidError: a time is not acceptable (`TOKEN_OVERLAP_INVALID`, `TOKEN_EXPIRY_INVALID`), or the directory is
            unusable.
        ConflictError: too many earlier values are still good (`TOKEN_OVERLAPS`), or the token has expired, and no new
            end is given (`TOKEN_EXPIRED`).
    """
    if not 0 <= overlap <= MAX_OVERLAP_SECONDS:
        raise InvalidError("the value before is good for 0 s to 30 days (P30D)", reason="TOKEN_OVERLAP_INVALID")
    now = int(time.time())
    expires = _expiry(now, expires_in)
    with _locked(data_dir):
        infos = {info.name: info for info in _load(data_dir)}
        info = infos.get(name)
        if info is None:
            raise _not_found(name)
        if expires is None and info.expires is not None and info.expires <= now:
            raise ConflictError(f"{name} has expired: give it a new end", reason="TOKEN_EXPIRED")
        end = min(now + int(overlap), now + int(overlap) if info.expires is None else info.expires)
        before = (EarlierValue(info.sha256, end), *info.earlier)
        earlier = tuple(value for value in before if value.until > now)
        if len(earlier) > MAX_EARLIER:
            raise ConflictError(
                f"{MAX_EARLIER} earlier values of {name} are still good: wait, or revoke it", reason="TOKEN_OVERLAPS"
            )
        token = _mint()
        infos[name] = replace(
            info,
            sha256=_hash(token),
            created=now,
            expires=info.expires if expires is None else expires,
            earlier=earlier,
        )
        if name in BUILT_IN:
            write_private(_pending(data_dir, name), token.encode() + b"\n")
        _store(data_dir, list(infos.values()))
        _finish_rotations(data_dir)
    return token


def _pending(data_dir: Path, name: str) -> Path:
    """Return where the new value of a built-in token lies until its hash is stored."""
    return data_dir / f".{name}.token.new"


def _finish_rotations(data_dir: Path) -> None:
    """Move values whose hash is stored to their files, and forget others: a crash may have come between."""
    pending = [(name, path) for name in BUILT_IN if (path := _pending(data_dir, name)).exists()]
    hashes = {info.name: info.sha256 for info in _load(data_dir)} if pending else {}
    for name, path in pending:
        if _hash(path.read_text().strip()) == hashes.get(name):
            path.replace(data_dir / f"{name}.token")
        else:
            path.unlink()


def list_tokens(data_dir: Path) -> list[TokenInfo]:
    """Return all tokens by name; none when the directory has no `tokens.json`. Blocking.

    Raises:
        InvalidError: the file is damaged or unreadable.
    """
    return sorted(_load(data_dir), key=lambda info: info.name)


def revoke_token(data_dir: Path, name: str) -> None:
    """Remove a token: routers refuse it from their next call on. Blocking.

    Raises:
        NotFoundError: there is none of this name (`TOKEN_NOT_FOUND`).
        InvalidError: the directory is unusable.
    """
    with _locked(data_dir):
        infos = _load(data_dir)
        kept = [info for info in infos if info.name != name]
        if len(kept) == len(infos):
            raise _not_found(name)
        _store(data_dir, kept)
        if name in BUILT_IN:
            (data_dir / f"{name}.token").unlink(missing_ok=True)


def _check_flows(scopes: Collection[Scope], flows: Collection[str]) -> None:
    if flows and set(scopes) != {Scope.INGEST}:
        raise InvalidError("a token for some flows has the scope ingest alone", reason="TOKEN_FLOWS_INVALID")
    if len(flows) > MAX_FLOWS or not all(0 < len(flow) <= limits.MAX_FLOW_ID_LENGTH for flow in flows):
        raise InvalidError(f"a token is for at most {MAX_FLOWS} flows, by ID", reason="TOKEN_FLOWS_INVALID")


def _expiry(now: int, seconds: float | None) -> int | None:
    if seconds is None:
        return None
    if seconds < 1:
        raise InvalidError("a token is good for a second at least", reason="TOKEN_EXPIRY_INVALID")
    return now + int(seconds)


def _not_found(name: str) -> NotFoundError:
    return NotFoundError(f"there is no token {name}", reason="TOKEN_NOT_FOUND")


def _mint() -> str:
    return PREFIX + secrets.token_urlsafe(32)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


@contextlib.contextmanager
def _locked(data_dir: Path) -> Iterator[None]:
    """Hold the directory's lock: reading, changing and writing the file is one step among processes."""
    try:
        make_directory(data_dir)
        descriptor = create(data_dir / f".{FILE}.lock", os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            _finish_rotations(data_dir)
            yield
        finally:
            os.close(descriptor)
    except OSError as error:
        raise InvalidError(
            f"can't use the data directory {data_dir}: {os.strerror(error.errno or 0)}", reason="DATA_DIR_UNUSABLE"
        ) from None


def _load(data_dir: Path) -> list[TokenInfo]:
    path = data_dir / FILE
    try:
        rows = orjson.loads(path.read_bytes())
        return [_info(row) for row in rows]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InvalidError(f"{path}: {os.strerror(error.errno or 0)}", reason="DATA_DIR_UNUSABLE") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise InvalidError(
            f"{path} is damaged: restore it, or remove it to start anew", reason="TOKENS_DAMAGED"
        ) from None


def _info(row: Any) -> TokenInfo:
    """Return what a row says; earlier versions wrote name, scopes and hash alone."""
    return TokenInfo(
        str(row["name"]),
        frozenset(map(Scope, row["scopes"])),
        bytes.fromhex(row["sha256"]).hex(),
        frozenset(map(str, row.get("flows", ()))),
        _time(row.get("created")),
        _time(row.get("expires")),
        tuple(
            EarlierValue(bytes.fromhex(value["sha256"]).hex(), int(value["until"])) for value in row.get("earlier", ())
        ),
    )


def _time(value: Any) -> int | None:
    return None if value is None else int(value)


def _store(data_dir: Path, infos: list[TokenInfo]) -> None:
    rows = [
        {
            "name": info.name,
            "scopes": sorted(info.scopes),
            "sha256": info.sha256,
            "flows": sorted(info.flows),
            "created": info.created,
            "expires": info.expires,
            "earlier": [value._asdict() for value in info.earlier],
        }
        for info in infos
    ]
    write_private(data_dir / FILE, orjson.dumps(rows, option=orjson.OPT_INDENT_2) + b"\n")
