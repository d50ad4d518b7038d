"""Bearer tokens of the gRPC services: `<data_dir>/tokens.json` holds their hashes, never a token.

A token is `fhk_` and 256 random bits, so a plain SHA-256 is enough to keep it: there is nothing to guess. The prefix
lets secret scanners, and the redaction of our own logs, recognise one.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import orjson

from flowhook.errors import ConflictError, InvalidError, NotFoundError
from flowhook.private_files import create, make_directory, write_private

PREFIX: Final = "fhk_"
FILE: Final = "tokens.json"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class Scope(StrEnum):
    """What a token permits."""

    INGEST = "ingest"
    """Hand in events."""
    VERIFY = "verify"
    """Read the secrets that webhooks are verified with; for edges."""
    RUN = "run"
    """Attach as a runner, and read any secret."""
    ADMIN = "admin"
    """Manage flows, secrets and executions."""


BUILT_IN: Final = {
    "admin": frozenset(Scope),
    "edge": frozenset({Scope.INGEST, Scope.VERIFY}),
    "runner": frozenset({Scope.RUN}),
}
"""Tokens that a fresh data directory gets, each in a file `<name>.token` of its own."""


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """What is kept of a token: `sha256` is the hash of it, in hex."""

    name: str
    scopes: frozenset[Scope]
    sha256: str


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
            infos.append(TokenInfo(name, scopes, _hash(token)))
        # last, so that a crash before here leaves a directory that is simply done again
        _store(data_dir, infos)


def create_token(data_dir: Path, name: str, scopes: Collection[Scope]) -> str:
    """Add a token and return it; it can't be read again.

    Blocking.

    Raises:
        InvalidError: the name or the scopes are not acceptable (`TOKEN_NAME_INVALID`, `TOKEN_SCOPES_MISSING`), or the
            directory is unusable.
        ConflictError: there is one of this name (`TOKEN_EXISTS`).
    """
    if not _NAME.fullmatch(name):
        raise InvalidError("a token's name is 1 to 63 letters, digits, '.', '_' or '-'", reason="TOKEN_NAME_INVALID")
    if not scopes:
        raise InvalidError("a token needs at least one scope", reason="TOKEN_SCOPES_MISSING")
    ensure_tokens(data_dir)
    with _locked(data_dir):
        infos = _load(data_dir)
        if any(info.name == name for info in infos):
            raise ConflictError(f"there is a token {name} already; revoke it first", reason="TOKEN_EXISTS")
        token = _mint()
        _store(data_dir, [*infos, TokenInfo(name, frozenset(scopes), _hash(token))])
    return token


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
            raise NotFoundError(f"there is no token {name}", reason="TOKEN_NOT_FOUND")
        _store(data_dir, kept)
        if name in BUILT_IN:
            (data_dir / f"{name}.token").unlink(missing_ok=True)


class TokenVerifier:
    """Answers which scopes a presented token has; follows changes of the file by its modification time.

    Comparing takes the same time for every wrong token: what is looked up is a hash, which no caller can steer.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._path = data_dir / FILE
        self._stamp: tuple[int, int, int] | None = None
        self._scopes: dict[bytes, frozenset[Scope]] = {}

    def scopes(self, token: str) -> frozenset[Scope] | None:
        """Return the scopes of a token, or None when it is unknown. A file that can't be read knows none."""
        try:
            status = self._path.stat()
            stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
            if stamp != self._stamp:
                self._scopes = {bytes.fromhex(info.sha256): info.scopes for info in _load(self._data_dir)}
                self._stamp = stamp
        except (OSError, InvalidError, ValueError):
            self._scopes, self._stamp = {}, None
        return self._scopes.get(hashlib.sha256(token.encode(errors="surrogateescape")).digest())


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
        return [
            TokenInfo(str(row["name"]), frozenset(map(Scope, row["scopes"])), bytes.fromhex(row["sha256"]).hex())
            for row in rows
        ]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InvalidError(f"{path}: {os.strerror(error.errno or 0)}", reason="DATA_DIR_UNUSABLE") from None
    except (ValueError, TypeError, KeyError):
        raise InvalidError(
            f"{path} is damaged: restore it, or remove it to start anew", reason="TOKENS_DAMAGED"
        ) from None


def _store(data_dir: Path, infos: list[TokenInfo]) -> None:
    rows = [{"name": info.name, "scopes": sorted(info.scopes), "sha256": info.sha256} for info in infos]
    write_private(data_dir / FILE, orjson.dumps(rows, option=orjson.OPT_INDENT_2) + b"\n")
