"""Reader thread pools; each thread has its own connection and blocks neither the event loop nor the writer.

There are two pools, so that long queries of operators cannot delay the reads that running executions need.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from math import inf
from pathlib import Path
from time import monotonic
from typing import Final, TypeVar

import apsw

from flowhook.errors import FlowhookError, InvalidError
from flowhook.sharing import FairQueue, Limit, current_principal
from router.storage.errors import StorageError, translate
from router.storage.schema import connect_reader

T = TypeVar("T")

MAX_SECONDS: Final = 10.0  # time that a read for a caller may take, unless it is one on which the service depends
_PROGRESS_STEPS: Final = 10_000  # steps of SQLite's virtual machine between two looks at the clock, about a millisecond


class Readers:
    """Runs read functions, each in its own snapshot. Callers wait for a thread, and take turns."""

    def __init__(self, path: Path, limit: Limit, *, max_seconds: float = MAX_SECONDS) -> None:
        """Read the database at `path` in as many threads as `limit` says, each read within `max_seconds`."""
        self._path = path
        self._max_seconds = max_seconds
        self._queue = FairQueue(limit)
        self._pool = ThreadPoolExecutor(limit.total, thread_name_prefix="storage-reader")
        self._local = threading.local()
        self._connections: list[apsw.Connection] = []
        self._closed = False

    async def run(self, read: Callable[[apsw.Connection], T], *, max_seconds: float | None = None) -> T:
        """Return the result of `read` on a snapshot, within `max_seconds`, if that is given, whoever calls.

        Raises:
            ExhaustedError: too many reads of the caller are queued (`TOO_MANY_READS`).
            InvalidError: the read takes too long (`QUERY_TOO_LONG`).
            UnavailableError: closed, too many reads are queued, or the database can't be read (`STORAGE_UNAVAILABLE`).
        """
        if self._closed:
            raise StorageError("storage is closed")
        principal = current_principal.get()
        if max_seconds is None:
            max_seconds = inf if principal.essential else self._max_seconds
        async with self._queue.seat(principal):
            reading = asyncio.get_running_loop().run_in_executor(self._pool, self._read, read, max_seconds)
            try:
                return await asyncio.shield(reading)
            except asyncio.CancelledError:
                # the thread can't be interrupted, and it is not free before it is done
                await asyncio.wait({reading})
                reading.exception()  # else asyncio logs one that was never retrieved
                raise

    async def close(self) -> None:
        """Finish queued reads, then close the connections."""
        self._closed = True
        await asyncio.to_thread(self._pool.shutdown)
        for connection in self._connections:
            connection.close()

    def _read(self, read: Callable[[apsw.Connection], T], seconds: float) -> T:
        end = monotonic() + seconds
        try:
            connection = self._connection()
            connection.set_progress_handler(lambda: monotonic() > end, _PROGRESS_STEPS, id=self)
            connection.execute("BEGIN")
            try:
                return read(connection)
            finally:
                connection.set_progress_handler(None, id=self)
                if connection.in_transaction:  # SQLite itself rolls back after an I/O error
                    connection.execute("COMMIT")
        except FlowhookError:
            raise
        except apsw.InterruptError as error:
            if monotonic() <= end:
                raise translate(error) from error
            raise InvalidError(
                f"the query takes more than {seconds:g} s: give more conditions", reason="QUERY_TOO_LONG"
            ) from None
        except Exception as error:
            raise translate(error) from error

    def _connection(self) -> apsw.Connection:
        connection: apsw.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = connect_reader(self._path)
            self._local.connection = connection
            self._connections.append(connection)
        return connection
