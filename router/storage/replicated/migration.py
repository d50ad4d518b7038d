"""Moves all data between a database of the embedded storage and a replicated log, while no router runs.

To the log: a copy of the database becomes the snapshot at position 0. It is put after all blobs, so that an interrupted
migration can be repeated. Back: the newest snapshot and the records after it become a database, which gets its name
last. Both leave their source as it is, and compare the result with it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import apsw

from flowhook.errors import ConflictError, NotFoundError
from flowhook.security.private_files import make_directory
from router.storage.blobs import BlobCache, BlobDirectory, named_blobs, sync_directory
from router.storage.commit_log.interface import LogTrimmedError, ReplicatedLog
from router.storage.errors import translate
from router.storage.formats import migrate_file
from router.storage.replicated.follower import Follower
from router.storage.replicated.migration_check import MigratedData, MigrationCheck, check_migrated, digest_of_files
from router.storage.replicated.snapshots import SnapshotStore, copy_view
from router.storage.replicated.view import View, ViewPosition
from router.storage.schema import connect_writer
from router.storage.storage import DataLock

TRANSFERS: Final = 4
"""Blobs that are transferred at a time."""
PROGRESS_SECONDS: Final = 2.0
"""Between two reports while blobs are transferred."""

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class MigrationResult:
    """What was migrated.

    Attributes:
        position: position of the log that has the same content as the database.
        blobs: number of large payloads and bodies.
        missing: number of those that rows name and the source does not have.
        check: what was compared.
    """

    position: int
    blobs: int
    missing: int
    check: MigrationCheck


class Migration:
    """Migrates in either direction. Methods block.

    Args:
        replicated: the log, its objects, and the heartbeats of its routers.
        report: called with each line of progress.
        heartbeat_seconds: for how long the heartbeats of running routers are listened to.
    """

    def __init__(self, replicated: ReplicatedLog, *, report: Report, heartbeat_seconds: float) -> None:
        self._log = replicated.log
        self._objects = replicated.objects
        self._heartbeats = replicated.heartbeats
        self._report = report
        self._heartbeat_seconds = heartbeat_seconds

    def to_log(self, database: Path) -> MigrationResult:
        """Copy a database and its blobs to the log, which must be empty. Temporary files are beside the database.

        Raises:
            NotFoundError: there is no database (`DATABASE_NOT_FOUND`).
            ConflictError: a router uses the database (`DATA_DIR_IN_USE`) or the log (`ROUTER_RUNNING`), the log is not
                empty (`LOG_NOT_EMPTY`), the file can't be read by this version, or the copy differs
                (`MIGRATION_DIFFERS`).
            UnavailableError: the log, its object store, or the disk can't serve.
        """
        if not database.is_file():
            raise NotFoundError(f"there is no database at {database}", reason="DATABASE_NOT_FOUND")
        with _working(database) as directory:
            migrate_file(database)
            connect_writer(database).close()  # checks what it is
            snapshots = SnapshotStore(self._objects, directory / "snapshots")
            time.sleep(self._heartbeat_seconds)
            self._refuse_use(snapshots)
            view = self._view_of(database, directory / "copy")
            blobs = BlobCache(database.parent / "blobs", self._objects)
            names = _names(view)
            missing = self._transfer("uploaded", names, lambda name: _upload(blobs, name))
            self._report("uploading the database")
            self._refuse_use(snapshots)
            snapshots.make(view.path)
            original = MigratedData(database, digest_of_files(BlobDirectory(database.parent / "blobs")))
            try:
                check = self._check_snapshot(original, snapshots, directory)
            except BaseException:
                self._objects.delete(snapshots.name(0))  # else a router would start with it
                raise
        return MigrationResult(0, len(names), missing, check)

    def from_log(self, database: Path) -> MigrationResult:
        """Make a database, with its blobs, of the log. Temporary files are beside it.

        Raises:
            NotFoundError: nothing was ever stored in the log (`LOG_EMPTY`).
            ConflictError: the database exists (`DATABASE_EXISTS`), a router runs (`ROUTER_RUNNING`), records are
                missing (`LOG_INCOMPLETE`), or the copy differs (`MIGRATION_DIFFERS`).
            UnavailableError: the log, its object store, or the disk can't serve.
        """
        directory = database.parent / "blobs"
        if database.exists():
            raise ConflictError(f"{database} exists: name a file that does not", reason="DATABASE_EXISTS")
        make_directory(database.parent)
        with _working(database) as work:
            time.sleep(self._heartbeat_seconds)
            self._refuse_routers()
            self._report("restoring the newest snapshot, and applying the records after it")
            view = View(work / "view")
            position = self._catch_up(view, work / "snapshots")
            blobs = BlobCache(directory, self._objects)
            names = _names(view)
            missing = self._transfer("downloaded", names, lambda name: blobs.locate(name).exists())
            made = work / "made.db"
            with view.connected() as connection:
                connection.execute("DROP TABLE applied")
            copy_view(view.path, made)
            view.discard()
            check = self._check_database(MigratedData(made, digest_of_files(BlobDirectory(directory))), work, position)
            _store_durably(made, database, directory)
        return MigrationResult(position, len(names), missing, check)

    def _refuse_routers(self) -> None:
        since = time.monotonic() - self._heartbeat_seconds
        heard = sorted(name for name, at in self._heartbeats.seen().items() if at >= since)
        if heard:
            raise ConflictError(f"{', '.join(heard)} runs on this log: stop all routers first", reason="ROUTER_RUNNING")

    def _refuse_use(self, snapshots: SnapshotStore) -> None:
        self._refuse_routers()
        tail = self._log.tail()
        position = max([0 if tail is None else tail.position, *snapshots.positions()])
        if position:
            raise ConflictError(
                f"the log is not empty: it has been used up to position {position}; migrate to another log (`prefix=`)",
                reason="LOG_NOT_EMPTY",
            )

    def _view_of(self, database: Path, directory: Path) -> View:
        """Make a view at position 0 of the log with the content of a database."""
        make_directory(directory)
        view = View(directory)
        self._report("copying the database")
        copy_view(database, view.path)
        # A hash of its own, so that no record that was written after an empty view fits this one, or the other way.
        view.adopt(ViewPosition(self._log.identity, last_hash=secrets.token_bytes(16)))
        return view

    def _catch_up(self, view: View, directory: Path) -> int:
        """Make a view of the newest usable snapshot and the records after it; return the log's last position."""
        make_directory(view.path.parent)
        position = SnapshotStore(self._objects, directory).restore_view(view, self._log.identity)
        tail = self._log.tail()
        end = 0 if tail is None else tail.position
        if position is None and not end:
            raise NotFoundError("the log is empty", reason="LOG_EMPTY")
        try:
            follower = Follower(self._log, view, position or view.create(self._log.identity))
            follower.catch_up(end)
            follower.end()  # refuses a damaged end
        except LogTrimmedError as error:
            raise ConflictError(
                f"the log begins at position {error.first}, and no snapshot that reaches it can be used",
                reason="LOG_INCOMPLETE",
            ) from None
        return end

    def _check_snapshot(self, database: MigratedData, snapshots: SnapshotStore, directory: Path) -> MigrationCheck:
        """Compare a database with what a router would restore."""
        self._report("comparing the snapshot with the database")
        path = directory / "stored" / "view.db"
        if snapshots.restore(path, log_identity=self._log.identity) is None:
            raise ConflictError("the snapshot can't be restored", reason="MIGRATION_DIFFERS")
        return check_migrated(database, self._fetched(path))

    def _check_database(self, database: MigratedData, directory: Path, position: int) -> MigrationCheck:
        """Compare a database with the log, by restoring that once more."""
        self._report("comparing the database with the log")
        view = View(directory / "stored")
        if self._catch_up(view, directory / "snapshots") != position:
            raise ConflictError("a router has written to the log meanwhile", reason="ROUTER_RUNNING")
        return check_migrated(self._fetched(view.path), database)

    def _fetched(self, path: Path) -> MigratedData:
        """Return a database whose blobs are read from the object store."""
        cache = BlobCache(path.parent / "blobs", self._objects)
        return MigratedData(path, digest_of_files(cache, temporary=True))

    def _transfer(self, verb: str, names: Collection[str], transfer: Callable[[str], bool]) -> int:
        """Transfer blobs, and return the number of those that the source does not have."""
        missing = 0
        reported = time.monotonic()
        with ThreadPoolExecutor(TRANSFERS, thread_name_prefix="migrate") as pool:
            for number, found in enumerate(pool.map(transfer, names), 1):
                missing += not found
                if time.monotonic() - reported >= PROGRESS_SECONDS:
                    reported = time.monotonic()
                    self._report(f"{number} of {len(names)} large payloads and bodies {verb}")
        if names:
            self._report(f"{len(names) - missing} of {len(names)} large payloads and bodies {verb}")
        return missing


@contextlib.contextmanager
def _working(database: Path) -> Iterator[Path]:
    """Lock a database, and yield a private directory beside it, which is removed afterwards."""
    try:
        lock = DataLock(database.with_name(f"{database.name}.lock"))
        directory = database.parent / f".{database.name}.migration"
        try:
            shutil.rmtree(directory, ignore_errors=True)
            make_directory(directory)
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)
            lock.release()
    except (OSError, apsw.Error) as error:
        raise translate(error) from error


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
        sync_directory(directory)
    descriptor = os.open(made, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    made.rename(database)
    sync_directory(database.parent)
