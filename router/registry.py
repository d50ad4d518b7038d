"""Following the registry: many watchers, one source, a sign of life at least once a second."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from router.storage.interface import Registry, RegistryChange


class RegistryWatch:
    """Wakes watchers when the registry changes."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._changed: asyncio.Event = asyncio.Event()
        registry.follow(self._on_change)

    def _on_change(self, _revision: int) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def follow(
        self, start_revision: int, progress_seconds: float
    ) -> AsyncIterator[tuple[int, Sequence[RegistryChange]]]:
        """Yield (revision reached, changes up to it), with no changes as a sign of life.

        Args:
            start_revision: revision the watcher has seen; 0: from now on.
            progress_seconds: how long at most nothing is yielded.

        Raises:
            OutOfRangeError: changes after `start_revision` are no longer kept (`REVISION_COMPACTED`).
            UnavailableError: storage can't serve.
        """
        seen = start_revision or await self._registry.revision()
        while True:
            changed = self._changed
            changes = await self._registry.changes(after_revision=seen)
            if changes:
                seen = changes[-1].revision
                yield seen, changes
                continue
            yield seen, ()
            try:
                async with asyncio.timeout(progress_seconds):
                    await changed.wait()
            except TimeoutError:
                continue
