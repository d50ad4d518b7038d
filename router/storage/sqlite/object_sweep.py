"""Removes objects that no row names: left by uploads and transactions that failed, or by failed removals."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import apsw

from flowhook.errors import FlowhookError
from flowhook.process import logs
from router.storage.sqlite.blob_cache import BlobCache
from router.storage.sqlite.bodies import body_file
from router.storage.sqlite.readers import Readers

FIRST_SECONDS: Final = 3600.0
"""Between the start of the owner and its first sweep."""
SWEEP_SECONDS: Final = 24 * 3600.0
"""Between two sweeps."""
AGE_SECONDS: Final = 2 * 3600.0
"""For how long an object was named by no row before it is removed."""

log = logs.get_logger(__name__)


class ObjectSweep:
    """Sweeps the object store, for the owner of the shard.

    A blob that a row names, or may come to name, is never removed. Only the shard's owner names blobs, and each of them
    under a name of its own. So the objects are listed first; then a transaction is appended to the log, which succeeds
    only if this router has been the owner all the time; and then those of the listed objects are spared that are still
    unsettled here, or named by a row. What remains can't be named by any later transaction, of whichever router.

    Args:
        blobs: the blobs of the shard.
        confirm_ownership: commits a transaction, which fails unless this router is the owner.
        readers: of the database.
    """

    def __init__(self, blobs: BlobCache, confirm_ownership: Callable[[], Awaitable[None]], readers: Readers) -> None:
        self._blobs = blobs
        self._confirm_ownership = confirm_ownership
        self._readers = readers

    async def run_forever(self) -> None:
        """Sweep every day; when that fails, the next sweep tries again."""
        await asyncio.sleep(FIRST_SECONDS)
        while True:
            try:
                removed = await self.sweep(age_seconds=AGE_SECONDS)
            except FlowhookError as error:
                log.warning("objects can't be swept", reason=error.reason)
            else:
                if removed:
                    log.info("objects removed that nothing refers to", objects=removed)
            await asyncio.sleep(SWEEP_SECONDS)

    async def sweep(self, *, age_seconds: float) -> int:
        """Remove the objects that no row names now nor after a time; return their number.

        Raises:
            FlowhookError: this router is not the owner, or the log or the object store can't serve.
        """
        unnamed = await self._unnamed()
        if unnamed:
            await asyncio.sleep(age_seconds)
            unnamed &= await self._unnamed()
            await asyncio.to_thread(self._blobs.remove, unnamed)
        return len(unnamed)

    async def _unnamed(self) -> set[str]:
        stored = await asyncio.to_thread(self._blobs.stored)
        await self._confirm_ownership()
        unsettled = self._blobs.unsettled()  # before the rows are read: what is settled from now on has its row
        return stored - unsettled - await self._readers.run(named_blobs)


def named_blobs(connection: apsw.Connection) -> set[str]:
    """Return the names of all blobs that rows name, bodies included."""
    names = {name for (name,) in connection.execute("SELECT name FROM blob")}
    names.update(body_file(body_id) for (body_id,) in connection.execute("SELECT id FROM body"))
    return names
