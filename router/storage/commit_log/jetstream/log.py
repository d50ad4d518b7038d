"""The log on a JetStream stream: its tail, reading, purging, and its free space."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import threading
import time
from collections.abc import Iterator
from typing import Final

import nats.errors
from nats.aio.msg import Msg
from nats.js.api import StreamInfo

from router.storage.commit_log.interface import LogRecord, LogReplacedError, LogStatus, LogTrimmedError
from router.storage.commit_log.jetstream.append import SealedMessage, append, report_void
from router.storage.commit_log.jetstream.batch_get import StoredMessage, messages_after
from router.storage.commit_log.jetstream.connection import Connection
from router.storage.commit_log.jetstream.leader import Leader
from router.storage.commit_log.jetstream.servers import MonitoredServer, monitored_servers, replicas_of
from router.storage.commit_log.jetstream.streams import log_stream_of
from router.storage.commit_log.jetstream.url import LogUrl
from router.storage.commit_log.refusals import Refusals
from router.storage.commit_log.seals import RecordSeals

POLL_SECONDS: Final = 0.25
"""How often a waiting reader looks even though nothing announced a record."""

HEADER_BYTES: Final = 4096
"""Left of the server's limit of a message for headers."""

OVERHEAD_BYTES: Final = 256
"""What a stream stores with a record, or so."""

STATE_SECONDS: Final = 2.0
MONITORED_SECONDS: Final = 15.0
"""How long it is remembered what servers say of themselves: asking takes seconds while one does not answer."""

SOON_SECONDS: Final = 0.005

POSITION_DIGITS: Final = 20
"""Most digits of a position."""

READING_SECONDS: Final = 1.0
"""How often a waiting reader says that it waits."""

ANNOUNCE_SECONDS: Final = 3.0
"""How long records are announced after a reader has said so: nobody listens to a log that has no other router."""


