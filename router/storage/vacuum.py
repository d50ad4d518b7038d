"""Gives free pages of the database back to the disk, in steps between which others write.

A file of format 8 is created with `auto_vacuum = INCREMENTAL`: SQLite then knows which page refers to which, so that
the last page of the file can be moved to a free one, and the file be cut. That costs 0.7 of the 72 µs that accepting an
event takes. In earlier files nothing says so, and their free pages are used again only (docs/operations.md#disk).

A share of the file stays free for what comes next, since a file that shrinks and grows again is written twice. Nothing
is moved while erased data is being overwritten, which goes through the file page by page.
Source: https://www.sqlite.org/pragma.html#pragma_incremental_vacuum
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import apsw

from flowhook.errors import FlowhookError
from flowhook.process import logs
from router.storage.erasure import is_pending

KEPT_PAGES: Final = 2048  # free pages that stay in any case: 16 MiB
KEPT_SHARE: Final = 8  # and one page in so many
BEGIN_SHARE: Final = 4  # with one free page in so many, it begins
STEP_SECONDS: Final = 0.003  # time after which a step moves no further page: writes wait so long
PAUSE_SECONDS: Final = 0.03  # between two steps, for writes
LOOK_SECONDS: Final = 10.0  # between two looks whether there is anything to give back

log = logs.get_logger(__name__)


def spare_pages(connection: apsw.Connection, share: int) -> int:
    """Return the free pages beyond those that stay, one in `share` pages; 0 for a file that can't give them back."""
    if connection.execute("PRAGMA auto_vacuum").get != 2:  # noqa: PLR2004 - INCREMENTAL
        return 0
    pages: int = connection.execute("PRAGMA page_count").get
    free: int = connection.execute("PRAGMA freelist_count").get
    return max(0, free - max(KEPT_PAGES, (pages - free) // (share - 1)))


def give_back(connection: apsw.Connection, *, begin: bool = True, seconds: float = STEP_SECONDS) -> int:
    """Move some pages and cut the file, in a transaction of its own; return how many pages are still to go.

    `begin`: there was nothing to do at the last step, so that it begins only with many free pages.
    """
    if not spare_pages(connection, BEGIN_SHARE if begin else KEPT_SHARE) or is_pending(connection):
        return 0
    left, until = spare_pages(connection, KEPT_SHARE), time.monotonic() + seconds
    with connection:
        for _ in connection.execute(f"PRAGMA incremental_vacuum({left})"):  # a page each
            left -= 1
            if time.monotonic() >= until:
                break
    return left


async def vacuum_forever(
    connection: apsw.Connection, run_between: Callable[[Callable[[], int]], Awaitable[int]]
) -> None:
    """Give back what is free; `run_between` runs a function on the connection's thread between two transactions."""
    left = 0
    while True:
        try:
            left = await run_between(partial(give_back, connection, begin=not left))
        except FlowhookError as error:  # a full disk: moving pages takes some of the write-ahead log
            left = 0
            log.warning("free space can't be given back; trying again", reason=error.reason)
        await asyncio.sleep(PAUSE_SECONDS if left else LOOK_SECONDS)
