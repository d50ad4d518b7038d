"""Appending events, each once."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from flowhook import limits
from flowhook.errors import FlowhookError
from flowhook.model import Status
from router.storage.interface import Appended, LoggedEvent, NewEvent
from router.storage.sqlite.blobs import BlobDirectory
from router.storage.sqlite.errors import storage_full, translate
from router.storage.sqlite.schema import CODES, UNENDED
from router.storage.sqlite.statements import Bulk
from router.storage.sqlite.writer import Writer

ROW_BYTES: Final = 256
"""What an event takes beside its payload, in rows and indexes, roughly."""

_BY_ID = Bulk("SELECT event_id, seq FROM execution WHERE event_id IN ({rows})", 1, row="?")
_BY_KEY = Bulk("SELECT digest, until_ms, seq, event_id FROM dedupe WHERE digest IN ({rows})", 1, row="?")
_INSERT_EXECUTION = Bulk(
    "INSERT INTO execution (seq, event_id, flow, flow_revision, receive_time_ms, replay_of, status, attempts,"
    " end_time_ms) VALUES {rows}",
    6,
    row=f"(?, ?, ?, ?, ?, ?, {CODES[Status.PENDING]}, 0, {UNENDED})",
)
_INSERT_EVENT = Bulk("INSERT INTO event (seq, payload) VALUES {rows}", 2)
_INSERT_BLOB = Bulk("INSERT INTO blob (seq, name, bytes) VALUES {rows}", 3)
_INSERT_KEY = Bulk("INSERT OR REPLACE INTO dedupe (digest, until_ms, seq, event_id) VALUES {rows}", 4)


class Batch(NamedTuple):
    """Events of one call, with the names of the blobs that hold payloads, by event ID."""

    events: Sequence[NewEvent]
    blobs: dict[int, str]


class Logged(NamedTuple):
    """Result of one call: what to return, and what is new."""

    appended: list[Appended]
    new: list[LoggedEvent]


class _Key(NamedTuple):
    until_ms: int
    seq: int
    event_id: str


class AppendOperation:
    """Appends the events of all calls of a transaction, each once.

    Args:
        room: bytes that may still be taken (see `capacity`), asked once a transaction.
    """

    order = 0

    def __init__(self, room: Callable[[sqlite3.Connection], int | None]) -> None:
        self._room = room
        self._next_seq = 1
        self._flows: dict[str, int] = {}
        self.listener: Callable[[Sequence[LoggedEvent]], None] | None = None

    def reload(self, connection: sqlite3.Connection) -> None:
        """See `Operation`."""
        self._flows.clear()
        last = connection.execute(
            "SELECT max(coalesce((SELECT max(seq) FROM execution), 0),"
            " coalesce((SELECT value FROM counter WHERE name = 'seq'), 0))"
        ).fetchone()[0]
        self._next_seq = last + 1

    def apply(self, connection: sqlite3.Connection, arguments: Sequence[Batch]) -> list[Logged | FlowhookError]:
        """See `Operation`."""
        room = self._room(connection)
        events = [event for batch in arguments for event in batch.events]
        digests = [_digest(event) if event.dedupe_key else b"" for event in events]
        ids: dict[str, int] = dict(_BY_ID.fetch(connection, [(event.event_id,) for event in events]))
        keys: dict[bytes, _Key] = {}
        wanted = [(digest,) for digest in digests if digest]
        if wanted:
            keys = {row[0]: _Key(*row[1:]) for row in _BY_KEY.fetch(connection, wanted)}
        rows = _Rows()
        results: list[Logged | FlowhookError] = []
        position = 0
        for batch in arguments:
            count = len(batch.events)
            if room is not None and rows.bytes + _size(batch.events) > room:
                results.append(storage_full())
            else:
                results.append(self._take(connection, batch, digests[position : position + count], ids, keys, rows))
            position += count
        rows.insert(connection)
        return results

    def committed(self, results: Sequence[Logged | FlowhookError]) -> None:
        """See `Operation`."""
        if self.listener is None:
            return
        new = [event for result in results if isinstance(result, Logged) for event in result.new]
        if new:
            self.listener(new)

    def _take(
        self,
        connection: sqlite3.Connection,
        batch: Batch,
        digests: Sequence[bytes],
        ids: dict[str, int],
        keys: dict[bytes, _Key],
        rows: _Rows,
    ) -> Logged:
        logged = Logged([], [])
        for index, (event, digest) in enumerate(zip(batch.events, digests, strict=True)):
            event_id, flow_id, revision, receive_time_ms, payload, _, until_ms, replay_of = event
            stored = ids.get(event_id)
            if stored is not None:
                logged.appended.append(Appended(stored, event_id))
                continue
            if digest:
                key = keys.get(digest)
                if key is not None and receive_time_ms < key.until_ms:
                    logged.appended.append(Appended(key.seq, key.event_id))
                    continue
            seq = self._next_seq
            self._next_seq = seq + 1
            ids[event_id] = seq
            if digest:
                keys[digest] = _Key(until_ms, seq, event_id)
                rows.keys.append((digest, until_ms, seq, event_id))
            flow = self._flows.get(flow_id) or self._intern(connection, flow_id)
            rows.executions.append((seq, event_id, flow, revision, receive_time_ms, replay_of or None))
            name = batch.blobs.get(index) if batch.blobs else None
            if name is None:
                rows.events.append((seq, payload))
            else:
                rows.blobs.append((seq, name, len(payload)))
            rows.bytes += len(payload) + ROW_BYTES
            logged.appended.append(Appended(seq))
            logged.new.append(LoggedEvent(seq, event))
        return logged

    def _intern(self, connection: sqlite3.Connection, flow_id: str) -> int:
        connection.execute("INSERT INTO flow_key (flow_id) VALUES (?) ON CONFLICT DO NOTHING", (flow_id,))
        key: int = connection.execute("SELECT key FROM flow_key WHERE flow_id = ?", (flow_id,)).fetchone()[0]
        self._flows[flow_id] = key
        return key


class _Rows:
    """What a transaction inserts."""

    def __init__(self) -> None:
        self.executions: list[tuple[Any, ...]] = []
        self.events: list[tuple[int, bytes]] = []
        self.blobs: list[tuple[int, str, int]] = []
        self.keys: list[tuple[Any, ...]] = []
        self.bytes = 0

    def insert(self, connection: sqlite3.Connection) -> None:
        _INSERT_EXECUTION.run(connection, self.executions)
        _INSERT_EVENT.run(connection, self.events)
        _INSERT_BLOB.run(connection, self.blobs)
        _INSERT_KEY.run(connection, self.keys)


class SqliteLog:
    """The log of the one shard. See `interface.EventLog`."""

    def __init__(self, writer: Writer, operation: AppendOperation, blobs: BlobDirectory) -> None:
        self._writer = writer
        self._operation = operation
        self._blobs = blobs

    async def append(self, events: Sequence[NewEvent]) -> list[Appended]:
        """See `interface.EventLog`."""
        if not events:
            return []
        large = [index for index, event in enumerate(events) if len(event.payload) > limits.INLINE_BODY_BYTES]
        blobs = await asyncio.to_thread(self._write_blobs, events, large) if large else {}
        used: set[str] = set()
        try:
            logged: Logged = await self._writer.call(
                self._operation, Batch(events, blobs), size=_size(events), refusable=True
            )
            used = {name for index, name in blobs.items() if not logged.appended[index].duplicate_of}
        finally:
            if unused := set(blobs.values()) - used:
                await asyncio.to_thread(self._blobs.remove, unused)
        return logged.appended

    def _write_blobs(self, events: Sequence[NewEvent], indexes: Sequence[int]) -> dict[int, str]:
        names: dict[int, str] = {}
        try:
            for index in indexes:
                names[index] = self._blobs.write(events[index].event_id, events[index].payload)
        except Exception as error:
            self._blobs.remove(names.values())
            raise translate(error) from error
        return names


def _digest(event: NewEvent) -> bytes:
    """Return a key's fingerprint: 16 bytes instead of up to 256, in an index where each insert hits another page."""
    text = f"{event.flow_id}\0{event.dedupe_key}"
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _size(events: Sequence[NewEvent]) -> int:
    return sum(len(event.payload) for event in events) + ROW_BYTES * len(events)
