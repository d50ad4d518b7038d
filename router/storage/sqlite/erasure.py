"""Erases what is stored of an event: the execution that it started, all replays of it, and what refers to them.

The rows go in one transaction, with everything in them. What SQLite leaves of them in the file is overwritten after it
(see `wiping`), by each router in its own copy: they find out what to wipe in the table `erasure`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final, NamedTuple

import apsw

from flowhook.errors import ConflictError, FlowhookError, NotFoundError
from router.storage.model import Erasure
from router.storage.sqlite.expiry import remove_executions
from router.storage.sqlite.schema import UNENDED
from router.storage.sqlite.statements import BatchStatement

MAX_ERASURES: Final = 10_000
"""Executions of which it stays known that they were erased; the oldest are forgotten."""

_FAMILY: Final = (
    "WITH root (id) AS (SELECT coalesce(replay_root, event_id) FROM execution WHERE event_id = ?)"
    " SELECT e.seq, e.event_id, e.flow, e.end_time_ms, root.id FROM root CROSS JOIN execution e"
    " ON e.event_id = root.id UNION ALL"
    " SELECT e.seq, e.event_id, e.flow, e.end_time_ms, root.id FROM root CROSS JOIN execution e"
    " INDEXED BY replay_by_root ON e.replay_root = root.id ORDER BY 1"
)
_DELETE_LIFECYCLE = BatchStatement("DELETE FROM lifecycle_event WHERE seq IN ({rows})", 0)
_DELETE_INBOUND = BatchStatement("DELETE FROM inbound_event WHERE number IN ({rows})", 0)
_DELETE_DEDUPE = BatchStatement("DELETE FROM dedupe WHERE digest IN ({rows})", 0)
_DELETE_REJECTIONS = BatchStatement("DELETE FROM rejection WHERE id IN ({rows})", 0)
_DELETE_ACCEPTED = BatchStatement("DELETE FROM rejection WHERE accepted_id IN ({rows})", 0)
_CLEAR_REASONS = BatchStatement("UPDATE audit SET reason = '' WHERE number IN ({rows})", 0)
_CLEAR_MESSAGES = BatchStatement(
    "UPDATE job_item SET message = '' WHERE (job, number) IN (SELECT column1, column2 FROM (VALUES {rows}))", 2
)
_INSERT = BatchStatement(
    "INSERT OR REPLACE INTO erasure (number, execution_id, root, flow_id, time_ms)"
    " SELECT * FROM (VALUES {rows}) WHERE column1 NOT NULL",
    5,
)


class References(NamedTuple):
    """Rows that refer to executions, by their keys; found beforehand, because that reads whole tables.

    Attributes:
        dedupe: digests of dedupe keys.
        inbound: events addressed to the executions, or emitted by them, that nobody has received yet.
        audit: entries about them.
        job_items: items of jobs about them, by job and number.
    """

    dedupe: Sequence[tuple[Any, ...]] = ()
    inbound: Sequence[tuple[Any, ...]] = ()
    audit: Sequence[tuple[Any, ...]] = ()
    job_items: Sequence[tuple[Any, ...]] = ()


class EraseRequest(NamedTuple):
    """Erases the event of an execution.

    Attributes:
        execution_id: the execution, or a replay of it.
        references: rows that refer to them.
        rejections: IDs of rejections of the same request.
        now_ms: Unix time.
    """

    execution_id: str
    references: References
    rejections: Collection[str]
    now_ms: int


class EraseResult(NamedTuple):
    """What was erased, and the blobs that are no longer needed."""

    erasure: Erasure
    blobs: list[str]


class EraseOperation:
    """Erases the events of executions that have ended."""

    order = 4

    def reload(self, connection: apsw.Connection) -> None:
        """See `WriterOperation`."""

    def apply(
        self, connection: apsw.Connection, arguments: Sequence[EraseRequest]
    ) -> list[EraseResult | FlowhookError]:
        """See `WriterOperation`."""
        return [_erase(connection, each) for each in arguments]

    def committed(self, results: Sequence[Any]) -> None:
        """See `WriterOperation`."""


def find_references(connection: apsw.Connection, execution_id: str) -> References:
    """Return the rows that refer to the executions of an event."""
    family: list[Any] = connection.execute(_FAMILY, (execution_id,)).fetchall()
    seqs, ids = {row[0] for row in family}, {row[1] for row in family}
    if not family:
        return References()
    marks = ", ".join("?" * len(ids))
    numbers = ", ".join("?" * len(seqs))
    named = [
        number
        for (number, target) in connection.execute("SELECT number, target FROM audit WHERE reason <> ''")
        if not ids.isdisjoint(target.replace(",", " ").split())
    ]
    return References(
        connection.execute(f"SELECT digest FROM dedupe WHERE event_id IN ({marks})", (*ids,)).fetchall(),  # noqa: S608
        connection.execute(
            f"SELECT number FROM inbound_event WHERE seq IN ({numbers}) OR emitter IN ({marks})",  # noqa: S608
            (*seqs, *ids),
        ).fetchall(),
        [(number,) for number in named],
        connection.execute(
            "SELECT job, number FROM job_item WHERE message <> ''"  # noqa: S608
            f" AND (execution_id IN ({marks}) OR new_execution_id IN ({marks}))",
            (*ids, *ids),
        ).fetchall(),
    )


def find_erasure(connection: apsw.Connection, execution_id: str) -> Erasure | None:
    """Return the erasure of an execution; None: it was not erased, or that is forgotten."""
    rows: list[Any] = connection.execute(
        "SELECT execution_id, flow_id, time_ms FROM erasure"
        " WHERE root = (SELECT root FROM erasure WHERE execution_id = ?) ORDER BY number",
        (execution_id,),
    ).fetchall()
    return Erasure(tuple(row[0] for row in rows), rows[0][1], rows[0][2]) if rows else None


def last_erasure(connection: apsw.Connection) -> int:
    """Return the number of the last erasure; 0: nothing was ever erased."""
    number: int = connection.execute("SELECT coalesce(max(number), 0) FROM erasure").get
    return number


def _erase(connection: apsw.Connection, request: EraseRequest) -> EraseResult | FlowhookError:
    family: list[Any] = connection.execute(_FAMILY, (request.execution_id,)).fetchall()
    if not family:
        return NotFoundError(f"there is no execution {request.execution_id[:64]}", reason="EXECUTION_NOT_FOUND")
    unended = [event_id for _, event_id, _, end_time_ms, _ in family if end_time_ms == UNENDED]
    if unended:
        return ConflictError(f"{unended[0]} has not ended", reason="EXECUTION_NOT_ENDED")
    seqs, ids = [(row[0],) for row in family], [(row[1],) for row in family]
    references, root = request.references, family[0][4]
    flow_id: str = connection.execute("SELECT flow_id FROM flow_key WHERE key = ?", (family[0][2],)).get
    blobs = remove_executions(connection, seqs)
    _DELETE_LIFECYCLE.run(connection, seqs)
    _DELETE_INBOUND.run(connection, references.inbound)
    _DELETE_DEDUPE.run(connection, references.dedupe)
    _CLEAR_REASONS.run(connection, references.audit)
    _CLEAR_MESSAGES.run(connection, references.job_items)
    _DELETE_REJECTIONS.run(connection, [(each,) for each in request.rejections])
    _DELETE_ACCEPTED.run(connection, ids)
    first = last_erasure(connection) + 1
    _INSERT.run(
        connection, [(first + index, event_id, root, flow_id, request.now_ms) for index, (event_id,) in enumerate(ids)]
    )
    connection.execute("DELETE FROM erasure WHERE number <= ?", (first + len(ids) - 1 - MAX_ERASURES,))
    return EraseResult(Erasure(tuple(event_id for (event_id,) in ids), flow_id, request.now_ms), blobs)
