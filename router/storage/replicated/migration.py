"""Moves all data between a database of the embedded storage and a replicated log, while no router runs.

To the log: a copy of the database becomes the snapshot at position 0. It is put after all blobs, so that an interrupted
migration can be repeated. Back: the newest snapshot and the records after it become a database, which gets its name
last. Both leave their source as it is, and compare the result with it.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import apsw
import attrs

from flowhook.errors import ConflictError, NotFoundError
from flowhook.security.private_files import make_directory
from router.storage.blobs import BlobCache, BlobDirectory, body_file, named_blobs, sync
from router.storage.commit_log.interface import LogTrimmedError, ReplicatedLog
from router.storage.errors import translate
from router.storage.formats import migrate_file
from router.storage.replicated.follower import Follower
from router.storage.replicated.rewriting import refuse_routers
from router.storage.replicated.snapshots import SnapshotStore, copy_view, working_directory
from router.storage.replicated.view import LOCAL_TABLES, View, ViewPosition
from router.storage.schema import STATUSES, connect_writer
from router.storage.storage import DataLock

SAMPLE: Final = 1000  # executions, chosen at random, that are compared byte for byte with all that belongs to them
_BY_STATUS: Final = """
SELECT k.flow_id, e.status, count(*) FROM execution e JOIN flow_key k ON k.key = e.flow GROUP BY k.flow_id, e.status
"""

BlobDigest = Callable[[str], bytes | None]
"""Returns the SHA-256 of a blob's content by its name; None when there is none."""


@dataclass(frozen=True, slots=True)
class MigratedData:
    """A database, and how to read its blobs."""

    path: Path
    blob_digest: BlobDigest


