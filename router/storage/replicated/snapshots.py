"""Makes snapshots of a view in the object store when they are due, restores the newest usable one, removes others.

A snapshot is a copy of the database file, made by `VACUUM INTO`, checked, and compressed. The two newest ones are
retained. The log may be purged through the older of them, so that one unusable snapshot loses nothing.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple, Self

import apsw
import attrs
import zstandard

from flowhook.errors import FlowhookError, UnavailableError
from flowhook.process import logs
from flowhook.security.private_files import make_directory, open_private
from router.storage.blobs import check_room
from router.storage.commit_log.interface import CommitLog, ObjectDamagedError, ObjectStore
from router.storage.errors import translate
from router.storage.replicated.view import View, ViewPosition
from router.storage.schema import APPLICATION_ID, BUSY_MS, FORMAT_VERSION

RETAINED: Final = 2
COMPRESSION_LEVEL: Final = 3
PAUSE_STEPS: Final = 10_000  # steps of SQLite's virtual machine between two pauses
MAX_HEADER_BYTES: Final = 18  # largest header of a Zstandard frame (RFC 8878, section 3.1.1.1)

log = logs.get_logger(__name__)


PREFIX: Final = "snap/0/"  # beginning of the names of the shard's snapshots in the object store
_NAME: Final = re.compile(rf"{PREFIX}([0-9]{{20}})\.zst")


class SnapshotDamagedError(UnavailableError):
    """A file is not a usable copy of a view."""

    default_reason = "SNAPSHOT_DAMAGED"


class SnapshotMade(NamedTuple):
    """Result of making a snapshot."""

    position: int  # of the last record that it contains
    # position through which the log is not needed any more; None while there is one snapshot only
    purge_through: int | None


@attrs.define(eq=False, repr=False)
class SnapshotStore:
    """The snapshots of one shard. Methods block, and wait for one another.

    Each holds at most one copy of the database and its compressed form in `directory`, and leaves nothing there; what a
    killed process left is removed by the next call.
    """

    _objects: ObjectStore
    """Where they are stored, as `snap/<shard>/<position>.zst`."""
    _directory: Path
    """For temporary files, on the file system of the views; created when missing, and used by nobody else."""
    _lock: threading.Lock = attrs.field(init=False, factory=threading.Lock)

    def make(self, view: Path, *, alone: bool = False) -> SnapshotMade:
        """Store a snapshot of a view, which may be in use meanwhile, and remove superseded snapshots.

        `alone`: remove all earlier snapshots, because of what is in them, once the new one was fetched and checked.

        Raises:
            SnapshotDamagedError: the view is damaged; nothing was stored. Or what was stored is: no other was removed.
            UnavailableError: the object store or the disk can't serve (`STORAGE_FULL`), or the view can't be read.
        """
        with self._lock, working_directory(self._directory):
            copy, packed = self._directory / "copy.db", self._directory / "copy.zst"
            copy_view(view, copy)
            position = _check(copy, None)
            _compress(copy, packed)
            copy.unlink()
            self._objects.put(self.name(position), packed)
            if alone and self._fetch(position, None) is None:
                raise SnapshotDamagedError(f"the snapshot at position {position} was removed at once")
        if alone:
            self._remove_superseded(position, retained=1)
            return SnapshotMade(position, position - 1)
        return SnapshotMade(position, self._remove_superseded(position, retained=RETAINED))

    def restore(self, view: Path, *, log_identity: str | None = None, reaching: int = 0) -> int | None:
        """Replace a view, which nobody has open and may be missing, by the newest usable snapshot; return its position.

        None: there is no usable one, and the view is unchanged. Snapshots of another log than `log_identity`, or at
        positions before `reaching`, are passed over.

        Raises:
            UnavailableError: the object store or the disk can't serve; the view is unchanged.
        """
        with self._lock, working_directory(self._directory):
            found = self._fetch_newest(log_identity, reaching)
            if found is None:
                return None
            position, file = found
            make_directory(view.parent)
            # the database first: without it, SQLite ignores a log that is left beside
            for suffix in ("", "-wal", "-shm", "-journal"):
                view.with_name(view.name + suffix).unlink(missing_ok=True)
            file.replace(view)
            return position

    def restore_view(self, view: View, log_identity: str, reaching: int = 0) -> ViewPosition | None:
        if self.restore(view.path, log_identity=log_identity, reaching=reaching) is None:
            return None
        with view.connected() as connection:
            position = ViewPosition.read(connection)
        return None if position is None else view.adopt(position)

    def name(self, position: int) -> str:
        return f"{PREFIX}{position:020}.zst"

    def positions(self) -> list[int]:
        return sorted(int(match[1]) for match in map(_NAME.fullmatch, self._objects.names(PREFIX)) if match)

    def _fetch_newest(self, log_identity: str | None, reaching: int) -> tuple[int, Path] | None:
        tried: set[int] = set()
        # listed anew each time: a slow transfer may fail because its snapshot was superseded
        while untried := [each for each in self.positions() if each not in tried and each >= reaching]:
            position = untried[-1]
            tried.add(position)
            try:
                file = self._fetch(position, log_identity)
            except (ObjectDamagedError, SnapshotDamagedError) as error:
                log.warning("snapshot can't be used", position=position, cause=error.message)
            else:
                if file is not None:
                    return position, file
        return None

    def _fetch(self, position: int, log_identity: str | None) -> Path | None:
        packed, file = self._directory / "fetched.zst", self._directory / "fetched.db"
        for path in (packed, file):
            path.unlink(missing_ok=True)
        if not self._objects.get(self.name(position), packed):
            return None
        _decompress(packed, file)
        packed.unlink()
        if _check(file, log_identity) != position:
            raise SnapshotDamagedError(f"the snapshot at position {position} contains another position")
        return file

    def _remove_superseded(self, position: int, *, retained: int) -> int | None:
        """Remove snapshots but for the newest up to a position; return the position of the oldest that is left."""
        earlier = [each for each in self.positions() if each <= position]
        for each in earlier[:-retained]:
            self._objects.delete(self.name(each))
        return earlier[-retained] if len(earlier) >= retained else None


@contextlib.contextmanager
def working_directory(path: Path) -> Iterator[Path]:
    """Yield a private directory, which is new, and removed afterwards; translate errors that come from within."""
    shutil.rmtree(path, ignore_errors=True)
    try:
        make_directory(path.parent)
        make_directory(path)
        yield path
    except (OSError, apsw.Error) as error:
        raise translate(error) from error
    finally:
        shutil.rmtree(path, ignore_errors=True)


def copy_view(view: Path, copy: Path) -> None:
    """Write a compact copy of a view, which may be in use, without the rejections: they are local to each router.

    Raises:
        StorageError: the disk has no room for it (`STORAGE_FULL`).
        OSError: `copy` can't be created.
        apsw.Error: the view can't be read, or the copy written.
    """
    vacuum_into(view, copy)
    with closing(apsw.Connection(str(copy))) as connection:
        connection.execute("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF").fetchall()
        connection.execute("DELETE FROM rejection")
        emptied = connection.changes() > 0
    if emptied:  # else their pages would remain, with what was in them
        full = copy.rename(copy.with_name(f"{copy.name}.full"))
        vacuum_into(full, copy)
        full.unlink()


def vacuum_into(source: Path, target: Path, *, pause: Callable[[], bool] | None = None) -> None:
    """Write a compact copy of a database, which may be in use.

    `pause` is called about every millisecond, and returns false. Raises as `copy_view` does.
    """
    with closing(apsw.Connection(str(source), flags=apsw.SQLITE_OPEN_READWRITE)) as connection:
        connection.set_busy_timeout(BUSY_MS)
        pages: int = connection.execute("PRAGMA page_count").get
        page_bytes: int = connection.execute("PRAGMA page_size").get
        check_room(target.parent, pages * page_bytes)
        os.close(open_private(target, os.O_WRONLY | os.O_EXCL))
        if pause is not None:
            connection.set_progress_handler(pause, PAUSE_STEPS)
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # of the copy: see `vacuum`
        connection.execute("VACUUM INTO ?", (str(target),))


def _check(path: Path, log_identity: str | None) -> int:
    """Return the position of a copy of a view, unless it is damaged, no view, of another format, or another log's."""
    try:
        with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)) as connection:
            application: int = connection.execute("PRAGMA application_id").get
            version: int = connection.execute("PRAGMA user_version").get
            sound: str = connection.execute("PRAGMA quick_check(1)").get
            applied = ViewPosition.read(connection)
    except apsw.Error as error:
        raise SnapshotDamagedError(f"a copy of the view can't be read: {type(error).__name__}") from None
    if application != APPLICATION_ID or version != FORMAT_VERSION:
        raise SnapshotDamagedError(f"a copy of the view is no Flowhook database of format {FORMAT_VERSION}")
    if sound != "ok" or applied is None:
        raise SnapshotDamagedError("a copy of the view is damaged")
    if log_identity not in (None, applied.log):
        raise SnapshotDamagedError("a copy of the view belongs to another log")
    return applied.position


