"""Streams changes of the registry to many watchers, with a heartbeat at least once a second.

Recent changes are read once for all watchers and cached; a watcher that is further behind reads from storage itself,
and one that is up to date costs no read.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from typing import Final

from flowhook.asyncio_tasks import wait_at_most
from flowhook.errors import OutOfRangeError
from flowhook.process.ticks import until_tick
from flowhook.sharing import INTERNAL, current_principal
from router.storage.registry import Registry, RegistryChange

RECENT: Final = 1000  # changes cached in memory


class RegistryWatch:
    """Publishes changes of the registry to watchers; caches the last `recent` ones."""

    def __init__(self, registry: Registry, *, recent: int = RECENT) -> None:
        self._registry = registry
        self._changed: asyncio.Event = asyncio.Event()
        self._latest = 0
        self._reading = asyncio.Lock()
        self._recent: deque[RegistryChange] = deque(maxlen=recent)
        registry.follow(self._on_change)

    def _on_change(self, revision: int) -> None:
        self._latest = max(self._latest, revision)
        self._changed.set()
        self._changed = asyncio.Event()

    async def follow(
        self, start_revision: int, progress_seconds: float
    ) -> AsyncGenerator[tuple[int, Sequence[RegistryChange]], None]:
        """Yield (revision reached, changes up to it); without changes it is a heartbeat. Close the generator when done.

        Args:
            start_revision: revision the watcher has seen; 0: from now on.
            progress_seconds: greatest interval between two yields.

        Raises:
            OutOfRangeError: changes after `start_revision` are no longer stored, or it is from another history than
                that of storage, as after a backup was restored (`REVISION_COMPACTED`).
        """
        self._latest = max(self._latest, await self._registry.revision())
        if start_revision > self._latest:
            raise OutOfRangeError(
                f"revision {start_revision} does not exist yet: list again",
                reason="REVISION_COMPACTED",
                metadata={"revision": str(self._latest)},
            )
        seen = start_revision or self._latest
        while True:
            changed = self._changed
            if seen < self._latest:
                changes = await self._after(seen)
                seen = changes[-1].revision
                yield seen, changes
                continue
            yield seen, ()
            await wait_at_most(until_tick(progress_seconds), changed.wait())

    async def _after(self, seen: int) -> Sequence[RegistryChange]:
        if self._recent and seen < self._recent[0].revision - 1:
            return await self._registry.changes(after_revision=seen)  # no other waits for that: not under the lock
        async with self._reading:
            recent = self._recent
            if recent and recent[0].revision - 1 <= seen < recent[-1].revision:
                return [change for change in recent if change.revision > seen]
            principal = current_principal.set(INTERNAL)  # all watchers wait for these
            try:
                changes = await self._registry.changes(after_revision=seen)
            finally:
                current_principal.reset(principal)
            if not recent or changes[0].revision == recent[-1].revision + 1:
                recent.extend(changes)
            elif changes[-1].revision > recent[-1].revision:
                self._recent = deque(changes, recent.maxlen)
            return changes
