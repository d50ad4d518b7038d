"""Reads the current records of executions: what is stored, corrected by what only the scheduling core knows."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

import attrs

from flowhook.errors import NotFoundError
from flowhook.model import Status
from flowhook.model.execution_filter import ExecutionFilter
from flowhook.model.executions import AttemptHistory
from router.scheduling.shard import Shard
from router.storage import model as stored
from router.storage.interface import ShardState

IN_MOTION: Final = frozenset({Status.PENDING, Status.RUNNING, Status.WAITING})
"""Statuses for which the scheduling core is more current than storage."""


def stored_conditions(wanted: ExecutionFilter) -> ExecutionFilter:
    """Return conditions to read from storage with: a stored status of `IN_MOTION` may be any of these by now."""
    if IN_MOTION.isdisjoint(wanted.statuses):
        return wanted
    return wanted._replace(statuses=tuple(IN_MOTION.union(wanted.statuses)))


def meets(record: stored.ExecutionRecord, wanted: ExecutionFilter) -> bool:
    """Whether the current state of an execution, of which the stored one met conditions, meets them."""
    return (not wanted.statuses or record.status in wanted.statuses) and record.attempts >= wanted.min_attempts


@attrs.define(eq=False, repr=False)
class ExecutionRecords:
    """The records of a shard's executions, in their current state."""

    _core: Shard
    _state: ShardState

    async def find(self, execution_id: str) -> stored.ExecutionRecord:
        """Return an execution in its current state.

        Raises:
            NotFoundError: it is unknown or past retention (`EXECUTION_NOT_FOUND`).
            UnavailableError: storage can't serve.
        """
        record = await self._state.find(execution_id)
        if record is None:
            raise NotFoundError(f"there is no execution {execution_id}", reason="EXECUTION_NOT_FOUND")
        (current,) = await self.current([record])
        return current

    async def attempts(self, seq: int) -> AttemptHistory:
        """Return the interrupted attempts of an execution, and after them the one that ended it or is under way.

        Raises:
            UnavailableError: storage can't serve.
        """
        history = await self._state.attempts(seq)
        lease = self._core.leases.of(seq)
        return history if lease is None else history._replace(attempts=(*history.attempts, lease.as_attempt()))

    async def current(self, records: Sequence[stored.ExecutionRecord]) -> list[stored.ExecutionRecord]:
        """Return records that were read from storage in their current state. At most `DEFAULT_PAGE` at a time.

        Those that look pending are read again: if they have ended since they were read, the core does not know them any
        more, as if they had not begun.

        Raises:
            UnavailableError: storage can't serve.
        """
        found = [self._overlay(record) for record in records]
        pending = [record.seq for record in found if record.status is Status.PENDING]
        again = await self.read(pending) if pending else {}
        return [again.get(record.seq, record) for record in found]

    async def read(self, seqs: Collection[int]) -> dict[int, stored.ExecutionRecord]:
        """Return executions by sequence number, in their current state. At most `DEFAULT_PAGE` at a time."""
        under_way = set(filter(self._is_under_way, seqs))
        found = {seq: self._overlay(record) for seq, record in (await self._state.records(seqs)).items()}
        # these ended after they were read: overlaid with the core's present state they would look pending
        outdated = [seq for seq in under_way & found.keys() if not (found[seq].status.ended or self._is_under_way(seq))]
        return found | await self.read(outdated) if outdated else found

    def _is_under_way(self, seq: int) -> bool:
        return self._core.leases.of(seq) is not None or self._core.pending.is_stopping(seq)

    def _overlay(self, record: stored.ExecutionRecord) -> stored.ExecutionRecord:
        """Return a record corrected by what only the core knows: whether a runner runs it, or it was woken."""
        if record.status.ended:
            return record
        attempt = self._core.leases.attempt_of(record.seq)
        if attempt is not None:
            return record._replace(status=Status.RUNNING, attempts=attempt, retry=None)
        if self._core.pending.is_stopping(record.seq):
            return record._replace(status=Status.RUNNING, retry=None)
        woken = record.status is Status.WAITING and not self._core.is_waiting(record.seq)
        is_pending = woken or record.status is Status.RUNNING
        return record._replace(status=Status.PENDING, retry=None) if is_pending else record
