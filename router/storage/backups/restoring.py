"""Restores a backup: into a database of the embedded storage, or into an empty replicated log; no router may run.

Everything is unpacked and checked beside its place, and moved there at the end. What is there already is moved aside
first, and never removed. Of a log that still has the records after the backup, they can be applied up to a position or
a time.

What is not authentic is refused, unless whoever restores it vouches for it: then it is checked like any other, and its
tokens are left out.

Leases do not outlive a restore: the storage continues in an epoch that none before had, and leases of earlier ones are
void. What a runner still does for the lost state is refused, and runs again. Executions are as they were, so that they
form the same groups. Nor do revisions of the registry outlive a restore: edges that watch it read all flows again.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any, Final, NamedTuple

import apsw
import attrs

from flowhook.errors import ConflictError, InvalidError
from flowhook.security.private_files import make_directory
from flowhook.security.tokens import TokenInfo, list_tokens
from router.storage.backups.archive import (
    BLOBS,
    DATABASE,
    TOKENS,
    BackupDamagedError,
    Manifest,
    read_archive,
)
from router.storage.backups.making import check_integrity, count_executions
from router.storage.blobs import BlobCache, BlobDirectory, named_blobs, sync
from router.storage.commit_log.interface import CommitLog, LogTrimmedError, ReplicatedLog
from router.storage.encryption import KEY_FILE
from router.storage.errors import translate
from router.storage.formats import migrate_view
from router.storage.replicated.batch import decode
from router.storage.replicated.follower import Follower
from router.storage.replicated.migration import Migration, locked_directory, transfer_all
from router.storage.replicated.view import APPLIED, View, ViewPosition
from router.storage.schema import FORMAT_VERSION, connect_writer
from router.storage.statements import read_counter, write_counter

ASIDE: Final = "before-restore-"  # beginning of the name of the directory of what was there before
WAIT_SECONDS: Final = 0.5  # how long one read of the log waits for records
Report = Callable[[str], None]


class UntilPoint(NamedTuple):
    """A point in time, or in the log, up to which records are applied: exactly one of them, or neither for its end."""

    position: int | None = None
    time_ms: int | None = None


class Restored(NamedTuple):
    """What was restored."""

    manifest: Manifest
    position: int  # of the log whose records were applied; else that of the backup
    executions: dict[str, int]  # number of executions by status
    missing: int  # large payloads and bodies that were lost before
    aside: Path | None  # where what was there before is now
    tokens: tuple[TokenInfo, ...] = ()  # those that were restored


@attrs.define(eq=False, repr=False, kw_only=True)
class Restoring:
    """Restores one backup. Methods block."""

    archive: Path
    key: bytes | None
    """The key of secrets that is there; None: there is none."""
    trusted: bool = False
    """Whether to restore what anybody may have written, whatever the key is; without its tokens."""
    tokens: Path
    """The file of the tokens, which is restored if it is missing, and its directory is not."""
    report: Report
    """Called with each line of progress."""
    since: ReplicatedLog | None = None
    """The log that the backup was made of, whose records after it are applied; it may be in use."""
    until: UntilPoint = attrs.field(factory=UntilPoint)

    def to_database(self, database: Path, *, force: bool = False) -> Restored:
        """Make the database of the embedded storage.

        Raises:
            ConflictError: a router uses the database (`DATA_DIR_IN_USE`), it exists, and not `force`
                (`DATABASE_EXISTS`), the key is another one (`SECRETS_KEY_DIFFERS`), the backup is not authentic, or
                there is no key to tell (`BACKUP_NOT_AUTHENTIC`), it can't be read by this version
                (`BACKUP_FORMAT_UNSUPPORTED`), or the log does not continue it (`LOG_DIFFERS`, `LOG_INCOMPLETE`).
            BackupDamagedError: see `archive.read_archive`.
            UnavailableError: the disk or the log can't serve.
        """
        with _locked(database) as work:
            blobs = database.parent / BLOBS
            is_empty = not any(path.exists() for path in _files(database)) and not any(blobs.glob("*/*"))
            if not (is_empty or force):
                raise ConflictError(
                    f"{database.parent} has a database: name an empty data directory, or --force, which moves what is"
                    " there aside",
                    reason="DATABASE_EXISTS",
                )
            restored = self._unpack(work)
            aside = None if is_empty else _move_aside(database)
            _move(work / BLOBS, blobs)
            tokens = self._place_tokens(work)
            _move(work / DATABASE, database)
            return restored._replace(aside=aside, tokens=tokens)

    def to_log(self, replicated: ReplicatedLog, directory: Path, *, heartbeat_seconds: float) -> Restored:
        """Fill an empty log. Temporary files are in `directory`.

        Raises what `to_database` and `Migration.to_log` raise.
        """
        with _locked(directory / DATABASE) as work:
            restored = self._unpack(work)
            Migration(replicated, report=self.report, heartbeat_seconds=heartbeat_seconds).to_log(work / DATABASE)
            return restored._replace(tokens=self._place_tokens(work))

    def _place_tokens(self, work: Path) -> tuple[TokenInfo, ...]:
        # without a data directory, somebody only looks at a backup
        if self.trusted or not self.tokens.parent.is_dir() or self.tokens.exists():
            return ()
        tokens = tuple(list_tokens(work))
        if (work / TOKENS).exists():
            shutil.move(work / TOKENS, self.tokens)
            sync(self.tokens.parent)
        return tokens

    def _unpack(self, work: Path) -> Restored:
        """Make a checked database of today's format in `work`, with its blobs."""
        self.report("unpacking and checking the backup")
        if self.key is None and not self.trusted:
            raise ConflictError(
                f"{self.tokens.parent / KEY_FILE} is missing, and without it nobody knows whether {self.archive} was"
                " changed: put back the key of the backup, or FLOWHOOK_SECRETS_KEY; or --trust-unauthenticated"
                " restores whatever is in the file, without its tokens",
                reason="BACKUP_NOT_AUTHENTIC",
            )
        manifest = read_archive(self.archive, work, key=None if self.trusted else self.key)
        if manifest.database_format > FORMAT_VERSION:
            raise ConflictError(
                f"the database of the backup has format {manifest.database_format}, and this Flowhook reads those up to"
                f" {FORMAT_VERSION}: use Flowhook {manifest.version}",
                reason="BACKUP_FORMAT_UNSUPPORTED",
            )
        self._check(work, manifest)
        database = work / DATABASE
        position = manifest.position if self.since is None else self._apply_records(self.since, work, manifest)
        with closing(connect_writer(database)) as connection:
            connection.execute("DROP TABLE IF EXISTS applied")
            begin_anew(connection, int(time.time()))
            executions, names = count_executions(connection), named_blobs(connection)
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        missing = sum(not (work / BLOBS / name).exists() for name in names)
        return Restored(manifest, position, executions, missing, None)

    def _check(self, work: Path, manifest: Manifest) -> None:
        """Compare what was unpacked with what the backup says, and bring the database to today's format."""
        database = work / DATABASE
        try:
            with closing(apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READWRITE)) as connection:
                refuse_code(connection)
                check_integrity(connection)
                executions, names = count_executions(connection), named_blobs(connection)
            migrate_view(database)
            check_schema(database)
            list_tokens(work)
        except apsw.Error as error:
            raise BackupDamagedError(f"{DATABASE} of the backup can't be read: {type(error).__name__}") from None
        except InvalidError:
            raise BackupDamagedError(f"{TOKENS} of the backup can't be read") from None
        missing = sum(not (work / BLOBS / name).exists() for name in names)
        if (executions, len(names) - missing, missing) != (manifest.executions, manifest.blobs, manifest.missing):
            raise BackupDamagedError(f"{DATABASE} of the backup has other executions or blobs than the backup says")

    def _apply_records(self, source: ReplicatedLog, work: Path, manifest: Manifest) -> int:
        """Apply the records after the backup, and return the position of the last one."""
        if manifest.log != source.log.identity:
            raise ConflictError("the backup was not made of this log", reason="LOG_DIFFERS")
        view = View(work / "view")
        make_directory(view.path.parent)
        (work / DATABASE).rename(view.path)
        with view.connected() as connection:
            position = ViewPosition.read(connection)
        if position is None:
            raise BackupDamagedError(f"{DATABASE} of the backup has no position")
        try:
            through = _find(source.log, position.position, self.until)
            self.report(f"applying the records from position {position.position} to {through}")
            follower = Follower(source.log, view, view.adopt(position))
            follower.catch_up(through)
        except LogTrimmedError as error:
            raise ConflictError(
                f"the log begins at position {error.first}, and the backup ends at {position.position}: the records in"
                " between were purged",
                reason="LOG_INCOMPLETE",
            ) from None
        with view.connected() as connection:
            names = named_blobs(connection)
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        cache = BlobCache(work / BLOBS, source.objects)
        transfer_all("fetched", names, lambda name: cache.locate(name).exists(), self.report)
        BlobDirectory(work / BLOBS).sweep(names)
        view.path.rename(work / DATABASE)
        return follower.position.position


