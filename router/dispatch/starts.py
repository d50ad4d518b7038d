"""Attempts that are under way and not written down yet."""

from __future__ import annotations

import asyncio
from collections.abc import Container, Iterable
from typing import Final

from router.dispatch.durable import Durable
from router.scheduling.shard import Shard
from router.storage.model import Started

STARTED_DELAY: Final = 0.1
"""Seconds after which an attempt that is still under way is written down; a quicker one costs no write of its own."""


class Starts:
    """Writes down the attempts that last, so that they count even if everything dies.

    An execution that a time has woken is on record as waiting still. While it is, a router that starts anew gives it
    what it waited for. So its attempt is written down with the first that is journaled of it, if not before: an entry
    that was delivered after that one would be nothing that the flow asks for.
    """

    def __init__(self, core: Shard, durable: Durable) -> None:
        self._core = core
        self._durable = durable
        self._pending: dict[int, None] = {}
        self._waiting: set[int] = set()
        self._due = False

    def add(self, seqs: Iterable[int]) -> None:
        """Write down the attempts at these executions that are under way, if they still are after `STARTED_DELAY`."""
        self._pending.update(dict.fromkeys(seqs))
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_later(STARTED_DELAY, self._write)

    def woken(self, seqs: Iterable[int]) -> None:
        """Note executions that go on, and may be on record as waiting."""
        self._waiting.update(seqs)

    def take_waiting(self, seq: int) -> Started | None:
        """Return what is to be written down with what is journaled of an execution; None: it is not on record so."""
        return self._take(seq, self._waiting)

    def take(self, seq: int) -> Started | None:
        """Return what is to be written down of an attempt now, with something else; None: it was."""
        return self._take(seq, self._pending)

    def _take(self, seq: int, noted: Container[int]) -> Started | None:
        attempt = self._core.attempt_of(seq) if seq in noted else None
        if attempt is None:
            return None
        self.drop(seq)
        return Started(seq, attempt)

    def drop(self, seq: int) -> None:
        """Forget an attempt that is not under way any more."""
        self._pending.pop(seq, None)
        self._waiting.discard(seq)

    def _write(self) -> None:
        self._due = False
        pending, self._pending = self._pending, {}
        changes = [Started(seq, attempt) for seq in pending if (attempt := self._core.attempt_of(seq)) is not None]
        if changes and not self._durable.closing:
            self._durable.spawn(self._durable.try_write(changes))
