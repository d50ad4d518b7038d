"""Appends events to the shard's log, each once: those that start executions, and those that running ones wait for."""

from __future__ import annotations

import asyncio
import hashlib
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import apsw
import attrs
from typing_extensions import override

from flowhook import limits
from flowhook.errors import FlowhookError
from router.storage.blobs import BlobDirectory
from router.storage.bodies import BodyStore
from router.storage.errors import STORAGE_FULL, CallRefusedError, StorageError, storage_full, translate
from router.storage.limits import StorageLimits
from router.storage.model import (
    Appended,
    InboundEventAppended,
    LoggedEvent,
    NewEvent,
    NewInboundEvent,
    Resumption,
    StoredInboundEvent,
)
from router.storage.rows import LINK_BITS, dedupe_digest, dump_error
from router.storage.statements import BatchStatement, read_counter, write_counter
from router.storage.writer import Writer, WriterOperation

ROW_BYTES: Final = 256  # approximate size of an event's rows and index entries, besides its payload
MAX_LARGE_BYTES: Final = 4 * limits.MAX_MESSAGE_BYTES
"""Bytes that calls with large events may hold while in progress; beyond it such calls are refused."""
_BY_ID = BatchStatement("SELECT event_id, seq, flow FROM execution WHERE event_id IN ({rows})")
_BY_KEY = BatchStatement("SELECT digest, until_ms, seq, event_id FROM dedupe WHERE digest IN ({rows})")
_INSERT_EXECUTION = BatchStatement(
    "INSERT INTO execution (seq, event_id, flow, flow_revision, receive_time_ms, replay_of, order_key, shaping,"
    " status, attempts, end_time_ms) SELECT *, {pending}, 0, {unended} FROM (VALUES {rows}) WHERE column1 NOT NULL",
    8,
)
_UPDATE_SCOPE = BatchStatement(
    "UPDATE execution SET effect_scope = column2 FROM (VALUES {rows}) WHERE seq = column1", 2
)
_UPDATE_QUIET = BatchStatement("UPDATE execution SET quiet = 1 WHERE seq IN ({rows})")
_UPDATE_ROOT = BatchStatement(
    "UPDATE execution SET replay_root = coalesce("
    "(SELECT o.replay_root FROM execution o WHERE o.event_id = execution.replay_of), replay_of) WHERE seq IN ({rows})"
)
_INSERT_JOURNAL = BatchStatement.insert("journal", "seq, position, key, output, error")
_INSERT_EVENT = BatchStatement.insert("event", "seq, payload")
_INSERT_BLOB = BatchStatement.insert("blob", "seq, name, bytes")
_INSERT_BODY = BatchStatement.insert("body", "seq, id, bytes")
_INSERT_ATTRIBUTE = BatchStatement.insert("search_attribute", "seq, name, value")
_INHERIT_ATTRIBUTES = BatchStatement(
    "INSERT INTO search_attribute (seq, name, value) SELECT e.seq, a.name, a.value FROM execution e"
    " JOIN execution o ON o.event_id = e.replay_of JOIN search_attribute a ON a.seq = o.seq"
    " WHERE e.seq IN ({rows}) ON CONFLICT DO NOTHING"
)
_BODIES = BatchStatement(
    "SELECT e.event_id, b.id, b.bytes FROM execution e JOIN body b USING (seq) WHERE e.event_id IN ({rows})"
)
_INSERT_KEY = BatchStatement.insert("dedupe", "digest, until_ms, seq, event_id", verb="INSERT OR REPLACE")
_INSERT_CAUSES = BatchStatement.insert(
    "execution_link",
    "seq, caused_by, kinds",
    "ON CONFLICT (seq, caused_by) DO UPDATE SET kinds = kinds | excluded.kinds",
)


_IN_ORDER: Final = (
    *(_INSERT_EXECUTION, _INSERT_EVENT, _INSERT_BLOB, _INSERT_BODY, _INSERT_KEY, _UPDATE_SCOPE, _UPDATE_QUIET),
    *(_UPDATE_ROOT, _INSERT_ATTRIBUTE, _INHERIT_ATTRIBUTES, _INSERT_JOURNAL, _INSERT_CAUSES),
)
"""The attributes of an event are inserted before those that it inherits, which give way."""


class EventBatch(NamedTuple):
    """Events of one call."""

    events: Sequence[Any]
    blobs: dict[int, str]  # names of the blobs that contain payloads, by the events' positions
    row_bytes: int  # approximate bytes the events take in the database if all of them are new
    bodies: Mapping[str, int] = {}  # IDs of existing bodies that wait for these events, and their sizes


