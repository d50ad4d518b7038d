"""Bearer tokens of the gRPC services: `<data_dir>/tokens.json` stores their hashes, never a token.

A token is `fhk_` and 256 random bits. It can't be guessed, so a plain SHA-256 is a sufficient hash. The prefix lets
secret scanners, and the redaction of our own logs, recognise tokens.

A token has a name, and a value that can be rotated: an earlier value stays valid until its own expiry. Times are Unix
seconds. When values were last used is held in memory, and written to `<data_dir>/tokens.used.json` from time to time.
It helps people find unused tokens, which is not worth a write with every call.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NamedTuple

import attrs
import orjson

from flowhook import limits
from flowhook.errors import ConflictError, InvalidError, NotFoundError
from flowhook.security.private_files import check_descriptors, make_directory, open_private, write_private

PREFIX: Final = "fhk_"
FILE: Final = "tokens.json"
USE_FILE: Final = "tokens.used.json"
MAX_FLOWS: Final = 100  # flows that one token can be restricted to
MAX_EARLIER: Final = 4  # earlier values of one token that are valid at a time
MAX_OVERLAP_SECONDS: Final = 30 * 86_400.0  # longest validity of an earlier value after a rotation
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class TokenScope(StrEnum):
    """A permission of a token."""

    INGEST = "ingest"  # ingest events
    VERIFY = "verify"  # read the secrets that webhooks are verified with; for edges
    RUN = "run"  # attach as a runner, and read any secret
    VIEW = "view"  # read everything but the values of secrets, and change nothing
    ADMIN = "admin"  # manage flows, secrets and executions


BUILT_IN: Final = {
    "admin": frozenset(TokenScope),
    "edge": frozenset({TokenScope.INGEST, TokenScope.VERIFY}),
    "runner": frozenset({TokenScope.RUN}),
    "view": frozenset({TokenScope.VIEW}),
}
"""Tokens that are created in a new data directory, each in its own file `<name>.token`."""


@dataclass(frozen=True, slots=True)
class EarlierValue:
    """A replaced value of a token: its hash in hex, and its expiry."""

    sha256: str
    until: int


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """A token as stored."""

    name: str  # 1 to 63 characters
    scopes: frozenset[TokenScope]  # its permissions
    sha256: str  # hash of its value, in hex
    created: int  # Unix time in seconds at which its value was created
    flows: frozenset[str] = frozenset()  # IDs of the only flows whose events it may ingest; empty: any
    expires: int | None = None  # time at which it expires; None: never
    earlier: tuple[EarlierValue, ...] = ()  # earlier values that are still valid, the latest first


def ensure_tokens(data_dir: Path) -> bool:
    """Create the built-in tokens of a data directory without `tokens.json`; return whether they were created. Blocking.

    Raises:
        InvalidError: the directory can't be written (`DATA_DIR_UNUSABLE`) or the file is damaged (`TOKENS_DAMAGED`).
    """
    with _locked(data_dir):
        if (data_dir / FILE).exists():
            _load(data_dir)
            return False
        infos = []
        for name, scopes in BUILT_IN.items():
            token = _mint()
            write_private(data_dir / f"{name}.token", token.encode() + b"\n")
            infos.append(TokenInfo(name, scopes, _hash(token), int(time.time())))
        # last, so that after a crash before this point the next call starts over
        _store(data_dir, infos)
        return True


def create_token(
    data_dir: Path,
    name: str,
    scopes: Collection[TokenScope],
    *,
    flows: Collection[str] = (),
    expires_in: float | None = None,
) -> str:
    """Add a token and return it; it can't be read again. Blocking.

    It may ingest events of `flows` only, unless they are empty, and expires after some seconds, if that is given.

    Raises:
        InvalidError: the name, the scopes, the flows or the time are not acceptable (`TOKEN_NAME_INVALID`,
            `TOKEN_SCOPES_MISSING`, `TOKEN_FLOWS_INVALID`, `TOKEN_EXPIRY_INVALID`), or the directory is unusable.
        ConflictError: a token of this name exists (`TOKEN_EXISTS`).
    """
    if not _NAME.fullmatch(name):
        raise InvalidError("a token's name is 1 to 63 letters, digits, '.', '_' or '-'", reason="TOKEN_NAME_INVALID")
    if not scopes:
        raise InvalidError("a token needs at least one scope", reason="TOKEN_SCOPES_MISSING")
    if flows and set(scopes) != {TokenScope.INGEST}:
        raise InvalidError("a token for some flows can only have the scope ingest", reason="TOKEN_FLOWS_INVALID")
    if len(flows) > MAX_FLOWS or not all(0 < len(flow) <= limits.MAX_FLOW_ID_LENGTH for flow in flows):
        raise InvalidError(f"a token is for at most {MAX_FLOWS} flows, by ID", reason="TOKEN_FLOWS_INVALID")
    now = int(time.time())
    expires = _expiry(now, expires_in)
    ensure_tokens(data_dir)
    with _locked(data_dir):
        infos = _load(data_dir)
        if any(info.name == name for info in infos):
            raise ConflictError(f"the token {name} exists already: revoke it first", reason="TOKEN_EXISTS")
        token = _mint()
        info = TokenInfo(name, frozenset(scopes), _hash(token), now, frozenset(flows), expires)
        _store(data_dir, [*infos, info])
    return token


def rotate_token(data_dir: Path, name: str, *, overlap: float, expires_in: float | None = None) -> str:
    """Give a token a new value and return it; it can't be read again. The file of a built-in token is updated, too.

    Blocking. The new value is valid at once, with the same permissions, for some seconds, or until the expiry of the
    previous one. That stays valid for an `overlap` in [0, `MAX_OVERLAP_SECONDS`], but never beyond its own expiry.

    Raises:
        NotFoundError: there is no token of this name (`TOKEN_NOT_FOUND`).
        InvalidError: a time is not acceptable (`TOKEN_OVERLAP_INVALID`, `TOKEN_EXPIRY_INVALID`), or the directory is
            unusable.
        ConflictError: too many earlier values are still valid (`TOKEN_OVERLAPS`), or the token has expired and no new
            expiry is given (`TOKEN_EXPIRED`).
    """
    if not 0 <= overlap <= MAX_OVERLAP_SECONDS:
        raise InvalidError("the earlier value can stay valid for 0 s to 30 days (P30D)", reason="TOKEN_OVERLAP_INVALID")
    now = int(time.time())
    expires = _expiry(now, expires_in)
    with _locked(data_dir):
        infos = {info.name: info for info in _load(data_dir)}
        info = infos.get(name)
        if info is None:
            raise _not_found(name)
        if expires is None and info.expires is not None and info.expires <= now:
            raise ConflictError(f"{name} has expired: give it a new expiry", reason="TOKEN_EXPIRED")
        end = now + int(overlap)
        replaced = EarlierValue(info.sha256, end if info.expires is None else min(end, info.expires))
        earlier = tuple(value for value in (replaced, *info.earlier) if value.until > now)
        if len(earlier) > MAX_EARLIER:
            raise ConflictError(
                f"{MAX_EARLIER} earlier values of {name} are still valid: wait, or revoke it", reason="TOKEN_OVERLAPS"
            )
        token = _mint()
        expires = info.expires if expires is None else expires
        infos[name] = replace(info, sha256=_hash(token), created=now, expires=expires, earlier=earlier)
        if name in BUILT_IN:
            write_private(_pending(data_dir, name), token.encode() + b"\n")
        _store(data_dir, list(infos.values()))
        _finish_rotations(data_dir)
    return token


def _pending(data_dir: Path, name: str) -> Path:
    """Return the path of the new value of a built-in token until its hash is stored."""
    return data_dir / f".{name}.token.new"


def _finish_rotations(data_dir: Path) -> None:
    """Complete rotations that a crash interrupted after the hash was stored, and undo others."""
    pending = [(name, path) for name in BUILT_IN if (path := _pending(data_dir, name)).exists()]
    hashes = {info.name: info.sha256 for info in _load(data_dir)} if pending else {}
    for name, path in pending:
        if _hash(path.read_text().strip()) == hashes.get(name):
            path.replace(data_dir / f"{name}.token")
        else:
            path.unlink()


def list_tokens(data_dir: Path) -> list[TokenInfo]:
    """Return all tokens by name; none without `tokens.json`. Blocking.

    Raises:
        InvalidError: it is damaged or unreadable.
        UnavailableError: no file can be opened now (`DESCRIPTORS_USED_UP`).
    """
    return sorted(_load(data_dir), key=lambda info: info.name)


def revoke_token(data_dir: Path, name: str) -> None:
    """Remove a token: routers refuse it from their next call on. Blocking. NotFoundError: `TOKEN_NOT_FOUND`."""
    with _locked(data_dir):
        infos = _load(data_dir)
        remaining = [info for info in infos if info.name != name]
        if len(remaining) == len(infos):
            raise _not_found(name)
        _store(data_dir, remaining)
        if name in BUILT_IN:
            (data_dir / f"{name}.token").unlink(missing_ok=True)


def _expiry(now: int, seconds: float | None) -> int | None:
    if seconds is None:
        return None
    if seconds < 1:
        raise InvalidError("a token is valid for at least a second", reason="TOKEN_EXPIRY_INVALID")
    return now + int(seconds)


def _not_found(name: str) -> NotFoundError:
    return NotFoundError(f"there is no token {name}", reason="TOKEN_NOT_FOUND")


def _mint() -> str:
    return PREFIX + secrets.token_urlsafe(32)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


@contextlib.contextmanager
def _locked(data_dir: Path) -> Iterator[None]:
    """Hold the directory's lock, so that reading, changing and writing the file is atomic across processes."""
    try:
        make_directory(data_dir)
        descriptor = open_private(data_dir / f".{FILE}.lock", os.O_RDWR)
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
        check_descriptors(error)
        raise InvalidError(f"{path}: {os.strerror(error.errno or 0)}", reason="DATA_DIR_UNUSABLE") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise InvalidError(
            f"{path} is damaged: restore it, or remove it to start anew", reason="TOKENS_DAMAGED"
        ) from None


