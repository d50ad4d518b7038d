"""The log on a JetStream stream: its leader, appends, its tail, reading, purging, and its free space."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import json
import math
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any, Final

import attrs
import nats.errors
from nats.aio.msg import Msg
from nats.js.api import Header, RawStreamMsg, StreamInfo
from nats.js.errors import NotFoundError
from typing_extensions import override

from flowhook.asyncio_tasks import wait_at_most
from flowhook.errors import ExhaustedError, InternalError, UnavailableError
from flowhook.process import logs
from router.storage.commit_log.interface import (
    AppendAbandonedError,
    CommitLog,
    FencedError,
    LogRecord,
    LogReplacedError,
    LogStatus,
    LogTrimmedError,
)
from router.storage.commit_log.jetstream.connection import OPERATION_SECONDS, LogConnection
from router.storage.commit_log.jetstream.servers import MonitoredServer, monitored_servers, replicas_of, without_quorum
from router.storage.commit_log.jetstream.streams import LogStream, StoredMessage, log_stream_of, messages_after
from router.storage.commit_log.jetstream.url import LogUrl
from router.storage.commit_log.refusals import Refusals, RefusedKind
from router.storage.commit_log.seals import RecordSeals

GONE_SECONDS: Final = (0.0, 0.5, 0.5)
"""Pauses before each look for a stream that seems to be gone: servers that start know it a moment later."""
BEHIND_SECONDS: Final = 15.0
"""How long a log may seem to lack records that it had acknowledged: until a leader without a quorum has noticed it."""
ATTEMPT_SECONDS: Final = 1.0
APPEND_PAUSE_SECONDS: Final = 0.02
STOP_SECONDS: Final = 0.05  # how often a waiting caller looks whether it shall stop
COMPLAIN_SECONDS: Final = 5.0  # after so long without an outcome, and then again, it is logged
WRONG_LAST_SEQUENCE: Final = (10071, 10164)
RESOURCES_EXCEEDED: Final = (10002, 10023, 10047)
STORE_FAILED: Final = 10077
POLL_SECONDS: Final = 0.25  # how often a waiting reader looks even though nothing announced a record
HEADER_BYTES: Final = 4096  # left of the server's limit of a message for headers
OVERHEAD_BYTES: Final = 256  # what a stream stores with a record, or so
STATE_SECONDS: Final = 2.0
MONITORED_SECONDS: Final = 15.0
STATUS_SECONDS: Final = 4.0  # how long a quorum is waited for, when operators ask for the state of the log
"""How long it is remembered what servers say of themselves: asking takes seconds while one does not answer."""
SOON_SECONDS: Final = 0.005
POSITION_DIGITS: Final = 20  # most digits of a position
READING_SECONDS: Final = 1.0  # how often a waiting reader says that it waits
ANNOUNCE_PAUSE_SECONDS: Final = 0.05  # between two announcements: about as often as followers read
ANNOUNCE_SECONDS: Final = 3.0
"""How long records are announced after a reader has said so: nobody listens to a log that has no other router."""

log = logs.get_logger(__name__)


@attrs.define(eq=False, repr=False)
class Leader:
    """Queries the leader. All methods run on the connection's loop, and raise drivers' errors when nobody answers."""

    _connection: LogConnection
    _stream: LogStream
    behind_seconds: float = attrs.field(default=BEHIND_SECONDS, kw_only=True)
    _replaced: LogReplacedError | None = attrs.field(init=False, default=None)

    async def info(self, seconds: float = OPERATION_SECONDS) -> StreamInfo:
        """Return the stream's configuration and state; raises LogReplacedError if it is gone, or a different one.

        `seconds`: how long the leader is asked.
        """
        self._check()
        name = self._stream.name
        for pause in GONE_SECONDS:
            await asyncio.sleep(pause)
            with contextlib.suppress(NotFoundError):
                ask = partial(self._connection.jetstream.stream_info, name)
                info = await self._connection.persist(ask, seconds=seconds)
                if log_stream_of(info).identity != self._stream.identity:
                    raise self._end("was deleted and created again")
                return info
        raise self._end("was deleted")

    async def find(self, position: int) -> StoredMessage | None:
        """Return the record at a position; None if absent. Raises as `info` does."""
        self._check()
        name = self._stream.name
        with contextlib.suppress(NotFoundError):
            found = await self._connection.persist(lambda: self._connection.jetstream.get_msg(name, position))
            return self._record(found)
        return None

    async def last(self) -> StoredMessage:
        """Return the last record; only its position when it was purged: 0 when nothing was ever appended.

        Raises as `info` does.
        """
        self._check()
        name, subject = self._stream.name, self._stream.subject
        with contextlib.suppress(NotFoundError):
            found = await self._connection.persist(lambda: self._connection.jetstream.get_last_msg(name, subject))
            return self._record(found)
        return StoredMessage((await self.info()).state.last_seq, "", b"", purged=True)

    def lost(self, position: int, acknowledged: int) -> LogReplacedError:
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


class SealedMessage:
    """A record, sealed for the position that it names."""

    def __init__(self, seals: RecordSeals, record: LogRecord) -> None:
        self.seals = seals
        self.record = record
        message_id, self.content = seals.seal(record.position, record.batch_id, record.data)
        self.headers = {"Nats-Expected-Last-Sequence": str(record.position - 1), "Nats-Msg-Id": message_id}


def report_void(refusals: Refusals, stream: str, record: LogRecord) -> None:
    cause = "its content was changed or damaged" if record.damaged else "it was not written there by a router"
    refusals.add(RefusedKind.RECORD, f"{stream} at position {record.position}", cause)


@attrs.define(eq=False, repr=False)
class _Append:
    """A record on its way into the log: publishes it until it is known whether it is there; on the connection's loop.

    | what a server answers | what it means |
    |---|---|
    | acknowledged | in |
    | a duplicate; 10071, 10164: wrong last sequence | the record there decides: ours, void, or another writer's |
    | the stream is full | not in, unless an earlier attempt had no answer |
    | anything else, or nothing within a second | unknown: the same bytes are published again |

    A void record, which somebody has written who has no key, takes a position all the same. Ours is sealed anew for the
    position behind it: so it costs time, and fences nobody.
    """

    _connection: LogConnection
    _stream: LogStream
    _leader: Leader
    _message: SealedMessage
    _refusals: Refusals
    _maybe_in: bool = attrs.field(init=False, default=False)
    _behind_since: float | None = attrs.field(init=False, default=None)
    _looking: asyncio.Task[Any] | None = attrs.field(init=False, default=None)
    _cause: str = attrs.field(init=False, default="")

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        complain_at = loop.time() + COMPLAIN_SECONDS
        try:
            while (position := await self._attempt()) is None:
                if loop.time() > complain_at:
                    complain_at = loop.time() + COMPLAIN_SECONDS
                    log.warning("the log does not acknowledge; trying again", cause=self._cause)
                await asyncio.sleep(APPEND_PAUSE_SECONDS)
            return position
        finally:
            if self._looking:
                self._looking.cancel()

    async def _attempt(self) -> int | None:
        """Publish the record; return its position, or None while its outcome is unknown."""
        sent = False
        try:
            if not await self._connection.wait_connected(ATTEMPT_SECONDS):
                self._cause = "no connection"
                return None
            sent = True
            reply = await self._connection.client.request(
                self._stream.subject, self._message.content, timeout=ATTEMPT_SECONDS, headers=self._message.headers
            )
            return await self._judge(json.loads(reply.data))
        except nats.errors.MaxPayloadError:
            size = len(self._message.content)
            raise InternalError(f"a record of {size} bytes is larger than the log takes") from None
        except (nats.errors.NoRespondersError, nats.errors.OutboundBufferLimitError) as error:
            self._cause = str(error)
            self._look_for_the_stream()
        except (nats.errors.Error, OSError, ValueError) as error:
            self._cause = str(error) or type(error).__name__
            self._maybe_in |= sent
        return None

    async def _judge(self, answer: Any) -> int | None:
        error = answer.get("error") if isinstance(answer, dict) else "no object"
        if error and not isinstance(error, dict):  # another client than a server has answered
            self._cause, self._maybe_in = f"an answer of no server: {error}", True
            return None
        if not error and not answer.get("duplicate") and answer.get("seq") == self._position:
            return self._position
        # a duplicate may be what somebody stored who had copied the ID on its way
        if not error or error.get("err_code") in WRONG_LAST_SEQUENCE:
            return await self._compare()
        code, description = error.get("err_code"), error.get("description", "")
        full = code in RESOURCES_EXCEEDED or (code == STORE_FAILED and "maximum" in description)
        if full and not self._maybe_in:
            raise ExhaustedError(
                f"the log {self._stream.name} is full: {description}", reason="LOG_FULL", retry_after=5
            )
        self._cause = f"{description} ({code})"
        self._maybe_in |= not full
        return None

    @property
    def _position(self) -> int:
        return self._message.record.position

    async def _compare(self) -> int | None:
        """See which record has the position that ours was to get."""
        found = await self._leader.find(self._position)
        if found and found.data == self._message.content:
            return found.position
        if found:
            await self._pass_void_records(found)
            return None
        state = (await self._leader.info()).state
        if state.last_seq >= self._position:
            if self._maybe_in:
                raise AppendAbandonedError("the records after an append were purged before its outcome was known")
            raise FencedError(f"another router appended to the log at position {self._position}")
        expected = self._position - 1
        self._cause = f"the log ends at {state.last_seq}, not at {expected}"
        now = asyncio.get_running_loop().time()
        self._behind_since = None if state.last_seq == expected else self._behind_since or now
        if self._behind_since and now - self._behind_since > self._leader.behind_seconds:
            raise self._leader.lost(state.last_seq, expected)
        return None

    async def _pass_void_records(self, message: StoredMessage | None) -> None:
        """Aim at the position behind the void records that begin with `message`, unless others are among them."""
        position, own = self._position, self._message.record.batch_id
        while message:
            record = self._message.seals.open(position, message.message_id, message.data)
            if not record.void or (record.damaged and record.batch_id != own):
                raise FencedError(f"another router appended to the log at position {position}")
            report_void(self._refusals, self._stream.name, record)
            position += 1
            message = await self._leader.find(position)
        if (await self._leader.info()).state.last_seq >= position:
            return  # purged, or appended meanwhile: looked at again after the next attempt
        self._message = SealedMessage(self._message.seals, replace(self._message.record, position=position))
        self._maybe_in = False  # a record that comes late is refused
        self._behind_since = None

    def _look_for_the_stream(self) -> None:
        """Look, beside further attempts, whether the stream is still there: nobody answered."""
        if self._looking and self._looking.done():
            error = None if self._looking.cancelled() else self._looking.exception()
            self._looking = None
            if error and not isinstance(error, (nats.errors.Error, OSError)):
                raise error
        if not self._looking:
            self._looking = asyncio.get_running_loop().create_task(self._leader.info())


class JetStreamLog(CommitLog):
    """A log. It announces records to routers that say that they wait for some."""

    def __init__(
        self,
        connection: LogConnection,
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
        self._announcing = False
        self._announced_at = -math.inf
        self._news = asyncio.Event()
        self._known = info
        self._monitored: dict[str, MonitoredServer] = {}
        self._monitored_until = 0.0

    async def start(self) -> None:
        """Begin to follow announcements and the size of the log; on the connection's loop."""
        await self._connection.subscribe(self._readers, self._on_reader)
        self._connection.spawn(self._observe_size)

    @property
    @override
    def identity(self) -> str:
        return self._stream.identity

    @property
    @override
    def max_record_bytes(self) -> int:
        return self._connection.client.max_payload - HEADER_BYTES

    @property
    @override
    def max_bytes(self) -> int | None:
        return self._stream.max_bytes

    @override
    def append(self, expected: int, batch_id: str, data: bytes, *, stop: threading.Event | None = None) -> int:
        message = SealedMessage(self._seals, LogRecord(expected + 1, batch_id, data))
        appending = _Append(self._connection, self._stream, self._leader, message, self._refusals)
        position = _result(self._connection.submit(appending.run()), stop)
        self._acknowledged = max(self._acknowledged, position)
        self._size += len(data) + OVERHEAD_BYTES
        if time.monotonic() < self._announce_until and not self._announcing:
            self._announcing = True
            self._connection.post(self._announce)
        return position

    @override
    def tail(self) -> LogRecord | None:
        return self._connection.call(self._tail())

    @override
    def read(self, after: int, *, wait_seconds: float = 0.0) -> Iterator[LogRecord]:
        while records := self._connection.call(self._next(after, wait_seconds)):
            yield from records
            if wait_seconds:
                return
            after = records[-1].position

    @override
    def purge(self, through: int) -> None:
        self._connection.call(self._purge(through))

    @override
    def room(self) -> int | None:
        limit = self._stream.max_bytes  # as it was some seconds ago, less what this process appended
        return None if limit is None else max(0, limit - self._size)

    @override
    def status(self) -> LogStatus:
        available = True
        try:
            self._known = self._connection.call(self._info(STATUS_SECONDS))
        except UnavailableError:
            available = False
        if not available or time.monotonic() > self._monitored_until:
            self._monitored_until = time.monotonic() + MONITORED_SECONDS
            self._monitored = monitored_servers(self._url)
        monitored = self._monitored
        if available:
            name, version = self._connection.server
            monitored = {name: MonitoredServer(name, version, sync_always=False)} | monitored
        servers = replicas_of(self._known, monitored)
        return LogStatus(
            first_position=_first(self._known),
            last_position=self._known.state.last_seq,
            size=self._known.state.bytes,
            max_size=self._stream.max_bytes,
            servers=tuple(servers if available else without_quorum(servers, monitored)),
        )

    async def _tail(self) -> LogRecord | None:
        """Return the last record, once the leader has all that was acknowledged."""
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
            info = await self._info()
            state = info.state
            if after + 1 < _first(info):
                raise LogTrimmedError(_first(info))
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
            await wait_at_most(min(remaining, pause), news.wait())

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

    async def _info(self, seconds: float = OPERATION_SECONDS) -> StreamInfo:
        info = await self._leader.info(seconds)
        self._size = info.state.bytes
        return info

    @property
    def _announcements(self) -> str:
        return f"{self._stream.subject}.appended"

    async def _announce(self) -> None:
        """Say where the log ends, a while after this was said last: what was appended meanwhile is said together."""
        await asyncio.sleep(self._announced_at + ANNOUNCE_PAUSE_SECONDS - time.monotonic())
        self._announcing = False
        self._announced_at = time.monotonic()
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


def _result(appending: concurrent.futures.Future[int], stop: threading.Event | None) -> int:
    """Wait for an append, until `stop` is set or the connection was closed."""
    while True:
        try:
            return appending.result(STOP_SECONDS if stop else None)
        except concurrent.futures.CancelledError:
            raise AppendAbandonedError("the connection to the log was closed during an append") from None
        except TimeoutError:
            if stop and stop.is_set() and appending.cancel():
                raise AppendAbandonedError("the append was given up: its outcome is unknown") from None


def _first(info: StreamInfo) -> int:
    return info.state.first_seq if info.state.messages else info.state.last_seq + 1


def _gapless(records: list[StoredMessage]) -> int:
    return next(
        (count for count, record in enumerate(records) if record.position != records[0].position + count), len(records)
    )
