"""Statements over many rows in one step.

sqlite3 gives the GIL away around every step of a statement, and a thread beside a busy event loop waits long to get it
back. `executemany` takes a step a row; a statement with many rows of VALUES takes one. So what counts is the number of
statements a transaction has, and it does not depend on the number of rows: they are padded to one of a few sizes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, Final

from flowhook import limits
from router.storage.sqlite.schema import PENDING, UNENDED

MAX_ROWS: Final = 256
"""Rows of the largest statement."""


class Bulk:
    """A statement for any number of rows.

    Args:
        template: the statement; `{rows}` stands for a comma-separated list of rows, `{unended}` and `{pending}` for
            constants of `schema`, `{histories}` for `limits.MAX_HISTORIES`.
            It must do nothing for a row whose columns are all NULL.
        columns: columns of a row; 0: the rows are single values, as in a list after IN.
    """

    def __init__(self, template: str, columns: int) -> None:
        row = f"({', '.join('?' * columns)})" if columns else "?"
        self._sql: Final = {
            1 << power: template.format(
                rows=", ".join([row] * (1 << power)), unended=UNENDED, pending=PENDING, histories=limits.MAX_HISTORIES
            )
            for power in range(MAX_ROWS.bit_length())
        }
        self._padding: Final = (None,) * (columns or 1)

    def run(self, connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Run the statement, one that changes something, for all rows."""
        for sql, parameters in self._chunks(rows):
            # Not `execute`, which gives the GIL away once more to ask for the last row's ID.
            connection.executemany(sql, (parameters,))

    def fetch(self, connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Run the statement for all rows, and return what it selects, in no particular order."""
        found: list[Any] = []
        for sql, parameters in self._chunks(rows):
            found += connection.execute(sql, parameters).fetchall()
        return found

    def iterate(self, connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> Iterator[Any]:
        """Give what `fetch` returns row by row, for those who may not want all of it."""
        for sql, parameters in self._chunks(rows):
            yield from connection.execute(sql, parameters)

    def _chunks(self, rows: Sequence[tuple[Any, ...]]) -> Iterator[tuple[str, list[Any]]]:
        for start in range(0, len(rows), MAX_ROWS):
            chunk = rows[start : start + MAX_ROWS]
            size = 1 << (len(chunk) - 1).bit_length()
            parameters = list(chain.from_iterable(chunk))
            parameters.extend(self._padding * (size - len(chunk)))
            yield self._sql[size], parameters
