"""The whole storage: opening and closing, the lock and the size limit of its file, what it takes on the disk.

SQLite itself enforces the size limit (`max_page_count`). New events are refused before it is reached, so that accepted
executions can still run and end: ending an execution takes space, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final

import apsw

from flowhook.asyncio_tasks import end_tasks
from flowhook.errors import ConflictError, UnavailableError
from flowhook.model.cluster import StorageUsage
from flowhook.security.private_files import make_directory, open_private
from flowhook.sharing.table import RouterLimits
from router.storage.audit import AuditLog
from router.storage.blobs import BlobCache, BlobDirectory, ObjectSweep, free_bytes, named_blobs, sync
from router.storage.bodies import BodyStore
from router.storage.changes import StateChangeOperation
from router.storage.checkpoints import Checkpoints
from router.storage.commit_log.interface import ObjectStore
from router.storage.erasure import Wiping
from router.storage.errors import translate
from router.storage.event_log import AppendOperation, EventLog, InboundEventOperation
from router.storage.formats import migrate_file
from router.storage.incidents import IncidentLog
from router.storage.jobs import JobStore
from router.storage.limits import DEFAULT_LIMITS, StorageLimits
from router.storage.readers import Readers
from router.storage.registry import Registry, RegistryOperation
from router.storage.rejections import RejectionLog
from router.storage.schema import PAGE_BYTES, connect_writer
from router.storage.series import SeriesLog
from router.storage.shard_state import ShardState
from router.storage.silences import SilenceLog
from router.storage.statements import increment_counter, read_counter
from router.storage.vacuum import vacuum_forever
from router.storage.writer import TransactionLog, Writer


class DataLock:
    """An exclusive lock on a file that contains its owner's process ID. The constructor takes it.

    Raises:
        ConflictError: another process holds it (`DATA_DIR_IN_USE`).
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = open_private(path, os.O_RDWR)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._descriptor)
            if not isinstance(error, BlockingIOError):
                raise
            raise ConflictError(
                f"{path.parent} is in use by process {holder}", reason="DATA_DIR_IN_USE", metadata={"pid": holder}
            ) from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Release the lock. The file stays, because removing it would allow two processes to lock two files."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


SWITCH_INTERVAL_SECONDS: Final = 20e-6
"""Interval the process should pass to `sys.setswitchinterval`, when the writer runs beside a busy event loop.

The writer releases the GIL about twenty times a transaction. A busy loop releases it for a microsecond in each
iteration and reacquires it before another thread wakes up, unless the interpreter asks it to yield, which happens after
it has held the GIL for this long. With the default of 5 ms, transactions were measured to take seconds
(bench/storage.py --busy 1); with this value, a millisecond.
"""

USAGE_SECONDS: Final = 10.0  # age up to which a measurement is used again: it looks at many files
MAX_FILES: Final = 100_000  # files beside the database that are looked at, which takes about half a second


def measure(path: Path, files: Path, *, max_files: int = MAX_FILES) -> StorageUsage:
    """Return the sizes of a database, of its write-ahead log, and of the files in the folders of `files`. Blocks."""
    found = (size for folder, _, names in os.walk(files) for name in names for size in _size(Path(folder, name)))
    sizes = list(islice(found, max_files + 1))
    disk = shutil.disk_usage(path.parent)
    return StorageUsage(
        database_bytes=path.stat().st_size,
        wal_bytes=sum(_size(path.with_name(f"{path.name}-wal"))),
        file_bytes=sum(sizes[:max_files]),
        files=min(len(sizes), max_files),
        files_partial=len(sizes) > max_files,
        free_bytes=disk.free,
        disk_bytes=disk.total,
    )


def _size(path: Path) -> Iterator[int]:
    with suppress(FileNotFoundError):
        yield path.stat().st_size


PESSIMISM: Final = 2  # most space a row takes, in multiples of its own size: a page may be left half empty
MIN_BYTES: Final = 64 * PAGE_BYTES  # smallest limit: the empty tables take some of it
DISK_SECONDS: Final = 0.2  # between two looks at what is free on the disk


Room = Callable[[apsw.Connection], int]


