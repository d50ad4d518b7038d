"""Remembers logins whose responses are pages, so that they can't be sent again from the history of a browser; pure.

A browser stores such a request, with its token, as long as the tab is open: going back and reloading would log in
anyone who uses the browser after a logout. Other logins are answered with a redirect, so that they are in no history.
"""

from __future__ import annotations

import hashlib
from typing import Final

MAX_LOGINS: Final = 10_000  # logins that are remembered; beyond it the oldest one is forgotten


class SentLogins:
    """The bodies of logins, as hashes: they contain tokens."""

    def __init__(self) -> None:
        self._digests: dict[bytes, None] = {}  # in the order of the logins

    def add(self, body: bytes) -> None:
        """Remember a login."""
        self._digests.setdefault(_digest(body))
        if len(self._digests) > MAX_LOGINS:
            del self._digests[next(iter(self._digests))]

    def __contains__(self, body: bytes) -> bool:
        return _digest(body) in self._digests


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()
