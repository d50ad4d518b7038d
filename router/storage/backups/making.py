"""Makes a backup while a router runs: copies the storage at one position, checks the copy, and packs it.

Of the embedded storage, `VACUUM INTO` copies the database within one read of SQLite: everything that was committed
before it began, and nothing after. Blobs are linked before, and those that came meanwhile after, so that retention
removes none of them from the backup. Of a replicated log, the newest snapshot and the records after it become such a
database, and blobs are fetched; that needs no router, and asks none.

Most of the time is slept, in slices, and files are written to disk in pieces: senders wait for the same disk and
processors.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import apsw
import attrs

from flowhook.errors import ConflictError, FlowhookError, InvalidError, NotFoundError
from flowhook.model import Status
from flowhook.security.private_files import make_directory
from router.storage.backups.archive import (
    BLOBS,
    DATABASE,
    MANIFEST,
    PLAIN_SUFFIX,
    SUFFIXES,
    TOKENS,
    ArchiveWriter,
    Manifest,
    Writeback,
    read_archive,
)
from router.storage.backups.targets import locked_directory, time_of
from router.storage.blobs import BlobCache, named_blobs, sync
from router.storage.commit_log.interface import ReplicatedLog
from router.storage.encryption import key_fingerprint
from router.storage.formats import EARLIEST
from router.storage.registry import read_fingerprint
from router.storage.replicated.migration import catch_up, transfer_all
from router.storage.replicated.snapshots import PAUSE_STEPS, vacuum_into, working_directory
from router.storage.replicated.view import View, ViewPosition
from router.storage.schema import BUSY_MS, FORMAT_VERSION, STATUSES, read_version

WORK_SHARE: Final = 0.25  # share of the time in which it works
SLICE_SECONDS: Final = 0.003  # longest time without a pause, but for single calls of SQLite and the system
MAX_PAUSE_SECONDS: Final = 0.5
PROGRESS_SECONDS: Final = 2.0  # between two reports
ATTEMPTS: Final = 3  # to read a log that is purged meanwhile
KEY: Final = "secrets_key"  # name of the key's fingerprint in the database

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class BackupMade:
    """A backup."""

    path: Path
    size: int  # bytes of the file
    manifest: Manifest
    is_authenticated: bool  # false: the key of secrets was missing, or is not that of the database


@attrs.define(eq=False, repr=False)
class BackupPace:
    """Sleeps three times as long as it worked, and reports now and then what is done."""

    _report: Report
    _share: float = attrs.field(default=WORK_SHARE, kw_only=True)
    _clock: Callable[[], float] = attrs.field(default=time.monotonic, kw_only=True)
    _sleep: Callable[[float], None] = attrs.field(default=time.sleep, kw_only=True)
    step: Callable[[], object] = attrs.field(init=False, default=str)
    """Called before each pause."""
    describe: Callable[[], str] = attrs.field(init=False, default=str)
    """Returns what is done so far; or empty."""
    _since: float = attrs.field(init=False)
    _reported: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._since = self._reported = self._clock()

    def pause(self) -> bool:
        """Return false, for SQLite: it is to go on."""
        if self._clock() - self._since < SLICE_SECONDS:
            return False
        self.step()
        now = self._clock()
        if now - self._reported >= PROGRESS_SECONDS:
            self._reported = now
            if text := self.describe():
                self._report(text)
        self._sleep(min(MAX_PAUSE_SECONDS, (now - self._since) * (1 - self._share) / self._share))
        self._since = self._clock()
        return False


@attrs.define(eq=False, repr=False, kw_only=True)
class BackupMaker:
    """Makes backups of one storage. Methods block."""

    tokens: Path
    """The file of the tokens; it may be missing."""
    key: bytes | None
    """The key of secrets, which backups are authenticated with; None: it is missing, and they are not."""
    report: Report
    """Called with each line of progress."""
    share: float = WORK_SHARE
    """Share of the time in which it works, above 0 and up to 1."""

    def of_database(self, database: Path, target: Path) -> BackupMade:
        """Back up the embedded storage, which may be in use, to a file. An existing one is replaced at the end.

        Raises:
            NotFoundError: there is no database (`DATABASE_NOT_FOUND`).
            InvalidError: the file's name is none of a backup (`BACKUP_NAME_INVALID`): it may be something else.
            ConflictError: it is not of Flowhook, of another format, or damaged (`DATABASE_DAMAGED`); or another backup
                is made of it, or in the same directory (`BACKUP_RUNNING`).
            BackupDamagedError: what was written is not what was read; the file that was there stays.
            UnavailableError: the disk has no room (`STORAGE_FULL`), or a file can't be read or written.
        """
        if not database.is_file():
            raise NotFoundError(f"there is no database at {database}", reason="DATABASE_NOT_FOUND")
        links_path = database.parent / f".{database.name}.backup"
        with self._working(target, database.parent) as work, working_directory(links_path) as links:
            blobs = _BlobLinks(database.parent / "blobs", links)
            blobs.link(_read_names(database))
            copy, pace = work / DATABASE, BackupPace(self.report, share=self.share)
            pace.describe, pace.step = partial(_copied, database, copy), Writeback(copy).advance
            now_ms = time.time_ns() // 1_000_000
            vacuum_into(database, copy, pause=pace.pause)
            names = _read_names(copy)
            blobs.link(names)
            return self._pack(copy, names, blobs.path, target, pace, time_ms=now_ms)

    def of_log(self, replicated: ReplicatedLog, target: Path) -> BackupMade:
        """Back up a replicated log to a file; routers may run.

        Raises:
            NotFoundError: nothing was ever stored in the log (`LOG_EMPTY`).
            ConflictError: its beginning is missing (`LOG_INCOMPLETE`); and as `of_database` does.
        """
        with self._working(target) as work:
            view, pace = View(work / "view"), BackupPace(self.report, share=self.share)
            self.report("restoring the newest snapshot, and applying the records after it")
            now_ms = time.time_ns() // 1_000_000
            _catch_up(replicated, view, work / "snapshots")
            names = _read_names(view.path)
            cache = BlobCache(work / BLOBS, replicated.objects)
            transfer_all("fetched", names, lambda name: cache.locate(name).exists(), self.report)
            copy = work / DATABASE
            vacuum_into(view.path, copy, pause=pace.pause)
            view.discard()
            return self._pack(copy, names, cache.path, target, pace, time_ms=now_ms)

    @contextmanager
    def _working(self, target: Path, *sources: Path) -> Iterator[Path]:
        """Yield a private directory beside a target; one process has it and `sources` at a time. Translate errors."""
        if not target.name.endswith(SUFFIXES):
            raise InvalidError(
                f"{target} is to end with {' or '.join(SUFFIXES)}: it would be replaced", reason="BACKUP_NAME_INVALID"
            )
        with ExitStack() as locks:
            for directory in {each.resolve() for each in (target.parent, *sources)}:
                is_locked = locks.enter_context(locked_directory(directory))
                if is_locked and directory == target.parent.resolve():
                    _remove_leftovers(directory)
            yield locks.enter_context(working_directory(target.parent / f".{target.name}.partial"))

    def _pack(
        self,
        copy: Path,
        names: set[str],
        blob: Callable[[str], Path],
        target: Path,
        pace: BackupPace,
        *,
        time_ms: int,
    ) -> BackupMade:
        pace.describe = pace.step = str
        self.report("checking the copy")
        found = sorted(name for name in names if blob(name).exists())
        tokens = self.tokens.read_bytes() if self.tokens.exists() else None
        fingerprint = "" if self.key is None else key_fingerprint(self.key)
        manifest = _describe(
            copy,
            pace,
            time_ms=time_ms,
            size=copy.stat().st_size + sum(blob(name).stat().st_size for name in found) + len(tokens or b""),
            blobs=len(found),
            missing=len(names) - len(found),
            key=fingerprint,
        )
        key = self.key if manifest.secrets_key == fingerprint else None
        self.report(
            f"packing {sum(manifest.executions.values())} executions and {len(found)} large payloads and bodies"
        )
        packed = copy.with_name("packed")
        with ArchiveWriter(packed, compressed=target.suffix != PLAIN_SUFFIX, pause=pace.pause, key=key) as writer:
            pace.describe = lambda: f"{writer.size >> 20} MiB packed"
            writer.add_content(MANIFEST, manifest.to_json())
            writer.add(DATABASE, copy)
            for name in found:
                writer.add(f"{BLOBS}/{name}", blob(name))
            if tokens is not None:
                writer.add_content(TOKENS, tokens)
        pace.describe = str
        self.report("checking the backup")
        if read_archive(packed, key=key, pause=pace.pause) != manifest:
            raise ConflictError("the backup is not what was written", reason="BACKUP_DAMAGED")
        size = packed.stat().st_size
        packed.replace(target)
        sync(target.parent)
        return BackupMade(target, size, manifest, key is not None)


def _remove_leftovers(directory: Path) -> None:
    """Remove what backups that were killed left: each had a name of its own."""
    for path in directory.glob(".*.partial"):
        if time_of(path.name[1:].removesuffix(".partial")) is not None:
            shutil.rmtree(path, ignore_errors=True)


@attrs.define(eq=False, repr=False)
class _BlobLinks:
    """Hard links to blobs, under which they stay when retention removes them."""

    _blobs: Path
    _links: Path

    def path(self, name: str) -> Path:
        linked = self._links / name
        return linked if linked.exists() else self._blobs / name  # a file system without hard links

    def link(self, names: set[str]) -> None:
        for name in names:
            linked = self._links / name
            if linked.exists():
                continue
            make_directory(linked.parent)
            with suppress(OSError):  # it was removed meanwhile, or there are no hard links
                linked.hardlink_to(self._blobs / name)


def _copied(source: Path, copy: Path) -> str:
    """Say how far a copy is."""
    copied, size = (path.stat().st_size >> 20 for path in (copy, source))
    return f"{copied} of at most {size} MiB of the database copied"


def _catch_up(replicated: ReplicatedLog, view: View, directory: Path) -> None:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            catch_up(replicated, view, directory)
        except FlowhookError as error:  # the snapshot was superseded, and the log purged
            if attempt == ATTEMPTS or error.reason != "LOG_INCOMPLETE":
                raise
            shutil.rmtree(view.path.parent)
        else:
            return


def _read_names(database: Path) -> set[str]:
    """Return the names of all blobs of a database. Raises as `read_version` does."""
    with closing(apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READWRITE)) as connection:
        connection.set_busy_timeout(BUSY_MS)
        version = read_version(connection, database)
        if not EARLIEST <= version <= FORMAT_VERSION:
            raise ConflictError(
                f"{database} has format {version}, and this Flowhook reads formats {EARLIEST} to {FORMAT_VERSION}",
                reason="FORMAT_UNSUPPORTED",
            )
        return named_blobs(connection)


def _describe(copy: Path, pace: BackupPace, *, time_ms: int, size: int, blobs: int, missing: int, key: str) -> Manifest:
    """Check a copy and describe it."""
    with closing(apsw.Connection(str(copy), flags=apsw.SQLITE_OPEN_READWRITE)) as connection:
        connection.set_progress_handler(pace.pause, PAUSE_STEPS)
        check_integrity(connection)
        applied = ViewPosition.read(connection)
        last: int = connection.execute("SELECT coalesce(max(seq), 0) FROM execution").get
        return Manifest(
            time_ms=time_ms,
            storage="sqlite" if applied is None else "nats",
            log="" if applied is None else applied.log,
            position=last if applied is None else applied.position,
            database_format=read_version(connection, copy),
            executions=count_executions(connection),
            size=size,
            blobs=blobs,
            missing=missing,
            secrets=connection.execute("SELECT count(*) FROM secret").get,
            secrets_key=read_fingerprint(connection, KEY) or key,
        )


def check_integrity(connection: apsw.Connection) -> None:
    """Raise ConflictError (`DATABASE_DAMAGED`) if SQLite finds that a database is damaged."""
    found: str = connection.execute("PRAGMA integrity_check(1)").get
    if found != "ok":
        raise ConflictError(f"the database is damaged: {found[:200]}", reason="DATABASE_DAMAGED")


def count_executions(connection: apsw.Connection) -> dict[str, int]:
    """Return the number of executions by status."""
    rows: list[Any] = connection.execute("SELECT status, count(*) FROM execution GROUP BY status").fetchall()
    counted: dict[Status, int] = {STATUSES[status]: number for status, number in rows}
    return {status.value: counted[status] for status in Status if status in counted}
