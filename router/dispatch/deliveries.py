"""Taking executions that wait out, to write what came for them into their journals.

While an execution waits nobody else writes its journal, so the router may. Each gets one entry at a time: what it asks
for next depends on that one, and an entry that nobody asks for is a defect. Whatever else came is found when it waits
again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from flowhook import limits
from flowhook.model import Status
from router.dispatch.conclusions import runtime_error
from router.dispatch.durable import Durable
from router.scheduling.shard import Shard
from router.scheduling.subscriptions import Receiver, Subscriptions
from router.storage.interface import ShardState
from router.storage.model import Ended, JournalSize

_EMPTY: Final = JournalSize(0, 0)


class Taken(NamedTuple):
    """An execution that waits no more, and what it has: the key of the coming entry, and attempts charged to it."""

    seq: int
    key: str
    attempts: int


class Fitting(NamedTuple):
    """Those of executions taken out that can get an entry, and the ends of those that can't."""

    taken: list[Taken]
    ends: list[Ended]


class Deliveries:
    """See the module."""

    def __init__(
        self,
        *,
        core: Shard,
        state: ShardState,
        durable: Durable,
        subscriptions: Subscriptions,
        now_ms: Callable[[], int],
    ) -> None:
        self._core = core
        self._state = state
        self._durable = durable
        self._subscriptions = subscriptions
        self._now_ms = now_ms

    def take(self, receivers: Sequence[Receiver]) -> list[Taken]:
        """Take those out that wait; they are *returning* from here on."""
        keys = dict(receivers)
        taken = [Taken(seq, keys[seq], attempts) for seq, attempts in self._core.deliver(keys)]
        for each in taken:
            self._subscriptions.remove(each.seq)
        return taken

    async def fitting(self, taken: Sequence[Taken]) -> Fitting:
        """Return which of them can get an entry: not those that were cancelled meanwhile or whose journal is full."""
        sizes = await self._durable.insist(lambda: self._state.journal_sizes([each.seq for each in taken]))
        fitting = Fitting([], [])
        for each in taken:
            entries, size = sizes.get(each.seq, _EMPTY)
            if entries < limits.MAX_JOURNAL_ENTRIES and size < limits.MAX_JOURNAL_BYTES:
                if self._core.is_returning(each.seq):
                    fitting.taken.append(each)
            elif self._core.give_up(each.seq):
                fitting.ends.append(self._full(each))
        return fitting

    def _full(self, taken: Taken) -> Ended:
        error = runtime_error(
            f"what it waits for has come, and its journal is full: at most {limits.MAX_JOURNAL_ENTRIES} entries, whose"
            f" results have at most {limits.MAX_JOURNAL_BYTES} bytes in all, between two compactions"
        )
        return Ended(taken.seq, Status.FAULTED, self._now_ms(), taken.attempts, error=error)
