"""Cancels, suspends, resumes and resolves executions for operators, and shows them their current state."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence

from flowhook.errors import ConflictError, NotFoundError
from flowhook.model import Status
from router.dispatch.durable_writes import RetryingWriter
from router.dispatch.transitions import TransitionBatch
from router.scheduling.leases import Lease
from router.scheduling.shard import Shard
from router.storage import model as stored
from router.storage.interface import ShardState


class ExecutionCommands:
    """Operators' commands on executions, and the current records of executions."""

    def __init__(
        self,
        *,
        core: Shard,
        state: ShardState,
        durable: RetryingWriter,
        conclude: Callable[[TransitionBatch], Awaitable[None]],
        withdrawn: Callable[[int, Lease | None, str], None],
        changed: Callable[[int], None],
        now_ms: Callable[[], int],
    ) -> None:
        """Serve operators.

        Args:
            core: the scheduling core.
            state: stored state of executions.
            durable: retrying writer.
            conclude: stores state transitions, then applies them.
            withdrawn: called with an execution that was removed from the core, its broken lease (if any), and why.
            changed: called with an execution whose change is durable.
            now_ms: Unix time in ms.
        """
        self._core = core
        self._state = state
        self._durable = durable
        self._conclude = conclude
        self._withdrawn = withdrawn
        self._changed = changed
        self._now_ms = now_ms
        self._storing: set[int] = set()

    async def cancel(self, execution_id: str) -> stored.ExecutionRecord:
        """End an execution that has not ended.

        Raises:
            NotFoundError: there is no such execution (`EXECUTION_NOT_FOUND`).
            ConflictError: it has ended, or is ending at this moment (`EXECUTION_ENDED`).
            UnavailableError: storage can't serve.
        """
        record = await self.find(execution_id)
        cancelled = None if record.status.ended else self._core.cancel(record.seq, record.flow_id)
        if cancelled is None:
            raise ConflictError(f"{execution_id} has ended already", reason="EXECUTION_ENDED")
        attempts, lease = cancelled
        self._withdrawn(record.seq, lease, "EXECUTION_CANCELLED")
        end = stored.Ended(record.seq, Status.CANCELLED, self._now_ms(), attempts)
        await self._durable.run_shielded(self._end(end))
        return await self.find(execution_id)

    async def _end(self, end: stored.Ended) -> None:
        await self._conclude(TransitionBatch(ends=[end]))

    async def suspend(self, execution_id: str) -> stored.ExecutionRecord:
        """Stop running an execution until it is resumed; one that is suspended stays so.

        Raises:
            NotFoundError: there is no such execution (`EXECUTION_NOT_FOUND`).
            ConflictError: it has ended, or is ending at this moment (`EXECUTION_ENDED`).
            UnavailableError: storage can't serve.
        """
        record = await self.find(execution_id)
        await self._on_record(record.seq)
        if self._core.is_suspended(record.seq):
            return await self.find(execution_id)
        suspended = None if record.status.ended else self._core.suspend(record.seq, record.flow_id)
        if suspended is None:
            raise ConflictError(f"{execution_id} has ended already", reason="EXECUTION_ENDED")
        attempts, lease = suspended
        self._withdrawn(record.seq, lease, "EXECUTION_SUSPENDED")
        term = 0 if lease is None else self._core.leases.term_of(record.seq)
        await self._store(stored.Suspended(record.seq, attempts, term), lambda: None)
        return await self.find(execution_id)

    async def _store(self, change: stored.Suspended | stored.Resumed, then: Callable[[], object]) -> None:
        """Store a change of an execution, then call `then`; further commands on the execution wait for that."""
        self._storing.add(change.seq)
        await self._durable.run_shielded(self._write(change, then))

    async def _write(self, change: stored.Suspended | stored.Resumed, then: Callable[[], object]) -> None:
        await self._durable.write([change])
        then()
        self._storing.discard(change.seq)
        self._durable.tell()
        self._changed(change.seq)

    async def _on_record(self, seq: int) -> None:
        """Wait until the last transition of an execution is durable, lest the next one overtake it."""
        await self._durable.until(lambda: seq not in self._storing and not self._core.pending.is_changing(seq))

    async def resume(self, execution_id: str) -> stored.ExecutionRecord:
        """Let a suspended execution run again.

        Raises:
            NotFoundError: there is no such execution (`EXECUTION_NOT_FOUND`).
            ConflictError: it is not suspended (`EXECUTION_NOT_SUSPENDED`).
            UnavailableError: storage can't serve.
        """
        record = await self.find(execution_id)
        await self._on_record(record.seq)
        if not self._core.is_suspended(record.seq):
            raise ConflictError(f"{execution_id} is not suspended: {record.status}", reason="EXECUTION_NOT_SUSPENDED")
        resumed = stored.Resumed(record.seq, self._core.attempts.charged(record.seq))
        await self._store(resumed, lambda: self._core.resume(record.seq))
        return await self.find(execution_id)

    async def resolve(self, execution_id: str, reason: str) -> stored.ExecutionRecord:
        """Mark a failed execution as resolved, which means that no more action is needed, and record why.

        Raises:
            NotFoundError: there is no such execution (`EXECUTION_NOT_FOUND`).
            ConflictError: it did not fault, and was not cancelled (`EXECUTION_NOT_FAILED`).
            UnavailableError: storage can't serve.
        """
        record = await self.find(execution_id)
        if record.status not in (Status.FAULTED, Status.CANCELLED):
            raise ConflictError(f"{execution_id} did not fail: {record.status}", reason="EXECUTION_NOT_FAILED")
        await self._durable.write_once([stored.Resolved(record.seq, self._now_ms(), reason)])
        return await self.find(execution_id)

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

    async def current(self, records: Sequence[stored.ExecutionRecord]) -> list[stored.ExecutionRecord]:
        """Return records that were read from storage in their current state. At most `DEFAULT_PAGE` at a time.

        Those that look pending are read again: if they have ended since they were read, the core does not know them any
        more, as if they had not begun.

        Raises:
            UnavailableError: storage can't serve.
        """
        found = [self._overlay(record) for record in records]
        pending = [record.seq for record in found if record.status is Status.PENDING]
        again = await self.records(pending) if pending else {}
        return [again.get(record.seq, record) for record in found]

    async def records(self, seqs: Collection[int]) -> dict[int, stored.ExecutionRecord]:
        """Return executions by sequence number, in their current state. At most `DEFAULT_PAGE` at a time."""
        under_way = set(filter(self._is_under_way, seqs))
        found = {seq: self._overlay(record) for seq, record in (await self._state.records(seqs)).items()}
        # these ended after they were read: overlaid with the core's present state they would look pending
        outdated = [seq for seq in under_way & found.keys() if not (found[seq].status.ended or self._is_under_way(seq))]
        return found | await self.records(outdated) if outdated else found

    def _is_under_way(self, seq: int) -> bool:
        return self._core.leases.of(seq) is not None or self._core.pending.is_stopping(seq)

    def _overlay(self, record: stored.ExecutionRecord) -> stored.ExecutionRecord:
        """Return a record corrected by what only the core knows: whether a runner runs it, or it was woken."""
        if record.status.ended:
            return record
        attempt = self._core.leases.attempt_of(record.seq)
        if attempt is not None:
            return record._replace(status=Status.RUNNING, attempts=attempt)
        if self._core.pending.is_stopping(record.seq):
            return record._replace(status=Status.RUNNING)
        woken = record.status is Status.WAITING and not self._core.is_waiting(record.seq)
        return record._replace(status=Status.PENDING) if woken or record.status is Status.RUNNING else record
