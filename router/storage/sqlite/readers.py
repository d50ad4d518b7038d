"""Reader thread pools; each thread has its own connection and blocks neither the event loop nor the writer.

There are two pools, so that long queries of operators cannot delay the reads that running executions need.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

import apsw

from flowhook.errors import FlowhookError
from router.storage.sqlite.errors import translate, unavailable
from router.storage.sqlite.schema import connect_reader

T = TypeVar("T")

THREADS: Final = 2
MAX_WAITING: Final = 1024
"""Reads in progress or queued; beyond it they are refused."""


class Readers:
    """Runs read functions, each in its own snapshot."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="storage-reader")
        self._local = threading.local()
        self._connections: list[apsw.Connection] = []
        self._waiting = 0
        self._closed = False

    async def run(self, read: Callable[[apsw.Connection], T]) -> T:
        """Return the result of `read` on a snapshot.

        Raises:
            UnavailableError: closed, too many reads are queued, or the database can't be read (`STORAGE_UNAVAILABLE`).
        """
        if self._closed:
            raise unavailable("storage is closed")
        if self._waiting >= MAX_WAITING:
            raise unavailable("too many reads are waiting")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._read, read)
        finally:
            self._waiting -= 1

    async def close(self) -> None:
        """Finish queued reads, then close the connections."""
        self._closed = True
        await asyncio.to_thread(self._pool.shutdown)
        for connection in self._connections:
            connection.close()

    def _read(self, read: Callable[[apsw.Connection], T]) -> T:
        try:
            connection = self._connection()
            connection.execute("BEGIN")
            try:
                return read(connection)
            finally:
                if connection.in_transaction:  # SQLite itself rolls back after an I/O error
                    connection.execute("COMMIT")
        except FlowhookError:
            raise
        except Exception as error:
            raise translate(error) from error

    def _connection(self) -> apsw.Connection:
        connection: apsw.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = connect_reader(self._path)
            self._local.connection = connection
            self._connections.append(connection)
        return connection