def limit_size(
    connection: apsw.Connection,
    directory: Path,
    max_bytes: int,
    limits: StorageLimits,
    log_room: Callable[[], int | None],
) -> Room:
    """Limit the size of a database; return a function that returns the bytes that new events may still take.

    `directory`: where it is. `max_bytes`: the limit; 0: only the disk limits it.
    `log_room`: returns the bytes that they may take elsewhere; None: any number.
    """
    limit = max(max_bytes, MIN_BYTES) // PAGE_BYTES if max_bytes else 0
    if limit:
        connection.execute(f"PRAGMA max_page_count = {limit}")
    disk, looked = 0, -math.inf

    def room(connection: apsw.Connection) -> int:
        nonlocal disk, looked
        now = time.monotonic()
        if now - looked > DISK_SECONDS:
            disk, looked = max(0, free_bytes(directory) - limits.reserve_bytes), now
        in_log = log_room()
        left = disk if in_log is None else min(disk, in_log)
        if not limit:
            return left
        pages: int = connection.execute("PRAGMA page_count").get
        free: int = connection.execute("PRAGMA freelist_count").get
        return min(left, max(0, int(limit * limits.append_share) - (pages - free)) * PAGE_BYTES // PESSIMISM)

    return room


def probe(connection: apsw.Connection, room: Room) -> bool:
    """Write a small row, to check that writing works, and return whether there is room for new events."""
    increment_counter(connection, "probe")
    return room(connection) > 0


class Storage:
    """The whole storage, opened by `open_storage`; after `close`, every call raises UnavailableError.

    It has one `Registry` (flows and secrets) and one shard: an ordered log of accepted events (`EventLog`), and the
    state of the executions they start (`ShardState`: one owner at a time, writes of a former owner are refused).

    All methods of all parts run on the router's event loop and never block it. Writes that arrive during a commit go
    into the next one together (group commit); each call returns after its own commit is on stable storage. Each may
    raise UnavailableError: storage can't serve now (`STORAGE_FULL`, `STORAGE_UNAVAILABLE`); nothing of the call was
    stored.
    """

    def __init__(
        self,
        path: Path,
        lock: DataLock,
        connection: apsw.Connection,
        room: Room,
        *,
        limits: StorageLimits,
        transaction_log: TransactionLog,
        objects: ObjectStore | None,
    ) -> None:
        self.path = path
        self._lock = lock
        self._limits = limits
        self._connection = connection
        cache = None if objects is None else BlobCache(path.parent / "blobs", objects)
        self._blobs = cache or BlobDirectory(path.parent / "blobs")
        self._append = AppendOperation(room)
        self._append_inbound = InboundEventOperation(room)
        self._write = StateChangeOperation()
        self._probe = partial(probe, room=room)
        registry = RegistryOperation(limits)
        operations = [self._append, self._append_inbound, self._write, registry]
        self.writer = Writer(connection, operations, transaction_log, limits=limits)
        shared = RouterLimits()
        self._readers = Readers(path, shared.reads)
        self._queries = Readers(path, shared.queries)
        self.registry = Registry(self.writer, self._readers, registry, limits)
        self.rejections = RejectionLog(self.writer, self._readers)
        self.incidents = IncidentLog(self.writer, self._readers)
        self.silences = SilenceLog(self.writer, self._readers)
        self.series = SeriesLog(self.writer, self._queries)
        self.audit = AuditLog(self.writer, self._readers)
        self.jobs = JobStore(self.writer, self._queries)
        self.bodies = BodyStore(self._blobs)
        self.log = EventLog(self.writer, self._append, self._append_inbound, self._blobs, self.bodies, limits)
        self._sweep = None if cache is None else ObjectSweep(cache, self._confirm_ownership, self._queries)
        self._wiping = Wiping(path, self.writer.run_between)
        self._checkpoints = Checkpoints(path, connection, self.writer.run_between)
        self._upkeep: list[asyncio.Task[None]] = []
        self.measured: StorageUsage | None = None
        """What `usage` found last; None: nothing yet, or the files can't be looked at."""
        self._measured_at = 0.0
        self._measuring = asyncio.Lock()
        self._owner: ShardState | None = None
        self._closing: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Sweep blobs and start the writer. Blocks."""
        self._blobs.sweep(named_blobs(self._connection))
        self.writer.start()

    def start_upkeep(self) -> None:
        """Checkpoint, give back free space, wipe what was erased before, and remove objects that no row names."""
        self._upkeep.append(asyncio.create_task(self._checkpoints.run_forever(), name="checkpoint"))
        vacuum = vacuum_forever(self._connection, self.writer.run_between)
        self._upkeep.append(asyncio.create_task(vacuum, name="give back free space"))
        self._upkeep.append(asyncio.create_task(self._wiping.run_forever(), name="wipe what was erased before"))
        if self._sweep is not None:
            self._upkeep.append(asyncio.create_task(self._sweep.run_forever(), name="sweep objects"))

    async def own(self) -> ShardState:
        """Take ownership of the shard; writes of its former owner fail from now on."""
        if self._owner is not None:
            self._owner.mark_lost()
        self._append.listener = self._append_inbound.listener = None
        # Calls run in order, so earlier writes of the former owner are committed before this one.
        epoch = await self.writer.write(partial(increment_counter, name="epoch"))
        fence = await self.writer.write(partial(read_counter, name="fence"))
        self._owner = ShardState(
            writer=self.writer,
            readers=self._readers,
            queries=self._queries,
            blobs=self._blobs,
            append=self._append,
            append_inbound=self._append_inbound,
            write=self._write,
            wiping=self._wiping,
            epoch=epoch,
            fence=fence,
            limits=self._limits,
        )
        return self._owner

    async def usage(self) -> StorageUsage:
        """Return what the data takes on the disk, at most `USAGE_SECONDS` old."""
        async with self._measuring:
            if self.measured is None or time.monotonic() - self._measured_at > USAGE_SECONDS:
                try:
                    measured = await asyncio.to_thread(measure, self.path, self.path.parent / "blobs")
                except OSError as error:
                    self.measured = None
                    raise translate(error) from error
                self.measured, self._measured_at = measured, time.monotonic()
            return self.measured

    async def lack(self) -> str:
        """Return why new events can't be stored now, for operators; empty: they can."""
        if self._closing is None and not self.writer.failing and not self._append.full:
            return ""
        try:
            self._append.full = not await self.writer.write(self._probe)
        except UnavailableError as error:
            return error.message
        return "its limit is reached (FLOWHOOK_STORAGE_MAX_BYTES, or that of the log)" if self._append.full else ""

    async def _confirm_ownership(self) -> None:
        await self.writer.write(self._probe)

    async def close(self) -> None:
        """Finish calls in progress, then release all resources. Idempotent."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        await end_tasks(self._upkeep)
        await self._wiping.close()
        await self.log.close()
        await self.bodies.close()
        await self.writer.close()
        await self._readers.close()
        await self._queries.close()
        await self._checkpoints.close()
        await asyncio.to_thread(self._close_files)

    def _close_files(self) -> None:
        # Only cleanup: all acknowledged writes are in the write-ahead log already.
        with contextlib.suppress(apsw.Error):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        try:
            self._connection.close()
        finally:
            self._lock.release()


async def open_storage(
    path: Path,
    *,
    max_bytes: int = 0,
    limits: StorageLimits = DEFAULT_LIMITS,
    transaction_log: TransactionLog | None = None,
    objects: ObjectStore | None = None,
    durable: bool = True,
) -> Storage:
    """Open the database at `path`, created when missing (directory 0700, files 0600).

    Args:
        path: the database file; `<path>-wal`, `<path>-shm`, `<path>.lock` and the directory `blobs` are beside it.
        max_bytes: maximum size of the database, excluding blobs; 0: the disk is the limit. New events are refused above
            `limits.append_share` of it.
        limits: the other limits.
        transaction_log: records each transaction before it commits; None: the database is the only copy.
        objects: where large payloads and bodies are stored before a transaction names them; the directory `blobs` is
            then a cache. None: they are stored in that directory only.
        durable: whether a commit waits until the file is on stable storage; false only beside a `transaction_log`.

    Raises:
        ConflictError: another process has it open (`DATA_DIR_IN_USE`), or the file has another format
            (`FORMAT_UNSUPPORTED`) or is not a Flowhook database (`NOT_A_FLOWHOOK_DATABASE`).
        UnavailableError: it can't be opened (`STORAGE_FULL`, `STORAGE_UNAVAILABLE`).
    """
    try:
        lock, connection = await asyncio.to_thread(_open_files, path, durable=durable)
    except (OSError, apsw.Error) as error:
        raise translate(error) from error
    transaction_log = transaction_log or TransactionLog()
    room = limit_size(connection, path.parent, max_bytes, limits, transaction_log.room)
    storage = Storage(path, lock, connection, room, limits=limits, transaction_log=transaction_log, objects=objects)
    try:
        await asyncio.to_thread(storage.start)
    except (OSError, apsw.Error) as error:
        connection.close()
        lock.release()
        raise translate(error) from error
    storage.start_upkeep()
    return storage


def _open_files(path: Path, *, durable: bool) -> tuple[DataLock, apsw.Connection]:
    if not path.parent.is_dir():
        make_directory(path.parent)
        sync(path.parent.parent)
    lock = DataLock(path.with_name(f"{path.name}.lock"))
    try:
        # SQLite creates the files beside it with the same mode.
        os.close(open_private(path, os.O_RDWR))
        migrate_file(path)
        return lock, connect_writer(path, durable=durable)
    except BaseException:
        lock.release()
        raise