def _compress(source: Path, target: Path) -> None:
    size = source.stat().st_size
    check_room(target.parent, size)
    compressor = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL, write_checksum=True)
    with source.open("rb") as reader, os.fdopen(open_private(target, os.O_WRONLY | os.O_EXCL), "wb") as writer:
        compressor.copy_stream(reader, writer, size=size)


def _decompress(source: Path, target: Path) -> None:
    with source.open("rb") as reader, os.fdopen(open_private(target, os.O_WRONLY | os.O_EXCL), "wb") as writer:
        try:
            size = zstandard.get_frame_parameters(reader.read(MAX_HEADER_BYTES)).content_size
            reader.seek(0)
            if size == zstandard.CONTENTSIZE_UNKNOWN:
                raise SnapshotDamagedError("a snapshot does not contain its size")
            check_room(target.parent, size)
            _, written = zstandard.ZstdDecompressor().copy_stream(reader, writer)
        except zstandard.ZstdError:
            raise SnapshotDamagedError("a snapshot can't be unpacked") from None
    if written != size:  # the library does not report a frame that ends early
        raise SnapshotDamagedError("a snapshot is incomplete")


LOG_SHARE: Final = 8
"""Part of a limited log by which it grows until a snapshot is due at the latest: it is purged behind the older of two
snapshots, and must not refuse new events until then."""
CROWDED_SHARE: Final = 0.65
"""Share of the log's limit from which on each minute's growth is worth a snapshot: new events will be refused soon."""
CROWDED_SECONDS: Final = 60.0  # time between two snapshots of a log that is nearly full
RETRY_SECONDS: Final = 60.0  # time between a failed attempt and the next one
ALARM_SECONDS: Final = 3600.0  # time without success after a failure that raises the alarm


