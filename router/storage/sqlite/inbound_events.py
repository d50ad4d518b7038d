"""Appends inbound events (arrivals), each once, and reads them back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import apsw

from flowhook import limits
from flowhook.errors import FlowhookError
from router.storage.inbound_events import InboundEventAppended, LoggedInboundEvent, NewInboundEvent, UnconsumedEvent
from router.storage.model import JournalSize
from router.storage.sqlite.errors import storage_full
from router.storage.sqlite.schema import UNENDED
from router.storage.sqlite.statements import BatchStatement, read_counter, write_counter

COUNTER: Final = "inbound_event"
"""Name of the counter for numbers of inbound events."""

ROW_BYTES: Final = 512
"""Approximate size of an arrival's rows besides its payload, including its deduplication records."""

ID_WINDOW_MS: Final = 24 * 3600 * 1000
"""Minimum time for which the ID of an arrival is retained: a sender that got no response retries."""

PAGE_BYTES: Final = 16 * limits.MIB
"""Bytes of payloads that are read at a time."""

EMITTED: Final = 0
TO_ONE: Final = 1
TO_ALL: Final = 2
"""Values of the column `callback`.

`EMITTED`: not sent to a callback; `TO_ONE`, `TO_ALL`: sent to a callback, for one execution or for all that wait.
"""

_REMEMBERED = BatchStatement("SELECT digest, until_ms, seq, event_id FROM dedupe WHERE digest IN ({rows})", 0)
_UNENDED = BatchStatement(
    "SELECT event_id, seq FROM execution WHERE event_id IN ({rows}) AND end_time_ms = {unended}", 0
)
_INSERT = BatchStatement(
    "INSERT INTO inbound_event (number, flow_id, callback, type, expire_at_ms, seq, payload, emitter)"
    " SELECT * FROM (VALUES {rows}) WHERE column1 NOT NULL",
    8,
)
_REMEMBER = BatchStatement(
    "INSERT OR REPLACE INTO dedupe (digest, until_ms, seq, event_id) SELECT * FROM (VALUES {rows})"
    " WHERE column1 NOT NULL",
    4,
)
_PAYLOADS = BatchStatement("SELECT number, payload FROM inbound_event WHERE number IN ({rows})", 0)
_SIZES = BatchStatement(
    "SELECT seq, count(*), sum(length(CAST(key AS BLOB)) + coalesce(length(output), 0)) FROM journal"
    " WHERE seq IN ({rows}) GROUP BY seq",
    0,
)


class InboundAppendResult(NamedTuple):
    """Result of one call: the values to return, and the new arrivals to report."""

    appended: list[InboundEventAppended]
    new: list[LoggedInboundEvent]


class _EarlierArrival(NamedTuple):
    """An earlier arrival, as recorded under one of its fingerprints."""

    until_ms: int
    number: int
    event_id: str


class _Fingerprints(NamedTuple):
    """Fingerprints that identify an arrival; None where it has no token or no dedupe key."""

    id: bytes
    token: bytes | None
    key: bytes | None


class InboundEventOperation:
    """Appends the arrivals of all calls of a transaction, each once.

    It is applied after the state changes, so that executions they end no longer receive arrivals.

    Args:
        room: returns the bytes that may still be stored (see `capacity`); called once a transaction.
    """

    order = 6

    def __init__(self, room: Callable[[apsw.Connection], int | None]) -> None:
        self._room = room
        self._next_number = 1
        self.listener: Callable[[Sequence[LoggedInboundEvent]], None] | None = None

    def reload(self, connection: apsw.Connection) -> None:
        """See `WriterOperation`."""
        self._next_number = read_counter(connection, COUNTER) + 1

    def apply(
        self, connection: apsw.Connection, arguments: Sequence[Sequence[NewInboundEvent]]
    ) -> list[InboundAppendResult | FlowhookError]:
        """See `WriterOperation`."""
        room = self._room(connection)
        rows = _InboundRows()
        rows.find(connection, [arrival for call in arguments for arrival in call])
        results: list[InboundAppendResult | FlowhookError] = []
        for call in arguments:
            rows.bytes += inbound_bytes(call)
            if room is not None and rows.bytes > room:
                rows.bytes -= inbound_bytes(call)
                results.append(storage_full())
            else:
                results.append(self._take(call, rows))
        rows.insert(connection)
        if rows.arrivals:
            write_counter(connection, COUNTER, self._next_number - 1)
        return results

    def committed(self, results: Sequence[InboundAppendResult | FlowhookError]) -> None:
        """See `WriterOperation`."""
        new = [arrival for result in results if isinstance(result, InboundAppendResult) for arrival in result.new]
        if new and self.listener is not None:
            self.listener(new)

    def _take(self, call: Sequence[NewInboundEvent], rows: _InboundRows) -> InboundAppendResult:
        logged = InboundAppendResult([], [])
        for arrival in call:
            marks = _marks(arrival)
            refused = rows.refused(arrival, marks)
            if refused is not None:
                logged.appended.append(refused)
                continue
            number = self._next_number
            self._next_number = number + 1
            rows.add(number, arrival, marks)
            logged.appended.append(InboundEventAppended(number))
            logged.new.append(LoggedInboundEvent(number, arrival, rows.executions.get(arrival.execution_id, 0)))
        return logged