def _info(row: Any) -> TokenInfo:
    return TokenInfo(
        str(row["name"]),
        frozenset(map(TokenScope, row["scopes"])),
        _digest(row["sha256"]),
        int(row["created"]),
        frozenset(map(str, row["flows"])),
        None if row["expires"] is None else int(row["expires"]),
        tuple(EarlierValue(_digest(value["sha256"]), int(value["until"])) for value in row["earlier"]),
    )


def _digest(text: str) -> str:
    digest = bytes.fromhex(text)
    if len(digest) != hashlib.sha256().digest_size:
        raise ValueError
    return digest.hex()


def _store(data_dir: Path, infos: list[TokenInfo]) -> None:
    # sets are written in order
    write_private(data_dir / FILE, orjson.dumps(infos, default=sorted, option=orjson.OPT_INDENT_2) + b"\n")


class TokenGrant(NamedTuple):
    """Permissions of one value of a token."""

    name: str  # name of the token
    scopes: frozenset[TokenScope]  # scopes of the token
    flows: frozenset[str] | None  # IDs of the only flows whose events it may ingest; None: any
    until: float  # Unix time (s) at which it expires
    sha256: str  # hash of the value, in hex


@attrs.define(eq=False, repr=False)
class TokenVerifier:
    """Looks up what a presented token permits; reloads the file when its modification time changes.

    The lookup reveals nothing by its timing: its key is a hash, which no caller can steer.
    """

    _data_dir: Path
    _now: Callable[[], float] = attrs.field(default=time.time, kw_only=True)  # Unix time in seconds
    # calls that were refused for their token, by reason; whoever refuses them counts
    refusals: dict[str, int] = attrs.field(init=False, factory=lambda: {"missing": 0, "unknown": 0, "scope": 0})
    _file: str = attrs.field(init=False)
    _stamp: tuple[int, int, int] | None = attrs.field(init=False, default=None)
    _grants: dict[bytes, TokenGrant] = attrs.field(init=False, factory=dict)
    _used: dict[str, int] = attrs.field(init=False)
    _changed: bool = attrs.field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self._file = str(self._data_dir / FILE)
        self._used = dict(last_uses(self._data_dir))

    def find(self, token: str) -> TokenGrant | None:
        """Return what a token permits, or None if it is unknown or expired.

        The empty one is unknown, whatever the file contains, and all are if it can't be read.

        Raises:
            UnavailableError: the file has changed, and none can be opened now (`DESCRIPTORS_USED_UP`).
        """
        if not token:
            return None
        try:
            status = os.stat(self._file)  # noqa: PTH116 - of a string, as it costs a third: each message of a stream comes here
            stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
            if stamp != self._stamp:
                infos = list_tokens(self._data_dir)
                self._grants = {bytes.fromhex(grant.sha256): grant for info in infos for grant in _grants(info)}
                self._stamp = stamp
        except (OSError, InvalidError, ValueError):
            self._grants, self._stamp = {}, None
        grant = self._grants.get(hashlib.sha256(token.encode(errors="surrogateescape")).digest())
        if grant is None:
            return None
        now = self._now()
        if now >= grant.until:
            return None
        self._used[grant.sha256] = int(now)
        self._changed = True
        return grant

    def expiries(self) -> dict[str, float]:
        """Return when tokens expire, in Unix time (s) by name, of those that do, as they were when one was checked."""
        ends: dict[str, float] = {}
        for grant in self._grants.values():
            ends[grant.name] = max(grant.until, ends.get(grant.name, 0.0))
        return {name: end for name, end in ends.items() if end != float("inf")}

    def save_uses(self) -> None:
        """Write new times of use to the file. Blocking. OSError: it can't be written, the next call tries again."""
        if not self._changed or self._stamp is None:  # without a readable file it is unknown which tokens still exist
            return
        self._changed = False
        known = {grant.sha256 for grant in self._grants.values()}
        uses = {sha256: used for sha256, used in self._used.copy().items() if sha256 in known}
        try:
            write_private(self._data_dir / USE_FILE, orjson.dumps(uses) + b"\n", durable=False)
        except OSError:
            self._changed = True
            raise


def last_uses(data_dir: Path) -> Mapping[str, int]:
    """Return the times at which token values were last used: Unix times (s) by hash in hex. Blocking.

    The times are up to a minute old. The result is empty if the file can't be read.
    """
    try:
        return {str(sha256): int(used) for sha256, used in orjson.loads((data_dir / USE_FILE).read_bytes()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _grants(info: TokenInfo) -> list[TokenGrant]:
    flows = info.flows or None
    end = float("inf") if info.expires is None else info.expires
    return [TokenGrant(info.name, info.scopes, flows, end, info.sha256)] + [
        TokenGrant(info.name, info.scopes, flows, value.until, value.sha256) for value in info.earlier
    ]
