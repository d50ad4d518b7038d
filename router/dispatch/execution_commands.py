"""Cancels, suspends, resumes, retries and resolves executions for operators."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs
import orjson

from flowhook.errors import ConflictError
from flowhook.model import JournalEntry, Status
from flowhook.model.executions import AttemptEnd
from router.dispatch.effects import ASSIGN_READY
from router.dispatch.event_delivery import ParkedExecutions
from router.dispatch.parts import ShardParts
from router.dispatch.receivers import ParkedDelivery, Unparked
from router.dispatch.transitions import TransitionBatch, TransitionWriter
from router.scheduling.subscriptions import EventReceiver
from router.storage import model as stored


@attrs.define(eq=False, repr=False)
class ExecutionCommands:
    """Operators' commands on executions.

    Each raises NotFoundError for an execution that is unknown (`EXECUTION_NOT_FOUND`), and UnavailableError when
    storage can't serve.
    """

    _parts: ShardParts
    _transitions: TransitionWriter
    _delivery: ParkedDelivery
    _parked: ParkedExecutions
    _storing: set[int] = attrs.field(init=False, factory=set)

    async def cancel(self, execution_id: str) -> None:
        """End an execution; ConflictError: it has ended, or is ending at this moment (`EXECUTION_ENDED`)."""
        record = await self._parts.executions.find(execution_id)
        cancelled = None if record.status.ended else self._parts.shard.cancel(record.seq, record.flow_id)
        if cancelled is None:
            raise ConflictError(f"{execution_id} has ended already", reason="EXECUTION_ENDED")
        attempts, lease = cancelled
        self._parked.withdraw(record.seq, lease, "EXECUTION_CANCELLED")
        end = stored.Ended(record.seq, Status.CANCELLED, self._parts.now_ms(), attempts)
        if lease is not None:
            end = end._replace(runner=lease.runner.id, assign_time_ms=lease.assigned_ms)
        await self._parts.writer.run_shielded(self._transitions.apply(TransitionBatch(ends=[end])))

    async def suspend(self, execution_id: str) -> None:
        """Stop running an execution until it is resumed; one that is suspended stays so.

        Raises:
            ConflictError: it has ended, or is ending at this moment (`EXECUTION_ENDED`).
        """
        record = await self._parts.executions.find(execution_id)
        await self._until_stored(record.seq)
        if self._parts.shard.is_suspended(record.seq):
            return
        suspended = None if record.status.ended else self._parts.shard.suspend(record.seq, record.flow_id)
        if suspended is None:
            raise ConflictError(f"{execution_id} has ended already", reason="EXECUTION_ENDED")
        attempts, lease = suspended
        self._parked.withdraw(record.seq, lease, "EXECUTION_SUSPENDED")
        term = 0 if lease is None else self._parts.shard.leases.term_of(record.seq)
        changes: list[stored.StateChange] = []
        if lease is not None:
            attempt = lease.as_attempt(AttemptEnd.SUSPENDED)._replace(end_time_ms=self._parts.now_ms())
            changes.append(stored.AttemptInterrupted(record.seq, attempt))
        if self._parts.shard.has_group_key(record.seq):  # once resumed it runs by itself, also after a restart
            self._parts.shard.leave_group(record.seq)
            changes.append(stored.GroupLeft(record.seq))
        await self._store(record.seq, [*changes, stored.Suspended(record.seq, attempts, term)])

    async def _store(self, seq: int, changes: Sequence[stored.StateChange], *, resumes: bool = False) -> None:
        """Store changes of an execution, which may resume it; further commands on the execution wait for that."""
        self._storing.add(seq)
        await self._parts.writer.run_shielded(self._write(seq, changes, resumes=resumes))

    async def _write(self, seq: int, changes: Sequence[stored.StateChange], *, resumes: bool) -> None:
        await self._parts.writer.write(changes)
        if resumes:
            self._parts.shard.resume(seq)
        self._storing.discard(seq)
        self._parts.writer.notify()
        self._parts.effects.add(ASSIGN_READY)
        self._parts.watchers.changed([seq])

    async def _until_stored(self, seq: int) -> None:
        """Wait until the last transition of an execution is durable, lest the next one overtake it."""
        await self._parts.writer.until(
            lambda: seq not in self._storing and not self._parts.shard.pending.is_changing(seq)
        )

    async def resume(self, execution_id: str) -> None:
        """Let a suspended execution run again; ConflictError: it is not suspended (`EXECUTION_NOT_SUSPENDED`)."""
        record = await self._parts.executions.find(execution_id)
        await self._until_stored(record.seq)
        if not self._parts.shard.is_suspended(record.seq):
            raise ConflictError(f"{execution_id} is not suspended: {record.status}", reason="EXECUTION_NOT_SUSPENDED")
        resumed = stored.Resumed(record.seq, self._parts.shard.attempts.charged(record.seq))
        await self._store(record.seq, [resumed], resumes=True)

    async def retry_now(self, execution_id: str) -> None:
        """Let an execution that waits for its next try have it at once.

        Its waits for retries end as they do when their time has come: by entries of the journal, which the router
        writes while no runner has the execution. Other waits go on.

        Raises:
            ConflictError: it does not wait for a retry (`EXECUTION_NOT_RETRYING`).
        """
        record = await self._parts.executions.find(execution_id)
        await self._until_stored(record.seq)
        term = self._parts.shard.leases.term_of(record.seq)
        record = await self._parts.executions.find(execution_id)
        retry = record.retry
        # of another term it was woken and waits again since it was read, perhaps for something else
        is_current = retry is not None and term == self._parts.shard.leases.term_of(record.seq)
        unparked = self._delivery.unpark([EventReceiver(record.seq, "")]) if is_current else []
        if retry is None or not unparked:
            raise ConflictError(
                f"{execution_id} does not wait for a retry: {record.status}", reason="EXECUTION_NOT_RETRYING"
            )
        await self._parts.writer.run_shielded(self._end_waits(unparked, retry.keys))

    def retry_early(self, waits: Iterable[EventReceiver]) -> list[int]:
        """Let executions have their next try whose waits for it have these keys; return those that still wait."""
        unparked = self._delivery.unpark(list(waits))
        if unparked:
            self._parts.writer.spawn(self._end_waits(unparked, ()))
        return [each.seq for each in unparked]

    async def _end_waits(self, unparked: Sequence[Unparked], keys: Sequence[str]) -> None:
        # those after the first are void if what the first one leads to cancels them: see `runner.interpreter.journal`
        over = orjson.dumps({"over": self._parts.now_ms(), "early": True})
        fitting = await self._delivery.check_room(unparked)
        delivered = [
            stored.Delivered(each.seq, JournalEntry(key, over), each.attempts)
            for each in fitting.unparked
            for key in keys or (each.key,)
        ]
        await self._transitions.apply(TransitionBatch(ends=fitting.ends, delivered=delivered))

    async def resolve(self, execution_id: str, reason: str) -> None:
        """Mark a failed execution as resolved, which means that no more action is needed, and record why.

        If it, or a replay of its event, keeps the turn of its order key, the next execution gets it.

        Raises:
            ConflictError: it did not fault, and was not cancelled (`EXECUTION_NOT_FAILED`).
        """
        record = await self._parts.executions.find(execution_id)
        if record.status not in (Status.FAULTED, Status.CANCELLED):
            raise ConflictError(f"{execution_id} did not fail: {record.status}", reason="EXECUTION_NOT_FAILED")
        changes: list[stored.StateChange] = [stored.Resolved(record.seq, self._parts.now_ms(), reason)]
        held = self._parts.shard.order_keys.held_for(record.flow_id, record.order_key, record.root)
        if held is not None:
            changes.append(stored.TurnReleased(held.seq))
        await self._parts.writer.write_once(changes)
        if held is not None:
            self._parts.shard.release_turn(held)
            self._parts.effects.add(ASSIGN_READY)
