"""Removes data past retention, in steps that occupy the writer for a few milliseconds each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import apsw
import orjson

from router.storage.blobs import body_file
from router.storage.jobs import expire_jobs
from router.storage.schema import PAGE_BYTES, UNENDED
from router.storage.statements import BatchStatement

_ENDED = BatchStatement(
    "SELECT seq FROM execution WHERE seq IN ({rows}) AND end_time_ms <> {unended}"
    " AND seq NOT IN (SELECT seq FROM kept_turn)"
)
# What keeps a turn is kept, and the events of a batch as long as an execution that runs for it.
_KEPT: Final = (
    "seq IN (SELECT seq FROM kept_turn) OR (coalesce(e.shaping ->> 6, '') <> '' AND EXISTS ("
    "SELECT 1 FROM execution b WHERE b.event_id = e.shaping ->> 6 AND b.end_time_ms >= ?1 UNION ALL"
    " SELECT 1 FROM execution b WHERE b.replay_root = e.shaping ->> 6 AND b.end_time_ms >= ?1))"
)
ROW_BYTES: Final = 400
"""What the rows of an execution and their index entries take beside what is counted, about."""
_BYTES: Final = (
    f"{ROW_BYTES} + coalesce(length(e.error), 0)"  # noqa: S608
    " + coalesce((SELECT length(v.payload) FROM event v WHERE v.seq = e.seq), 0)"
    " + coalesce((SELECT b.bytes FROM blob b WHERE b.seq = e.seq), 0)"
    " + coalesce((SELECT b.bytes FROM body b WHERE b.seq = e.seq), 0)"
    " + coalesce((SELECT coalesce(length(o.output), 0) + coalesce(length(o.reply), 0) + coalesce(length(o.history), 0)"
    " FROM outcome o WHERE o.seq = e.seq), 0)"
    " + (SELECT total(length(j.key) + coalesce(length(j.output), 0) + coalesce(length(j.error), 0)"
    " + coalesce(length(j.history), 0)) FROM journal j WHERE j.seq = e.seq)"
    " + (SELECT total(length(h.content)) FROM history h WHERE h.seq = e.seq)"
)
_PAST: Final = {  # by whether it is asked what they take
    measured: f"SELECT end_time_ms, seq, {_KEPT} OR flow IN (SELECT key FROM flow_key WHERE flow_id IN"  # noqa: S608
    f" (SELECT value FROM json_each(?5))), {_BYTES if measured else 0} FROM execution e"
    " WHERE end_time_ms < ?1 AND (end_time_ms, seq) > (?2, ?3) ORDER BY end_time_ms, seq LIMIT ?4"
    for measured in (False, True)
}
_OF_FLOW: Final = (
    "execution e INDEXED BY execution_by_flow WHERE flow = (SELECT key FROM flow_key WHERE flow_id = ?2)"
    " AND seq > ?3 AND seq <= ?4 ORDER BY seq LIMIT ?5"
)
_MEASURE: Final = (
    "SELECT coalesce(max(seq), 0), count(*), total(ended), total(CASE WHEN ended THEN bytes END) FROM"  # noqa: S608
    f" (SELECT seq, end_time_ms < ?1 AS ended, {_BYTES} AS bytes FROM {_OF_FLOW})"
)
_PAST_OF_FLOW: Final = f"SELECT seq, end_time_ms, receive_time_ms, {_KEPT}, {_BYTES} FROM {_OF_FLOW}"  # noqa: S608
_STORED: Final = (
    "SELECT coalesce((SELECT sum(bytes) FROM blob), 0)"
    " + coalesce((SELECT sum(bytes) FROM (SELECT max(bytes) AS bytes FROM body GROUP BY id)), 0)"
)
_RELEASE = BatchStatement(
    "UPDATE execution SET shaping = json_set(shaping, '$[5]', 1, '$[6]', '') WHERE seq IN (SELECT m.seq"
    " FROM (VALUES {rows}) CROSS JOIN execution_link k ON k.seq = column1"
    " CROSS JOIN execution m ON m.event_id = k.caused_by WHERE k.kinds & 16)",
    1,
)
_BLOBS = BatchStatement("SELECT name FROM blob WHERE seq IN ({rows})")
_BODIES = BatchStatement("SELECT id FROM body WHERE seq IN ({rows})")
_SHARED = BatchStatement("SELECT id FROM body WHERE id IN ({rows})")
_TABLES = (
    *("execution", "event", "blob", "body", "outcome", "journal", "subscription", "resolution"),
    *("search_attribute", "execution_link", "history", "attempt"),
)
"""Tables of which executions have rows, by `seq`."""
_DELETES = [BatchStatement(f"DELETE FROM {table} WHERE seq IN ({{rows}})") for table in _TABLES]  # noqa: S608

_EXPIRED: Final = [
    f"DELETE FROM {table} WHERE {key} IN (SELECT {key} FROM {table} WHERE {until} <= ? ORDER BY {until} LIMIT ?)"  # noqa: S608
    for table, key, until in (
        ("dedupe", "digest", "until_ms"),
        ("rate_line", "line", "until_ms"),
        ("inbound_event", "number", "expire_at_ms"),
    )
]
"""Statements that remove some rows whose time is over."""
_FLOWS: Final = 256  # flows that one step looks at, to forget those that were deleted
_LAST_FLOW = "SELECT max(flow_id), count(*) FROM (SELECT flow_id FROM flow WHERE flow_id > ? ORDER BY flow_id LIMIT ?)"
_DELETED = "f.flow_id > ? AND f.flow_id <= ? AND f.deleted AND f.deleted < ?"
_FORGET_REVISIONS = (
    "DELETE FROM flow_revision WHERE flow_id IN (SELECT f.flow_id FROM flow f LEFT JOIN flow_key k USING (flow_id)"  # noqa: S608
    f" WHERE {_DELETED} AND NOT EXISTS (SELECT 1 FROM execution WHERE flow = k.key))"
)
_FORGET_SCHEDULES = f"DELETE FROM schedule WHERE flow_id IN (SELECT flow_id FROM flow f WHERE {_DELETED})"  # noqa: S608


FIRST: Final = (0, 0)


class ExpiryStep(NamedTuple):
    """Result of a step."""

    removed: list[int]  # numbers of the executions that were removed
    blobs: list[str]  # that are no longer needed
    more: bool  # whether more remains
    last_flow: str = ""  # ID of the last flow that was looked at; empty: begin with the first one
    last: tuple[int, int] = FIRST  # end and number of the last execution that was looked at
    young: bool = False  # whether most were so young that no later one of the flow is past


class FlowBlock(NamedTuple):
    """Some executions of a flow, whose numbers follow each other."""

    last: int  # number of the last one
    executions: int
    ended: int  # how many of them have ended
    bytes: int  # what these take


STEP: Final = 128  # most executions that one transaction removes


def expire(
    connection: apsw.Connection,
    *,
    ended_before_ms: int,
    limit: int,
    after_flow: str = "",
    after: tuple[int, int] = FIRST,
    excepting: Sequence[str] = (),
) -> ExpiryStep:
    """Remove expired rows, and executions that ended before a Unix time, as `remove_past` does.

    If nothing of this remains, forget what deleted flows left, of the next ones after `after_flow`.
    """
    now_ms = time.time_ns() // 1_000_000
    more = expire_jobs(connection, ended_before_ms, STEP)
    for statement in _EXPIRED:
        connection.execute(statement, (now_ms, STEP))
        more |= connection.changes() == STEP
    step = remove_past(connection, ended_before_ms=ended_before_ms, limit=limit, after=after, excepting=excepting)
    more |= step.more
    if not more:
        last_flow, count = connection.execute(_LAST_FLOW, (after_flow, _FLOWS)).get
        for statement in (_FORGET_REVISIONS, _FORGET_SCHEDULES):
            connection.execute(statement, (after_flow, last_flow, ended_before_ms))
        after_flow = last_flow if count == _FLOWS else ""
    return step._replace(more=more, last_flow=after_flow)


def remove_past(
    connection: apsw.Connection,
    most_bytes: int | None = None,
    *,
    ended_before_ms: int,
    after: tuple[int, int],
    limit: int = STEP,
    excepting: Sequence[str] = (),
) -> ExpiryStep:
    """Remove executions that ended before a Unix time, first ones first: of the next `limit`, those that are not kept.

    `most_bytes`: that are to become free, about; None: any. `after`: the last one that was looked at, as the step
    before says. `excepting`: IDs of flows whose executions are all kept.
    """
    values = (min(ended_before_ms, UNENDED), *after, limit, orjson.dumps(excepting).decode())
    rows: list[Any] = connection.execute(_PAST[most_bytes is not None], values).fetchall()
    found: list[int] = []
    left = UNENDED if most_bytes is None else most_bytes
    for end_ms, seq, kept, size in rows:
        if left <= 0:
            break
        after = end_ms, seq
        if not kept:
            found.append(seq)
            left -= int(size)
    return _removed(connection, found)._replace(more=left <= 0 or len(rows) == limit, last=after)


def remove_past_of_flow(
    connection: apsw.Connection,
    flow_id: str,
    *,
    ended_before_ms: int,
    after: int,
    through: int = UNENDED,
    most_bytes: int = UNENDED,
) -> ExpiryStep:
    """Remove executions of a flow that ended before a Unix time, in the order of their acceptance, a step of them.

    Those with numbers in (`after`, `through`] are looked at, until so many bytes are free, or most were accepted after
    that time: so many that none of the following are past. A single one may say so for want of a clock.
    """
    values = (min(ended_before_ms, UNENDED), flow_id, after, through, STEP)
    rows: list[Any] = connection.execute(_PAST_OF_FLOW, values).fetchall()
    found: list[int] = []
    young = 2 * sum(row[2] >= ended_before_ms for row in rows) > len(rows)
    last = after
    for seq, end_ms, receive_ms, kept, size in rows:
        if most_bytes <= 0:
            break
        if receive_ms < ended_before_ms:
            last = seq
        if end_ms < ended_before_ms and not kept:
            found.append(seq)
            most_bytes -= int(size)
    release_batches(connection, [(seq,) for seq in found])
    step = _removed(connection, found)
    return step._replace(more=not young and len(rows) == STEP, last=(0, last), young=young)


def measure_flow(connection: apsw.Connection, flow_id: str, after: int, through: int, limit: int) -> FlowBlock:
    """Return what is stored of the first `limit` executions of a flow with numbers in (`after`, `through`]."""
    row: Any = connection.execute(_MEASURE, (UNENDED, flow_id, after, through, limit)).fetchone()
    return FlowBlock(*map(int, row))


def stored_bytes(connection: apsw.Connection) -> int:
    """Return what is in use of the database file, and the sizes of the files beside it that rows name."""
    pages: int = connection.execute("PRAGMA page_count").get
    free: int = connection.execute("PRAGMA freelist_count").get
    files: int = connection.execute(_STORED).get
    return files + (pages - free) * PAGE_BYTES


def delete_ended(connection: apsw.Connection, seqs: Sequence[int]) -> ExpiryStep:
    found = _ENDED.fetch(connection, [(seq,) for seq in seqs])
    release_batches(connection, found)
    return _removed(connection, [seq for (seq,) in found])


def _removed(connection: apsw.Connection, seqs: list[int]) -> ExpiryStep:
    return ExpiryStep(seqs, remove_executions(connection, [(seq,) for seq in seqs]), more=False)


def release_batches(connection: apsw.Connection, found: Sequence[tuple[Any, ...]]) -> None:
    """Let the events of the batches that executions ran for, which are removed, be events for themselves."""
    _RELEASE.run(connection, found)


def remove_executions(connection: apsw.Connection, found: Sequence[tuple[Any, ...]]) -> list[str]:
    """Remove executions, given by sequence number, and return the blobs that are no longer needed."""
    if not found:
        return []
    # The highest sequence number may be among them: record it, so that it is never used again.
    connection.execute(
        "INSERT INTO counter (name, value) SELECT 'seq', max(seq) FROM execution WHERE true"
        " ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)"
    )
    blobs = [name for (name,) in _BLOBS.fetch(connection, found)]
    bodies = set(_BODIES.fetch(connection, found))
    for delete in _DELETES:
        delete.run(connection, found)
    bodies.difference_update(_SHARED.fetch(connection, list(bodies)))
    return blobs + [body_file(body_id) for (body_id,) in bodies]
