"""The log of rejected requests: a ring buffer for each flow, and one for all flows together."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import apsw

from router.storage.limits import DEFAULT_PAGE
from router.storage.model import StoredRejection
from router.storage.operator_logs import RejectionCount
from router.storage.sqlite.readers import Readers
from router.storage.sqlite.writer import Writer

MAX_OF_FLOW: Final = 100
MAX_IN_ALL: Final = 10_000
KEPT_MS: Final = 7 * 24 * 3600 * 1000

_ALL: Final = (1 << 63) - 1
_COLUMNS = "number, id, flow_id, time_ms, content, reason, accepted_id, accepted_by, accept_time_ms"


class Acceptance(NamedTuple):
    """The acceptance of a rejected request as an event, by the token with a name, at a time in Unix ms."""

    rejection_id: str
    event_id: str
    by: str
    time_ms: int


class RejectOperation:
    """Adds rejections, removes those beyond the limits of number and age, and records which were accepted."""

    order = 7

    def reload(self, connection: apsw.Connection) -> None:
        """See `WriterOperation`."""

    def apply(
        self, connection: apsw.Connection, arguments: Sequence[Sequence[StoredRejection] | Acceptance]
    ) -> list[Any]:
        """See `WriterOperation`."""
        acceptances = [each for each in arguments if isinstance(each, Acceptance)]
        self._add(connection, [row for each in arguments if not isinstance(each, Acceptance) for row in each])
        connection.executemany(
            "UPDATE rejection SET accepted_id = ?, accepted_by = ?, accept_time_ms = ?, sealed = NULL"
            " WHERE id = ? AND accepted_id IS NULL",
            [(each.event_id, each.by, each.time_ms, each.rejection_id) for each in acceptances],
        )
        return [None] * len(arguments)

    def _add(self, connection: apsw.Connection, rows: Sequence[StoredRejection]) -> None:
        connection.executemany(
            "INSERT INTO rejection (id, flow_id, time_ms, content, reason, sealed) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (id) DO NOTHING",
            [(row.id, row.flow_id, row.time_ms, row.content, row.reason, row.sealed) for row in rows],
        )
        for flow_id in {row.flow_id for row in rows}:
            connection.execute(
                "DELETE FROM rejection WHERE flow_id = ?1 AND number <="
                " (SELECT number FROM rejection WHERE flow_id = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2)",
                (flow_id, MAX_OF_FLOW),
            )
        connection.execute(
            "DELETE FROM rejection WHERE number <="
            " (SELECT number FROM rejection ORDER BY number DESC LIMIT 1 OFFSET ?)",
            (MAX_IN_ALL,),
        )
        newest = max((row.time_ms for row in rows), default=0)
        connection.execute("DELETE FROM rejection WHERE time_ms < ?", (newest - KEPT_MS,))

    def committed(self, results: Sequence[Any]) -> None:
        """See `WriterOperation`."""


class SqliteRejectionLog:
    """SQLite implementation of `interface.RejectionLog`."""

    def __init__(self, writer: Writer, readers: Readers, operation: RejectOperation) -> None:
        self._writer = writer
        self._readers = readers
        self._operation = operation

    async def add(self, rejections: Sequence[StoredRejection]) -> None:
        """See `interface.RejectionLog`."""
        size = sum(len(each.content) + len(each.sealed or b"") for each in rejections)
        await self._writer.call(self._operation, rejections, size=size, refusable=True)

    async def page(
        self, *, flow_id: str = "", reason: str = "", before_number: int | None = None, limit: int = DEFAULT_PAGE
    ) -> list[StoredRejection]:
        """See `interface.RejectionLog`."""
        return await self._readers.run(
            partial(_page, flow_id=flow_id, reason=reason, before=before_number, limit=limit)
        )

    async def get(self, rejection_id: str) -> StoredRejection | None:
        """See `interface.RejectionLog`."""
        return await self._readers.run(lambda connection: _get(connection, rejection_id))

    async def sealed(self, rejection_id: str) -> bytes | None:
        """See `interface.RejectionLog`."""
        return await self._readers.run(lambda connection: _sealed(connection, rejection_id))

    async def count(self, *, flow_id: str = "", limit: int) -> list[RejectionCount]:
        """See `interface.RejectionLog`."""
        return await self._readers.run(partial(_count, flow_id=flow_id, limit=limit))

    async def accepted(self, rejection_id: str, event_id: str, *, by: str, now_ms: int) -> None:
        """See `interface.RejectionLog`."""
        await self._writer.call(
            self._operation, Acceptance(rejection_id, event_id, by, now_ms), size=0, refusable=False
        )


def _page(
    connection: apsw.Connection, *, flow_id: str, reason: str, before: int | None, limit: int
) -> list[StoredRejection]:
    conditions = {"flow_id": flow_id, "reason": reason}
    given = {name: value for name, value in conditions.items() if value}
    where = "".join(f" AND {name} = ?" for name in given)
    query = f"SELECT {_COLUMNS} FROM rejection WHERE number < ?{where} ORDER BY number DESC LIMIT ?"  # noqa: S608 - constants
    return [
        _row(*row) for row in connection.execute(query, (_ALL if before is None else before, *given.values(), limit))
    ]


def _get(connection: apsw.Connection, rejection_id: str) -> StoredRejection | None:
    row = connection.execute(f"SELECT {_COLUMNS} FROM rejection WHERE id = ?", (rejection_id,)).fetchone()  # noqa: S608
    return None if row is None else _row(*row)


def _row(*row: Any) -> StoredRejection:
    *columns, accepted_id, accepted_by, accept_time_ms = row
    number, rejection_id, flow_id, time_ms, content, reason = columns
    return StoredRejection(
        number,
        rejection_id,
        flow_id,
        time_ms,
        content,
        reason,
        accepted_id=accepted_id or "",
        accepted_by=accepted_by or "",
        accept_time_ms=accept_time_ms,
    )


def _sealed(connection: apsw.Connection, rejection_id: str) -> bytes | None:
    row = connection.execute("SELECT sealed FROM rejection WHERE id = ?", (rejection_id,)).fetchone()
    return None if row is None else row[0]


def _count(connection: apsw.Connection, *, flow_id: str, limit: int) -> list[RejectionCount]:
    where, values = (" WHERE flow_id = ?", (flow_id, limit)) if flow_id else ("", (limit,))
    rows = connection.execute(
        "SELECT flow_id, reason, count(*) AS number, min(time_ms), max(time_ms) FROM rejection"  # noqa: S608 - constants
        f"{where} GROUP BY flow_id, reason ORDER BY number DESC, flow_id, reason LIMIT ?",
        values,
    )
    return [RejectionCount(*row) for row in rows]
