"""What is to be told to others of changes in executions: stored with the changes, told later (`triggers.herald`).

Nothing of it is made unless somebody wants events of that type: a change costs one look at a set then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final

from flowhook import logs
from flowhook.lifecycle import FROM_RUNNERS, OF_END, Lifecycle, LifecycleEvent
from router.storage.model import Ended, Occurred, Parked, Requeued, Resumed, Started, StateChange, Suspended

MAX_PENDING: Final = 100_000
"""Occurrences that may wait to be told; beyond it nothing is told of what happens."""

_NONE: Final[frozenset[str]] = frozenset()

log = logs.get_logger(__name__)


class Occurrences:
    """See the module.

    Attributes:
        by_flows: types that flows want by what they say.
        by_executions: types that executions wait for, whatever their flows say by now.
        pending: how many wait to be told, roughly.
        news: is set when there are more.
        changed: is called when something else is wanted by flows.
    """

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self.by_flows: Collection[str] = frozenset()
        self.by_executions: Collection[str] = frozenset()
        self.pending = 0
        self.news = asyncio.Event()
        self.changed: Callable[[], None] = lambda: None
        self._full = False

    @property
    def wanted(self) -> bool:
        """Whether anything is wanted at all."""
        return bool(self.by_flows or self.by_executions)

    def flows_want(self, types: Collection[str]) -> None:
        """Take in which types flows want."""
        self.by_flows = types
        self.changed()

    def of(self, changes: Sequence[StateChange]) -> list[Occurred]:
        """Return what is to be stored with changes, and before them."""
        now_ms = self._now_ms()
        found = [each for change in changes for each in occurred(change, now_ms) if self._wants(each.type)]
        within = {each.seq: each.time_ms for each in reversed(found) if each.key}
        if within:  # it began before anything happened within it, by whatever clock
            found = [
                each._replace(time_ms=min(each.time_ms, within[each.seq]))
                if each.first and each.seq in within
                else each
                for each in found
            ]
        room = MAX_PENDING - self.pending
        if len(found) > room:
            if not self._full:
                log.warning("too much waits to be told of executions; leaving out what happens", pending=self.pending)
            self._full = True
            return found[:room]
        self._full = False
        return found

    def within(self, seq: int, events: Sequence[LifecycleEvent]) -> list[Occurred]:
        """Return what happened within an execution and is wanted, as a change that `of` takes in."""
        return [
            Occurred(seq, type_, time_ms, key=key, data=data)
            for type_, key, time_ms, data in events
            if type_ in FROM_RUNNERS and self._wants(type_)
        ]

    @property
    def from_runners(self) -> frozenset[str]:
        """Types that are wanted of what only runners know."""
        return FROM_RUNNERS.intersection((*self.by_flows, *self.by_executions)) if self.wanted else _NONE

    def stored(self, count: int) -> None:
        """Note that so many occurrences are durable: they are to be told."""
        self.pending += count
        self.news.set()

    def _wants(self, type_: str) -> bool:
        return type_ in self.by_flows or type_ in self.by_executions


def occurred(change: StateChange, now_ms: int) -> Iterator[Occurred]:
    """Yield what happens to an execution by a change of its state.

    That it began is on record with whatever is stored first of a runner having had it; storage knows whether that is
    so.
    """
    if isinstance(change, Occurred):
        yield change
    elif isinstance(change, Started | Parked | Requeued):
        yield Occurred(change.seq, Lifecycle.STARTED, now_ms, first=True)
    elif isinstance(change, Suspended):
        if change.term:
            yield Occurred(change.seq, Lifecycle.STARTED, now_ms, first=True)
        yield Occurred(change.seq, Lifecycle.SUSPENDED, now_ms)
    elif isinstance(change, Resumed):
        yield Occurred(change.seq, Lifecycle.RESUMED, now_ms)
    elif isinstance(change, Ended):
        if change.attempts:  # else it was cancelled before a runner had it
            yield Occurred(change.seq, Lifecycle.STARTED, change.end_time_ms, first=True)
        yield Occurred(change.seq, OF_END[change.status], change.end_time_ms)
