"""The audit log in SQLite: a ring of entries; when it is full, the oldest are removed.

A program that fails again and again must not push out what people did. So a refusal like an earlier one (of the same
token, for the same method, with the same reason) is added to its entry instead of being one, for a day from the first.
A token has at most as many entries a day as there are methods and reasons, however often it calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import apsw
import attrs
from typing_extensions import override

from flowhook.model.audit import AuditEntry
from router.storage.limits import DEFAULT_PAGE
from router.storage.readers import Readers, reading
from router.storage.writer import Writer, WriterOperation

MAX_ENTRIES: Final = 100_000
MAX_EXAMINED: Final = 10_000  # entries that one page examines at most
AGGREGATED_MS: Final = 24 * 3600 * 1000  # time from the first refusal of an entry in which others are added to it
MAX_KINDS: Final = 10_000
"""Kinds of refusals that are remembered; beyond it the one that began first has a new entry next time."""
_NEWEST: Final = (1 << 63) - 1
_COLUMNS: Final = "number, time_ms, actor, action, target, reason, error, calls, last_time_ms, address"
_REPEATED: Final = (
    "UPDATE audit_entry SET calls = calls + 1, last_time_ms = ?, target = ?, reason = ?, address = ? WHERE number = ?"
)
_FOUND: Final = f"""
SELECT {_COLUMNS} FROM (SELECT {_COLUMNS} FROM audit_entry WHERE number < ? ORDER BY number DESC LIMIT {MAX_EXAMINED})
WHERE (?2 = '' OR actor = ?2) AND (?3 = '' OR action = ?3) AND (?4 = '' OR instr(target, ?4))
ORDER BY number DESC LIMIT ?5
"""  # noqa: S608 - constants
_OLDEST_EXAMINED: Final = (
    f"SELECT number FROM audit_entry WHERE number < ? ORDER BY number DESC LIMIT 1 OFFSET {MAX_EXAMINED}"  # noqa: S608 - constants
)


class AuditFilter(NamedTuple):
    """Conditions on entries of the audit log, all of which must hold; an empty one holds for any. See `AuditEntry`."""

    actor: str = ""
    action: str = ""
    target: str = ""


class AuditOperation(WriterOperation):
    """Adds entries, or adds to them, and removes those beyond the limit."""

    order = 8

    def __init__(self) -> None:
        self._last = 0
        self._refusals: dict[tuple[str, str, str], tuple[int, int]] = {}
        """Number and time of the first call of recent entries, by actor, action and error; in the order of numbers."""

    @override
    def reload(self, connection: apsw.Connection) -> None:
        self._last = connection.execute("SELECT coalesce(max(number), 0) FROM audit_entry").get
        found = connection.execute(
            "SELECT actor, action, error, number, time_ms FROM audit_entry"
            " WHERE number > ? AND error <> '' ORDER BY number",
            (self._last - MAX_KINDS,),
        )
        self._refusals = {(actor, action, error): (number, time) for actor, action, error, number, time in found}

    @override
    def apply(self, connection: apsw.Connection, arguments: Sequence[AuditEntry]) -> list[Any]:
        for entry in arguments:
            if not self._repeats(connection, entry):
                self._insert(connection, entry)
        connection.execute("DELETE FROM audit_entry WHERE number <= ?", (self._last - MAX_ENTRIES,))
        return [None] * len(arguments)

    def _repeats(self, connection: apsw.Connection, entry: AuditEntry) -> bool:
        """Add a refusal to the entry of earlier ones; return whether there is one."""
        number, first_ms = self._refusals.get((entry.actor, entry.action, entry.error), (0, 0))
        if not number or not 0 <= entry.time_ms - first_ms < AGGREGATED_MS:
            return False
        connection.execute(_REPEATED, (entry.time_ms, entry.target, entry.reason, entry.address, number))
        return connection.changes() > 0

    def _insert(self, connection: apsw.Connection, entry: AuditEntry) -> None:
        self._last += 1
        stored = entry._replace(number=self._last, last_time_ms=entry.last_time_ms or entry.time_ms)
        connection.execute(
            f"INSERT INTO audit_entry ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - constants
            stored,
        )
        if entry.error:
            kind = (entry.actor, entry.action, entry.error)
            self._refusals.pop(kind, None)
            self._refusals[kind] = (self._last, entry.time_ms)
            if len(self._refusals) > MAX_KINDS:
                del self._refusals[next(iter(self._refusals))]


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
    start = _NEWEST if before_number is None else before_number
    entries = [AuditEntry(*row) for row in connection.execute(_FOUND, (start, *audit_filter, limit + 1))]
    if len(entries) > limit:
        return entries[:limit], entries[limit - 1].number
    beyond = connection.execute(_OLDEST_EXAMINED, (start,)).fetchone()
    return entries, None if beyond is None else beyond[0] + 1


@attrs.define(eq=False, repr=False)
class AuditLog:
    """A bounded log of calls that changed something: the oldest entries make room for new ones."""

    _writer: Writer
    _readers: Readers
    _operation: AuditOperation

    page = reading(_page)

    async def add(self, entry: AuditEntry) -> None:
        """Add an entry, ignoring its `number`."""
        size = sum(len(each) for each in entry if isinstance(each, str))
        await self._writer.call(self._operation, entry, size=size)