class AppendResult(NamedTuple):
    """Result of one call: the values to return, and the new events to report."""

    appended: list[Any]
    new: list[Any]


class _Key(NamedTuple):
    """An earlier event, as recorded under a fingerprint; `seq` is the number of one for running executions."""

    until_ms: int
    seq: int
    event_id: str


class _EventOperation(WriterOperation):
    """Appends the events of all calls of a transaction, each once; `room`: see `limit_size`."""

    def __init__(self, room: Callable[[apsw.Connection], int]) -> None:
        self._room = room
        self._next = 1
        self.full = False
        """Whether an event of the last transaction, or the last probe, found too little room."""
        self.listener: Callable[[Sequence[Any]], None] | None = None
        """Called with the events of each transaction that are new."""

    @override
    def apply(self, connection: apsw.Connection, arguments: Sequence[EventBatch]) -> list[AppendResult | FlowhookError]:
        rows = self._find(connection, [event for batch in arguments for event in batch.events])
        room = self._room(connection)
        results: list[AppendResult | FlowhookError] = []
        self.full = False
        for batch in arguments:
            if rows.bytes + batch.row_bytes > room:
                self.full = True
                results.append(storage_full(CallRefusedError))
            else:
                results.append(self._append(connection, batch, rows))
                rows.bytes += batch.row_bytes
        rows.insert(connection)
        return results

    @abstractmethod
    def _find(self, connection: apsw.Connection, events: Sequence[Any]) -> _EventRows | _InboundRows: ...

    @abstractmethod
    def _append(self, connection: apsw.Connection, batch: EventBatch, rows: Any) -> AppendResult: ...

    @override
    def committed(self, results: Sequence[AppendResult | FlowhookError]) -> None:
        if self.listener is None:
            return
        new = [event for result in results if isinstance(result, AppendResult) for event in result.new]
        if new:
            self.listener(new)


class AppendOperation(_EventOperation):
    """Appends events that start executions."""

    order = 0

    def __init__(self, room: Callable[[apsw.Connection], int]) -> None:
        super().__init__(room)
        self._flows: dict[str, int] = {}

    @override
    def reload(self, connection: apsw.Connection) -> None:
        self._flows.clear()
        last = connection.execute(
            "SELECT max(coalesce((SELECT max(seq) FROM execution), 0),"
            " coalesce((SELECT value FROM counter WHERE name = 'seq'), 0))"
        ).get
        self._next = last + 1

    @override
    def _find(self, connection: apsw.Connection, events: Sequence[NewEvent]) -> _EventRows:
        return _EventRows(connection, events)

    @override
    def _append(self, connection: apsw.Connection, batch: EventBatch, rows: _EventRows) -> AppendResult:
        logged = AppendResult([], [])
        executions, payloads, new_keys = rows.new[_INSERT_EXECUTION], rows.new[_INSERT_EVENT], rows.new[_INSERT_KEY]
        for index, event in enumerate(batch.events):
            # Unpacked: attributes of a named tuple cost more, and this runs for every event.
            (event_id, flow_id, revision, receive_ms, payload, dedupe_key, until_ms, replay_of, order,
             resumes, body, _, _, _, _, at_ms, shaping, _) = event  # fmt: skip
            flow = self._flows.get(flow_id) or self._intern(connection, flow_id)
            stored = rows.ids.get(event_id)
            if stored is not None:
                earlier, of_flow = stored
                logged.appended.append(Appended(earlier, event_id) if of_flow == flow else Appended(0, taken=True))
                continue
            seq = self._next
            digest = dedupe_digest(flow_id, dedupe_key) if dedupe_key else b""
            if digest:
                key = rows.keys.get(digest)
                if key is not None and (at_ms or receive_ms) < key.until_ms:
                    logged.appended.append(Appended(key.seq, key.event_id))
                    continue
            if body:
                replayed, size = rows.bodies.get(replay_of, ("", 0))
                if body not in batch.bodies and replayed != body:
                    logged.appended.append(Appended(0, body_missing=True))
                    continue
                rows.new[_INSERT_BODY].append((seq, body, batch.bodies.get(body, size)))
            if digest:
                rows.keys[digest] = _Key(until_ms, seq, event_id)
                new_keys.append((digest, until_ms, seq, event_id))
            self._next = seq + 1
            rows.ids[event_id] = seq, flow
            keys = None if shaping is None else shaping.pack()
            executions.append((seq, event_id, flow, revision, receive_ms, replay_of or None, order or None, keys))
            if resumes is not None:
                rows.resume(seq, resumes)
            name = batch.blobs.get(index) if batch.blobs else None
            if name is None:
                payloads.append((seq, payload))
            else:
                rows.new[_INSERT_BLOB].append((seq, name, len(payload)))
            logged.appended.append(Appended(seq))
            logged.new.append(LoggedEvent(seq, event))
        rows.mark(logged.new)
        return logged

    def _intern(self, connection: apsw.Connection, flow_id: str) -> int:
        connection.execute("INSERT INTO flow_key (flow_id) VALUES (?) ON CONFLICT DO NOTHING", (flow_id,))
        key: int = connection.execute("SELECT key FROM flow_key WHERE flow_id = ?", (flow_id,)).get
        self._flows[flow_id] = key
        return key


