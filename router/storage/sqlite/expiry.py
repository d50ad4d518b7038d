"""Removing what is past retention, in steps that hold the writer for a few milliseconds each."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from router.storage.sqlite.schema import UNENDED
from router.storage.sqlite.statements import Bulk

_DELETES = [
    Bulk("DELETE FROM execution WHERE seq IN ({rows})", 1, row="?"),
    Bulk("DELETE FROM event WHERE seq IN ({rows})", 1, row="?"),
    Bulk("DELETE FROM blob WHERE seq IN ({rows})", 1, row="?"),
    Bulk("DELETE FROM outcome WHERE seq IN ({rows})", 1, row="?"),
    Bulk("DELETE FROM journal WHERE seq IN ({rows})", 1, row="?"),
]


class Expired(NamedTuple):
    """How many executions a step removed, and the blobs that are no longer needed."""

    executions: int
    blobs: list[str]


class ExpireOperation:
    """Removes executions, for arguments of (ended before, at most)."""

    order = 4
    STEP = 128
    """Executions that one transaction removes at the most."""

    def reload(self, connection: sqlite3.Connection) -> None:
        """See `Operation`."""

    def apply(self, connection: sqlite3.Connection, arguments: Sequence[tuple[int, int]]) -> list[Expired]:
        """See `Operation`."""
        return [self._step(connection, before_ms, limit) for before_ms, limit in arguments]

    def committed(self, results: Sequence[Expired]) -> None:
        """See `Operation`."""

    def _step(self, connection: sqlite3.Connection, before_ms: int, limit: int) -> Expired:
        connection.execute(
            "DELETE FROM dedupe WHERE digest IN"
            " (SELECT digest FROM dedupe WHERE until_ms <= ? ORDER BY until_ms LIMIT ?)",
            (before_ms, limit),
        )
        found = connection.execute(
            "SELECT seq, flow FROM execution WHERE end_time_ms < ? ORDER BY end_time_ms LIMIT ?",
            (min(before_ms, UNENDED), limit),
        ).fetchall()
        if not found:
            return Expired(0, [])
        # The highest number may be among them: remember it, so that it is never used again.
        connection.execute(
            "INSERT INTO counter (name, value) SELECT 'seq', max(seq) FROM execution WHERE true"
            " ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)"
        )
        first, last = min(found)[0], max(found)[0]
        seqs = {seq for seq, _ in found}
        blobs = [
            name
            for seq, name in connection.execute("SELECT seq, name FROM blob WHERE seq BETWEEN ? AND ?", (first, last))
            if seq in seqs
        ]
        for delete in _DELETES:
            delete.run(connection, [(seq,) for seq in seqs])
        for flow in {flow for _, flow in found}:
            forget_deleted_flow(connection, flow)
        return Expired(len(found), blobs)


def forget_deleted_flow(connection: sqlite3.Connection, key: int) -> None:
    """Remove a deleted flow's revisions when no execution of it is left."""
    if connection.execute("SELECT 1 FROM execution WHERE flow = ? LIMIT 1", (key,)).fetchone():
        return
    row = connection.execute(
        "SELECT flow_id FROM flow JOIN flow_key USING (flow_id) WHERE key = ? AND deleted", (key,)
    ).fetchone()
    if row:
        connection.execute("DELETE FROM flow_revision WHERE flow_id = ?", row)
        connection.execute("DELETE FROM flow WHERE flow_id = ?", row)
