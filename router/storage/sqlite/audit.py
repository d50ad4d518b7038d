"""The audit log in SQLite: a ring of entries; when it is full, the oldest are removed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import apsw

from flowhook.audit_entry import AuditEntry
from router.storage.limits import DEFAULT_PAGE
from router.storage.model import AuditFilter
from router.storage.sqlite.readers import Readers
from router.storage.sqlite.writer import Writer

MAX_ENTRIES: Final = 100_000
MAX_EXAMINED: Final = 10_000
"""Entries that one page examines at most."""

_NEWEST: Final = (1 << 63) - 1
_COLUMNS: Final = "number, time_ms, actor, action, target, reason, error"
_FOUND: Final = f"""
SELECT {_COLUMNS} FROM (SELECT {_COLUMNS} FROM audit WHERE number < ? ORDER BY number DESC LIMIT {MAX_EXAMINED})
WHERE (?2 = '' OR actor = ?2) AND (?3 = '' OR action = ?3) AND (?4 = '' OR instr(target, ?4))
ORDER BY number DESC LIMIT ?5
"""  # noqa: S608 - constants
_OLDEST_EXAMINED: Final = (
    f"SELECT number FROM audit WHERE number < ? ORDER BY number DESC LIMIT 1 OFFSET {MAX_EXAMINED}"  # noqa: S608 - constants
)


class AuditOperation:
    """Adds entries, and removes those beyond the limit."""

    order = 8

    def __init__(self) -> None:
        self._last = 0

    def reload(self, connection: apsw.Connection) -> None:
        """See `WriterOperation`."""
        self._last = connection.execute("SELECT coalesce(max(number), 0) FROM audit").get

    def apply(self, connection: apsw.Connection, arguments: Sequence[AuditEntry]) -> list[Any]:
        """See `WriterOperation`."""
        numbered = list(enumerate(arguments, self._last + 1))
        connection.executemany(
            f"INSERT INTO audit ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - constants
            [(number, *entry[1:]) for number, entry in numbered],
        )
        self._last += len(numbered)
        connection.execute("DELETE FROM audit WHERE number <= ?", (self._last - MAX_ENTRIES,))
        return [None] * len(arguments)

    def committed(self, results: Sequence[Any]) -> None:
        """See `WriterOperation`."""


class SqliteAuditLog:
    """SQLite implementation of `interface.AuditLog`."""

    def __init__(self, writer: Writer, readers: Readers, operation: AuditOperation) -> None:
        self._writer = writer
        self._readers = readers
        self._operation = operation

    async def add(self, entry: AuditEntry) -> None:
        """See `interface.AuditLog`."""
        await self._writer.call(self._operation, entry, size=sum(map(len, entry[2:])), refusable=False)

    async def page(
        self, wanted: AuditFilter, *, before_number: int | None = None, limit: int = DEFAULT_PAGE
    ) -> tuple[list[AuditEntry], int | None]:
        """See `interface.AuditLog`."""
        return await self._readers.run(partial(_page, wanted=wanted, before=before_number, limit=limit))


def _page(
    connection: apsw.Connection, *, wanted: AuditFilter, before: int | None, limit: int
) -> tuple[list[AuditEntry], int | None]:
    start = _NEWEST if before is None else before
    entries = [AuditEntry(*row) for row in connection.execute(_FOUND, (start, *wanted, limit + 1))]
    if len(entries) > limit:
        return entries[:limit], entries[limit - 1].number
    beyond = connection.execute(_OLDEST_EXAMINED, (start,)).fetchone()
    return entries, None if beyond is None else beyond[0] + 1