class JetStreamLog:
    """A log; see the protocol for what its methods promise."""

    def __init__(
        self,
        connection: Connection,
        url: LogUrl,
        info: StreamInfo,
        *,
        seals: RecordSeals,
        refusals: Refusals,
        behind_seconds: float,
    ) -> None:
        self._seals = seals
        self._refusals = refusals
        self._connection = connection
        self._url = url
        self._stream = log_stream_of(info)
        self._leader = Leader(connection, self._stream, behind_seconds=behind_seconds)
        self._acknowledged = info.state.last_seq
        self._size = info.state.bytes
        self._announced = info.state.last_seq
        self._reader = secrets.token_bytes(8)
        self._said_at = 0.0
        self._listens = False
        self._announce_until = 0.0
        self._news = asyncio.Event()
        self._monitored: dict[str, MonitoredServer] = {}
        self._monitored_until = 0.0

    async def start(self) -> None:
        """Begin to follow announcements and the size of the log; on the connection's loop."""
        await self._connection.subscribe(self._readers, self._on_reader)
        self._connection.spawn(self._observe_size)

    @property
    def identity(self) -> str:
        """Random part of the stream's subject, and the time of its creation."""
        return self._stream.identity

    @property
    def max_record_bytes(self) -> int:
        """The servers' limit of a message, less its headers."""
        return self._connection.client.max_payload - HEADER_BYTES

    def append(self, expected: int, batch_id: str, data: bytes, *, stop: threading.Event | None = None) -> int:
        """Append a record, and announce it to waiting readers."""
        position = append(
            self._connection,
            self._stream,
            self._leader,
            SealedMessage(self._seals, LogRecord(expected + 1, batch_id, data)),
            refusals=self._refusals,
            stop=stop,
        )
        self._acknowledged = max(self._acknowledged, position)
        self._size += len(data) + OVERHEAD_BYTES
        if time.monotonic() < self._announce_until:
            self._connection.post(self._announce)
        return position

    def tail(self) -> LogRecord | None:
        """Return the last record, once the leader has all that was acknowledged."""
        return self._connection.call(self._tail())

    def read(self, after: int, *, wait_seconds: float = 0.0) -> Iterator[LogRecord]:
        """Yield records; waiting ends when one is announced, and at a poll."""
        while records := self._connection.call(self._next(after, wait_seconds)):
            yield from records
            after = records[-1].position

    def purge(self, through: int) -> None:
        """Remove records."""
        self._connection.call(self._purge(through))

    def room(self) -> int | None:
        """Return what the stream may still take, as it was some seconds ago, less what this process appended."""
        limit = self._stream.max_bytes
        return None if limit is None else max(0, limit - self._size)

    @property
    def max_bytes(self) -> int | None:
        """What the stream may have."""
        return self._stream.max_bytes

    def status(self) -> LogStatus:
        """Return the state of the stream, with the versions of the servers whose monitoring answers."""
        info = self._connection.call(self._info())
        if time.monotonic() > self._monitored_until:
            self._monitored_until = time.monotonic() + MONITORED_SECONDS
            self._monitored = monitored_servers(self._url)
        name, version = self._connection.server
        monitored = {name: MonitoredServer(name, version, sync_always=False)} | self._monitored
        return LogStatus(
            first_position=info.state.first_seq if info.state.messages else info.state.last_seq + 1,
            last_position=info.state.last_seq,
            size=info.state.bytes,
            max_size=self._stream.max_bytes,
            servers=tuple(replicas_of(info, monitored)),
        )

    async def _tail(self) -> LogRecord | None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._leader.behind_seconds
        while True:
            found = await self._leader.last()
            if found.position >= self._acknowledged:
                self._acknowledged = found.position
                return self._opened(found) if found.position else None
            if loop.time() > deadline:
                raise self._leader.lost(found.position, self._acknowledged)
            await asyncio.sleep(POLL_SECONDS)

    async def _next(self, after: int, wait_seconds: float) -> list[LogRecord]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_seconds
        while True:
            news = self._news
            found = await messages_after(self._connection, self._stream.name, self._stream.subject, after)
            if found and found[0].position == after + 1:
                return [self._opened(each) for each in found[: _gapless(found)]]
            # the replica that answered may lag behind: what the leader says counts
            state = (await self._info()).state
            first = state.first_seq if state.messages else state.last_seq + 1
            if after + 1 < first:
                raise LogTrimmedError(first)
            if after < state.last_seq:
                record = await self._leader.find(after + 1)
                if record:
                    return [self._opened(record)]
            self._announced = min(self._announced, state.last_seq)  # anybody can announce what does not exist
            if after > state.last_seq:
                self._acknowledged = max(self._acknowledged, after)
                await self._tail()
            remaining = deadline - loop.time()
            if remaining <= 0:
                return []
            await self._say_that_it_waits()
            pause = POLL_SECONDS if self._announced <= after else SOON_SECONDS
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(remaining, pause)):
                    await news.wait()

    def _opened(self, message: StoredMessage) -> LogRecord:
        """Return the record of a message; report it if it is void."""
        if message.purged:
            return LogRecord(message.position, "", b"")
        record = self._seals.open(message.position, message.message_id, message.data)
        if record.void:
            report_void(self._refusals, self._stream.name, record)
        return record

    async def _purge(self, through: int) -> None:
        state = (await self._info()).state  # not what another life of the log has
        # a purge beyond the end would move the end
        first = min(through, state.last_seq) + 1
        await self._connection.persist(lambda: self._connection.jetstream.purge_stream(self._stream.name, seq=first))
        await self._info()

    async def _info(self) -> StreamInfo:
        info = await self._leader.info()
        self._size = info.state.bytes
        return info

    @property
    def _announcements(self) -> str:
        return f"{self._stream.subject}.appended"

    async def _announce(self) -> None:
        client = self._connection.client
        if client.is_connected:
            await client.publish(self._announcements, b"%d" % self._acknowledged)

    @property
    def _readers(self) -> str:
        return f"{self._stream.subject}.reading"

    async def _say_that_it_waits(self) -> None:
        now, client = time.monotonic(), self._connection.client
        if now - self._said_at >= READING_SECONDS and client.is_connected:
            self._said_at = now
            if not self._listens:
                await self._connection.subscribe(self._announcements, self._on_announced)
                self._listens = True
            await client.publish(self._readers, self._reader)

    async def _on_reader(self, message: Msg) -> None:
        if message.data != self._reader:
            self._announce_until = time.monotonic() + ANNOUNCE_SECONDS

    async def _on_announced(self, message: Msg) -> None:
        if message.data.isdigit() and len(message.data) <= POSITION_DIGITS:
            self._announced = max(self._announced, int(message.data))
            self._news.set()
            self._news = asyncio.Event()

    async def _observe_size(self) -> None:
        while True:
            await asyncio.sleep(STATE_SECONDS)
            await self._look()

    async def _look(self) -> None:
        """Note how large the log is, and stop listening to announcements unless this process reads."""
        try:
            await self._info()
        except (LogReplacedError, nats.errors.Error, OSError):
            return  # appends and reads report it
        if self._listens and time.monotonic() - self._said_at > ANNOUNCE_SECONDS:
            self._listens = False  # an owner would hear itself
            await self._connection.unsubscribe(self._announcements)


def _gapless(records: list[StoredMessage]) -> int:
    """Return how many of the records follow one another without a gap."""
    return next(
        (count for count, record in enumerate(records) if record.position != records[0].position + count), len(records)
    )
