"""Who presents a token: what it permits, and when it was used last.

When is kept in memory, and written to `<data_dir>/tokens.used.json` now and then: for people, who look for tokens that
nobody needs any more, and not worth a write with each call.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import orjson

from flowhook.errors import InvalidError
from flowhook.private_files import write_private
from flowhook.tokens import FILE, Scope, TokenInfo, list_tokens

USE_FILE: Final = "tokens.used.json"


class Grant(NamedTuple):
    """What a value of a token permits.

    Attributes:
        scopes: what it permits.
        flows: IDs of the only flows it hands in events to; None: any.
        until: Unix time (s) when it is good no more.
        sha256: its hash, in hex.
    """

    scopes: frozenset[Scope]
    flows: frozenset[str] | None
    until: float
    sha256: str


class TokenVerifier:
    """Answers what a presented token permits; follows changes of the file by its modification time.

    Comparing takes the same time for every wrong token: what is looked up is a hash, which no caller can steer.
    """

    def __init__(self, data_dir: Path, *, now: Callable[[], float] = time.time) -> None:
        """Verify tokens of a data directory; `now` gives Unix time in seconds."""
        self._data_dir = data_dir
        self._now = now
        self._path = data_dir / FILE
        self._stamp: tuple[int, int, int] | None = None
        self._grants: dict[bytes, Grant] = {}
        self._used = dict(last_uses(data_dir))
        self._changed = False

    def find(self, token: str) -> Grant | None:
        """Return what a token permits, or None when it is unknown or expired. A file that can't be read knows none."""
        try:
            status = self._path.stat()
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

    def save_uses(self) -> None:
        """Write down when tokens were used, if one was since the last time. Blocking.

        Raises:
            OSError: it can't be written; the next time tries again.
        """
        if not self._changed or self._stamp is None:  # of no token is it known whether it is still there
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
    """Return when values of tokens were used last: Unix times (s) by hash in hex, a minute behind. Blocking.

    What can't be read is not known.
    """
    try:
        return {str(sha256): int(used) for sha256, used in orjson.loads((data_dir / USE_FILE).read_bytes()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _grants(info: TokenInfo) -> list[Grant]:
    flows = info.flows or None
    end = float("inf") if info.expires is None else info.expires
    return [Grant(info.scopes, flows, end, info.sha256)] + [
        Grant(info.scopes, flows, value.until, value.sha256) for value in info.earlier
    ]
