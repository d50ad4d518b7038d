"""Heartbeats of routers as plain messages of NATS, which need no quorum and are not stored.

What is not authentic is dropped when it arrives: it can't take the place of what is.
"""

from __future__ import annotations

import re
import threading
import time
from typing import Final

import attrs
import nats.errors
from nats.aio.msg import Msg
from typing_extensions import override

from flowhook.errors import InvalidError
from router.storage.commit_log.heartbeat_seals import MOST_ROUTERS, HeartbeatRefusedError, HeartbeatSeals
from router.storage.commit_log.interface import Heartbeats
from router.storage.commit_log.jetstream.connection import LogConnection
from router.storage.commit_log.refusals import Refusals, RefusedKind

MOST_BYTES: Final = 4096
GREETING_SECONDS: Final = 0.1  # between two heartbeats that are sent because another router is new
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


@attrs.define(eq=False, repr=False)
class NatsHeartbeats(Heartbeats):
    """Announces `router`, and receives the others, on the subjects `<subject>.<name>`."""

    _connection: LogConnection
    _subject: str = attrs.field(kw_only=True)
    _router: str = attrs.field(kw_only=True)
    _seals: HeartbeatSeals = attrs.field(kw_only=True)
    _refusals: Refusals = attrs.field(kw_only=True)
    _heard: dict[str, tuple[float, bytes]] = attrs.field(init=False, factory=dict)
    _seen: dict[str, float] = attrs.field(init=False, factory=dict)
    _namesake: float = attrs.field(init=False, default=0.0)
    _content: bytes | None = attrs.field(init=False, default=None)
    _greeted: float = attrs.field(init=False, default=0.0)
    _lock: threading.Lock = attrs.field(init=False, factory=threading.Lock)

    def __attrs_post_init__(self) -> None:
        if not _NAME.fullmatch(self._router):
            raise InvalidError(
                f"a router's name consists of A-Z, a-z, 0-9, `-` and `_`, at most 64 characters; not {self._router!r}",
                reason="ROUTER_NAME_INVALID",
            )

    async def start(self) -> None:
        """Begin to receive; on the connection's loop."""
        await self._connection.subscribe(f"{self._subject}.*", self._on_message)

    @override
    def publish(self, content: bytes) -> None:
        self._connection.post(lambda: self._publish(content[:MOST_BYTES]))

    @override
    def heard(self) -> dict[str, tuple[float, bytes]]:
        with self._lock:
            return dict(self._heard)

    @override
    def seen(self) -> dict[str, float]:
        with self._lock:
            return dict(self._seen)

    @override
    def namesake(self) -> float:
        return self._namesake

    async def _publish(self, content: bytes) -> None:
        client = self._connection.client
        self._content = content
        try:
            if client.is_connected:
                await client.publish(f"{self._subject}.{self._router}", self._seals.seal(content))
        except (nats.errors.Error, OSError):
            return  # the next one follows within a second

    async def _on_message(self, message: Msg) -> None:
        name = message.subject.rpartition(".")[2]
        try:
            heartbeat = self._seals.open(name, message.data)
        except HeartbeatRefusedError as error:
            if error.suspicious:
                self._refusals.add(RefusedKind.HEARTBEAT, message.subject, str(error))
            return
        if heartbeat is None:
            return
        now = time.monotonic()
        if name == self._router:
            if heartbeat.live:
                self._namesake = now
        else:
            with self._lock:
                self._seen[name] = now
                if heartbeat.live:
                    self._heard[name] = (now, heartbeat.content)
                if len(self._seen) > MOST_ROUTERS:
                    silent = min(self._seen, key=self._seen.__getitem__)
                    del self._seen[silent]
                    self._heard.pop(silent, None)
        if heartbeat.greeting and self._content is not None and now - self._greeted >= GREETING_SECONDS:
            self._greeted = now
            await self._publish(self._content)
