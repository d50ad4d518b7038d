"""Removes data past retention, in steps that occupy the writer for a few milliseconds each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import apsw
from typing_extensions import override

from router.storage.blobs import body_file
from router.storage.jobs import expire_jobs
from router.storage.schema import UNENDED
from router.storage.statements import BatchStatement
from router.storage.writer import WriterOperation

_ENDED = BatchStatement("SELECT seq FROM execution WHERE seq IN ({rows}) AND end_time_ms <> {unended}", 0)
_BLOBS = BatchStatement("SELECT name FROM blob WHERE seq IN ({rows})", 0)
_BODIES = BatchStatement("SELECT id FROM body WHERE seq IN ({rows})", 0)
_SHARED = BatchStatement("SELECT id FROM body WHERE id IN ({rows})", 0)
_DELETES = [
    BatchStatement("DELETE FROM execution WHERE seq IN ({rows})", 0),
    BatchStatement("DELETE FROM event WHERE seq IN ({rows})", 0),
    BatchStatement("DELETE FROM blob WHERE seq IN ({rows})", 0),
    BatchStatement("DELETE FROM body WHERE seq IN ({rows})", 0),
    BatchStatement("DELETE FROM outcome WHERE seq IN ({rows})", 0),
    BatchStatement("DELETE FROM journal WHERE seq IN ({rows})", 0),
    BatchStatement("DELETE FROM subscription WHERE seq IN ({rows})", 0),
    BatchStatement("DELETE FROM resolution WHERE seq IN ({rows})", 0),
    BatchStatement("DELETE FROM search_attribute WHERE seq IN ({rows})", 0),
    BatchStatement("DELETE FROM execution_link WHERE seq IN ({rows})", 0),
    BatchStatement("DELETE FROM history WHERE seq IN ({rows})", 0),
    BatchStatement("DELETE FROM attempt WHERE seq IN ({rows})", 0),
]

_FORGET_REVISIONS = (
    "DELETE FROM flow_revision WHERE flow_id IN (SELECT f.flow_id FROM flow f LEFT JOIN flow_key k USING (flow_id)"
    " WHERE f.deleted AND f.deleted < ? AND NOT EXISTS (SELECT 1 FROM execution WHERE flow = k.key))"
)
_FORGET_SCHEDULES = "DELETE FROM schedule WHERE flow_id IN (SELECT flow_id FROM flow WHERE deleted AND deleted < ?)"


class ExpiryStep(NamedTuple):
    """Result of a step: the number of executions removed, the blobs no longer needed, and whether more remains."""

    executions: int
    blobs: list[str]
    more: bool


class ExpireOperation(WriterOperation):
    """Removes expired rows; each argument is (end time before which executions are removed, most executions)."""

    order = 4
    STEP = 128
    """Most executions that one transaction removes."""

    @override
    def apply(self, connection: apsw.Connection, arguments: Sequence[tuple[int, int]]) -> list[ExpiryStep]:
        return [self._step(connection, before_ms, limit) for before_ms, limit in arguments]

    def _step(self, connection: apsw.Connection, before_ms: int, limit: int) -> ExpiryStep:
        now_ms = time.time_ns() // 1_000_000
        connection.execute(
            "DELETE FROM dedupe WHERE digest IN"
            " (SELECT digest FROM dedupe WHERE until_ms <= ? ORDER BY until_ms LIMIT ?)",
            (now_ms, self.STEP),
        )
        keys = connection.changes()
        connection.execute(
            "DELETE FROM inbound_event WHERE number IN"
            " (SELECT number FROM inbound_event WHERE expire_at_ms <= ? ORDER BY expire_at_ms LIMIT ?)",
            (now_ms, self.STEP),
        )
        events = connection.changes()
        found = connection.execute(
            "SELECT seq FROM execution WHERE end_time_ms < ? ORDER BY end_time_ms LIMIT ?",
            (min(before_ms, UNENDED), limit),
        ).fetchall()
        jobs = expire_jobs(connection, before_ms, self.STEP)
        more = jobs or self.STEP in (keys, events) or len(found) == limit
        if not more:
            connection.execute(_FORGET_REVISIONS, (before_ms,))
            connection.execute(_FORGET_SCHEDULES, (before_ms,))
        if not found:
            return ExpiryStep(0, [], more)
        return ExpiryStep(len(found), remove_executions(connection, found), more)


class DeleteOperation(WriterOperation):
    """Removes the ended ones of given executions; each argument is a list of sequence numbers."""

    order = 4

    @override
    def apply(self, connection: apsw.Connection, arguments: Sequence[Sequence[int]]) -> list[ExpiryStep]:
        steps: list[ExpiryStep] = []
        for seqs in arguments:
            found = [(seq,) for (seq,) in _ENDED.fetch(connection, [(seq,) for seq in seqs])]
            steps.append(ExpiryStep(len(found), remove_executions(connection, found) if found else [], more=False))
        return steps


def remove_executions(connection: apsw.Connection, found: Sequence[tuple[Any, ...]]) -> list[str]:
    """Remove executions, given by sequence number, and return the blobs that are no longer needed."""
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