@dataclass(frozen=True, slots=True)
class MigrationCheck:
    """What was compared, and found equal."""

    executions: dict[str, int]  # number of executions by status, over all flows
    compared: int  # number of executions that were compared byte for byte


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
        UnavailableError, OSError, apsw.Error: a blob, a file or a database can't be read.
    """
    with contextlib.ExitStack() as opened:
        ours, theirs = (
            opened.enter_context(closing(apsw.Connection(str(each.path), flags=apsw.SQLITE_OPEN_READWRITE)))
            for each in (original, copy)
        )

        def compare(what: str, sql: str, *values: Any) -> list[Any]:
            """Return the rows of a query, which both have to give."""
            found, other = (sorted(each.execute(sql, values).fetchall(), key=repr) for each in (ours, theirs))
            _require_equal(what, found, other)
            return found

        tables = _tables(ours)
        _require_equal("the tables", tables, _tables(theirs))
        for table in tables:
            compare(f"the number of rows of {table}", f"SELECT count(*) FROM {table}")  # noqa: S608 - a name of the schema
        executions = compare("the executions by flow and status", _BY_STATUS)
        sample = ours.execute("SELECT seq, event_id FROM execution ORDER BY random() LIMIT ?", (SAMPLE,)).fetchall()
        numbers = ", ".join(str(seq) for seq, _ in sample) or "NULL"
        of_execution = [table for table in tables if "seq" in tables[table]]
        by_number = [table for table in of_execution if tables[table][0] == "seq"]
        for table in {*of_execution} - {*by_number}:  # not in the order of the numbers: it is read only once
            compare(f"{table} of executions", f"SELECT * FROM {table} WHERE seq IN ({numbers})")  # noqa: S608
        for seq, event_id in sample:
            for table in by_number:
                compare(f"{table} of {event_id}", f"SELECT * FROM {table} WHERE seq = ?", seq)  # noqa: S608
            for name in _blobs(ours, seq):
                _require_equal(f"the blob {name} of {event_id}", original.blob_digest(name), copy.blob_digest(name))
    by_status: Counter[str] = Counter()
    for _, status, number in executions:
        by_status[STATUSES[status].value] += number
    return MigrationCheck(dict(by_status), len(sample))


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


def _blobs(connection: apsw.Connection, seq: Any) -> list[str]:
    names = [name for (name,) in connection.execute("SELECT name FROM blob WHERE seq = ?", (seq,))]
    return names + [
        body_file(body_id) for (body_id,) in connection.execute("SELECT id FROM body WHERE seq = ?", (seq,))
    ]


TRANSFERS: Final = 4  # blobs that are transferred at a time
PROGRESS_SECONDS: Final = 2.0  # between two reports while blobs are transferred

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class MigrationResult:
    """What was migrated."""

    position: int  # position of the log that has the same content as the database
    blobs: int  # number of large payloads and bodies
    missing: int  # number of those that rows name and the source does not have
    check: MigrationCheck  # what was compared


@attrs.define(eq=False, repr=False)
class Migration:
    """Migrates in either direction. Methods block; UnavailableError: the log, its objects or the disk can't serve."""

    _replicated: ReplicatedLog
    _report: Report = attrs.field(kw_only=True)
    """Called with each line of progress."""
    _heartbeat_seconds: float = attrs.field(kw_only=True)
    """For how long the heartbeats of running routers are listened to."""

    def to_log(self, database: Path) -> MigrationResult:
        """Copy a database and its blobs to the log, which must be empty. Temporary files are beside the database.

        Raises:
            NotFoundError: there is no database (`DATABASE_NOT_FOUND`).
            ConflictError: a router uses the database (`DATA_DIR_IN_USE`) or the log (`ROUTER_RUNNING`), the log is not
                empty (`LOG_NOT_EMPTY`), the file can't be read by this version, or the copy differs
                (`MIGRATION_DIFFERS`).
        """
        if not database.is_file():
            raise NotFoundError(f"there is no database at {database}", reason="DATABASE_NOT_FOUND")
        with locked_directory(database, "migration") as directory:
            migrate_file(database)
            connect_writer(database).close()  # checks what it is
            snapshots = SnapshotStore(self._replicated.objects, directory / "snapshots")
            time.sleep(self._heartbeat_seconds)
            self._refuse_use(snapshots)
            view = View(directory / "copy")  # at position 0 of the log
            make_directory(view.path.parent)
            self._report("copying the database")
            copy_view(database, view.path)
            # A hash of its own, so that no record that was written after an empty view fits this one, or the other way.
            view.adopt(ViewPosition(self._replicated.log.identity, last_hash=secrets.token_bytes(16)))
            blobs = BlobCache(database.parent / "blobs", self._replicated.objects)
            names = _names(view)
            missing = transfer_all("uploaded", names, lambda name: _upload(blobs, name), self._report)
            self._report("uploading the database")
            self._refuse_use(snapshots)
            snapshots.make(view.path)
            original = MigratedData(database, digest_of_files(BlobDirectory(database.parent / "blobs")))
            try:
                check = self._check_snapshot(original, snapshots, directory)
            except BaseException:
                self._replicated.objects.delete(snapshots.name(0))  # else a router would start with it
                raise
        return MigrationResult(0, len(names), missing, check)

    def from_log(self, database: Path) -> MigrationResult:
        """Make a database, with its blobs, of the log. Temporary files are beside it.

        Raises:
            NotFoundError: nothing was ever stored in the log (`LOG_EMPTY`).
            ConflictError: the database exists (`DATABASE_EXISTS`), a router runs (`ROUTER_RUNNING`), records are
                missing (`LOG_INCOMPLETE`), or the copy differs (`MIGRATION_DIFFERS`).
        """
        directory = database.parent / "blobs"
        if database.exists():
            raise ConflictError(f"{database} exists: name a file that does not", reason="DATABASE_EXISTS")
        make_directory(database.parent)
        with locked_directory(database, "migration") as work:
            time.sleep(self._heartbeat_seconds)
            refuse_routers(self._replicated.heartbeats, self._heartbeat_seconds)
            self._report("restoring the newest snapshot, and applying the records after it")
            view = View(work / "view")
            position = catch_up(self._replicated, view, work / "snapshots")
            blobs = BlobCache(directory, self._replicated.objects)
            names = _names(view)
            missing = transfer_all("downloaded", names, lambda name: blobs.locate(name).exists(), self._report)
            made = work / "made.db"
            with view.connected() as connection:
                connection.execute("DROP TABLE applied")
            copy_view(view.path, made)
            view.discard()
            check = self._check_database(MigratedData(made, digest_of_files(BlobDirectory(directory))), work, position)
            _store_durably(made, database, directory)
        return MigrationResult(position, len(names), missing, check)

    def _refuse_use(self, snapshots: SnapshotStore) -> None:
        refuse_routers(self._replicated.heartbeats, self._heartbeat_seconds)
        tail = self._replicated.log.tail()
        position = max([0 if tail is None else tail.position, *snapshots.positions()])
        if position:
            raise ConflictError(
                f"the log is not empty: it has been used up to position {position}; migrate to another log (`prefix=`)",
                reason="LOG_NOT_EMPTY",
            )

    def _check_snapshot(self, database: MigratedData, snapshots: SnapshotStore, directory: Path) -> MigrationCheck:
        """Compare a database with what a router would restore."""
        self._report("comparing the snapshot with the database")
        path = directory / "stored" / "view.db"
        if snapshots.restore(path, log_identity=self._replicated.log.identity) is None:
            raise ConflictError("the snapshot can't be restored", reason="MIGRATION_DIFFERS")
        return check_migrated(database, self._fetched(path))

    def _check_database(self, database: MigratedData, directory: Path, position: int) -> MigrationCheck:
        """Compare a database with the log, by restoring that once more."""
        self._report("comparing the database with the log")
        view = View(directory / "stored")
        if catch_up(self._replicated, view, directory / "snapshots") != position:
            raise ConflictError("a router has written to the log meanwhile", reason="ROUTER_RUNNING")
        return check_migrated(self._fetched(view.path), database)

    def _fetched(self, path: Path) -> MigratedData:
        """Return a database whose blobs are read from the object store."""
        cache = BlobCache(path.parent / "blobs", self._replicated.objects)
        return MigratedData(path, digest_of_files(cache, temporary=True))


