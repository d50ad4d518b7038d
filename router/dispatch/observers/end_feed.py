"""Passes the ends of certain executions to readers, which take them when they are ready."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import attrs

from router.storage.model import Ended


class EndFeed:
    """The readers of a shard; there are few of them, and each bounds what it awaits."""

    def __init__(self) -> None:
        self._readers: list[EndReader] = []

    def reader(self, changed: asyncio.Event) -> EndReader:
        """Add a reader; `changed` is set when there are ends for it to take."""
        reader = EndReader(changed)
        self._readers.append(reader)
        return reader

    def publish(self, ends: Sequence[Ended]) -> None:
        """Pass on ends that are durable."""
        for reader in self._readers if ends else ():
            reader.put(ends)


@attrs.define(eq=False, repr=False)
class EndReader:
    """The ends of the executions that one reader awaits."""

    _changed: asyncio.Event
    _awaited: set[int] = attrs.field(init=False, factory=set)
    _ended: list[Ended] = attrs.field(init=False, factory=list)

    def await_end(self, seq: int) -> None:
        """Await the end of an execution that is not yet durable."""
        self._awaited.add(seq)

    def forget(self, seq: int) -> None:
        """Await the end of an execution no more."""
        self._awaited.discard(seq)

    def put(self, ends: Sequence[Ended]) -> None:
        """Add ends, if they are awaited."""
        found = [end for end in ends if end.seq in self._awaited] if self._awaited else ()
        if found:
            self._awaited.difference_update(end.seq for end in found)
            self._ended += found
            self._changed.set()

    def take(self) -> list[Ended]:
        """Return the awaited ends since the last call."""
        ended, self._ended = self._ended, []
        return ended
