"""Queries about executions, and the events on their way to them; each runs in a snapshot, on a reader thread.

Parts of stored events are read by incremental I/O, and of files by their offsets: SQL could not, since `substr` loads
the whole value first.
Source: https://www.sqlite.org/c3ref/blob_open.html
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, NamedTuple, TypeVar

import apsw

from flowhook import limits
from flowhook.events.keys import ShapingKeys
from flowhook.model import JournalEntry
from flowhook.model.events import RandomAccess
from flowhook.model.executions import Attempt, AttemptEnd, AttemptHistory, ExecutionLinks, LinkedExecution
from router.storage import model as stored
from router.storage.blobs import BlobDirectory
from router.storage.event_log import TO_ALL
from router.storage.limits import DEFAULT_PAGE
from router.storage.rows import (
    LINK_BITS,
    RECORD,
    ROOTS,
    STARTS,
    SUPERSEDES,
    dedupe_digest,
    journal_entry,
    load_assignment,
    load_subscriptions,
    record,
)
from router.storage.schema import STATUSES, UNENDED, WAITING
from router.storage.statements import BatchStatement

T = TypeVar("T")

_WORK = BatchStatement(
    "SELECT e.seq, e.flow_revision, coalesce(e.effect_scope, ''), v.payload,"
    " CASE WHEN v.seq IS NULL THEN (SELECT b.name FROM blob b WHERE b.seq = e.seq) END,"
    " EXISTS (SELECT 1 FROM journal j WHERE j.seq = e.seq)"
    " FROM execution e LEFT JOIN event v USING (seq) WHERE e.seq IN ({rows}) AND +e.end_time_ms = {unended}"
)
_RECORD_OF: Final = f"SELECT {RECORD} FROM execution e JOIN flow_key k ON k.key = e.flow WHERE "  # noqa: S608
_RECORDS = BatchStatement(_RECORD_OF + "e.seq IN ({rows})")
_IDENTIFIED = BatchStatement(_RECORD_OF + "e.event_id IN ({rows})")
_PAYLOADS = BatchStatement("SELECT seq, payload FROM event WHERE seq IN ({rows})")
_PAYLOAD_SIZES = BatchStatement("SELECT seq, length(payload) FROM event WHERE seq IN ({rows})")
_JOURNALS = BatchStatement(
    "SELECT seq, position, key, output, error FROM journal WHERE seq IN ({rows}) ORDER BY seq, position"
)
_BATCHED = BatchStatement(
    "SELECT v.payload, (SELECT b.name FROM blob b WHERE b.seq = m.seq) FROM execution e"
    " CROSS JOIN execution f ON f.event_id = e.shaping ->> 6"
    " CROSS JOIN execution_link k ON k.seq = f.seq AND k.kinds & 16"
    " CROSS JOIN execution m ON m.event_id = k.caused_by LEFT JOIN event v ON v.seq = m.seq"
    " WHERE e.seq IN ({rows}) ORDER BY m.seq"
)
WORK_BYTES: Final = 16 * limits.MIB
"""Bytes of payloads, and of journals, that one call of `work` reads; the rest is left to the next call."""
_INBOUND_PAYLOADS = BatchStatement("SELECT number, payload FROM inbound_event WHERE number IN ({rows})")

_IDS = BatchStatement("SELECT seq, event_id FROM execution WHERE seq IN ({rows})")
_CAUSED = BatchStatement(
    f"SELECT DISTINCT seq FROM execution_link WHERE seq IN ({{rows}}) AND kinds & {STARTS}"  # noqa: S608 - constants
)
_JOURNAL_SIZES = BatchStatement(
    "SELECT seq, count(*), sum(length(CAST(key AS BLOB)) + coalesce(length(output), 0)) FROM journal"
    " WHERE seq IN ({rows}) GROUP BY seq"
)


def unfinished(
    connection: apsw.Connection, *, after_seq: int = 0, limit: int = DEFAULT_PAGE
) -> list[stored.UnfinishedExecution]:
    """Return executions that have not ended, by ascending `seq`."""
    rows = connection.execute(
        "SELECT w.retry IS NOT NULL, w.content, e.shaping, w.destinations, e.status,"
        " e.seq, e.event_id, k.flow_id, e.flow_revision, e.attempts, e.term, CASE e.status WHEN ?1 THEN e.wake_time_ms"
        " END, coalesce(e.order_key, ''), e.receive_time_ms, coalesce(e.replay_root, ''),"
        " coalesce(json_extract(CAST(w.retry AS TEXT), '$[0].destination'), ''),"
        " coalesce(json_extract(CAST(w.retry AS TEXT), '$[4][0]'), ''),"
        " coalesce(json_extract(CAST(w.retry AS TEXT), '$[5]'), 0)"
        " FROM execution e JOIN flow_key k ON k.key = e.flow"
        " LEFT JOIN subscription w ON e.status = ?1 AND w.seq = e.seq"
        " WHERE e.end_time_ms = ?2 AND e.seq > ?3 ORDER BY e.seq LIMIT ?4",
        (WAITING, UNENDED, after_seq, limit),
    )
    return [
        stored.UnfinishedExecution._make(
            (
                *(*row, STATUSES[status], bool(retries), load_subscriptions(waits_for)),
                None if shaping is None else ShapingKeys.unpack(shaping),
                tuple((origins or "").split()),
            )
        )
        for retries, waits_for, shaping, origins, status, *row in rows
    ]


def kept_turns(connection: apsw.Connection) -> list[stored.KeptTurn]:
    """Return the turns of order keys that executions keep which faulted, by ascending `seq`."""
    rows = connection.execute(
        "SELECT t.seq, coalesce(e.replay_root, e.event_id), e.end_time_ms, k.flow_id, coalesce(e.order_key, '')"
        " FROM kept_turn t JOIN execution e USING (seq) JOIN flow_key k ON k.key = e.flow ORDER BY t.seq"
    )
    return list(map(stored.KeptTurn._make, rows))


def execution_ids(connection: apsw.Connection, seqs: Collection[int]) -> dict[int, str]:
    """Return the IDs of executions by sequence number."""
    return dict(_IDS.fetch(connection, _singles(seqs)))


def rate_lines(connection: apsw.Connection, *, now_ms: int) -> dict[bytes, int]:
    """Return until when lines of rates are reserved, by fingerprint, as far as that is later than a Unix time."""
    return dict(connection.execute("SELECT line, until_ms FROM rate_line WHERE until_ms > ?", (now_ms,)))


def work(connection: apsw.Connection, blobs: BlobDirectory, seqs: Collection[int]) -> dict[int, stored.Work]:
    """Return what runners need of these executions, until it has `WORK_BYTES`; expired ones are left out."""
    found: dict[int, stored.Work] = {}
    begun: list[int] = []
    size = 0
    for seq, revision, scope, inline, name, has_journal in _WORK.iterate(connection, _singles(seqs)):
        payload = inline if name is None else blobs.read(name)
        if payload is None:  # expired since the snapshot was taken
            continue
        found[seq] = stored.Work(seq, revision, payload, (), 0, scope)
        if has_journal:
            begun.append(seq)
        size += len(payload)
        if size > WORK_BYTES:
            break
    journals = _journals(connection, begun)
    for seq in begun:
        each = found.pop(seq)
        if seq in journals:
            found[seq] = stored.Work(seq, each.flow_revision, each.payload, *journals[seq], each.effect_scope)
    return found


def batched(connection: apsw.Connection, blobs: BlobDirectory, seqs: Iterable[int]) -> dict[int, list[bytes]]:
    """Return the events of the batches that executions run for, without the first one, in the order of arrival.

    Those that are not stored any more are left out. A large result may be partial, with at least one execution.
    """

    def events(seq: int) -> list[bytes]:
        read = (inline if name is None else blobs.read(name) for inline, name in _BATCHED.iterate(connection, [(seq,)]))
        return [payload for payload in read if payload is not None]

    return dict(_portion(((seq, events(seq)) for seq in seqs), lambda each: sum(map(len, each[1]))))


def payloads(connection: apsw.Connection, seqs: Sequence[int], *, most_bytes: int) -> dict[int, bytes | None]:
    """Return serialized events; None for a large one, which is stored apart, and for an unknown one.

    At most `DEFAULT_PAGE` at a time. The result has as many of the first ones as have `most_bytes` together, at least
    one.
    """
    sizes = dict(_PAYLOAD_SIZES.fetch(connection, _singles(seqs)))
    chosen: dict[int, bytes | None] = {}
    total = 0
    for seq in seqs:
        total += sizes.get(seq, 0)
        if total > most_bytes and chosen:
            break
        chosen[seq] = None
    chosen.update(_PAYLOADS.fetch(connection, _singles(seq for seq in chosen if seq in sizes)))
    return chosen


def _portion(found: Iterable[T], size: Callable[[T], int]) -> Iterator[T]:
    """Yield the first elements, until they have `WORK_BYTES` together; at least one."""
    total = 0
    for each in found:
        yield each
        total += size(each)
        if total > WORK_BYTES:
            return


def _journals(connection: apsw.Connection, seqs: Sequence[int]) -> dict[int, tuple[tuple[JournalEntry, ...], int]]:
    """Return journals that are not empty, with their start indexes, up to about `WORK_BYTES`, at least one."""
    found = groupby(_JOURNALS.iterate(connection, _singles(seqs)), key=itemgetter(0))
    journals = ((seq, list(rows)) for seq, rows in found)
    portion = _portion(journals, lambda each: sum(len(output or b"") for _, _, _, output, _ in each[1]))
    return {seq: _journal(rows) for seq, rows in portion}


def find(connection: apsw.Connection, execution_id: str) -> stored.ExecutionRecord | None:
    return find_by_ids(connection, [execution_id]).get(execution_id)


def records(connection: apsw.Connection, seqs: Collection[int]) -> dict[int, stored.ExecutionRecord]:
    return {row[0]: record(row) for row in _RECORDS.fetch(connection, _singles(seqs))}


def find_by_ids(connection: apsw.Connection, execution_ids: Collection[str]) -> dict[str, stored.ExecutionRecord]:
    found = [record(row) for row in _IDENTIFIED.fetch(connection, [(each,) for each in execution_ids])]
    return {each.id: each for each in found}


def failed_before(connection: apsw.Connection, seq: int) -> str | None:
    """Return the ID of the oldest stored execution of a replay's event that failed before it; None: none is."""
    found: str | None = connection.execute(
        "WITH replay AS (SELECT seq, replay_root AS root FROM execution WHERE seq = ?) SELECT event_id FROM ("
        "SELECT o.seq, o.event_id FROM replay r CROSS JOIN execution o ON o.event_id = r.root"
        " WHERE o.status IN (6, 7) UNION ALL"
        " SELECT o.seq, o.event_id FROM replay r CROSS JOIN execution o ON o.replay_root = r.root"
        " WHERE o.seq < r.seq AND o.status IN (6, 7)) ORDER BY seq LIMIT 1",
        (seq,),
    ).get
    return found


