"""Compares a migrated database and its blobs with the original."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import apsw

from flowhook.errors import ConflictError
from router.storage.blobs import BlobDirectory, body_file
from router.storage.replicated.view import LOCAL_TABLES
from router.storage.schema import STATUSES

SAMPLE: Final = 1000
"""Executions, chosen at random, that are compared byte for byte with all that belongs to them."""

BlobDigest = Callable[[str], bytes | None]
"""Returns the SHA-256 of a blob's content by its name; None if absent."""


@dataclass(frozen=True, slots=True)
class MigratedData:
    """A database, and how to read its blobs."""

    path: Path
    blob_digest: BlobDigest


@dataclass(frozen=True, slots=True)
class MigrationCheck:
    """What was compared, and found equal.

    Attributes:
        executions: number of executions by status, over all flows.
        compared: number of executions that were compared byte for byte.
    """

    executions: dict[str, int]
    compared: int


def digest_of_files(blobs: BlobDirectory, *, temporary: bool = False) -> BlobDigest:
    """Return a function that reads blobs; if they are `temporary`, each of its files is removed afterwards."""

    def digest(name: str) -> bytes | None:
        path = blobs.locate(name)
        try:
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").digest()
        except FileNotFoundError:
            return None
        finally:
            if temporary:
                blobs.remove_file(name)

    return digest


def check_migrated(original: MigratedData, copy: MigratedData) -> MigrationCheck:
    """Compare the numbers of rows, those of executions by status and flow, and a random sample of executions.

    Raises:
        ConflictError: they differ (`MIGRATION_DIFFERS`).
        UnavailableError: a blob can't be fetched.
        OSError: a file can't be read.
        apsw.Error: a database can't be read.
    """
    ours, theirs = (apsw.Connection(str(each.path), flags=apsw.SQLITE_OPEN_READWRITE) for each in (original, copy))
    try:
        tables = _tables(ours)
        _require_equal("the tables", tables, _tables(theirs))
        for table in tables:
            _require_equal(f"the number of rows of {table}", _count(ours, table), _count(theirs, table))
        executions = _by_status(ours)
        _require_equal("the executions by flow and status", executions, _by_status(theirs))
        sample = ours.execute("SELECT seq, event_id FROM execution ORDER BY random() LIMIT ?", (SAMPLE,)).fetchall()
        of_execution = [table for table in tables if "seq" in tables[table]]
        by_number = [table for table in of_execution if tables[table][0] == "seq"]
        for table in [each for each in of_execution if each not in by_number]:
            _require_equal(f"{table} of executions", _scanned(ours, table, sample), _scanned(theirs, table, sample))
        for seq, event_id in sample:
            for table in by_number:
                _require_equal(f"{table} of {event_id}", _rows(ours, table, seq), _rows(theirs, table, seq))
            for name in _blobs(ours, seq):
                _require_equal(f"the blob {name} of {event_id}", original.blob_digest(name), copy.blob_digest(name))
    finally:
        ours.close()
        theirs.close()
    by_status: dict[str, int] = {}
    for _, status, number in executions:
        name = STATUSES[status].value
        by_status[name] = by_status.get(name, 0) + number
    return MigrationCheck(by_status, len(sample))


def _require_equal(what: str, original: object, copy: object) -> None:
    if original != copy:
        raise ConflictError(f"the copy differs from the original in {what}", reason="MIGRATION_DIFFERS")


def _tables(connection: apsw.Connection) -> dict[str, list[str]]:
    """Return the names of the columns of all tables that are migrated."""
    names = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY 1")]
    return {
        name: [column for (column,) in connection.execute("SELECT name FROM pragma_table_info(?)", (name,))]
        for name in names
        if name not in LOCAL_TABLES and not name.startswith("sqlite_")
    }


def _count(connection: apsw.Connection, table: str) -> int:
    count: int = connection.execute(f"SELECT count(*) FROM {table}").get  # noqa: S608 - a name of the schema
    return count


def _by_status(connection: apsw.Connection) -> list[tuple[str, int, int]]:
    rows: list[Any] = connection.execute(
        "SELECT k.flow_id, e.status, count(*) FROM execution e JOIN flow_key k ON k.key = e.flow"
        " GROUP BY k.flow_id, e.status ORDER BY k.flow_id, e.status"
    ).fetchall()
    return rows


def _rows(connection: apsw.Connection, table: str, seq: Any) -> list[tuple[Any, ...]]:
    rows = connection.execute(f"SELECT * FROM {table} WHERE seq = ?", (seq,)).fetchall()  # noqa: S608 - see `_count`
    return sorted(rows, key=repr)


def _scanned(connection: apsw.Connection, table: str, executions: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return the rows of executions in a table that is not in the order of their numbers: it is read only once."""
    numbers = ", ".join(str(seq) for seq, *_ in executions) or "NULL"
    rows = connection.execute(f"SELECT * FROM {table} WHERE seq IN ({numbers})").fetchall()  # noqa: S608 - see `_count`
    return sorted(rows, key=repr)


def _blobs(connection: apsw.Connection, seq: Any) -> list[str]:
    names = [name for (name,) in connection.execute("SELECT name FROM blob WHERE seq = ?", (seq,))]
    return names + [
        body_file(body_id) for (body_id,) in connection.execute("SELECT id FROM body WHERE seq = ?", (seq,))
    ]
