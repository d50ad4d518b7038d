"""Verification of bearer tokens: what a presented token permits, and when each token was last used.

Times of use are held in memory and written to `<data_dir>/tokens.used.json` from time to time. They help people find
unused tokens, which is not worth a write with every call.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import attrs
import orjson

from flowhook.errors import InvalidError
from flowhook.security.private_files import write_private
from flowhook.security.tokens import FILE, TokenInfo, TokenScope, list_tokens

USE_FILE: Final = "tokens.used.json"


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
    _file: str = attrs.field(init=False)
    _stamp: tuple[int, int, int] | None = attrs.field(init=False, default=None)
    _grants: dict[bytes, TokenGrant] = attrs.field(init=False, factory=dict)
    _used: dict[str, int] = attrs.field(init=False)
    _changed: bool = attrs.field(init=False, default=False)

    @_file.default
    def _path(self) -> str:
        return str(self._data_dir / FILE)

    @_used.default
    def _used_before(self) -> dict[str, int]:
        return dict(last_uses(self._data_dir))

    def find(self, token: str) -> TokenGrant | None:
        """Return what a token permits, or None if it is unknown or expired.

        The empty one is unknown, whatever the file contains, and all are if it can't be read.
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