def superseded_by(connection: apsw.Connection, seq: int) -> str | None:
    """Return the ID of the latest replay of an execution's event after it that was not cancelled; None: none is."""
    found: str | None = connection.execute(
        f"SELECT (SELECT r.event_id {SUPERSEDES} ORDER BY r.seq DESC LIMIT 1) FROM execution e WHERE e.seq = ?",  # noqa: S608
        (seq,),
    ).get
    return found


def unended_run(connection: apsw.Connection, execution_id: str) -> str | None:
    """Return the ID of an execution, of a replay of its event, or of one for its batch, that has not ended, if any."""
    found: str | None = connection.execute(
        # its replays may outlive it
        f"{ROOTS}, stored (id) AS (SELECT id FROM root UNION SELECT ?1)"  # noqa: S608 - constants
        " SELECT e.event_id FROM stored CROSS JOIN execution e ON e.event_id = stored.id WHERE e.end_time_ms = ?2"
        " UNION ALL SELECT e.event_id FROM stored CROSS JOIN execution e INDEXED BY replay_by_root"
        " ON e.replay_root = stored.id WHERE e.end_time_ms = ?2 LIMIT 1",
        (execution_id, UNENDED),
    ).get
    return found


_PIECES = (
    "SELECT place, {column} FROM (SELECT place, content FROM history WHERE seq = ?1 AND length(content) > 0)"
    " WHERE place <= ?2 OR place >= ?3 UNION ALL"
    " SELECT place, {column} FROM (SELECT position * 2 + 1 AS place, history AS content FROM journal"
    " WHERE seq = ?1 AND length(history) > 0) WHERE place <= ?2 OR place >= ?3 UNION ALL"
    " SELECT place, {column} FROM (SELECT 4611686018427387904 AS place, history AS content FROM outcome"
    " WHERE seq = ?1 AND length(history) > 0) WHERE place <= ?2 OR place >= ?3 ORDER BY 1"
)
_PIECE_SIZES: Final = _PIECES.format(column="length(content)")
_FRAGMENTS: Final = _PIECES.format(column="content")


