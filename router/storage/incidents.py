"""The log of incidents: a bounded number of those that are over, and all that are open."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import apsw
import orjson

from flowhook.model.incidents import Incident, IncidentNote
from router.storage.limits import DEFAULT_PAGE
from router.storage.part import StoragePart, reading, writing
from router.storage.statements import BEFORE, trim

MAX_CLOSED: Final = 1000
_COLUMNS: Final = "number, announced, id, destination, open_time_ms, close_time_ms, content"


class StoredIncident(NamedTuple):
    """An incident as stored, without what is only true now."""

    incident: Incident
    number: int = 0  # assigned by storage, ascending
    announced: int = 0  # number of lifecycle events that were published of it: of its opening, then of its end


def _save(connection: apsw.Connection, incidents: Sequence[Incident]) -> None:
    """Add incidents, or replace what is stored of them."""
    connection.executemany(
        "INSERT INTO incident (id, destination, open_time_ms, close_time_ms, content) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET close_time_ms = excluded.close_time_ms, content = excluded.content",
        [(each.id, each.destination, each.open_time_ms, each.close_time_ms, _dump(each)) for each in incidents],
    )
    trim(connection, "incident", MAX_CLOSED, "close_time_ms NOT NULL")


def _announced(connection: apsw.Connection, incident_id: str, announced: int) -> None:
    """Record how many lifecycle events of an incident were published."""
    connection.execute("UPDATE incident SET announced = ? WHERE id = ?", (announced, incident_id))


def _dump(incident: Incident) -> bytes:
    notes = [[*each] for each in incident.history]
    return orjson.dumps([incident.cause, incident.flows, incident.failures, incident.probes, notes])


def _select(connection: apsw.Connection, condition: str, *values: Any) -> list[StoredIncident]:
    found = []
    rows = connection.execute(f"SELECT {_COLUMNS} FROM incident WHERE {condition}", values)  # noqa: S608 - constants
    for number, announced, incident_id, destination, open_time_ms, close_time_ms, content in rows:
        cause, flows, failures, probes, history = orjson.loads(content)
        notes = tuple(IncidentNote(*each) for each in history)
        incident = Incident(
            incident_id, destination, cause, open_time_ms, close_time_ms, tuple(flows), failures, probes, notes
        )
        found.append(StoredIncident(incident, number, announced))
    return found


def _open(connection: apsw.Connection) -> list[StoredIncident]:
    """Return those that are open, the oldest first."""
    return _select(connection, "close_time_ms IS NULL ORDER BY number")


def _closed(
    connection: apsw.Connection, *, before_number: int | None = None, limit: int = DEFAULT_PAGE
) -> list[StoredIncident]:
    """Return those that are over, the newest first."""
    condition = f"close_time_ms NOT NULL AND number < {BEFORE} ORDER BY number DESC LIMIT ?"
    return _select(connection, condition, before_number, limit)


def _unannounced(connection: apsw.Connection) -> list[StoredIncident]:
    """Return those of which a lifecycle event is to be published."""
    return _select(connection, "announced < 1 + (close_time_ms NOT NULL) ORDER BY number")


def _get(connection: apsw.Connection, incident_id: str) -> StoredIncident | None:
    return next(iter(_select(connection, "id = ?", incident_id)), None)


class IncidentLog(StoragePart):
    """Incidents: the oldest of those that are over make room for new ones."""

    open = reading(_open)
    closed = reading(_closed)
    unannounced = reading(_unannounced)
    get = reading(_get)
    save = writing(_save, size=lambda incidents: sum(256 + len(_dump(each)) for each in incidents))
    announced = writing(_announced)