class _InboundRows:
    """Earlier arrivals and executions found by a transaction, and the rows it inserts."""

    def __init__(self) -> None:
        self.earlier: dict[bytes, _EarlierArrival] = {}
        self.executions: dict[str, int] = {}
        self.arrivals: list[tuple[Any, ...]] = []
        self.marks: list[tuple[Any, ...]] = []
        self.bytes = 0

    def find(self, connection: apsw.Connection, arrivals: Sequence[NewInboundEvent]) -> None:
        """Look up earlier arrivals by fingerprint, and the executions the arrivals are addressed to."""
        marks = [(mark,) for arrival in arrivals for mark in _marks(arrival) if mark is not None]
        self.earlier.update((row[0], _EarlierArrival(*row[1:])) for row in _REMEMBERED.fetch(connection, marks))
        ids = [(arrival.execution_id,) for arrival in arrivals if arrival.execution_id]
        self.executions.update(_UNENDED.fetch(connection, ids))

    def refused(self, arrival: NewInboundEvent, marks: _Fingerprints) -> InboundEventAppended | None:
        """Return the result for an arrival that must not be stored; None when it is to be stored."""
        earlier = self._remembered(marks.id, arrival)
        if earlier is not None:
            return InboundEventAppended(earlier.number, earlier.event_id)
        if self._remembered(marks.token, arrival) is not None:
            return InboundEventAppended(0, gone=True)
        if arrival.execution_id and arrival.execution_id not in self.executions:
            return InboundEventAppended(0, gone=True)
        earlier = self._remembered(marks.key, arrival)
        if earlier is not None:
            return InboundEventAppended(earlier.number, earlier.event_id)
        return InboundEventAppended(0) if arrival.check_only else None

    def _remembered(self, mark: bytes | None, arrival: NewInboundEvent) -> _EarlierArrival | None:
        earlier = None if mark is None else self.earlier.get(mark)
        return earlier if earlier is not None and arrival.receive_time_ms < earlier.until_ms else None

    def add(self, number: int, arrival: NewInboundEvent, marks: _Fingerprints) -> None:
        """Add the rows of a new arrival."""
        seq = self.executions.get(arrival.execution_id, 0)
        _, flow_id, callback, type_, receive_time_ms, payload, expire_at_ms, *_ = arrival
        receivers = (TO_ALL if arrival.to_all else TO_ONE) if callback else EMITTED
        self.arrivals.append((number, flow_id, receivers, type_, expire_at_ms, seq, payload, arrival.emitter or None))
        id_until_ms = max(expire_at_ms, receive_time_ms + ID_WINDOW_MS)
        times = (id_until_ms, arrival.token_until_ms, arrival.dedupe_until_ms)
        for mark, until_ms in zip(marks, times, strict=True):
            if mark is not None:
                self.earlier[mark] = _EarlierArrival(until_ms, number, arrival.event_id)
                self.marks.append((mark, until_ms, number, arrival.event_id))

    def insert(self, connection: apsw.Connection) -> None:
        """Insert the added rows."""
        _INSERT.run(connection, self.arrivals)
        _REMEMBER.run(connection, self.marks)


def inbound_bytes(arrivals: Sequence[NewInboundEvent]) -> int:
    """Return the approximate bytes that arrivals take if all of them are new."""
    return sum(len(arrival.payload) + ROW_BYTES for arrival in arrivals)


def unconsumed_after(connection: apsw.Connection, number: int, limit: int) -> list[UnconsumedEvent]:
    """Return unconsumed arrivals, except those addressed to an execution that has ended."""
    rows = connection.execute(
        "SELECT number, flow_id, callback, type, expire_at_ms, seq FROM inbound_event a WHERE number > ?"
        " AND (seq = 0 OR EXISTS (SELECT 1 FROM execution e WHERE e.seq = a.seq AND e.end_time_ms = ?))"
        " ORDER BY number LIMIT ?",
        (number, UNENDED, limit),
    )
    return [
        UnconsumedEvent(number, flow_id, bool(callback), type_, expire_at_ms, seq, callback == TO_ALL)
        for number, flow_id, callback, type_, expire_at_ms, seq in rows
    ]


def arrival_payloads(connection: apsw.Connection, numbers: Sequence[int]) -> dict[int, bytes]:
    """Return payloads up to about `PAGE_BYTES`, at least one."""
    payloads: dict[int, bytes] = {}
    size = 0
    for number, payload in _PAYLOADS.iterate(connection, [(number,) for number in numbers]):
        payloads[number] = payload
        size += len(payload)
        if size > PAGE_BYTES:
            break
    return payloads


def journal_sizes(connection: apsw.Connection, seqs: Sequence[int]) -> dict[int, JournalSize]:
    """Return the sizes of journals that are not empty."""
    return {row[0]: JournalSize(*row[1:]) for row in _SIZES.fetch(connection, [(seq,) for seq in seqs])}


def _marks(arrival: NewInboundEvent) -> _Fingerprints:
    flow_id = arrival.flow_id
    return _Fingerprints(
        _digest(b"arrival id", flow_id, arrival.event_id),
        _digest(b"arrival token", flow_id, arrival.token) if arrival.token else None,
        _digest(b"arrival key", flow_id, arrival.type, arrival.dedupe_key) if arrival.dedupe_key else None,
    )


def _digest(kind: bytes, *parts: str) -> bytes:
    """Return a fingerprint distinct from those of other kinds, and from those of events' dedupe keys."""
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16, person=kind).digest()
