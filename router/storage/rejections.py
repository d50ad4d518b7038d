"""The log of rejected requests: a ring buffer for each flow, and one for all flows together.

Requests that were not refused, and became no execution either, are in buffers of the same size beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import apsw

from flowhook.model.rejections import RejectionCount
from router.storage.limits import DEFAULT_PAGE
from router.storage.part import StoragePart, reading, writing
from router.storage.statements import BEFORE, trim

MAX_OF_FLOW: Final = 100
MAX_IN_ALL: Final = 10_000
KEPT_MS: Final = 7 * 24 * 3600 * 1000

_COLUMNS = (
    "number, id, flow_id, time_ms, content, reason, NULL, coalesce(accepted_id, ''), coalesce(accepted_by, ''),"
    " accept_time_ms, outcome"
)


REFUSED: Final = "refused"  # the outcome of a request that was refused; others are of those that were not


class StoredRejection(NamedTuple):
    """A rejected request as stored, or another that became no execution; times in Unix ms."""

    number: int  # assigned by storage, ascending
    id: str
    flow_id: str  # that the request was for
    time_ms: int
    content: bytes  # opaque
    reason: str = ""  # stable cause
    sealed: bytes | None = None  # the request with its credentials, encrypted; None: not stored, or not read
    # of the event that it was accepted as or, if it was not refused, of the execution that it is about, and is erased
    # together with; empty: none
    accepted_id: str = ""
    accepted_by: str = ""  # name of the token
    accept_time_ms: int | None = None
    outcome: str = REFUSED


def _add(connection: apsw.Connection, rejections: Sequence[StoredRejection]) -> None:
    """Add rejections, ignoring their `number`. A rejection whose ID is already stored is skipped."""
    # edges report a little later: what they say of an execution that was erased meanwhile is not stored
    connection.executemany(
        "INSERT INTO rejection (id, flow_id, time_ms, content, reason, sealed, accepted_id, outcome)"
        " SELECT ?, ?, ?, ?, ?, ?, nullif(?7, ''), ?"
        " WHERE NOT EXISTS (SELECT 1 FROM erasure WHERE execution_id = ?7) ON CONFLICT (id) DO NOTHING",
        [(*row[1:8], row.outcome) for row in rejections],
    )
    for flow_id, outcome in {(row.flow_id, row.outcome) for row in rejections}:
        trim(connection, "rejection", MAX_OF_FLOW, "flow_id = ?1 AND outcome = ?2", flow_id, outcome)
    # what was refused, and can be accepted, does not make room for what was not
    for is_refused in {row.outcome == REFUSED for row in rejections}:
        trim(connection, "rejection", MAX_IN_ALL, f"(outcome = '{REFUSED}') = ?1", is_refused)
    newest = max((row.time_ms for row in rejections), default=0)
    connection.execute(  # they are in order of time, nearly: those that are kept are not looked at
        "DELETE FROM rejection WHERE number <"
        " (SELECT number FROM rejection WHERE time_ms >= ? ORDER BY number LIMIT 1)",
        (newest - KEPT_MS,),
    )


def _accepted(connection: apsw.Connection, rejection_id: str, event_id: str, *, by: str, now_ms: int) -> None:
    """Record that a rejected request was accepted as an event, and by whom, and delete its encrypted form.

    Without effect if the rejection is no longer stored, or was accepted before.
    """
    connection.execute(
        "UPDATE rejection SET accepted_id = ?, accepted_by = ?, accept_time_ms = ?, sealed = NULL"
        " WHERE id = ? AND accepted_id IS NULL",
        (event_id, by, now_ms, rejection_id),
    )


def _page(
    connection: apsw.Connection,
    *,
    flow_id: str = "",
    reason: str = "",
    outcome: str = REFUSED,
    before_number: int | None = None,
    limit: int = DEFAULT_PAGE,
) -> list[StoredRejection]:
    """Return stored requests, newest first; an empty `flow_id`, `reason` or `outcome` is any."""
    given = {name: value for name, value in (("flow_id", flow_id), ("reason", reason), ("outcome", outcome)) if value}
    where = "".join(f" AND {name} = ?" for name in given)
    query = f"SELECT {_COLUMNS} FROM rejection WHERE number < {BEFORE}{where} ORDER BY number DESC LIMIT ?"  # noqa: S608 - constants
    return [StoredRejection(*row) for row in connection.execute(query, (before_number, *given.values(), limit))]


def _get(connection: apsw.Connection, rejection_id: str) -> StoredRejection | None:
    """Return a rejection without `sealed`, or None when it is not stored (any more)."""
    row = connection.execute(f"SELECT {_COLUMNS} FROM rejection WHERE id = ?", (rejection_id,)).fetchone()  # noqa: S608
    return None if row is None else StoredRejection(*row)


def _sealed(connection: apsw.Connection, rejection_id: str) -> bytes | None:
    """Return the encrypted request of a rejection, or None when it is not stored (any more)."""
    sealed: bytes | None = connection.execute("SELECT sealed FROM rejection WHERE id = ?", (rejection_id,)).get
    return sealed


def _count(connection: apsw.Connection, *, flow_id: str = "", limit: int) -> list[RejectionCount]:
    """Count rejections by flow and reason; return up to `limit` counts, the greatest first."""
    where, values = (" AND flow_id = ?", (flow_id, limit)) if flow_id else ("", (limit,))
    rows = connection.execute(
        "SELECT flow_id, reason, count(*) AS number, min(time_ms), max(time_ms) FROM rejection"  # noqa: S608 - constants
        f" WHERE outcome = '{REFUSED}'{where} GROUP BY flow_id, reason ORDER BY number DESC, flow_id, reason LIMIT ?",
        values,
    )
    return [RejectionCount(*row) for row in rows]


def _tests(connection: apsw.Connection, execution_ids: Sequence[str]) -> set[str]:
    """Return those of the executions that were started by a test event, as far as that is still stored."""
    marks = ",".join("?" * len(execution_ids))
    query = f"SELECT accepted_id FROM rejection WHERE outcome = 'test' AND accepted_id IN ({marks})"  # noqa: S608 - marks
    return {execution_id for (execution_id,) in connection.execute(query, execution_ids)}


def _size(rejections: Sequence[StoredRejection]) -> int:
    return sum(len(each.content) + len(each.sealed or b"") for each in rejections)


class RejectionLog(StoragePart):
    """A bounded log of rejected and other requests: the oldest of a flow, and of all flows, make room for new ones."""

    page = reading(_page)
    get = reading(_get)
    sealed = reading(_sealed)
    count = reading(_count)
    tests = reading(_tests)
    add = writing(_add, size=_size, refusable=True)
    accepted = writing(_accepted)