def refuse_code(connection: apsw.Connection) -> None:
    """Raise BackupDamagedError if a database has anything but tables and indexes, such as triggers and views.

    Source: SQLite, "Defense Against The Dark Arts" (https://www.sqlite.org/security.html), section 1.2.
    """
    connection.execute("PRAGMA cell_size_check = ON")
    found = connection.execute(
        "SELECT name FROM sqlite_schema WHERE type NOT IN ('table', 'index')"
        " UNION ALL SELECT name FROM pragma_table_list WHERE schema = 'main' AND type <> 'table'"
    ).fetchone()
    if found is not None:
        raise _other_tables(found[0])


def check_schema(path: Path) -> None:
    """Raise BackupDamagedError if a database of today's format has other tables and indexes than a new one."""
    with closing(apsw.Connection(str(path))) as connection, closing(connect_writer(Path(":memory:"))) as new:
        new.execute(APPLIED)
        expected, found = _parts_of(new), _parts_of(connection)
    for name in sorted({name for name, *_ in found - expected} | {name for name, *_ in expected - found} - {"applied"}):
        raise _other_tables(name)


def _other_tables(name: str) -> BackupDamagedError:
    return BackupDamagedError(f"{DATABASE} of the backup has other tables than its format: {name[:200]!r}")


_PARTS: Final = """
SELECT name, type, tbl_name, '', '', '', '' FROM sqlite_schema WHERE name NOT LIKE 'sqlite#_stat_' ESCAPE '#'
UNION ALL SELECT name, type, wr, strict, '', '', '' FROM pragma_table_list
  WHERE schema = 'main' AND name NOT LIKE 'sqlite#_%' ESCAPE '#'
UNION ALL SELECT t.name, c.name, c.type, c."notnull", c.dflt_value, c.pk, c.hidden
  FROM sqlite_schema t, pragma_table_xinfo(t.name) c WHERE t.type = 'table'
UNION ALL SELECT t.name, i.name, i."unique", i.origin, i.partial, c.seqno, c.name || c.desc || c.coll || c.key
  FROM sqlite_schema t, pragma_index_list(t.name) i, pragma_index_xinfo(i.name) c WHERE t.type = 'table'
"""
"""The tables and indexes of a database, and their columns; without texts, which differ after a migration."""


