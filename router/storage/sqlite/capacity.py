"""Enforces the size limit of the database.

SQLite itself enforces the limit (`max_page_count`). New events are refused before it is reached, so that accepted
executions can still run and end: ending an execution takes space, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import apsw

from router.storage.sqlite.schema import PAGE_BYTES

PESSIMISM: Final = 2
"""Most space a row takes, in multiples of its own size: a page may be left half empty."""
MIN_BYTES: Final = 64 * PAGE_BYTES
"""Smallest limit: the empty tables take some of it."""


class Capacity:
    """The size limit of a database.

    Args:
        connection: used for writing.
        max_bytes: the limit; 0: only the disk limits it.
        append_share: share of the limit that new events may fill.
        log_room: returns the bytes that new events may take elsewhere; None: unlimited.
    """

    def __init__(
        self, connection: apsw.Connection, max_bytes: int, append_share: float, log_room: Callable[[], int | None]
    ) -> None:
        self._append_share = append_share
        self._log_room = log_room
        self._pages = max(max_bytes, MIN_BYTES) // PAGE_BYTES if max_bytes else 0
        if self._pages:
            connection.execute(f"PRAGMA max_page_count = {self._pages}")

    def room(self, connection: apsw.Connection) -> int | None:
        """Return the bytes that new events may still take; None: unlimited."""
        log_room = self._log_room()
        if not self._pages:
            return log_room
        pages: int = connection.execute("PRAGMA page_count").get
        free: int = connection.execute("PRAGMA freelist_count").get
        left = int(self._pages * self._append_share) - (pages - free)
        room = max(0, left) * PAGE_BYTES // PESSIMISM
        return room if log_room is None else min(room, log_room)


class ProbeOperation:
    """Writes a small row, to check that writing works, and returns whether there is room for new events."""

    order = 5

    def __init__(self, room: Callable[[apsw.Connection], int | None]) -> None:
        self._room = room

    def reload(self, connection: apsw.Connection) -> None:
        """See `WriterOperation`."""

    def apply(self, connection: apsw.Connection, arguments: Sequence[None]) -> list[bool]:
        """See `WriterOperation`."""
        connection.execute(
            "INSERT INTO counter (name, value) VALUES ('probe', 1) ON CONFLICT (name) DO UPDATE SET value = value + 1"
        )
        room = self._room(connection)
        return [room is None or room > 0] * len(arguments)

    def committed(self, results: Sequence[bool]) -> None:
        """See `WriterOperation`."""
