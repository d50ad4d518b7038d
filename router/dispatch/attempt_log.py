"""Stores the starts of attempts that are still under way after a short delay."""

from __future__ import annotations

import asyncio
from collections.abc import Container, Iterable
from typing import Final

from router.dispatch.durable_writes import RetryingWriter
from router.scheduling.shard import Shard
from router.storage.model import Started

STARTED_DELAY: Final = 0.1
"""Seconds after which an attempt that is still under way is stored; a quicker one costs no write of its own."""


class AttemptLog:
    """Stores the starts of longer attempts, so that they count even if router and runner crash.

    An execution that was woken by a time is still stored as waiting, and a router that restarts would deliver to it
    what it waited for. So its attempt is stored at the latest with its first journal entry: an entry delivered after
    that one would be one that the flow does not ask for.
    """

    def __init__(self, core: Shard, durable: RetryingWriter) -> None:
        self._core = core
        self._durable = durable
        self._pending: dict[int, None] = {}
        self._waiting: set[int] = set()
        self._due = False

    def add(self, seqs: Iterable[int]) -> None:
        """Store the attempts under way at these executions, if they still are after `STARTED_DELAY`."""
        self._pending.update(dict.fromkeys(seqs))
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_later(STARTED_DELAY, self._write)

    def woken(self, seqs: Iterable[int]) -> None:
        """Register executions that run again, and may still be stored as waiting."""
        self._waiting.update(seqs)

    def take_waiting(self, seq: int) -> Started | None:
        """Return the start to store with a journal entry; None: the execution is not stored as waiting."""
        return self._take(seq, self._waiting)

    def take(self, seq: int) -> Started | None:
        """Return the start to store in another write now; None: it is stored already."""
        return self._take(seq, self._pending)

    def _take(self, seq: int, noted: Container[int]) -> Started | None:
        attempt = self._core.attempt_of(seq) if seq in noted else None
        if attempt is None:
            return None
        self.drop(seq)
        return Started(seq, attempt)

    def drop(self, seq: int) -> None:
        """Forget an execution whose attempt is not under way any more."""
        self._pending.pop(seq, None)
        self._waiting.discard(seq)

    def _write(self) -> None:
        self._due = False
        pending, self._pending = self._pending, {}
        changes = [Started(seq, attempt) for seq in pending if (attempt := self._core.attempt_of(seq)) is not None]
        if changes and not self._durable.closing:
            self._durable.spawn(self._durable.try_write(changes))
