"""State transitions of executions (end, park, requeue, delivery): stored first, then published."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import attrs

from flowhook import limits
from flowhook.attach.limits import split
from flowhook.errors import FlowhookError
from flowhook.model import Status
from flowhook.model.executions import Attempt
from flowhook.process import logs
from router.dispatch.effects import ASSIGN_READY
from router.dispatch.parts import ShardParts
from router.dispatch.receivers import ChildCompletions, LiveDelivery, attempts_exhausted, runtime_error
from router.scheduling.groups import ClosedGroup
from router.scheduling.leases import Lease, Loss
from router.scheduling.order_keys import HeldTurn
from router.storage import model as stored

# bytes of journal entries delivered in one write; storage limits the size of a write
WRITE_BYTES: Final = 16 * limits.MIB
log = logs.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class TransitionBatch:
    """State transitions of some executions, one for each; `journaled` and `consumed` are stored in the same write."""

    journaled: Sequence[stored.StateChange] = ()
    ends: Sequence[stored.Ended] = ()
    losses: Sequence[Loss] = ()
    parks: Sequence[stored.Parked] = ()
    delivered: Sequence[stored.Delivered] = ()
    consumed: Sequence[stored.Consumed] = ()
    patient: bool = False  # all are of flows with many executions running: see `Writer.call`


@attrs.define(eq=False, repr=False)
class TransitionWriter:
    """Stores state transitions, then applies them to the core: ended executions go, others wait or run again."""

    _parts: ShardParts
    _completions: ChildCompletions
    _live: LiveDelivery

    async def apply(self, batch: TransitionBatch) -> None:
        """Store transitions, then apply and publish them.

        Executions that were parked are still *parking* in the core when this returns.
        """
        # an execution that stops running listens no more; what was offered to it goes to others
        if self._live:
            leaving: Sequence[stored.Ended | Loss | stored.Parked] = [*batch.ends, *batch.losses, *batch.parks]
            for each in leaving:
                self._live.leave(each.seq)
        now_ms = self._parts.now_ms()
        requeued = [loss for loss in batch.losses if not loss.exhausted]
        exhausted = [
            stored.Ended(loss.seq, Status.FAULTED, now_ms, loss.attempts, error=attempts_exhausted(loss.attempts))
            for loss in batch.losses
            if loss.exhausted
        ]
        ends = [*batch.ends, *exhausted]
        parks, delivered, consumed = batch.parks, batch.delivered, batch.consumed
        # an end may be what other executions wait for: their entries are stored in the same write, and so on, if that
        # fills a journal and ends another execution
        if self._completions.is_needed:
            also_delivered, dropped = await self._completions.side_effects(ends)
            delivered, consumed = [*delivered, *also_delivered], [*consumed, *dropped]
        # none takes effect before the last portion is stored
        *early, last = split(delivered, lambda each: len(each.entry.output or b""), WRITE_BYTES)
        for portion in early:  # each with its links: it is not delivered again if the router ends before the last one
            seqs = {each.seq for each in portion}
            links = [each for each in batch.journaled if isinstance(each, stored.EventReceived) and each.seq in seqs]
            await self._parts.writer.write([*portion, *links])
        lost = [
            stored.Requeued(loss.seq, loss.attempts, self._parts.shard.leases.term_of(loss.seq)) for loss in requeued
        ]
        attempts = [
            stored.AttemptInterrupted(loss.seq, loss.interrupted._replace(end_time_ms=now_ms))
            for loss in batch.losses
            if loss.interrupted is not None
        ]
        # in the order in which it happened. For an execution that faults after its last entry, and another that waited
        # for its end:
        #     Journaled(7, 3, entry), Ended(7, FAULTED), Delivered(9, JournalEntry("/do/0/run#0:end", error))
        changes = [*batch.journaled, *attempts, *ends, *parks, *lost, *last, *consumed]
        held: dict[int, HeldTurn] = {}
        if ends and self._parts.shard.keeps_turns:
            held = await self._kept_turns(ends)
            changes += self._turn_changes(ends, held)
        await self._parts.writer.write(changes, patient=batch.patient)
        self.publish_replies(batch.journaled)
        if ends:
            self._publish_ends(ends, held, now_ms)
        again: list[Loss | stored.Delivered] = [*requeued, *delivered]
        self._parts.shard.requeued(each.seq for each in again)
        self._parts.metrics.delivered += len(delivered)
        self._parts.writer.notify()
        if parks or self._parts.shard.queues.may_assign:  # those that park leave places, once the caller says so
            self._parts.effects.add(ASSIGN_READY)
        else:  # what ended may have been the last one to wait for some lifecycle events
            self._parts.runners.send_wanted_types()
        concerned: Sequence[stored.Ended | stored.Parked | stored.Delivered | Loss] = [*ends, *parks, *again]
        self._parts.watchers.changed(each.seq for each in concerned)

    def _publish_ends(self, ends: Sequence[stored.Ended], held: Mapping[int, HeldTurn], now_ms: int) -> None:
        """Apply ends that are durable to the core, and tell those that wait for them."""
        ended: list[tuple[int, str, Status]] = []
        for end in ends:
            completed = end.status is Status.COMPLETED
            flow_id = self._parts.shard.ended(end.seq, completed=completed, held=held.get(end.seq))
            ended.append((end.seq, flow_id, end.status))
        self._parts.waiters.answer(ends)
        self._parts.statistics.ended(ended, now_ms, self._parts.clock())
        if self._completions.is_needed:
            self._completions.publish(ends)
        for reader in self._parts.end_readers:
            reader.put(ends)

    async def absorb(self, groups: Sequence[ClosedGroup]) -> None:
        """End the executions that others absorb, and let these run."""
        now_ms, shard = self._parts.now_ms(), self._parts.shard
        changes = [stored.GroupLeft(each.seq, each.absorbed, each.batches) for each in groups]
        absorbed = [seq for each in groups for seq in each.absorbed]
        ends = [stored.Ended(seq, Status.COMPLETED, now_ms, 0, output=b"null") for seq in absorbed]
        await self.apply(TransitionBatch(journaled=changes, ends=ends))
        for each in groups:
            shard.goes_on(each.seq, each.flow_id)
        self._parts.effects.add(ASSIGN_READY)
        self._parts.watchers.changed(each.seq for each in groups)

    async def _kept_turns(self, ends: Sequence[stored.Ended]) -> dict[int, HeldTurn]:
        """Return the turns of their order keys that executions keep which faulted."""
        shard = self._parts.shard
        times = {end.seq: end.end_time_ms for end in ends if end.status is Status.FAULTED and shard.keeps_turn(end.seq)}
        if not times:
            return {}
        records = await self._parts.writer.call_with_retry(lambda: self._parts.state.records(list(times)))
        return {seq: HeldTurn(seq, each.root, times[seq]) for seq, each in records.items()}

    def _turn_changes(self, ends: Sequence[stored.Ended], held: Mapping[int, HeldTurn]) -> Iterator[stored.StateChange]:
        for end in ends:
            before = self._parts.shard.order_keys.held_of(end.seq)
            if end.seq in held:
                yield stored.TurnKept(end.seq)
            elif end.status is not Status.COMPLETED:
                continue
            if before is not None and self._parts.shard.order_keys.has_turn(end.seq):
                yield stored.TurnReleased(before.seq)

    def lose(self, losses: Sequence[Loss]) -> None:
        """Store and apply what became of executions whose leases were lost, as a task of the shard runtime."""
        if losses:
            for loss in losses:
                self._parts.attempt_log.drop(loss.seq)
            log.warning("leases lost", executions=len(losses))
            self._parts.metrics.leases_lost += len(losses)
            self._parts.writer.spawn(self.apply(TransitionBatch(losses=losses)))

    def record(self, unclaimed: Iterable[tuple[int, Attempt]]) -> None:
        """Store attempts that ended some time before, as a task of the shard runtime."""
        now_ms = self._parts.now_ms()
        changes = [stored.AttemptInterrupted(seq, each._replace(end_time_ms=now_ms)) for seq, each in unclaimed]
        if changes:
            self._parts.writer.spawn(self._parts.writer.write(changes))

    def refund(self, seqs: Sequence[int], runner_id: str) -> None:
        """Store that a lost attempt of a runner is not charged any more, as a task of the shard runtime."""
        if seqs:
            self._parts.writer.spawn(self._refund(seqs, runner_id))

    async def _refund(self, seqs: Sequence[int], runner_id: str) -> None:
        # the loss may not be stored yet, while storage is away: a refund before it would find nothing to refund
        await self._parts.writer.until(lambda: not any(seq in self._parts.shard.pending.returning for seq in seqs))
        await self._parts.writer.write([stored.AttemptRefunded(seq, runner_id) for seq in seqs])

    def fault(self, lease: Lease, why: str) -> None:
        """Fault an execution that can't be assigned to any runner, as a task of the shard runtime."""
        self._parts.shard.runners.return_credit(lease.runner.id)
        if self._parts.shard.end(lease.token) is not None:
            self._parts.attempt_log.drop(lease.seq)
            error = runtime_error(f"it can't be run: {why}")
            end = stored.Ended(lease.seq, Status.FAULTED, self._parts.now_ms(), lease.attempt, error=error)
            self._parts.writer.spawn(self._fault(end, lease.queue.flow_id, why))

    async def _fault(self, end: stored.Ended, flow_id: str, why: str) -> None:
        await self.apply(TransitionBatch(ends=[end]))
        ids: dict[int, str] = {}
        with suppress(FlowhookError):  # what can't be run may be damaged: that its ID can't be read must stop nothing
            ids = await self._parts.state.execution_ids([end.seq])
        log.error("an execution can't be run", flow=flow_id, execution=ids.get(end.seq, ""), cause=why)

    def publish_replies(self, changes: Sequence[stored.StateChange]) -> None:
        """Notify callers that wait for the replies among `changes`, which must be durable."""
        self._parts.waiters.answer(each for each in changes if isinstance(each, stored.Replied))
