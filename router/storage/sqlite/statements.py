"""Statements over many rows in one step.

sqlite3 gives the GIL away around every step, and under load it takes a while to get it back. `executemany` takes a
step a row; a statement with many rows of VALUES takes one. (Measured: docs/performance.md.)
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import chain
from typing import Any, Final

from router.storage.sqlite.schema import UNENDED

CHUNK: Final = 64
"""Rows of the largest statement."""


class Bulk:
    """A statement for any number of rows.

    Args:
        template: the statement; `{rows}` stands for a comma-separated list of rows, `{unended}` for `schema.UNENDED`.
        columns: parameters of a row.
        row: text of one row; `(?, ?, ...)` when absent.
    """

    def __init__(self, template: str, columns: int, *, row: str | None = None) -> None:
        one = row or f"({', '.join('?' * columns)})"
        # Powers of two, so that few statements are prepared and the largest are used most.
        self._sql: Final = {
            1 << power: template.format(rows=", ".join([one] * (1 << power)), unended=UNENDED)
            for power in range(CHUNK.bit_length())
        }

    def run(self, connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Run the statement for all rows."""
        for sql, parameters in self._chunks(rows):
            connection.execute(sql, parameters)

    def fetch(self, connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Run the statement for all rows, and return what it selects, in no particular order."""
        found: list[Any] = []
        for sql, parameters in self._chunks(rows):
            found += connection.execute(sql, parameters).fetchall()
        return found

    def _chunks(self, rows: Sequence[tuple[Any, ...]]) -> list[tuple[str, list[Any]]]:
        chunks = []
        start, left = 0, len(rows)
        while left:
            size = min(CHUNK, 1 << (left.bit_length() - 1))
            chunks.append((self._sql[size], list(chain.from_iterable(rows[start : start + size]))))
            start += size
            left -= size
        return chunks
