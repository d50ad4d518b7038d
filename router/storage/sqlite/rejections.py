"""The log of rejected requests: a ring buffer for each flow, and one for all flows together."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import apsw

from router.storage.interface import DEFAULT_PAGE
from router.storage.model import StoredRejection
from router.storage.sqlite.readers import Readers
from router.storage.sqlite.writer import Writer

MAX_OF_FLOW: Final = 100
MAX_IN_ALL: Final = 10_000
KEPT_MS: Final = 7 * 24 * 3600 * 1000

_ALL: Final = (1 << 63) - 1
_COLUMNS = "number, id, flow_id, time_ms, content"


class RejectOperation:
    """Adds rejections, and removes those beyond the limits of number and age."""

    order = 7

    def reload(self, connection: apsw.Connection) -> None:
        """See `WriterOperation`."""

    def apply(self, connection: apsw.Connection, arguments: Sequence[Sequence[StoredRejection]]) -> list[Any]:
        """See `WriterOperation`."""
        rows = [row for argument in arguments for row in argument]
        connection.executemany(
            "INSERT INTO rejection (id, flow_id, time_ms, content) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
            [(row.id, row.flow_id, row.time_ms, row.content) for row in rows],
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
        return [None] * len(arguments)

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
        size = sum(len(each.content) for each in rejections)
        await self._writer.call(self._operation, rejections, size=size, refusable=True)

    async def page(
        self, *, flow_id: str = "", before_number: int | None = None, limit: int = DEFAULT_PAGE
    ) -> list[StoredRejection]:
        """See `interface.RejectionLog`."""
        return await self._readers.run(partial(_page, flow_id=flow_id, before=before_number, limit=limit))

    async def get(self, rejection_id: str) -> StoredRejection | None:
        """See `interface.RejectionLog`."""
        return await self._readers.run(lambda connection: _get(connection, rejection_id))


def _page(connection: apsw.Connection, *, flow_id: str, before: int | None, limit: int) -> list[StoredRejection]:
    of_flow = " AND flow_id = ?" if flow_id else ""
    values = (_ALL if before is None else before, *([flow_id] if flow_id else []), limit)
    query = f"SELECT {_COLUMNS} FROM rejection WHERE number < ?{of_flow} ORDER BY number DESC LIMIT ?"  # noqa: S608 - constants
    rows = connection.execute(query, values)
    return [StoredRejection(*row) for row in rows]


def _get(connection: apsw.Connection, rejection_id: str) -> StoredRejection | None:
    row = connection.execute(f"SELECT {_COLUMNS} FROM rejection WHERE id = ?", (rejection_id,)).fetchone()  # noqa: S608
    return None if row is None else StoredRejection(*row)