@attrs.define(eq=False, repr=False)
class SnapshotSchedule:
    """When snapshots are due. Does no I/O.

    `grew` may be called by one thread, everything else by another. Times are those of a monotonic clock, in s.
    """

    _last: float = attrs.field(alias="now")  # of the last snapshot; at first, the beginning of the first period
    _log_bytes: int = attrs.field(kw_only=True)  # growth of the log after which a snapshot is due
    _seconds: float = attrs.field(kw_only=True)  # after which a snapshot is due, if the log grew at all
    _grown: int = attrs.field(init=False, default=0)
    _begun: int = attrs.field(init=False, default=0)
    _covered: int = attrs.field(init=False, default=0)
    _failing_since: float | None = attrs.field(init=False, default=None)
    _retry: float = attrs.field(init=False, default=attrs.Factory(lambda self: self._last, takes_self=True))

    @classmethod
    def of_log(cls, log: CommitLog, now: float, *, log_bytes: int, seconds: float) -> Self:
        """Return the schedule for a log, which may have grown more without a snapshot than it should. No I/O."""
        room, size = log.room(), log.max_bytes
        if room is None or size is None:
            return cls(now, log_bytes=log_bytes, seconds=seconds)
        log_bytes = min(log_bytes, size // LOG_SHARE)
        schedule = cls(now, log_bytes=log_bytes, seconds=seconds)
        # what two snapshots and the time until the next one leave in it is no sign of that
        schedule.grew(max(0, size - room - 2 * log_bytes))
        return schedule

    def grew(self, size: int) -> None:
        self._grown += size

    def due(self, now: float, *, crowded: bool = False, erased: bool = False) -> bool:
        """Whether a snapshot is to be made; the log is nearly full (`crowded`), or has what was erased (`erased`)."""
        grown = self._grown - self._covered
        seconds = min(CROWDED_SECONDS, self._seconds) if crowded or erased else self._seconds
        if erased:
            return now >= self._retry and now - self._last >= seconds
        return grown > 0 and now >= self._retry and (grown >= self._log_bytes or now - self._last >= seconds)

    def begin(self) -> None:
        self._begun = self._grown

    def succeeded(self, now: float) -> None:
        self._covered = self._begun
        self._last = now
        self._failing_since = None

    def failed(self, now: float) -> None:
        self._retry = now + RETRY_SECONDS
        if self._failing_since is None:
            self._failing_since = now

    def failing(self, now: float) -> float:
        """Return for how many seconds snapshots have failed; 0: the last one succeeded."""
        return 0.0 if self._failing_since is None else now - self._failing_since

    def alarm(self, now: float) -> bool:
        """Whether snapshots have failed for so long that the log may become full."""
        return self.failing(now) >= ALARM_SECONDS


@attrs.define(eq=False, repr=False)
class SnapshotTask:
    """Makes the snapshots of a view when they are due, and purges the log behind them; on one thread."""

    _store: SnapshotStore
    _log: CommitLog
    _view: Path
    _schedule: SnapshotSchedule = attrs.field(kw_only=True)
    _clock: Callable[[], float] = attrs.field(kw_only=True)  # monotonic, s
    _last_erasure: Callable[[], int] = attrs.field(default=lambda: 0, kw_only=True)
    """Returns the number of the last erasure that the view contains; 0 if absent."""
    _purged_erasure: int = attrs.field(init=False, default=0)
    """Last erasure behind which this process has purged the log; of former processes that is not known."""

    @property
    def alarm(self) -> bool:
        """Whether snapshots have failed for an hour, for a metric; may be read by any thread."""
        return self._schedule.alarm(self._clock())

    @property
    def failing(self) -> float:
        """For how many seconds snapshots have failed; 0: the last one succeeded."""
        return self._schedule.failing(self._clock())

    def run_if_due(self) -> bool:
        """Make a snapshot if one is due, and return whether one was made. Blocks; failures are logged, not raised."""
        last_erasure = self._last_erasure()
        erased = last_erasure > self._purged_erasure
        if not self._schedule.due(self._clock(), crowded=self._is_crowded(), erased=erased):
            return False
        self._schedule.begin()
        try:
            # what was erased is in the snapshots and the records before
            made = self._store.make(self._view, alone=True) if erased else self._store.make(self._view)
            if made.purge_through:
                self._log.purge(made.purge_through)
        except Exception as error:  # noqa: BLE001 - a defect must not end the snapshots, without which the log fills up
            self._failed(error)
            return False
        self._schedule.succeeded(self._clock())
        self._purged_erasure = last_erasure
        log.info("snapshot made", position=made.position, purged_through=made.purge_through)
        return True

    def _is_crowded(self) -> bool:
        room, size = self._log.room(), self._log.max_bytes
        return room is not None and size is not None and room < size * (1 - CROWDED_SHARE)

    def _failed(self, error: Exception) -> None:
        now = self._clock()
        self._schedule.failed(now)
        if isinstance(error, FlowhookError):
            log.warning("snapshot failed", reason=error.reason, cause=error.message)
        else:
            log.error("snapshot failed", exc_info=error)
        if self._schedule.alarm(now):
            log.warning("snapshots have failed for long: the log grows until it is full", seconds=self.failing)
