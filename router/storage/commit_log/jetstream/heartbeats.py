"""Heartbeats of routers as plain messages of NATS, which need no quorum and are not stored."""

from __future__ import annotations

import re
import secrets
import threading
import time
from typing import Final

import nats.errors
from nats.aio.msg import Msg

from flowhook.errors import InvalidError
from router.storage.commit_log.jetstream.connection import Connection

MOST_BYTES: Final = 4096
MOST_ROUTERS: Final = 256
"""Most routers of which a heartbeat is retained; the one that was silent longest makes room."""
SENDER: Final = "Fh-Sender"
"""Header that distinguishes routers of the same name."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


class NatsHeartbeats:
    """Sends and receives heartbeats."""

    def __init__(self, connection: Connection, *, subject: str, router: str) -> None:
        """Announce `router`, and receive the others, on the subjects `<subject>.<name>`.

        Raises:
            InvalidError: the name can't be part of a subject (`ROUTER_NAME_INVALID`).
        """
        if not _NAME.fullmatch(router):
            raise InvalidError(
                f"a router's name consists of A-Z, a-z, 0-9, `-` and `_`, at most 64 characters; not {router!r}",
                reason="ROUTER_NAME_INVALID",
            )
        self._connection = connection
        self._subject = subject
        self._router = router
        self._heard: dict[str, tuple[float, bytes]] = {}
        self._sender = secrets.token_hex(8)
        self._namesake = 0.0
        self._lock = threading.Lock()

    async def start(self) -> None:
        """Begin to receive; on the connection's loop."""
        await self._connection.subscribe(f"{self._subject}.*", self._on_message)

    def publish(self, content: bytes) -> None:
        """Send, if there is a connection; at most `MOST_BYTES`."""
        self._connection.post(lambda: self._publish(content[:MOST_BYTES]))

    def heard(self) -> dict[str, tuple[float, bytes]]:
        """Return what others sent last, by their names, with its time (s, `time.monotonic`)."""
        with self._lock:
            return dict(self._heard)

    def namesake(self) -> float:
        """Return when another router of this one's name was heard last (s, `time.monotonic`); 0: never."""
        return self._namesake

    async def _publish(self, content: bytes) -> None:
        client = self._connection.client
        try:
            if client.is_connected:
                await client.publish(f"{self._subject}.{self._router}", content, headers={SENDER: self._sender})
        except (nats.errors.Error, OSError):
            return  # the next one follows within a second

    async def _on_message(self, message: Msg) -> None:
        name = message.subject.rpartition(".")[2]
        if name == self._router:
            if (message.headers or {}).get(SENDER) != self._sender:
                self._namesake = time.monotonic()
            return
        if len(message.data) > MOST_BYTES:
            return
        with self._lock:
            self._heard[name] = (time.monotonic(), message.data)
            if len(self._heard) > MOST_ROUTERS:
                del self._heard[min(self._heard, key=lambda heard: self._heard[heard][0])]
