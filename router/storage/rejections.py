"""The log of rejected requests: a ring buffer for each flow, and one for all flows together."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import apsw
import attrs
from typing_extensions import override

from flowhook.model.rejections import RejectionCount
from router.storage.limits import DEFAULT_PAGE
from router.storage.readers import Readers
from router.storage.writer import Writer, WriterOperation

MAX_OF_FLOW: Final = 100
MAX_IN_ALL: Final = 10_000
KEPT_MS: Final = 7 * 24 * 3600 * 1000

_ALL: Final = (1 << 63) - 1
_COLUMNS = "number, id, flow_id, time_ms, content, reason, accepted_id, accepted_by, accept_time_ms"


class StoredRejection(NamedTuple):
    """A rejected request as stored.

    Attributes:
        number: assigned by storage, ascending.
        id: its ID.
        flow_id: flow that the request was for.
        time_ms: when it was rejected, Unix ms.
        content: opaque.
        reason: stable cause.
        sealed: the request with its credentials, encrypted; None: it is not stored, or not read (see `RejectionLog`).
        accepted_id: ID of the event that it was accepted as; empty: it was not.
        accepted_by: name of the token with which it was accepted.
        accept_time_ms: when it was accepted, Unix ms; None: it was not.
    """

    number: int
    id: str
    flow_id: str
    time_ms: int
    content: bytes
    reason: str = ""
    sealed: bytes | None = None
    accepted_id: str = ""
    accepted_by: str = ""
    accept_time_ms: int | None = None


class Acceptance(NamedTuple):
    """The acceptance of a rejected request as an event, by the token with a name, at a time in Unix ms."""

    rejection_id: str
    event_id: str
    by: str
    time_ms: int


class RejectOperation(WriterOperation):
    """Adds rejections, removes those beyond the limits of number and age, and records which were accepted."""

    order = 7

    @override
    def apply(
        self, connection: apsw.Connection, arguments: Sequence[Sequence[StoredRejection] | Acceptance]
    ) -> list[Any]:
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


@attrs.define(eq=False, repr=False)
class RejectionLog:
    """A bounded log of rejected requests: the oldest of a flow, and of all flows, make room for new ones."""

    _writer: Writer
    _readers: Readers
    _operation: RejectOperation

    async def add(self, rejections: Sequence[StoredRejection]) -> None:
        """Add rejections, ignoring their `number`. A rejection whose ID is already stored is skipped."""
        size = sum(len(each.content) + len(each.sealed or b"") for each in rejections)
        await self._writer.call(self._operation, rejections, size=size, refusable=True)

    async def page(
        self, *, flow_id: str = "", reason: str = "", before_number: int | None = None, limit: int = DEFAULT_PAGE
    ) -> list[StoredRejection]:
        """Return rejections, newest first, without `sealed`."""
        return await self._readers.run(
            partial(_page, flow_id=flow_id, reason=reason, before=before_number, limit=limit)
        )

    async def get(self, rejection_id: str) -> StoredRejection | None:
        """Return a rejection without `sealed`, or None when it is not stored (any more)."""
        return await self._readers.run(lambda connection: _get(connection, rejection_id))

    async def sealed(self, rejection_id: str) -> bytes | None:
        """Return the encrypted request of a rejection, or None when it is not stored (any more)."""
        return await self._readers.run(lambda connection: _sealed(connection, rejection_id))

    async def count(self, *, flow_id: str = "", limit: int) -> list[RejectionCount]:
        """Count rejections by flow and reason; return up to `limit` counts, the greatest first."""
        return await self._readers.run(partial(_count, flow_id=flow_id, limit=limit))

    async def accepted(self, rejection_id: str, event_id: str, *, by: str, now_ms: int) -> None:
        """Record that a rejected request was accepted as an event, and by whom, and delete its encrypted form.

        Without effect if the rejection is no longer stored, or was accepted before.
        """
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
