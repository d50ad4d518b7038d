"""One append: publishes a record until it is known whether it is in the log.

| what a server answers | what it means |
|---|---|
| acknowledged, also as a duplicate | in |
| 10071, 10164: wrong last sequence | the record at that position decides: ours, or another writer's |
| the stream is full | not in, unless an earlier attempt had no answer |
| anything else, or nothing within a second | unknown: the same bytes are published again |

The first attempt is on a connection for appends alone (`direct`); what it leaves open is settled on the shared one.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import json
import threading
from collections.abc import Mapping
from typing import Any, Final

import nats.errors

from flowhook import logs
from flowhook.errors import ExhaustedError, InternalError, UnavailableError
from router.storage.commit_log.interface import AppendAbandonedError, FencedError, LogRecord
from router.storage.commit_log.jetstream.connection import Connection
from router.storage.commit_log.jetstream.direct import Direct
from router.storage.commit_log.jetstream.leader import Leader
from router.storage.commit_log.jetstream.streams import LogStream

ATTEMPT_SECONDS: Final = 1.0
PAUSE_SECONDS: Final = 0.02
STOP_SECONDS: Final = 0.05
"""How often a waiting caller looks whether it shall stop."""

COMPLAIN_SECONDS: Final = 5.0
"""After so long without an outcome, and then again, it is logged."""

FORMAT: Final = "1"
WRONG_LAST_SEQUENCE: Final = (10071, 10164)
RESOURCES_EXCEEDED: Final = (10002, 10023, 10047)
STORE_FAILED: Final = 10077

log = logs.get_logger(__name__)


def append(
    connection: Connection,
    stream: LogStream,
    leader: Leader,
    direct: Direct,
    *,
    expected: int,
    batch_id: str,
    data: bytes,
    stop: threading.Event | None = None,
) -> int:
    """Append a record; see `CommitLog.append`."""
    headers = {
        "Nats-Expected-Last-Sequence": str(expected),
        "Nats-Msg-Id": batch_id,
        "Fh-Format": FORMAT,
    }
    first = direct.request(stream.subject, headers, data, stop=stop)
    answer = _parsed(first.answer)
    if answer and not answer.get("error") and answer.get("seq") == expected + 1:
        return expected + 1
    appending = _Append(connection, stream, leader, LogRecord(expected + 1, batch_id, data), headers)
    try:
        future = connection.submit(
            appending.run(answer, maybe_in=first.sent and first.answer != b"" and answer is None)
        )
    except UnavailableError:
        if not first.sent:
            raise
        raise AppendAbandonedError("the connection to the log was closed during an append") from None
    while True:
        try:
            return future.result(STOP_SECONDS if stop else None)
        except concurrent.futures.CancelledError:
            raise AppendAbandonedError("the connection to the log was closed during an append") from None
        except TimeoutError:
            if stop and stop.is_set() and future.cancel():
                raise AppendAbandonedError("the append was given up: its outcome is unknown") from None


def _parsed(answer: bytes | None) -> Mapping[str, Any] | None:
    """Return the fields of an answer; None: there is none that could be understood."""
    with contextlib.suppress(ValueError):
        fields = json.loads(answer or b"")
        if isinstance(fields, dict):
            return fields
    return None


class _Append:
    """A record on its way into the log; runs on the connection's loop."""

    def __init__(
        self, connection: Connection, stream: LogStream, leader: Leader, record: LogRecord, headers: dict[str, str]
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._leader = leader
        self._expected = record.position - 1
        self._batch_id = record.batch_id
        self._data = record.data
        self._headers = headers
        self._maybe_in = False
        self._behind_since: float | None = None
        self._looking: asyncio.Task[Any] | None = None
        self._cause = ""

    async def run(self, answer: Mapping[str, Any] | None, *, maybe_in: bool) -> int:
        """Append; `answer` and `maybe_in` are what is known of an attempt before."""
        self._maybe_in = maybe_in
        loop = asyncio.get_running_loop()
        complain_at = loop.time() + COMPLAIN_SECONDS
        try:
            while True:
                position = await self._attempt(answer)
                answer = None
                if position is not None:
                    return position
                if loop.time() > complain_at:
                    complain_at = loop.time() + COMPLAIN_SECONDS
                    log.warning("the log does not acknowledge; trying again", cause=self._cause)
                await asyncio.sleep(PAUSE_SECONDS)
        finally:
            if self._looking:
                self._looking.cancel()

    async def _attempt(self, answer: Mapping[str, Any] | None) -> int | None:
        """Publish the record, unless that was answered; return its position, or None while its outcome is unknown."""
        sent = False
        try:
            if answer is not None:
                return await self._judge(answer)
            if not await self._connection.wait_connected(ATTEMPT_SECONDS):
                self._cause = "no connection"
                return None
            sent = True
            reply = await self._connection.client.request(
                self._stream.subject, self._data, timeout=ATTEMPT_SECONDS, headers=self._headers
            )
            return await self._judge(json.loads(reply.data))
        except nats.errors.MaxPayloadError:
            raise InternalError(f"a record of {len(self._data)} bytes is larger than the log takes") from None
        except (nats.errors.NoRespondersError, nats.errors.OutboundBufferLimitError) as error:
            self._cause = str(error)
            self._look_for_the_stream()
        except (nats.errors.Error, OSError, ValueError) as error:
            self._cause = str(error) or type(error).__name__
            self._maybe_in |= sent
        return None

    async def _judge(self, answer: Mapping[str, Any]) -> int | None:
        error = answer.get("error")
        if not error:
            position = int(answer["seq"])
            if position != self._expected + 1:
                raise InternalError(f"the batch ID {self._batch_id} was used before, at position {position}")
            return position
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

    async def _compare(self) -> int | None:
        """See which record has the position that ours was to get."""
        record = await self._leader.find(self._expected + 1)
        if record and record.batch_id == self._batch_id:
            return record.position
        if record:
            raise FencedError(f"another router appended to the log at position {record.position}")
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
