"""Sends and hears the heartbeats of routers, signed so that who can only reach the servers of the log can't send any.

A heartbeat names the address of an owner, and clients call it with their tokens. All routers have the key of secrets,
and the servers of the log do not.

Source: RFC 2104 (HMAC), with SHA-256, and truncated to 16 bytes (section 5).
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from typing import Final

from router.cluster.records import RouterRecord
from router.storage.commit_log.interface import Heartbeats

TAG_BYTES: Final = 16


class HeartbeatSigner:
    """Signs and verifies; `key`: secret, the same in all routers, and used for nothing else."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def sign(self, content: bytes) -> bytes:
        """Return `content` with its signature."""
        return self._tag(content) + content

    def verify(self, message: bytes) -> bytes | None:
        """Return the content of what `sign` returned; None: it has another signature."""
        tag, content = message[:TAG_BYTES], message[TAG_BYTES:]
        return content if hmac.compare_digest(tag, self._tag(content)) else None

    def _tag(self, content: bytes) -> bytes:
        return hmac.digest(self._key, content, "sha256")[:TAG_BYTES]


class RouterHeartbeats:
    """The heartbeats of this router and of the others. No I/O; use it on one thread."""

    def __init__(self, heartbeats: Heartbeats, signer: HeartbeatSigner) -> None:
        self._heartbeats = heartbeats
        self._signer = signer
        self._taken: dict[str, float] = {}

    def publish(self, record: RouterRecord) -> None:
        """Announce this router."""
        self._heartbeats.publish(self._signer.sign(record.encode()))

    def news(self) -> Iterator[tuple[RouterRecord, float]]:
        """Yield what other routers announced since the last call, with the time when it was heard."""
        heard = self._heartbeats.heard()
        for router, (time, message) in heard.items():
            if self._taken.get(router) != time:
                content = self._signer.verify(message)
                record = None if content is None else RouterRecord.decode(content)
                if record is not None and record.router == router:
                    yield record, time
        self._taken = {router: time for router, (time, _) in heard.items()}
