"""Stores and reads links between executions: which one caused which, and how."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import apsw

from flowhook.model.executions import LinkKind
from router.storage.causes import StoredLink, StoredLinks
from router.storage.model import LoggedEvent
from router.storage.sqlite.statements import BatchStatement

CODES: Final = {LinkKind.RUN: 1, LinkKind.EVENT: 2, LinkKind.LISTEN: 4}
"""Bits of the column `kinds`."""

_INSERT_CAUSES = BatchStatement(
    "INSERT INTO cause (seq, caused_by, kinds) SELECT * FROM (VALUES {rows}) WHERE column1 NOT NULL"
    " ON CONFLICT (seq, caused_by) DO UPDATE SET kinds = kinds | excluded.kinds",
    3,
)
_INSERT_EMITTERS = BatchStatement(
    "INSERT INTO cause (seq, caused_by, kinds) SELECT column1, a.emitter, 4 FROM (VALUES {rows})"
    " CROSS JOIN inbound_event a ON a.number = column2 WHERE a.emitter NOT NULL"
    " AND EXISTS (SELECT 1 FROM execution WHERE seq = column1 AND end_time_ms = {unended})"
    " ON CONFLICT (seq, caused_by) DO UPDATE SET kinds = kinds | excluded.kinds",
    2,
)
# IDs sort by time, so the newest emitters are the last ones.
_TRIM_EMITTERS = BatchStatement(
    "DELETE FROM cause WHERE (seq, caused_by) IN (SELECT c.seq, c.caused_by FROM (VALUES {rows})"
    " CROSS JOIN cause c ON c.seq = column1 WHERE c.kinds = 4 AND c.caused_by < (SELECT b.caused_by FROM cause b"
    " WHERE b.seq = column1 ORDER BY b.caused_by DESC LIMIT 1 OFFSET {emitters} - 1))",
    1,
)


def insert_causes(connection: apsw.Connection, new: Sequence[LoggedEvent]) -> None:
    """Insert the causes of new executions."""
    _INSERT_CAUSES.run(
        connection, [(seq, cause.execution_id, CODES[cause.kind]) for seq, event in new for cause in event.causes]
    )


def insert_emitters(connection: apsw.Connection, received: Sequence[tuple[int, int]]) -> None:
    """Insert the emitters of arrivals that are still stored as causes of executions that received them.

    `received`: sequence numbers of executions, and numbers of arrivals.
    """
    _INSERT_EMITTERS.run(connection, received)
    _TRIM_EMITTERS.run(connection, list({(seq,) for seq, _ in received}))


def links_of(connection: apsw.Connection, execution_id: str, limit: int) -> StoredLinks:
    """Return the links of an execution; see `interface.ShardState.links`."""
    causes = connection.execute(
        "SELECT caused_by, kinds FROM cause WHERE seq = (SELECT seq FROM execution WHERE event_id = ?)"
        " ORDER BY caused_by DESC",
        (execution_id,),
    ).fetchall()
    caused = connection.execute(
        "SELECT e.event_id, c.kinds FROM cause c INDEXED BY cause_by_causing CROSS JOIN execution e USING (seq)"
        " WHERE c.caused_by = ? ORDER BY c.seq DESC LIMIT ?",
        (execution_id, limit),
    ).fetchall()
    return StoredLinks(_links(causes), _links(caused))


def _links(rows: Sequence[tuple[Any, ...]]) -> list[StoredLink]:
    return [
        StoredLink(execution_id, tuple(kind for kind, bit in CODES.items() if kinds & bit))
        for execution_id, kinds in rows
    ]
