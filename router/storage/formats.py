"""Earlier formats of the database: a file of one is migrated when a router opens it, in one transaction.

A step leads from each format to the next one, and a migration is all steps from the file's on. `ALTER TABLE` rewrites
no rows; only small tables are written again, so that it takes seconds for millions of executions, and bounded memory.
What a step says is never changed once a Flowhook with it was used; a change of the tables is another step.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from contextlib import closing
from pathlib import Path
from typing import Final

import apsw

from flowhook.errors import ConflictError
from flowhook.process import logs
from flowhook.security.private_files import open_private
from router.storage.blobs import sync
from router.storage.errors import STORAGE_FULL, StorageError
from router.storage.limits import RESERVE_BYTES
from router.storage.schema import FORMAT_VERSION, TABLES, read_version

EARLIEST: Final = 3  # the earliest format that is migrated: that of November 2026
TO_NEXT: Final = {
    3: """
ALTER TABLE subscription RENAME TO earlier;
CREATE TABLE subscription (seq INTEGER PRIMARY KEY, content BLOB, retry BLOB) STRICT;
INSERT INTO subscription (seq, content) SELECT seq, content FROM earlier;
DROP TABLE earlier;
""",
    4: "",
    5: """
ALTER TABLE audit RENAME TO earlier;
CREATE TABLE audit (
  number INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL, target TEXT NOT NULL,
  reason TEXT NOT NULL, error TEXT NOT NULL, calls INTEGER NOT NULL, last_time_ms INTEGER NOT NULL,
  address TEXT NOT NULL
) STRICT;
INSERT INTO audit SELECT number, time_ms, actor, action, target, reason, error, 1, time_ms, '' FROM earlier;
DROP TABLE earlier;
""",
    6: """
ALTER TABLE audit RENAME TO audit_entry;
ALTER TABLE cause RENAME TO execution_link;
DROP INDEX cause_by_causing;
ALTER TABLE inbound_event RENAME COLUMN callback TO receivers;
""",
    7: """
ALTER TABLE execution ADD COLUMN shaping TEXT;
ALTER TABLE body ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rejection ADD COLUMN outcome TEXT NOT NULL DEFAULT 'refused';
ALTER TABLE subscription ADD COLUMN destinations TEXT;
""",
}
"""The step from each format to the next one, but for tables and indexes that are new: see `_NEW`."""

_NEW: Final = re.sub(r"(?m)^(CREATE (UNIQUE )?(TABLE|INDEX)) ", r"\1 IF NOT EXISTS ", TABLES)
"""Creates what a file lacks after all steps. A step that changes a table needs it created by the one that added it."""

log = logs.get_logger(__name__)


def migrate_file(path: Path) -> Path | None:
    """Bring a database that no process uses to today's format; return its copy of before, if it had another. Blocks.

    Raises:
        ConflictError: it can't be read by this version (`FORMAT_UNSUPPORTED`, `NOT_A_FLOWHOOK_DATABASE`).
        StorageError: the disk has no room for a copy (`STORAGE_FULL`).
        OSError, apsw.Error: a file can't be read or written; the database has the format that it had.
    """
    start = time.monotonic()
    with closing(apsw.Connection(str(path))) as connection:
        earlier = read_version(connection, path)
        if earlier in (0, FORMAT_VERSION):
            return None
        _check_migratable(earlier, path)
        copy = path.with_name(f"{path.name}.format-{earlier}")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        _copy(path, copy)
        _migrate(connection, earlier)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    seconds = time.monotonic() - start
    said = f"migrated the database from format {earlier} to {FORMAT_VERSION} in {seconds:.1f} s"
    log.warning(said, copy=str(copy))
    return copy


def migrate_view(path: Path) -> None:
    """Bring the database of a backup to today's format, without a copy: the backup is one."""
    with closing(apsw.Connection(str(path))) as connection:
        earlier = read_version(connection, path)
        if earlier != FORMAT_VERSION:
            _check_migratable(earlier, path)
            _migrate(connection, earlier)


def _migrate(connection: apsw.Connection, earlier: int) -> None:
    connection.execute("PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -32768").fetchall()
    steps = "".join(TO_NEXT[each] for each in range(earlier, FORMAT_VERSION)) + _NEW
    try:
        connection.execute(f"BEGIN IMMEDIATE; {steps} PRAGMA user_version = {FORMAT_VERSION}; COMMIT;")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _check_migratable(version: int, path: Path) -> None:
    if version > FORMAT_VERSION:
        raise ConflictError(
            f"{path} has format {version}, which a later Flowhook wrote: this one reads formats up to {FORMAT_VERSION},"
            " and nothing leads back. Use the later one, or a copy or backup from before",
            reason="FORMAT_UNSUPPORTED",
        )
    if version < EARLIEST:
        raise ConflictError(
            f"{path} has format {version}, and this Flowhook migrates those from format {EARLIEST} on: use the Flowhook"
            " that wrote it, or another data directory",
            reason="FORMAT_UNSUPPORTED",
        )


def _copy(path: Path, copy: Path) -> None:
    """Copy a file durably, so that there is either all of the copy or nothing under its name."""
    size = path.stat().st_size
    free = shutil.disk_usage(path.parent).free
    if free - size < RESERVE_BYTES:
        raise StorageError(
            f"the database {path} has an earlier format, and there is no room for a copy of it before it is migrated:"
            f" {(size + RESERVE_BYTES - free) >> 20} MiB more are needed on this disk",
            reason=STORAGE_FULL,
        )
    partial = copy.with_name(f"{copy.name}.partial")
    partial.unlink(missing_ok=True)
    descriptor = open_private(partial, os.O_WRONLY | os.O_EXCL)
    with path.open("rb") as source, os.fdopen(descriptor, "wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
        target.flush()
        os.fsync(descriptor)
    partial.replace(copy)
    sync(copy.parent)
