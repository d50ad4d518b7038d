"""The audit log in SQLite: a ring of entries; when it is full, the oldest are removed.

A program that fails again and again must not push out what people did. So a refusal like an earlier one (of the same
token, for the same method, with the same reason) is added to its entry instead of being one, for a day from the first.
A token has at most as many entries a day as there are methods and reasons, however often it calls.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import apsw

from flowhook.model.audit import AuditEntry
from router.storage.limits import DEFAULT_PAGE
from router.storage.part import StoragePart, reading, writing
from router.storage.statements import BEFORE

MAX_ENTRIES: Final = 100_000
MAX_EXAMINED: Final = 10_000  # entries that one page examines at most
AGGREGATED_MS: Final = 24 * 3600 * 1000  # time from the first refusal of an entry in which others are added to it
_COLUMNS: Final = ", ".join(AuditEntry._fields)
_REPEAT: Final = """
UPDATE audit_entry SET calls = calls + 1, last_time_ms = :time_ms, target = :target, reason = :reason,
  address = :address
WHERE number = (SELECT max(number) FROM audit_entry WHERE error <> '' AND actor = :actor AND action = :action
  AND error = :error) AND :time_ms - time_ms BETWEEN 0 AND :span - 1 RETURNING 1
"""
_FOUND: Final = f"""
SELECT {_COLUMNS}
FROM (SELECT {_COLUMNS} FROM audit_entry WHERE number < {BEFORE} ORDER BY number DESC LIMIT {MAX_EXAMINED})
WHERE (?2 = '' OR actor = ?2) AND (?3 = '' OR action = ?3) AND (?4 = '' OR instr(target, ?4))
ORDER BY number DESC LIMIT ?5
"""  # noqa: S608 - constants
_OLDEST_EXAMINED: Final = (
    f"SELECT number FROM audit_entry WHERE number < {BEFORE} ORDER BY number DESC LIMIT 1 OFFSET {MAX_EXAMINED}"  # noqa: S608 - constants
)


class AuditFilter(NamedTuple):
    """Conditions on entries of the audit log, all of which must hold; an empty one holds for any. See `AuditEntry`."""

    actor: str = ""
    action: str = ""
    target: str = ""


def _add(connection: apsw.Connection, entry: AuditEntry) -> None:
    """Add an entry, ignoring its `number`, and remove those beyond the limit."""
    if entry.error and connection.execute(_REPEAT, entry._asdict() | {"span": AGGREGATED_MS}).get:
        return
    number: int = connection.execute("SELECT coalesce(max(number), 0) + 1 FROM audit_entry").get
    connection.execute(
        f"INSERT INTO audit_entry ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - constants
        entry._replace(number=number, last_time_ms=entry.last_time_ms or entry.time_ms),
    )
    connection.execute("DELETE FROM audit_entry WHERE number <= ?", (number - MAX_ENTRIES,))


def _page(
    connection: apsw.Connection,
    audit_filter: AuditFilter,
    *,
    before_number: int | None = None,
    limit: int = DEFAULT_PAGE,
) -> tuple[list[AuditEntry], int | None]:
    """Return entries that meet the conditions, newest first; and `before_number` of the next page, if there is one.

    A page examines a bounded number of entries, so it may have fewer than `limit` before the last page.
    """
    entries = [AuditEntry(*row) for row in connection.execute(_FOUND, (before_number, *audit_filter, limit + 1))]
    if len(entries) > limit:
        return entries[:limit], entries[limit - 1].number
    beyond = connection.execute(_OLDEST_EXAMINED, (before_number,)).fetchone()
    return entries, None if beyond is None else beyond[0] + 1


class AuditLog(StoragePart):
    """A bounded log of calls that changed something: the oldest entries make room for new ones."""

    page = reading(_page)
    add = writing(_add, size=lambda entry: sum(len(each) for each in entry if isinstance(each, str)))
