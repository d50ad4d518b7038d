"""Removes data past retention, in steps that occupy the writer for a few milliseconds each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import apsw

from router.storage.blobs import body_file
from router.storage.jobs import expire_jobs
from router.storage.schema import UNENDED
from router.storage.statements import BatchStatement

_ENDED = BatchStatement(
    "SELECT seq FROM execution WHERE seq IN ({rows}) AND end_time_ms <> {unended}"
    " AND seq NOT IN (SELECT seq FROM kept_turn)"
)
# What keeps a turn is kept, and the events of a batch as long as an execution that runs for it.
_PAST: Final = (
    "SELECT end_time_ms, seq, seq IN (SELECT seq FROM kept_turn) OR (coalesce(e.shaping ->> 6, '') <> '' AND EXISTS ("
    "SELECT 1 FROM execution b WHERE b.event_id = e.shaping ->> 6 AND b.end_time_ms >= ?1 UNION ALL"
    " SELECT 1 FROM execution b WHERE b.replay_root = e.shaping ->> 6 AND b.end_time_ms >= ?1))"
    " FROM execution e WHERE end_time_ms < ?1 AND (end_time_ms, seq) > (?2, ?3) ORDER BY end_time_ms, seq LIMIT ?4"
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

    executions: int  # number of those that were removed
    blobs: list[str]  # that are no longer needed
    more: bool  # whether more remains
    last_flow: str = ""  # ID of the last flow that was looked at; empty: begin with the first one
    last: tuple[int, int] = FIRST  # end and number of the last execution that was looked at


STEP: Final = 128  # most executions that one transaction removes


def expire(
    connection: apsw.Connection, before_ms: int, limit: int, after_flow: str = "", after: tuple[int, int] = FIRST
) -> ExpiryStep:
    """Remove expired rows, and executions that ended before a Unix time: of the next `limit`, those that are not kept.

    If nothing of this remains, forget what deleted flows left, of the next ones after `after_flow`.
    """
    now_ms = time.time_ns() // 1_000_000
    connection.execute(
        "DELETE FROM dedupe WHERE digest IN (SELECT digest FROM dedupe WHERE until_ms <= ? ORDER BY until_ms LIMIT ?)",
        (now_ms, STEP),
    )
    keys = connection.changes()
    connection.execute(
        "DELETE FROM rate_line WHERE line IN"
        " (SELECT line FROM rate_line WHERE until_ms <= ? ORDER BY until_ms LIMIT ?)",
        (now_ms, STEP),
    )
    lines = connection.changes()
    connection.execute(
        "DELETE FROM inbound_event WHERE number IN"
        " (SELECT number FROM inbound_event WHERE expire_at_ms <= ? ORDER BY expire_at_ms LIMIT ?)",
        (now_ms, STEP),
    )
    events = connection.changes()
    past: list[Any] = connection.execute(_PAST, (min(before_ms, UNENDED), *after, limit)).fetchall()
    found = [(seq,) for _, seq, kept in past if not kept]
    jobs = expire_jobs(connection, before_ms, STEP)
    more = jobs or STEP in (keys, lines, events) or len(past) == limit
    last = (past[-1][0], past[-1][1]) if len(past) == limit else FIRST
    if not more:
        last_flow, count = connection.execute(_LAST_FLOW, (after_flow, _FLOWS)).get
        for statement in (_FORGET_REVISIONS, _FORGET_SCHEDULES):
            connection.execute(statement, (after_flow, last_flow, before_ms))
        after_flow = last_flow if count == _FLOWS else ""
    return ExpiryStep(len(found), remove_executions(connection, found), more, after_flow, last)


def delete_ended(connection: apsw.Connection, seqs: Sequence[int]) -> ExpiryStep:
    found = _ENDED.fetch(connection, [(seq,) for seq in seqs])
    release_batches(connection, found)
    return ExpiryStep(len(found), remove_executions(connection, found), more=False)


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
