"""Stores the starts of attempts that are still under way after a short delay."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from typing import Final

import attrs

from router.dispatch.persistence.retrying_writer import RetryingWriter
from router.scheduling.shard import Shard
from router.storage.model import Started

STARTED_DELAY: Final = 0.1
"""Seconds after which an attempt that is still under way is stored; a quicker one costs no write of its own."""


@attrs.define(eq=False, repr=False)
class AttemptLog:
    """Stores the starts of longer attempts, so that they count even if router and runner crash.

    An execution that was woken by a time is still stored as waiting, and a router that restarts would deliver to it
    what it waited for. So its attempt is stored at the latest with its first journal entry: an entry delivered after
    that one would be one that the flow does not ask for.
    """

    _core: Shard
    _writer: RetryingWriter
    _now_ms: Callable[[], int]
    _pending: dict[int, int] = attrs.field(init=False, factory=dict)
    """By execution, the Unix time at which a runner got it: what happens within it is never earlier."""
    _stored_as_waiting: set[int] = attrs.field(init=False, factory=set)
    _due: bool = attrs.field(init=False, default=False)

    def add(self, seqs: Iterable[int]) -> None:
        """Store the attempts that begin now at these executions, if they still are under way after `STARTED_DELAY`."""
        self._pending.update(dict.fromkeys(seqs, self._now_ms()))
        self._schedule()

    def restore(self, starts: Collection[Started]) -> None:
        """Take back starts that could not be stored with what they were taken for."""
        self._pending.update((each.seq, each.time_ms) for each in starts)
        self.woken(each.seq for each in starts)
        self._schedule()

    def _schedule(self) -> None:
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_later(STARTED_DELAY, self._write)

    def woken(self, seqs: Iterable[int]) -> None:
        """Register executions that run again, and may still be stored as waiting."""
        self._stored_as_waiting.update(seqs)

    def take_waiting(self, seq: int) -> Started | None:
        """Return the start to store with a journal entry; None: the execution is not stored as waiting."""
        return self._take(seq, self._stored_as_waiting)

    def take(self, seq: int) -> Started | None:
        """Return the start to store in another write now; None: it is stored already."""
        return self._take(seq, self._pending)

    def _take(self, seq: int, noted: Collection[int]) -> Started | None:
        attempt = self._core.leases.attempt_of(seq) if seq in noted else None
        if attempt is None:
            return None
        time_ms = self._pending.get(seq, 0)
        self.drop(seq)
        return Started(seq, attempt, time_ms=time_ms)

    def drop(self, seq: int) -> None:
        """Forget an execution whose attempt is not under way any more."""
        self._pending.pop(seq, None)
        self._stored_as_waiting.discard(seq)

    def _write(self) -> None:
        self._due = False
        pending, self._pending = self._pending, {}
        changes = [
            Started(seq, attempt, time_ms=time_ms)
            for seq, time_ms in pending.items()
            if (attempt := self._core.leases.attempt_of(seq)) is not None
        ]
        if changes and not self._writer.is_closing:
            self._writer.spawn(self._writer.try_write(changes))
