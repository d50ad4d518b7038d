"""Queries to the leader of the log's stream, which fail once the stream was deleted or created again."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

import attrs
from nats.js.api import Header, RawStreamMsg, StreamInfo
from nats.js.errors import NotFoundError

from router.storage.commit_log.interface import LogReplacedError
from router.storage.commit_log.jetstream.batch_get import StoredMessage
from router.storage.commit_log.jetstream.connection import Connection
from router.storage.commit_log.jetstream.streams import LogStream, log_stream_of

GONE_SECONDS: Final = (0.0, 0.5, 0.5)
"""Pauses before each look for a stream that seems to be gone: servers that start know it a moment later."""

BEHIND_SECONDS: Final = 15.0
"""How long a log may seem to lack records that it had acknowledged: until a leader without a quorum has noticed it."""


@attrs.define(eq=False, repr=False)
class Leader:
    """Queries the leader. All methods run on the connection's loop, and raise drivers' errors when nobody answers."""

    _connection: Connection
    _stream: LogStream
    behind_seconds: float = attrs.field(default=BEHIND_SECONDS, kw_only=True)
    _replaced: LogReplacedError | None = attrs.field(init=False, default=None)

    async def info(self) -> StreamInfo:
        """Return the stream's configuration and state.

        Raises:
            LogReplacedError: it is gone, or a different one.
        """
        self._check()
        name = self._stream.name
        for pause in GONE_SECONDS:
            await asyncio.sleep(pause)
            with contextlib.suppress(NotFoundError):
                info = await self._connection.persist(lambda: self._connection.jetstream.stream_info(name))
                if log_stream_of(info).identity != self._stream.identity:
                    raise self._end("was deleted and created again")
                return info
        raise self._end("was deleted")

    async def find(self, position: int) -> StoredMessage | None:
        """Return the record at a position; None if absent.

        Raises:
            LogReplacedError: the stream is a different one.
        """
        self._check()
        name = self._stream.name
        with contextlib.suppress(NotFoundError):
            return self._record(
                await self._connection.persist(lambda: self._connection.jetstream.get_msg(name, position))
            )
        return None

    async def last(self) -> StoredMessage:
        """Return the last record; only its position when it was purged: 0 when nothing was ever appended.

        Raises:
            LogReplacedError: the stream is gone, or a different one.
        """
        self._check()
        name, subject = self._stream.name, self._stream.subject
        with contextlib.suppress(NotFoundError):
            return self._record(
                await self._connection.persist(lambda: self._connection.jetstream.get_last_msg(name, subject))
            )
        return StoredMessage((await self.info()).state.last_seq, "", b"", purged=True)

    def lost(self, position: int, acknowledged: int) -> LogReplacedError:
        """Make the error of a stream that lost records."""
        return self._end(
            f"ends at position {position}, though {acknowledged} was acknowledged: its servers lost records"
        )

    def _check(self) -> None:
        """Answer at once after the first such error: the former life of a stream does not come back."""
        if self._replaced:
            raise LogReplacedError(self._replaced.message)

    def _end(self, how: str) -> LogReplacedError:
        self._replaced = LogReplacedError(f"the stream {self._stream.name} of the log {how}")
        return self._replaced

    def _record(self, found: RawStreamMsg) -> StoredMessage:
        if found.subject != self._stream.subject:
            raise self._end("was deleted and created again")
        return StoredMessage(found.seq or 0, str((found.headers or {}).get(Header.MSG_ID, "")), found.data or b"")
