"""The embedded storage backend: one SQLite file, one process, one shard.

- `schema`: tables, pragmas, the format's version. `statements`: statements over many rows. `rows`: row conversion.
- `writer`: the writer thread and its group commit. `log`, `state`, `registry`, `expiry`: the kinds of writes.
- `readers`, `queries`: reads, on other threads.
- `blobs`: large payloads as files. `blob_cache`, `object_sweep`: the same in an object store.
- `bodies`, `body_file`: bodies uploaded in chunks. `capacity`: the size limit. `lock`: one process per file.
- `transaction_log`: where each transaction is recorded before it commits.
- `storage`: the wiring. `errors`: translation of SQLite's and the system's errors.

Invariants: WAL, with synchronous=FULL unless a replicated log is the durable copy; a call returns only after its
transaction is committed; only the writer thread writes; nothing here blocks the event loop.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from router.storage.commit_log.interface import ObjectStore
from router.storage.interface import Storage
from router.storage.limits import DEFAULT_LIMITS, StorageLimits
from router.storage.sqlite.storage import open_storage
from router.storage.sqlite.transaction_log import NoLog, TransactionLog

__all__ = ["SWITCH_INTERVAL_SECONDS", "open_sqlite"]

SWITCH_INTERVAL_SECONDS: Final = 20e-6
"""Interval the process should pass to `sys.setswitchinterval`, when the writer runs beside a busy event loop.

The writer releases the GIL about twenty times a transaction. A busy loop releases it for a microsecond in each
iteration and reacquires it before another thread wakes up, unless the interpreter asks it to yield, which happens after
it has held the GIL for this long. With the default of 5 ms, transactions were measured to take seconds
(bench/storage.py --busy 1); with this value, a millisecond.
"""


async def open_sqlite(
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
    return await open_storage(
        path, max_bytes, limits, transaction_log=transaction_log or NoLog(), objects=objects, durable=durable
    )
