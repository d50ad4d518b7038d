"""Wipes what SQLite leaves of erased rows in the file and its write-ahead log, in steps that delay writes by little.

A pass goes through all pages (see `unused_space`). It is repeated until one began after the last erasure, and goes on
where it was when the process ended. Before each step the write-ahead log is emptied, which still has former pages.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Final

import apsw

from flowhook.errors import FlowhookError
from flowhook.process import logs
from router.storage.sqlite.erasure import last_erasure
from router.storage.sqlite.schema import connect_writer
from router.storage.sqlite.unused_space import overwrite

STEP_PAGES: Final = 1024
"""Most pages that one step looks at."""
STEP_SECONDS: Final = 0.01
"""Time after which a step looks at no further page: writes wait so long."""
PAUSE_SECONDS: Final = 0.02
"""Between two steps, for writes."""
BUSY_MS: Final = 20
"""Milliseconds for which a step waits for readers who need the write-ahead log."""
RETRY_SECONDS: Final = 5.0
"""Before a step that failed is tried again."""

log = logs.get_logger(__name__)


class Step(enum.Enum):
    """What became of a step."""

    DONE = "done"
    """There is nothing to wipe."""
    MORE = "more"
    """Further steps are needed."""
    BUSY = "busy"
    """Readers need the write-ahead log: try again."""


def is_pending(connection: apsw.Connection) -> bool:
    """Whether anything is to be wiped."""
    done = connection.execute("SELECT done FROM wipe").fetchone()
    return last_erasure(connection) > (0 if done is None else done[0])


def is_under_way(connection: apsw.Connection) -> bool:
    """Whether a pass has begun, and not ended."""
    page = connection.execute("SELECT page FROM wipe").fetchone()
    return page is not None and page[0] > 0


def wipe_step(path: Path, *, pages: int = STEP_PAGES, seconds: float = STEP_SECONDS) -> Step:
    """Wipe some pages, in a transaction. Blocks, and nobody else writes the file meanwhile.

    Args:
        path: the file.
        pages: most pages to look at.
        seconds: time after which no further page is looked at.

    Raises:
        apsw.Error: the file can't be read or written, or is damaged.
    """
    # durable, whatever others are: a checkpoint that does not sync could lose what it removes from the log
    with closing(connect_writer(path, durable=True)) as connection:
        if not is_pending(connection):
            return Step.DONE
        connection.set_busy_timeout(BUSY_MS)
        try:
            (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()[0]
            if busy:
                return Step.BUSY
            connection.execute("BEGIN IMMEDIATE")
        except apsw.BusyError:
            return Step.BUSY
        with connection:  # a savepoint: it is rolled back when the step fails
            step = Step.BUSY if _has_frames(path) else _wipe(path, connection, pages, seconds)
        connection.execute("COMMIT")
        return step


def _wipe(path: Path, connection: apsw.Connection, pages: int, seconds: float) -> Step:
    row = connection.execute("SELECT done, target, page FROM wipe").fetchone() or (0, 0, 0)
    done, target, page = row
    if not page:
        target, page = last_erasure(connection), 1
    page, _ = overwrite(path, connection, page, pages=pages, seconds=seconds)
    if not page:
        done = target
    connection.execute("INSERT OR REPLACE INTO wipe (k, done, target, page) VALUES (1, ?, ?, ?)", (done, target, page))
    return Step.MORE if page or last_erasure(connection) > done else Step.DONE


def _has_frames(path: Path) -> bool:
    """Whether somebody wrote after the log was emptied."""
    try:
        return path.with_name(f"{path.name}-wal").stat().st_size > 0
    except FileNotFoundError:
        return False


class Wiping:
    """Wipes the file of an open storage.

    Args:
        path: the file.
        run: runs a function while nobody else writes the file.
        pages: most pages that one step looks at.
    """

    def __init__(
        self, path: Path, run: Callable[[Callable[[], Step]], Awaitable[Step]], *, pages: int = STEP_PAGES
    ) -> None:
        self._path = path
        self._run = run
        self._pages = pages
        self._wanted = False
        self._task: asyncio.Task[None] | None = None

    async def finish(self) -> None:
        """Wipe until nothing of what was erased before this call is left; cancelling stops the waiting, not the work.

        Raises:
            FlowhookError: storage can't serve; it is tried again.
        """
        self._wanted = True  # a task that is about to end looks again
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._wipe(), name="wipe what was erased")
        await asyncio.shield(self._task)

    async def run_forever(self) -> None:
        """Finish what was left when the process ended last, as soon as that is possible."""
        while True:
            try:
                await self.finish()
            except FlowhookError as error:
                log.warning("what was erased is not wiped yet; trying again", reason=error.reason)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    async def close(self) -> None:
        """Stop; the rest is wiped when storage is next opened."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _wipe(self) -> None:
        while self._wanted:
            self._wanted = False
            while await self._run(lambda: wipe_step(self._path, pages=self._pages)) is not Step.DONE:  # noqa: ASYNC110 - it is a pause
                await asyncio.sleep(PAUSE_SECONDS)