class _EventRows:
    """Earlier events, and bodies of replayed executions, that a transaction found; and the rows that it inserts."""

    def __init__(self, connection: apsw.Connection, events: Sequence[NewEvent]) -> None:
        found = _BY_ID.fetch(connection, [(event.event_id,) for event in events])
        self.ids: dict[str, tuple[int, int]] = {event_id: (seq, flow) for event_id, seq, flow in found}
        digests = [(dedupe_digest(event.flow_id, event.dedupe_key),) for event in events if event.dedupe_key]
        self.keys = {row[0]: _Key(*row[1:]) for row in _BY_KEY.fetch(connection, digests)}
        replays = [(event.replay_of,) for event in events if event.body and event.replay_of]
        self.bodies: dict[str, tuple[str, int]] = {
            replayed: (body, size) for replayed, body, size in _BODIES.fetch(connection, replays)
        }
        self.new: defaultdict[BatchStatement, list[tuple[Any, ...]]] = defaultdict(list)
        self.bytes = 0

    def resume(self, seq: int, resumes: Resumption) -> None:
        self.new[_UPDATE_SCOPE].append((seq, resumes.effect_scope))
        self.new[_INSERT_JOURNAL] += [
            (seq, index, entry.key, entry.output, dump_error(entry.error))
            for index, entry in enumerate(resumes.journal, resumes.journal_start)
        ]

    def mark(self, new: Sequence[LoggedEvent]) -> None:
        self.new[_UPDATE_QUIET] += [(seq,) for seq, event in new if event.quiet]
        replays = [(seq, event) for seq, event in new if event.replay_of]
        self.new[_UPDATE_ROOT] += [(seq,) for seq, _ in replays]
        self.new[_INHERIT_ATTRIBUTES] += [(seq,) for seq, event in replays if not event.edited]
        self.new[_INSERT_ATTRIBUTE] += [(seq, *attribute) for seq, event in new for attribute in event.attributes]
        self.new[_INSERT_CAUSES] += [
            (seq, each.execution_id, LINK_BITS[each.kind]) for seq, event in new for each in event.causes
        ]

    def insert(self, connection: apsw.Connection) -> None:
        for statement in _IN_ORDER:
            statement.run(connection, self.new[statement])


