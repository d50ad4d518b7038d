"""Finds and counts the executions that match the filter of a job, in their current state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from flowhook.model.execution_filter import ExecutionFilter
from flowhook.model.jobs import MAX_COUNTED
from router.dispatch.observers.execution_records import ExecutionRecords, meets, stored_conditions
from router.storage.interface import ShardState
from router.storage.jobs import ExecutionWalk
from router.storage.limits import DEFAULT_PAGE
from router.storage.model import ExecutionRecord

SAMPLE: Final = 10
"""Executions of a preview."""

COUNT_SECONDS: Final = 5.0
"""Longest time that a preview counts; then it reports that there may be more."""


@dataclass(frozen=True, slots=True)
class Preview:
    """Number of executions that match, whether there are, or may be, more, and the oldest of them."""

    count: int
    more: bool
    sample: list[ExecutionRecord]


class MatchingExecutions:
    """Reads executions that match a filter, oldest first."""

    def __init__(self, state: ShardState, records: ExecutionRecords, clock: Callable[[], float]) -> None:
        self._state = state
        self._records = records
        self._clock = clock

    async def next(
        self, wanted: ExecutionFilter, *, after_seq: int = 0, last_seq: int | None = None, limit: int = DEFAULT_PAGE
    ) -> ExecutionWalk:
        """Return the next executions that match now; see `ShardState.walk_executions`.

        Raises:
            UnavailableError: storage can't serve.
        """
        stored = stored_conditions(wanted)
        walk = await self._state.walk_executions(stored, after_seq=after_seq, last_seq=last_seq, limit=limit)
        current = await self._records.current(walk.records)
        return walk._replace(records=[record for record in current if meets(record, wanted)])

    async def preview(self, wanted: ExecutionFilter) -> Preview:
        """Count the executions that match now, up to `MAX_COUNTED`.

        Raises:
            UnavailableError: storage can't serve.
        """
        deadline = self._clock() + COUNT_SECONDS
        sample: list[ExecutionRecord] = []
        count = 0
        after: int | None = 0
        while after is not None and count <= MAX_COUNTED and self._clock() < deadline:
            records, after = await self.next(wanted, after_seq=after)
            count += len(records)
            sample += records[: SAMPLE - len(sample)]
        return Preview(min(count, MAX_COUNTED), count > MAX_COUNTED or after is not None, sample)
