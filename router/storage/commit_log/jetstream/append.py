"""One append: publishes a record until it is known whether it is in the log.

| what a server answers | what it means |
|---|---|
| acknowledged | in |
| a duplicate; 10071, 10164: wrong last sequence | the record there decides: ours, void, or another writer's |
| the stream is full | not in, unless an earlier attempt had no answer |
| anything else, or nothing within a second | unknown: the same bytes are published again |

A void record, which somebody has written who has no key, takes a position all the same. Ours is sealed anew for the
position behind it: so it costs time, and fences nobody.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import threading
from dataclasses import replace
from typing import Any, Final

import attrs
import nats.errors

from flowhook.errors import ExhaustedError, InternalError
from flowhook.process import logs
from router.storage.commit_log.interface import AppendAbandonedError, FencedError, LogRecord
from router.storage.commit_log.jetstream.batch_get import StoredMessage
from router.storage.commit_log.jetstream.connection import Connection
from router.storage.commit_log.jetstream.leader import Leader
from router.storage.commit_log.jetstream.streams import LogStream
from router.storage.commit_log.refusals import Refusals, RefusedKind
from router.storage.commit_log.seals import RecordSeals

ATTEMPT_SECONDS: Final = 1.0
PAUSE_SECONDS: Final = 0.02
STOP_SECONDS: Final = 0.05
"""How often a waiting caller looks whether it shall stop."""

COMPLAIN_SECONDS: Final = 5.0
"""After so long without an outcome, and then again, it is logged."""

WRONG_LAST_SEQUENCE: Final = (10071, 10164)
RESOURCES_EXCEEDED: Final = (10002, 10023, 10047)
STORE_FAILED: Final = 10077

log = logs.get_logger(__name__)


class SealedMessage:
    """A record, sealed for the position that it names."""

    def __init__(self, seals: RecordSeals, record: LogRecord) -> None:
        self.seals = seals
        self.record = record
        message_id, self.content = seals.seal(record.position, record.batch_id, record.data)
        self.headers = {"Nats-Expected-Last-Sequence": str(record.position - 1), "Nats-Msg-Id": message_id}

    def moved(self, position: int) -> SealedMessage:
        """Return the record, sealed for another position."""
        return SealedMessage(self.seals, replace(self.record, position=position))


def report_void(refusals: Refusals, stream: str, record: LogRecord) -> None:
    """Raise the alarm of a void record."""
    cause = "its content was changed or damaged" if record.damaged else "it was not written there by a router"
    refusals.add(RefusedKind.RECORD, f"{stream} at position {record.position}", cause)


def append(
    connection: Connection,
    stream: LogStream,
    leader: Leader,
    message: SealedMessage,
    *,
    refusals: Refusals,
    stop: threading.Event | None = None,
) -> int:
    """Append a record; see `CommitLog.append`."""
    future = connection.submit(_Append(connection, stream, leader, message, refusals).run())
    while True:
        try:
            return future.result(STOP_SECONDS if stop else None)
        except concurrent.futures.CancelledError:
            raise AppendAbandonedError("the connection to the log was closed during an append") from None
        except TimeoutError:
            if stop and stop.is_set() and future.cancel():
                raise AppendAbandonedError("the append was given up: its outcome is unknown") from None


@attrs.define(eq=False, repr=False)
class _Append:
    """A record on its way into the log; runs on the connection's loop."""

    _connection: Connection
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
                await asyncio.sleep(PAUSE_SECONDS)
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

    async def _judge(self, answer: dict[str, Any]) -> int | None:
        error = answer.get("error")
        if not error and not answer.get("duplicate") and answer.get("seq") == self._expected + 1:
            return self._expected + 1
        if not error:  # a duplicate may be what somebody stored who had copied the ID on its way
            return await self._compare()
        code, description = error.get("err_code"), error.get("description", "")
        if code in WRONG_LAST_SEQUENCE:
            return await self._compare()
        full = code in RESOURCES_EXCEEDED or (code == STORE_FAILED and "maximum" in description)
        if full and not self._maybe_in:
            raise ExhaustedError(
                f"the log {self._stream.name} is full: {description}", reason="LOG_FULL", retry_after=5
            )
        self._cause = f"{description} ({code})"
        self._maybe_in |= not full
        return None

    @property
    def _expected(self) -> int:
        return self._message.record.position - 1

    async def _compare(self) -> int | None:
        """See which record has the position that ours was to get."""
        found = await self._leader.find(self._expected + 1)
        if found and found.data == self._message.content:
            return found.position
        if found:
            await self._pass_void_records(found)
            return None
        state = (await self._leader.info()).state
        if state.last_seq > self._expected:
            if self._maybe_in:
                raise AppendAbandonedError("the records after an append were purged before its outcome was known")
            raise FencedError(f"another router appended to the log at position {self._expected + 1}")
        self._cause = f"the log ends at {state.last_seq}, not at {self._expected}"
        if state.last_seq == self._expected:
            self._behind_since = None
        else:
            self._wait_for_lost_records(state.last_seq)
        return None

    async def _pass_void_records(self, message: StoredMessage | None) -> None:
        """Aim at the position behind the void records that begin with `message`.

        Raises:
            FencedError: there is a different one among them.
        """
        position, own = self._expected + 1, self._message.record.batch_id
        while message:
            record = self._message.seals.open(position, message.message_id, message.data)
            if not record.void or (record.damaged and record.batch_id != own):
                raise FencedError(f"another router appended to the log at position {position}")
            report_void(self._refusals, self._stream.name, record)
            position += 1
            message = await self._leader.find(position)
        if (await self._leader.info()).state.last_seq >= position:
            return  # purged, or appended meanwhile: looked at again after the next attempt
        self._message = self._message.moved(position)
        self._maybe_in = False  # a record that comes late is refused
        self._behind_since = None

    def _wait_for_lost_records(self, last: int) -> None:
        now = asyncio.get_running_loop().time()
        self._behind_since = self._behind_since or now
        if now - self._behind_since > self._leader.behind_seconds:
            raise self._leader.lost(last, self._expected)

    def _look_for_the_stream(self) -> None:
        """Look, beside further attempts, whether the stream is still there: nobody answered."""
        if self._looking and self._looking.done():
            error = None if self._looking.cancelled() else self._looking.exception()
            self._looking = None
            if error and not isinstance(error, (nats.errors.Error, OSError)):
                raise error
        if not self._looking:
            self._looking = asyncio.get_running_loop().create_task(self._leader.info())
