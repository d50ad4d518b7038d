"""Unparks waiting executions, so that a delivered event or end can be appended to their journals.

While an execution is parked no runner writes its journal, so the router may. Each receives one entry at a time: its
next subscription depends on that entry, and an entry that the flow does not ask for is a defect. Further events are
matched when the execution waits again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import attrs

from flowhook import limits
from flowhook.model import Status
from router.dispatch.faults import runtime_error
from router.dispatch.persistence.retrying_writer import RetryingWriter
from router.scheduling.shard import Shard
from router.scheduling.subscriptions import EventReceiver, Subscriptions
from router.storage.interface import ShardState
from router.storage.model import Ended, JournalSize

_EMPTY: Final = JournalSize(0, 0)


class Unparked(NamedTuple):
    """An unparked execution, the key of the journal entry to append, and the attempts charged to it so far."""

    seq: int
    key: str
    attempts: int


class Deliverable(NamedTuple):
    """The unparked executions that can take an entry, and the ends of those whose journal is full."""

    taken: list[Unparked]
    ends: list[Ended]


@attrs.define(eq=False, repr=False, kw_only=True)
class ParkedDelivery:
    """Unparks executions and checks that their journals have room."""

    _core: Shard
    _state: ShardState
    _writer: RetryingWriter
    _subscriptions: Subscriptions
    _now_ms: Callable[[], int]

    def take(self, receivers: Sequence[EventReceiver]) -> list[Unparked]:
        """Unpark the receivers that are parked and return them; their state in the core is *returning* from here on."""
        keys = dict(receivers)
        taken = [Unparked(seq, keys[seq], attempts) for seq, attempts, _ in self._core.deliver(keys)]
        for each in taken:
            self._subscriptions.remove(each.seq)
        return taken

    async def check_room(self, taken: Sequence[Unparked]) -> Deliverable:
        """Select the executions that can take an entry: not cancelled meanwhile, and with room in their journals."""
        sizes = await self._writer.call_with_retry(lambda: self._state.journal_sizes([each.seq for each in taken]))
        fitting = Deliverable([], [])
        for each in taken:
            entries, size = sizes.get(each.seq, _EMPTY)
            if entries < limits.MAX_JOURNAL_ENTRIES and size < limits.MAX_JOURNAL_BYTES:
                if self._core.pending.is_returning(each.seq):
                    fitting.taken.append(each)
            elif self._core.pending.end_returning(each.seq):
                fitting.ends.append(self._full(each))
        return fitting

    def _full(self, taken: Unparked) -> Ended:
        error = runtime_error(
            f"what it waits for has arrived, but its journal is full: at most {limits.MAX_JOURNAL_ENTRIES} entries,"
            f" whose results have at most {limits.MAX_JOURNAL_BYTES} bytes in all, between two compactions"
        )
        return Ended(taken.seq, Status.FAULTED, self._now_ms(), taken.attempts, error=error)
