"""The embedded backend: one SQLite file, one process, one shard.

- `schema`: tables, pragmas, the format's version. `statements`: many rows in one step. `rows`: rows and types.
- `writer`: the thread that writes, and group commit. `log`, `state`, `registry`, `expiry`: the kinds of writes.
- `readers`, `queries`: reading, on other threads.
- `blobs`: large payloads as files. `bodies`, `body_file`: those that come a piece at a time. `capacity`: the limit of
  size. `lock`: one process a file.
- `storage`: the wiring. `errors`: what sqlite3's and the system's errors become.

Invariants: WAL with synchronous=FULL, and nothing is answered before its transaction is committed; only the writer
thread writes; nothing here blocks the event loop.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from router.storage.interface import Storage
from router.storage.sqlite.storage import open_storage

__all__ = ["SWITCH_INTERVAL_SECONDS", "open_sqlite"]

SWITCH_INTERVAL_SECONDS: Final = 20e-6
"""What the process should give `sys.setswitchinterval`, beside an event loop that is busy.

The writer gives the GIL away some twenty times a transaction. A busy loop lets go of it for a microsecond in each
iteration and has it back before another thread woke up; unless it is told to yield, which happens to one that kept it
for this long. With the default of 5 ms a transaction was seen to take seconds (bench/storage.py --busy 1), with this
one a millisecond.
"""


async def open_sqlite(path: Path, *, max_bytes: int = 0) -> Storage:
    """Open the database at `path`, created when missing (directory 0700, files 0600).

    Args:
        path: the database; `<path>-wal`, `<path>-shm`, `<path>.lock` and the directory `blobs` lie beside it.
        max_bytes: what the database may grow to, blobs not counted; new events are refused from three quarters of it
            on, so that those accepted can be ended. 0: the disk is the limit.

    Raises:
        ConflictError: another process has it (`DATA_DIR_IN_USE`), or it is of a later version (`FORMAT_TOO_NEW`) or
            not ours (`NOT_A_FLOWHOOK_DATABASE`).
        UnavailableError: it can't be opened (`STORAGE_FULL`, `STORAGE_UNAVAILABLE`).
    """
    return await open_storage(path, max_bytes)
