"""Transactional outbox for lifecycle events, which are stored with the changes they report.

`triggers.lifecycle_publisher` publishes them. No event is created unless a flow or an execution wants events of its
type: without any, a change costs one look-up in a set.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final

import attrs

from flowhook.events.lifecycle import FROM_RUNNERS, OF_END, LifecycleEvent, WorkflowEventType
from flowhook.process import logs
from router.dispatch.effects import SEND_WANTED_TYPES, EffectQueue
from router.storage.model import Ended, LifecycleRecorded, Parked, Requeued, Resumed, Started, StateChange, Suspended

MAX_PENDING: Final = 100_000
"""Lifecycle events that may be pending; further ones are dropped."""

_NONE: Final[frozenset[str]] = frozenset()

log = logs.get_logger(__name__)


@attrs.define(eq=False, repr=False)
class LifecycleOutbox:
    """Derives lifecycle events from changes, and knows which types are wanted.

    Attributes:
        by_flows: types that flows want by their current revision.
        by_executions: types that executions wait for, whatever the current revision of their flow.
        pending: approximate number of events that are stored and not published.
        has_pending: set when further events were stored.

    Start with no flow that wants any. `by_executions` is read anew each time.
    """

    _now_ms: Callable[[], int]
    by_executions: Collection[str] = attrs.field(kw_only=True)
    _effects: EffectQueue = attrs.field(kw_only=True)
    by_flows: Collection[str] = attrs.field(init=False, factory=frozenset)
    pending: int = attrs.field(init=False, default=0)
    has_pending: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)
    _full: bool = attrs.field(init=False, default=False)

    @property
    def wanted(self) -> bool:
        """Whether any type of lifecycle event is wanted."""
        return bool(self.by_flows or self.by_executions)

    def set_wanted_by_flows(self, types: Collection[str]) -> None:
        """Replace the types that flows want."""
        self.by_flows = types
        self._effects.add(SEND_WANTED_TYPES)

    def of(self, changes: Sequence[StateChange]) -> list[LifecycleRecorded]:
        """Return the lifecycle events to store with changes, and before them."""
        now_ms = self._now_ms()
        found = [each for change in changes for each in lifecycle_records(change, now_ms) if self._wants(each.type)]
        within = {each.seq: each.time_ms for each in reversed(found) if each.key}
        if within:  # an execution must not start later than events within it, which have the time of a runner's clock
            found = [
                each._replace(time_ms=min(each.time_ms, within[each.seq]))
                if each.first and each.seq in within
                else each
                for each in found
            ]
        room = MAX_PENDING - self.pending
        if len(found) > room:
            if not self._full:
                log.warning("too many lifecycle events are pending; dropping further ones", pending=self.pending)
            self._full = True
            return found[:room]
        self._full = False
        return found

    def records_from_runner(self, seq: int, events: Sequence[LifecycleEvent]) -> list[LifecycleRecorded]:
        """Convert events that a runner reported from within an execution, if they are wanted, into changes for `of`."""
        return [
            LifecycleRecorded(seq, type_, time_ms, key=key, data=data)
            for type_, key, time_ms, data in events
            if type_ in FROM_RUNNERS and self._wants(type_)
        ]

    @property
    def from_runners(self) -> frozenset[str]:
        """Wanted types, of those that only runners can report."""
        return FROM_RUNNERS.intersection((*self.by_flows, *self.by_executions)) if self.wanted else _NONE

    def stored(self, count: int) -> None:
        """Count further events that are durable and to be published."""
        self.pending += count
        self.has_pending.set()

    def _wants(self, type_: str) -> bool:
        return type_ in self.by_flows or type_ in self.by_executions


def lifecycle_records(change: StateChange, now_ms: int) -> Iterator[LifecycleRecorded]:
    """Yield the lifecycle events that a state change of an execution amounts to.

    The start of an execution is recorded with the first change that shows that a runner had it; storage decides whether
    a change is the first.
    """
    if isinstance(change, LifecycleRecorded):
        yield change
    elif isinstance(change, Started):
        yield LifecycleRecorded(change.seq, WorkflowEventType.STARTED, change.time_ms or now_ms, first=True)
    elif isinstance(change, Parked | Requeued):
        yield LifecycleRecorded(change.seq, WorkflowEventType.STARTED, now_ms, first=True)
    elif isinstance(change, Suspended):
        if change.term:
            yield LifecycleRecorded(change.seq, WorkflowEventType.STARTED, now_ms, first=True)
        yield LifecycleRecorded(change.seq, WorkflowEventType.SUSPENDED, now_ms)
    elif isinstance(change, Resumed):
        yield LifecycleRecorded(change.seq, WorkflowEventType.RESUMED, now_ms)
    elif isinstance(change, Ended):
        if change.attempts:  # else it was cancelled before it was assigned
            yield LifecycleRecorded(change.seq, WorkflowEventType.STARTED, change.end_time_ms, first=True)
        yield LifecycleRecorded(change.seq, OF_END[change.status], change.end_time_ms)