def catch_up(replicated: ReplicatedLog, view: View, directory: Path) -> int:
    """Make a view of the newest usable snapshot and the records after it; return the log's last position.

    `directory` is for temporary files.

    Raises:
        NotFoundError: nothing was ever stored in the log (`LOG_EMPTY`).
        ConflictError: records after the snapshot are missing (`LOG_INCOMPLETE`).
        UnavailableError: the log, its objects or the disk can't serve.
    """
    make_directory(view.path.parent)
    position = SnapshotStore(replicated.objects, directory).restore_view(view, replicated.log.identity)
    tail = replicated.log.tail()
    end = 0 if tail is None else tail.position
    if position is None and not end:
        raise NotFoundError("the log is empty", reason="LOG_EMPTY")
    try:
        follower = Follower(replicated.log, view, position or view.create(replicated.log.identity))
        follower.catch_up(end)
        follower.end()  # refuses a damaged end
    except LogTrimmedError as error:
        raise ConflictError(
            f"the log begins at position {error.first}, and no snapshot that reaches it can be used",
            reason="LOG_INCOMPLETE",
        ) from None
    return end


def transfer_all(verb: str, names: Collection[str], transfer: Callable[[str], bool], report: Report) -> int:
    """Transfer blobs, some at a time, and return how many were not there."""
    missing = 0
    reported = time.monotonic()
    with ThreadPoolExecutor(TRANSFERS, thread_name_prefix="migrate") as pool:
        for number, found in enumerate(pool.map(transfer, names), 1):
            missing += not found
            if time.monotonic() - reported >= PROGRESS_SECONDS:
                reported = time.monotonic()
                report(f"{number} of {len(names)} large payloads and bodies {verb}")
    if names:
        report(f"{len(names) - missing} of {len(names)} large payloads and bodies {verb}")
    return missing


@contextlib.contextmanager
def locked_directory(database: Path, purpose: str) -> Iterator[Path]:
    """Lock a database, and yield a private directory beside it, which is removed afterwards; translate errors."""
    try:
        lock = DataLock(database.with_name(f"{database.name}.lock"))
    except OSError as error:
        raise translate(error) from error
    try:
        with working_directory(database.parent / f".{database.name}.{purpose}") as directory:
            yield directory
    finally:
        lock.release()


def _names(view: View) -> set[str]:
    with view.connected() as connection:
        return named_blobs(connection)


def _upload(blobs: BlobCache, name: str) -> bool:
    if not blobs.path(name).exists():
        return False
    blobs.publish(name)
    blobs.settle([name])
    return True


def _store_durably(made: Path, database: Path, blobs: Path) -> None:
    """Give a database its name, once it and its blobs, whose content is synced already, are on stable storage."""
    for directory in {*(path.parent for path in blobs.glob("*/*")), *([blobs] if blobs.exists() else [])}:
        sync(directory)
    sync(made)
    made.rename(database)
    sync(database.parent)
