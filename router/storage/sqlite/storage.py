"""Composition of the SQLite backend: wiring, and the order of opening and closing."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

import apsw

from flowhook.errors import UnavailableError
from flowhook.security.private_files import make_directory, open_private
from flowhook.sharing.table import RouterLimits
from router.storage.activity import StorageUsage
from router.storage.bodies import BodyStore
from router.storage.commit_log.interface import ObjectStore
from router.storage.interface import EventLog, Registry, ShardState
from router.storage.jobs import JobStore
from router.storage.limits import StorageLimits
from router.storage.operator_logs import AuditLog, RejectionLog
from router.storage.sqlite.audit import AuditOperation, SqliteAuditLog
from router.storage.sqlite.blob_cache import BlobCache
from router.storage.sqlite.blobs import BlobDirectory, sync_directory
from router.storage.sqlite.bodies import SqliteBodyStore
from router.storage.sqlite.capacity import Capacity, ProbeOperation
from router.storage.sqlite.changes import StateChangeOperation
from router.storage.sqlite.erasure import EraseOperation
from router.storage.sqlite.errors import translate
from router.storage.sqlite.expiry import DeleteOperation, ExpireOperation
from router.storage.sqlite.inbound_events import InboundEventOperation
from router.storage.sqlite.jobs import JobOperation, SqliteJobStore
from router.storage.sqlite.lock import DataLock
from router.storage.sqlite.log import AppendOperation, SqliteLog
from router.storage.sqlite.object_sweep import ObjectSweep, named_blobs
from router.storage.sqlite.readers import Readers
from router.storage.sqlite.registry import RegistryOperation, SqliteRegistry
from router.storage.sqlite.rejections import RejectOperation, SqliteRejectionLog
from router.storage.sqlite.schema import connect_writer
from router.storage.sqlite.state import AcquireOperation, SqliteShardState
from router.storage.sqlite.transaction_log import TransactionLog
from router.storage.sqlite.usage import measure
from router.storage.sqlite.wiping import Wiping
from router.storage.sqlite.writer import Writer


class SqliteStorage:
    """Storage in one SQLite file; implements `interface.Storage`."""

    def __init__(
        self,
        path: Path,
        lock: DataLock,
        connection: apsw.Connection,
        capacity: Capacity,
        *,
        limits: StorageLimits,
        transaction_log: TransactionLog,
        objects: ObjectStore | None,
    ) -> None:
        self._path = path
        self._lock = lock
        self._limits = limits
        self._connection = connection
        cache = None if objects is None else BlobCache(path.parent / "blobs", objects)
        self._blobs = cache or BlobDirectory(path.parent / "blobs")
        self._bodies = SqliteBodyStore(self._blobs)
        self._append = AppendOperation(capacity.room)
        self._arrive = InboundEventOperation(capacity.room)
        self._write = StateChangeOperation()
        self._own = AcquireOperation()
        self._change = RegistryOperation(limits)
        self._probe = ProbeOperation(capacity.room)
        self._expire = ExpireOperation()
        self._delete = DeleteOperation()
        self._erase = EraseOperation()
        self._job = JobOperation()
        self._reject = RejectOperation()
        self._audited = AuditOperation()
        self._writer = Writer(
            connection,
            [
                self._append,
                self._arrive,
                self._write,
                self._own,
                self._change,
                self._expire,
                self._delete,
                self._erase,
                self._reject,
                self._audited,
                self._job,
                self._probe,
            ],
            transaction_log,
            limits=limits,
        )
        shared = RouterLimits()
        self._readers = Readers(path, shared.reads)
        self._queries = Readers(path, shared.queries)
        self._registry = SqliteRegistry(self._writer, self._readers, self._change, limits)
        self._rejections = SqliteRejectionLog(self._writer, self._readers, self._reject)
        self._audit = SqliteAuditLog(self._writer, self._readers, self._audited)
        self._jobs = SqliteJobStore(self._writer, self._queries, self._job)
        self._log = SqliteLog(self._writer, self._append, self._arrive, self._blobs, self._bodies, limits=limits)
        self._sweep = None if cache is None else ObjectSweep(cache, self._confirm_ownership, self._queries)
        self._wiping = Wiping(path, self._writer.run_between)
        self._upkeep: list[asyncio.Task[None]] = []
        self._owner: SqliteShardState | None = None
        self._closing: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Sweep blobs and start the writer. Blocks."""
        self._blobs.sweep(named_blobs(self._connection))
        self._writer.start()

    def start_upkeep(self) -> None:
        """Wipe what was erased before; and remove objects that no row names, from time to time, if there are any."""
        self._upkeep.append(asyncio.create_task(self._wiping.run_forever(), name="wipe what was erased before"))
        if self._sweep is not None:
            self._upkeep.append(asyncio.create_task(self._sweep.run_forever(), name="sweep objects"))

    @property
    def writer(self) -> Writer:
        """The writer, for measurements."""
        return self._writer

    @property
    def shards(self) -> int:
        """See `interface.Storage`."""
        return 1

    @property
    def registry(self) -> Registry:
        """See `interface.Storage`."""
        return self._registry

    @property
    def rejections(self) -> RejectionLog:
        """See `interface.Storage`."""
        return self._rejections

    @property
    def audit(self) -> AuditLog:
        """See `interface.Storage`."""
        return self._audit

    @property
    def jobs(self) -> JobStore:
        """See `interface.Storage`."""
        return self._jobs

    @property
    def bodies(self) -> BodyStore:
        """See `interface.Storage`."""
        return self._bodies

    def log(self, shard: int) -> EventLog:
        """See `interface.Storage`."""
        _check_shard(shard)
        return self._log

    async def own(self, shard: int) -> ShardState:
        """See `interface.Storage`."""
        _check_shard(shard)
        if self._owner is not None:
            self._owner.mark_lost()
        self._append.listener = self._arrive.listener = None
        # Calls run in order, so earlier writes of the former owner are committed before this one.
        epoch: int = await self._writer.call(self._own, None)
        self._owner = SqliteShardState(
            self._writer,
            self._readers,
            self._queries,
            self._blobs,
            append=self._append,
            arrive=self._arrive,
            write=self._write,
            expire=self._expire,
            delete=self._delete,
            erase=self._erase,
            wiping=self._wiping,
            epoch=epoch,
            limits=self._limits,
        )
        return self._owner

    async def usage(self) -> StorageUsage:
        """See `interface.Storage`."""
        try:
            return await asyncio.to_thread(measure, self._path, self._path.parent / "blobs")
        except OSError as error:
            raise translate(error) from error

    async def healthy(self) -> bool:
        """See `interface.Storage`."""
        if self._closing is None and not self._writer.failing and not self._append.full:
            return True
        try:
            self._append.full = not await self._writer.call(self._probe, None)
        except UnavailableError:
            return False
        return not self._append.full

    async def _confirm_ownership(self) -> None:
        await self._writer.call(self._probe, None)

    async def close(self) -> None:
        """See `interface.Storage`."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        for task in self._upkeep:
            task.cancel()
        await asyncio.gather(*self._upkeep, return_exceptions=True)
        await self._wiping.close()
        await self._log.close()
        await self._bodies.close()
        await self._writer.close()
        await self._readers.close()
        await self._queries.close()
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
    max_bytes: int,
    limits: StorageLimits,
    *,
    transaction_log: TransactionLog,
    objects: ObjectStore | None,
    durable: bool,
) -> SqliteStorage:
    """See `open_sqlite`."""
    try:
        lock, connection = await asyncio.to_thread(_open_files, path, durable=durable)
    except (OSError, apsw.Error) as error:
        raise translate(error) from error
    capacity = Capacity(connection, max_bytes, limits.append_share, transaction_log.room)
    storage = SqliteStorage(
        path, lock, connection, capacity, limits=limits, transaction_log=transaction_log, objects=objects
    )
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
        sync_directory(path.parent.parent)
    lock = DataLock(path.with_name(f"{path.name}.lock"))
    try:
        # SQLite creates the files beside it with the same mode.
        os.close(open_private(path, os.O_RDWR))
        return lock, connect_writer(path, durable=durable)
    except BaseException:
        lock.release()
        raise


def _check_shard(shard: int) -> None:
    if shard != 0:
        raise ValueError(f"unknown shard {shard}: the only shard is 0")
