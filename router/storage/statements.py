"""SQL statements that process many rows in one step.

apsw releases the GIL around every step of a statement, and a thread beside a busy event loop waits long to reacquire
it. `executemany` takes one step per row; a statement with many rows of VALUES takes one step in all. So the number of
statements determines the time of a transaction, nearly regardless of the number of rows. Row lists are padded to one of
a few sizes, so that there are only a few statement texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, Final, Self

import apsw

from flowhook import limits
from router.storage.schema import PENDING, UNENDED

MAX_ROWS: Final = 256  # rows of the largest statement
BEFORE: Final = "coalesce(?, 9223372036854775807)"
"""A number before which a list continues, in SQL; NULL: it begins with the newest."""


def read_counter(connection: apsw.Connection, name: str) -> int:
    """Return the last number that was used; 0: none yet."""
    value: int = connection.execute("SELECT value FROM counter WHERE name = ?", (name,)).get or 0
    return value


def write_counter(connection: apsw.Connection, name: str, value: int) -> None:
    """Store the last number that was used."""
    connection.execute(
        "INSERT INTO counter (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (name, value),
    )


def increment_counter(connection: apsw.Connection, name: str) -> int:
    """Return the next number, and store that it was used."""
    value: int = connection.execute(
        "INSERT INTO counter (name, value) VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET value = value + 1"
        " RETURNING value",
        (name,),
    ).get
    return value


def trim(connection: apsw.Connection, table: str, most: int, condition: str, *values: object) -> None:
    """Remove the rows of a table that meet a condition, given with numbered parameters, but the last ones by number."""
    connection.execute(
        f"DELETE FROM {table} WHERE {condition} AND number <="  # noqa: S608 - constants
        f" (SELECT number FROM {table} WHERE {condition} ORDER BY number DESC LIMIT 1 OFFSET {most})",
        values,
    )


# with the plus sign, it looks at the row itself, which is read or written anyway, rather than at `execution_by_end`
_OF_UNENDED: Final = f"EXISTS (SELECT 1 FROM execution WHERE seq = column1 AND +end_time_ms = {UNENDED})"  # noqa: S608


class BatchStatement:
    """A statement for any number of rows.

    In `template`, `{rows}` is replaced by a comma-separated list of rows, `{unended}` and `{pending}` by constants of
    `schema`, `{of_unended}` by a condition that holds if the first column is the number of an execution that has not
    ended, `{histories}` and `{emitters}` by `limits.MAX_HISTORIES` and `limits.MAX_LINKED_EMITTERS`. It must do nothing
    for a row whose columns are all NULL. With 0 `columns`, the rows are single values, as in a list after IN.
    """

    def __init__(self, template: str, columns: int = 0) -> None:
        row = f"({', '.join('?' * columns)})" if columns else "?"
        self._sql: Final = {
            1 << power: template.format(
                rows=", ".join([row] * (1 << power)),
                unended=UNENDED,
                of_unended=_OF_UNENDED,
                pending=PENDING,
                histories=limits.MAX_HISTORIES,
                emitters=limits.MAX_LINKED_EMITTERS,
            )
            for power in range(MAX_ROWS.bit_length())
        }
        self._padding: Final = (None,) * (columns or 1)

    @classmethod
    def insert(
        cls, table: str, columns: str, conflict: str = "", *, verb: str = "INSERT", where: str = "column1 NOT NULL"
    ) -> Self:
        """Return a statement that inserts rows, of columns that are separated by commas; `conflict`: an ON clause."""
        sql = f"{verb} INTO {table} ({columns}) SELECT * FROM (VALUES {{rows}}) WHERE {where} {conflict}"  # noqa: S608
        return cls(sql, columns.count(",") + 1)

    def sql(self, rows: int) -> str:
        return self._sql[rows]

    def run(self, connection: apsw.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        for sql, parameters in self._chunks(rows):
            connection.execute(sql, parameters)

    def fetch(self, connection: apsw.Connection, rows: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Run a query for all rows, and return the selected rows, in no particular order."""
        return list(chain.from_iterable(connection.execute(*chunk).fetchall() for chunk in self._chunks(rows)))

    def iterate(self, connection: apsw.Connection, rows: Sequence[tuple[Any, ...]]) -> Iterator[Any]:
        """Yield the rows that `fetch` returns one by one, for callers that may stop early."""
        for sql, parameters in self._chunks(rows):
            yield from connection.execute(sql, parameters)

    def _chunks(self, rows: Sequence[tuple[Any, ...]]) -> Iterator[tuple[str, list[Any]]]:
        for start in range(0, len(rows), MAX_ROWS):
            chunk = rows[start : start + MAX_ROWS]
            size = 1 << (len(chunk) - 1).bit_length()
            yield self._sql[size], [*chain.from_iterable(chunk), *(self._padding * (size - len(chunk)))]