def _parts_of(connection: apsw.Connection) -> set[tuple[Any, ...]]:
    return set(connection.execute(_PARTS))


def begin_anew(connection: apsw.Connection, now: int) -> None:
    """Begin an epoch, with the fence of leases, and changes of the registry, that are later than all before.

    `now`: Unix time (s). Who watches the registry since before begins anew: revisions mean something else now.
    """
    with connection:
        fence = max(read_counter(connection, "epoch") + 1, now)
        for name in ("epoch", "fence"):
            write_counter(connection, name, fence)
        connection.execute(
            "INSERT INTO registry_change SELECT max(coalesce(max(revision), 0) + 2, ?), '', '' FROM registry_change",
            (now,),
        )
        connection.execute("DELETE FROM registry_change WHERE revision < (SELECT max(revision) FROM registry_change)")


def _find(log: CommitLog, after: int, until: UntilPoint) -> int:
    """Return the position of the last record to apply."""
    tail = log.tail()
    end = 0 if tail is None else tail.position
    if until.position is not None:
        if not after <= until.position <= end:
            raise InvalidError(
                f"position {until.position} is not between that of the backup, {after}, and that of the log's end,"
                f" {end}",
                reason="POSITION_OUT_OF_RANGE",
            )
        return until.position
    if until.time_ms is None:
        return end
    read = after
    while read < end:
        for record in log.read(read, wait_seconds=WAIT_SECONDS):
            if not record.void and decode(record.data).time_ms > until.time_ms:
                return record.position - 1
            read = record.position
            if read == end:
                break
    return end


def _locked(database: Path) -> AbstractContextManager[Path]:
    """Make the directory of a database, and lock it for a restore."""
    try:
        make_directory(database.parent)
    except OSError as error:
        raise translate(error) from error
    return locked_directory(database, "restore")


def _files(database: Path) -> list[Path]:
    """Return the files of a database; SQLite would apply a log that is left of another one."""
    return [database.with_name(f"{database.name}{suffix}") for suffix in ("", "-wal", "-shm")]


def _move_aside(database: Path) -> Path:
    aside = database.parent / f"{ASIDE}{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    make_directory(aside)
    for path in (*_files(database), database.parent / BLOBS):
        if path.exists():
            path.rename(aside / path.name)
    sync(database.parent)
    return aside


def _move(source: Path, target: Path) -> None:
    """Move a file, or a directory of synced files, durably."""
    if not source.exists():
        return
    if source.is_dir():
        for each in (*source.iterdir(), source):
            sync(each)
    if target.is_dir():  # of blobs, without any
        for each in target.iterdir():
            each.rmdir()
        target.rmdir()
    source.rename(target)
    sync(target.parent)