@attrs.define(eq=False, repr=False)
class EventLog:
    """The append-only log of a shard's accepted events."""

    _writer: Writer
    _operation: AppendOperation
    _inbound: InboundEventOperation
    _blobs: BlobDirectory
    _bodies: BodyStore
    _limits: StorageLimits
    _large: set[asyncio.Task[list[Appended]]] = attrs.field(init=False, factory=set)
    _large_bytes: int = attrs.field(init=False, default=0)

    async def append(self, events: Sequence[NewEvent], *, patient: bool = False) -> list[Appended]:
        """Store events durably, each once; return one result per event, in order.

        Two events of one flow with the same event ID, or with the same dedupe key within its window, are duplicates,
        whether the earlier one is in the database or in the same commit. An event ID used by another flow is `taken`.
        """
        if not events:
            return []
        large, size, bodies = [], ROW_BYTES * len(events), False
        for index, event in enumerate(events):  # one pass: this runs for every event
            length = len(event.payload)
            size += length
            if length > self._limits.inline_bytes:
                large.append(index)
            if event.resumes is not None:
                size += sum(ROW_BYTES + len(entry.output or b"") for entry in event.resumes.journal)
            bodies = bodies or bool(event.body)
        if not large and not bodies:
            logged: AppendResult = await self._writer.call(
                self._operation, EventBatch(events, {}, size), size=size, refusable=True, patient=patient
            )
            return logged.appended
        if self._large and self._large_bytes + size > MAX_LARGE_BYTES:
            raise StorageError("too many writes are waiting")
        self._large_bytes += size
        # A separate task: even when the caller is cancelled, the files it writes end up referred to or removed.
        task = asyncio.create_task(self._append_large(events, large, size), name="append large events")
        self._large.add(task)
        task.add_done_callback(self._large.discard)
        return await asyncio.shield(task)

    async def append_inbound(self, events: Sequence[NewInboundEvent]) -> list[InboundEventAppended]:
        """Store events durably, each once; either all new ones or none. Return one result per event, in order.

        The rules apply in this order, whether the earlier event is in the database or in the same commit. Two
        events of one flow with the same event ID are duplicates. Of two with the same token, the second is `gone`.
        Two of one callback with the same dedupe key within its window are duplicates.
        """
        if not events:
            return []
        size = sum(len(event.payload) + INBOUND_ROW_BYTES for event in events)
        batch = EventBatch(events, {}, size)
        logged: AppendResult = await self._writer.call(self._inbound, batch, size=size, refusable=True)
        return logged.appended

    async def close(self) -> None:
        """Wait for calls in progress; the caller ensures that no new ones start."""
        await asyncio.gather(*self._large, return_exceptions=True)

    async def _append_large(self, events: Sequence[NewEvent], large: Sequence[int], size: int) -> list[Appended]:
        try:
            blobs = await self._bodies.run(self._write_blobs, events, large) if large else {}
            row_bytes = size - sum(len(events[index].payload) for index in blobs)
            claims = {
                index: event.body
                for index, event in enumerate(events)
                if event.body and self._bodies.claim(event.body, event.flow_id)
            }
            batch = EventBatch(events, blobs, row_bytes, {each: self._bodies.size_of(each) for each in claims.values()})
            try:
                logged: AppendResult = await self._writer.call(self._operation, batch, size=size, refusable=True)
            except FlowhookError as error:
                # After an I/O error the WAL may nevertheless contain the transaction, and a crash would restore it:
                # the files it would refer to stay until storage is opened again.
                if self._is_certain(error):
                    await self._remove(blobs.values())
                    for body_id in claims.values():
                        self._bodies.settle(body_id, named=False, needed=True)
                raise
            finally:
                self._blobs.settle(blobs.values())
            for index, body_id in claims.items():
                self._bodies.settle(body_id, named=logged.appended[index].new)
            if unused := [name for index, name in blobs.items() if not logged.appended[index].new]:
                await self._remove(unused)
            return logged.appended
        finally:
            self._large_bytes -= size

    def _is_certain(self, error: FlowhookError) -> bool:
        """Whether nothing of a call is stored that failed with an error."""
        if isinstance(error, CallRefusedError):
            return True
        # a transaction that failed on its way to a replicated log, or after it, may be in that log
        return not self._blobs.replicated and (error.reason == STORAGE_FULL or not isinstance(error, StorageError))

    async def _remove(self, names: Iterable[str]) -> None:
        await self._bodies.run(self._blobs.remove, list(names))

    def _write_blobs(self, events: Sequence[NewEvent], indexes: Sequence[int]) -> dict[int, str]:
        names: dict[int, str] = {}
        try:
            for index in indexes:
                names[index] = self._blobs.write(events[index].event_id, events[index].payload)
        except Exception as error:
            self._blobs.remove(names.values())
            raise translate(error) from error
        return names


COUNTER: Final = "inbound_event"  # name of the counter for numbers of inbound events
INBOUND_ROW_BYTES: Final = 512  # approximate size of its rows besides its payload, including its deduplication records
ID_WINDOW_MS: Final = 24 * 3600 * 1000
"""Minimum time for which the ID of an event is retained: a sender that got no response retries."""


# values of the column `receivers`: not sent to a callback; sent to one, for one execution or for all that wait
EMITTED: Final = 0
TO_ONE: Final = 1
TO_ALL: Final = 2
_UNENDED = BatchStatement("SELECT event_id, seq FROM execution WHERE event_id IN ({rows}) AND end_time_ms = {unended}")
_INSERT_INBOUND = BatchStatement.insert(
    "inbound_event", "number, flow_id, receivers, type, expire_at_ms, seq, payload, emitter"
)


class _Fingerprints(NamedTuple):
    """Fingerprints that identify an event; None where it has no token or no dedupe key."""

    id: bytes
    token: bytes | None
    key: bytes | None