def content(
    connection: apsw.Connection, blobs: BlobDirectory, seq: int, *, with_payload: bool
) -> stored.ExecutionContent | None:
    """Return an execution's payload, journal and results, or None if there is no such execution any more."""
    row = connection.execute(
        "SELECT CASE WHEN ?2 THEN v.payload ELSE x'' END, b.name, o.output, o.reply"
        " FROM execution e LEFT JOIN event v USING (seq)"
        " LEFT JOIN blob b USING (seq) LEFT JOIN outcome o USING (seq) WHERE e.seq = ?1",
        (seq, with_payload),
    ).fetchone()
    if row is None:
        return None
    payload, name, output, reply = row
    entries = connection.execute(
        "SELECT seq, position, key, output, error FROM journal WHERE seq = ? ORDER BY position", (seq,)
    ).fetchall()
    if name is not None and with_payload:
        payload = blobs.read(name)
    if payload is None:  # expired since the snapshot was taken
        return None
    journal, start = _journal(entries)
    attributes: list[Any] = connection.execute(
        "SELECT name, value FROM search_attribute WHERE seq = ? ORDER BY name", (seq,)
    ).fetchall()
    return stored.ExecutionContent(payload, journal, output, reply, start, tuple(attributes))


def history(connection: apsw.Connection, seq: int, most_bytes: int) -> tuple[tuple[int, bytes], ...]:
    sizes: list[Any] = connection.execute(_PIECE_SIZES, (seq, 0, 0)).fetchall()
    if sum(size for _, size in sizes) <= most_bytes:
        return tuple((place // 2, fragment) for place, fragment in connection.execute(_FRAGMENTS, (seq, 0, 0)))
    last_of_first, first_of_last = _within(most_bytes // 2, sizes), _within(most_bytes // 2, reversed(sizes))
    pieces: list[Any] = connection.execute(_FRAGMENTS, (seq, last_of_first, first_of_last)).fetchall()
    first = [(place // 2, fragment) for place, fragment in pieces if place <= last_of_first]
    return (*first, (first_of_last // 2, b""), *((place // 2, each) for place, each in pieces[len(first) :]))


def _within(most_bytes: int, sizes: Iterable[tuple[int, int]]) -> int:
    """Return the place of the last piece up to which the total is within a limit; at least one piece."""
    found, total = -1, 0
    for place, size in sizes:
        total += size
        if found >= 0 and total > most_bytes:
            break
        found = place
    return found


def body_of(connection: apsw.Connection, execution_id: str) -> str | None:
    body: str | None = connection.execute(
        "SELECT b.id FROM execution e JOIN body b USING (seq) WHERE e.event_id = ?", (execution_id,)
    ).get
    return body


def execution_result(connection: apsw.Connection, seq: int) -> stored.ExecutionResult:
    row = connection.execute("SELECT output, reply FROM outcome WHERE seq = ?", (seq,)).fetchone()
    return stored.ExecutionResult(*(row or (None, None)))


def unpublished_events(
    connection: apsw.Connection, *, after_number: int = 0, limit: int = DEFAULT_PAGE
) -> list[stored.UnpublishedEvent]:
    """Return lifecycle events that are not yet published (the outbox), by ascending number."""
    rows = connection.execute(
        "SELECT number, seq, type, time_ms, key, data FROM lifecycle_event WHERE number > ? ORDER BY number LIMIT ?",
        (after_number, limit),
    )
    return [stored.UnpublishedEvent(*row) for row in rows]


def schedules(connection: apsw.Connection, *, after_id: str = "", limit: int = DEFAULT_PAGE) -> list[stored.Scheduled]:
    """Return the last stored schedule state of each flow, by ascending flow ID."""
    rows = connection.execute(
        "SELECT flow_id, due_ms, last_ms FROM schedule WHERE flow_id > ? ORDER BY flow_id LIMIT ?", (after_id, limit)
    )
    return [stored.Scheduled(*row) for row in rows]


def _journal(rows: Sequence[tuple[Any, ...]]) -> tuple[tuple[JournalEntry, ...], int]:
    return tuple(journal_entry(row[2:]) for row in rows), rows[0][1] if rows else 0


def _singles(values: Iterable[int]) -> list[tuple[int]]:
    return [(value,) for value in values]


def deduplicated(connection: apsw.Connection, flow_id: str, dedupe_key: str, *, now_ms: int) -> str | None:
    """Return the ID of the event a flow's dedupe key refers to at `now_ms` (Unix time); None if absent."""
    found: str | None = connection.execute(
        "SELECT event_id FROM dedupe WHERE digest = ? AND until_ms > ?", (dedupe_digest(flow_id, dedupe_key), now_ms)
    ).get
    return found


class _Payload(NamedTuple):
    """A serialized event, see `RandomAccess`."""

    size: int
    read: Callable[[int, int], bytes]


def read_payload(
    connection: apsw.Connection, blobs: BlobDirectory, seq: int, read: Callable[[RandomAccess], T]
) -> T | None:
    """Return what `read` makes of an event's payload, of which it need not read all, or None if it has expired."""
    row = connection.execute(
        "SELECT v.seq, b.name FROM execution e LEFT JOIN event v USING (seq) LEFT JOIN blob b USING (seq)"
        " WHERE e.seq = ?",
        (seq,),
    ).fetchone()
    seq_of_row, name = row or (None, None)
    if name is not None:
        try:
            file = blobs.locate(name).open("rb", buffering=0)
        except FileNotFoundError:  # expired since the snapshot was taken
            return None
        with file:
            size = os.fstat(file.fileno()).st_size
            return read(_Payload(size, lambda offset, size: os.pread(file.fileno(), size, offset)))
    if seq_of_row is None:
        return None
    with closing(connection.blob_open("main", "event", "payload", seq, False)) as blob:

        def read_row(offset: int, size: int) -> bytes:
            blob.seek(min(offset, blob.length()))
            return blob.read(size)

        return read(_Payload(blob.length(), read_row))


def read_attempts(connection: apsw.Connection, seq: int) -> AttemptHistory:
    """Return the stored attempts of an execution: those of `AttemptInterrupted`, and that of its `Ended`."""
    rows: list[Any] = connection.execute(
        "SELECT position, number, runner, assign_time_ms, end_time_ms, reason, detail, charged FROM attempt"
        " WHERE seq = ? ORDER BY position",
        (seq,),
    ).fetchall()
    attempts = [
        Attempt(number, runner, assigned_ms, ended_ms, AttemptEnd(end), detail, bool(charged))
        for _, number, runner, assigned_ms, ended_ms, end, detail, charged in rows
    ]
    last: Any = connection.execute(
        "SELECT o.attempt, e.attempts, e.end_time_ms FROM outcome o JOIN execution e USING (seq)"
        " WHERE seq = ? AND o.attempt IS NOT NULL",
        (seq,),
    ).fetchone()
    if last is not None:
        assignment, number, ended_ms = last
        runner, assigned_ms = load_assignment(assignment)
        end = AttemptEnd.EXECUTION_ENDED
        attempts.append(Attempt(number, runner, assigned_ms or None, ended_ms, end, charged=True))
    return AttemptHistory(tuple(attempts), rows[0][0] - 1 if rows else 0)


def links_of(connection: apsw.Connection, execution_id: str, *, limit: int) -> ExecutionLinks:
    """Return which executions caused an execution, and those that it caused last, at most `limit`; not their flows."""
    causes = connection.execute(
        "SELECT caused_by, kinds FROM execution_link WHERE seq = (SELECT seq FROM execution WHERE event_id = ?)"
        " ORDER BY caused_by DESC",
        (execution_id,),
    ).fetchall()
    caused = connection.execute(
        "SELECT e.event_id, c.kinds FROM execution_link c INDEXED BY execution_link_by_cause"
        " CROSS JOIN execution e USING (seq) WHERE c.caused_by = ? ORDER BY c.seq DESC LIMIT ?",
        (execution_id, limit + 1),
    ).fetchall()
    return ExecutionLinks(_links(causes), _links(caused[:limit]), len(caused) > limit)


def caused(connection: apsw.Connection, seqs: Collection[int]) -> set[int]:
    """Return those of the executions that another one started."""
    return {seq for (seq,) in _CAUSED.fetch(connection, [(seq,) for seq in seqs])}


def _links(rows: Sequence[tuple[Any, ...]]) -> tuple[LinkedExecution, ...]:
    return tuple(
        LinkedExecution(execution_id, tuple(kind for kind, bit in LINK_BITS.items() if kinds & bit))
        for execution_id, kinds in rows
    )


def unconsumed_events(
    connection: apsw.Connection, *, after_number: int = 0, limit: int = DEFAULT_PAGE
) -> list[stored.StoredInboundEvent]:
    """Return unconsumed events by ascending number, except those addressed to an execution that has ended."""
    rows = connection.execute(
        "SELECT number, flow_id, receivers, type, expire_at_ms, seq FROM inbound_event a WHERE number > ?"
        " AND (seq = 0 OR EXISTS (SELECT 1 FROM execution e WHERE e.seq = a.seq AND e.end_time_ms = ?))"
        " ORDER BY number LIMIT ?",
        (after_number, UNENDED, limit),
    )
    found: list[stored.StoredInboundEvent] = []
    for number, flow_id, receivers, type_, expire_ms, seq in rows:
        event = stored.NewInboundEvent(
            "", flow_id, bool(receivers), type_, 0, b"", expire_ms, to_all=receivers == TO_ALL
        )
        found.append(stored.StoredInboundEvent(number, event, seq))
    return found


def inbound_payloads(connection: apsw.Connection, numbers: Collection[int]) -> dict[int, bytes]:
    """Return payloads of unconsumed events; others are missing from the result.

    A large result may be partial, with at least one payload: call again for the others.
    """
    return dict(_portion(_INBOUND_PAYLOADS.iterate(connection, _singles(numbers)), lambda each: len(each[1])))


def journal_sizes(connection: apsw.Connection, seqs: Collection[int]) -> dict[int, stored.JournalSize]:
    """Return the sizes of journals; empty ones are missing from the result."""
    return {row[0]: stored.JournalSize(*row[1:]) for row in _JOURNAL_SIZES.fetch(connection, _singles(seqs))}
