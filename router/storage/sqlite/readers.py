"""A few threads that read, each with a connection of its own: never the event loop, never in the writer's way.

There are two pools: what runs is read by one that no operator's query, however long it takes, can hold up.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from flowhook.errors import FlowhookError
from router.storage.sqlite.errors import translate, unavailable
from router.storage.sqlite.schema import connect_reader

T = TypeVar("T")

THREADS: Final = 2
MAX_WAITING: Final = 1024
"""Reads under way or waiting; beyond it they are refused."""


class Readers:
    """Runs functions that read, each in a snapshot of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="storage-reader")
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._waiting = 0
        self._closed = False

    async def run(self, read: Callable[[sqlite3.Connection], T]) -> T:
        """Return what `read` makes of a snapshot.

        Raises:
            UnavailableError: closed, too much waits, or the database can't be read (`STORAGE_UNAVAILABLE`).
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
        """Finish what was called, then close the connections."""
        self._closed = True
        await asyncio.to_thread(self._pool.shutdown)
        for connection in self._connections:
            connection.close()

    def _read(self, read: Callable[[sqlite3.Connection], T]) -> T:
        try:
            connection = self._connection()
            connection.execute("BEGIN")
            try:
                return read(connection)
            finally:
                connection.execute("COMMIT")
        except FlowhookError:
            raise
        except Exception as error:
            raise translate(error) from error

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = connect_reader(self._path)
            self._local.connection = connection
            self._connections.append(connection)
        return connection