class InboundEventOperation(_EventOperation):
    """Appends events that running executions wait for; after the state changes: what has ended receives none."""

    order = 6

    @override
    def reload(self, connection: apsw.Connection) -> None:
        self._next = read_counter(connection, COUNTER) + 1

    @override
    def _find(self, connection: apsw.Connection, events: Sequence[NewInboundEvent]) -> _InboundRows:
        return _InboundRows(connection, events)

    @override
    def _append(self, connection: apsw.Connection, batch: EventBatch, rows: _InboundRows) -> AppendResult:
        logged = AppendResult([], [])
        for event in batch.events:
            fingerprints = _fingerprints(event)
            refused = rows.refused(event, fingerprints)
            if refused is not None:
                logged.appended.append(refused)
                continue
            number = self._next
            self._next = number + 1
            rows.add(number, event, fingerprints)
            logged.appended.append(InboundEventAppended(number))
            logged.new.append(StoredInboundEvent(number, event, rows.executions.get(event.execution_id, 0)))
        return logged


class _InboundRows:
    """Earlier events, and executions that events are addressed to, that a transaction found; and its new rows."""

    def __init__(self, connection: apsw.Connection, events: Sequence[NewInboundEvent]) -> None:
        marks = [(mark,) for event in events for mark in _fingerprints(event) if mark is not None]
        self.earlier: dict[bytes, _Key] = {row[0]: _Key(*row[1:]) for row in _BY_KEY.fetch(connection, marks)}
        ids = [(event.execution_id,) for event in events if event.execution_id]
        self.executions: dict[str, int] = dict(_UNENDED.fetch(connection, ids))
        self.events: list[tuple[Any, ...]] = []
        self.marks: list[tuple[Any, ...]] = []
        self.bytes = 0

    def refused(self, event: NewInboundEvent, fingerprints: _Fingerprints) -> InboundEventAppended | None:
        """Return the result for an event that must not be stored; None when it is to be stored."""
        earlier = self._remembered(fingerprints.id, event)
        if earlier is not None:
            return InboundEventAppended(earlier.seq, earlier.event_id)
        if self._remembered(fingerprints.token, event) is not None:
            return InboundEventAppended(0, gone=True)
        if event.execution_id and event.execution_id not in self.executions:
            return InboundEventAppended(0, gone=True)
        earlier = self._remembered(fingerprints.key, event)
        if earlier is not None:
            return InboundEventAppended(earlier.seq, earlier.event_id)
        return InboundEventAppended(0) if event.check_only else None

    def _remembered(self, mark: bytes | None, event: NewInboundEvent) -> _Key | None:
        earlier = None if mark is None else self.earlier.get(mark)
        return earlier if earlier is not None and event.receive_time_ms < earlier.until_ms else None

    def add(self, number: int, event: NewInboundEvent, fingerprints: _Fingerprints) -> None:
        seq = self.executions.get(event.execution_id, 0)
        _, flow_id, callback, type_, receive_time_ms, payload, expire_at_ms, *_ = event
        receivers = (TO_ALL if event.to_all else TO_ONE) if callback else EMITTED
        self.events.append((number, flow_id, receivers, type_, expire_at_ms, seq, payload, event.emitter or None))
        id_until_ms = max(expire_at_ms, receive_time_ms + ID_WINDOW_MS)
        times = (id_until_ms, event.token_until_ms, event.dedupe_until_ms)
        for mark, until_ms in zip(fingerprints, times, strict=True):
            if mark is not None:
                self.earlier[mark] = _Key(until_ms, number, event.event_id)
                self.marks.append((mark, until_ms, number, event.event_id))

    def insert(self, connection: apsw.Connection) -> None:
        _INSERT_INBOUND.run(connection, self.events)
        _INSERT_KEY.run(connection, self.marks)
        if self.events:
            write_counter(connection, COUNTER, self.events[-1][0])


def _fingerprints(event: NewInboundEvent) -> _Fingerprints:
    flow_id = event.flow_id
    # the names of kinds are in stored fingerprints: they keep the word that was used when the first were stored
    return _Fingerprints(
        _digest(b"arrival id", flow_id, event.event_id),
        _digest(b"arrival token", flow_id, event.token) if event.token else None,
        _digest(b"arrival key", flow_id, event.type, event.dedupe_key) if event.dedupe_key else None,
    )


def _digest(kind: bytes, *parts: str) -> bytes:
    """Return a fingerprint distinct from those of other kinds, and from those of events' dedupe keys."""
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16, person=kind).digest()
