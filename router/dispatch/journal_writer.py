"""Stores what runners report of their executions: journal entries, and outcomes of attempts.

A report under a good lease is passed to storage at the moment the lease is checked, and acknowledged after it is
durable. A report under a stale lease is answered with the revocation of that lease.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Final

import attrs

from flowhook.attach.messages import Checkpoint, Completed, Faulted, Outcome, Parked, Released
from flowhook.errors import InternalError, UnavailableError
from flowhook.events.lifecycle import LifecycleEvent
from flowhook.model import Status
from flowhook.model.executions import AttemptEnd
from router.dispatch.event_delivery import ParkedExecutions
from router.dispatch.outage_control import OutageControl
from router.dispatch.parts import ShardParts
from router.dispatch.receivers import LiveDelivery, attempts_exhausted
from router.dispatch.runners import RunnerPort
from router.dispatch.timers import WakeTimer
from router.dispatch.transitions import TransitionBatch, TransitionWriter
from router.scheduling.leases import Loss
from router.storage import model as stored

# Shortest wait of a parked execution. Runners tell the time by the router's clock; this bounds how often an execution
# is parked again by one that does not.
MIN_WAIT_MS: Final = 50
MAX_DETAIL: Final = 64  # characters of the reason for a release that are stored


def _journaled(seq: int, checkpoint: Checkpoint) -> Iterator[stored.StateChange]:
    if checkpoint.entry is not None:
        yield stored.Journaled(seq, checkpoint.index, checkpoint.entry, checkpoint.compacts, checkpoint.history)
    if checkpoint.consumed:
        yield stored.EventReceived(seq, checkpoint.consumed)
        yield stored.Consumed(checkpoint.consumed)
    if checkpoint.reply is not None:
        yield stored.Replied(seq, checkpoint.reply)


@attrs.define(eq=False, repr=False)
class JournalWriter:
    """Stores checkpoints and outcomes, and acknowledges them."""

    _parts: ShardParts
    _transitions: TransitionWriter
    _live: LiveDelivery
    _parked: ParkedExecutions
    _wake_timer: WakeTimer
    _outages: OutageControl

    async def checkpoint(self, runner: RunnerPort, checkpoints: Sequence[Checkpoint]) -> None:
        """Store journal entries, then acknowledge them; stale leases are revoked."""
        with self._parts.runners.storing(runner):
            await self._parts.writer.run_shielded(self._journal(runner, checkpoints))

    async def _journal(self, runner: RunnerPort, checkpoints: Sequence[Checkpoint]) -> None:
        # Four exits:
        # 1. No lease is good any more. The runner has been told so; nothing is stored or acknowledged.
        # 2. The runner has attached again. It repeats everything there that is not acknowledged, perhaps compacted.
        # 3. A checkpoint consumes an event that was not offered under its lease. It loses the lease; the others go on.
        # 4. Everything is stored, and acknowledged below.
        # An example of 3: a router crashed after it had offered event 41, and the next one gave 41 to another
        # execution. The entry of the first must not be stored, or both would have received it.
        while checkpoints := self._good(runner, checkpoints):
            if self._parts.runners.is_superseded(runner):
                return
            accepted, refused = self._live.accept(checkpoints)
            if refused:
                self._live.restore(accepted)
                await self._release_refused(refused)
                continue
            # in the order of the journal: first what happened before the entry, then that the attempt is under way,
            # then it
            changes = [
                change
                for each in checkpoints
                if (seq := self._parts.shard.leases.seq_of(each.lease)) is not None
                for change in (
                    *(self._lifecycle_records(seq, each.events) if each.events else ()),
                    *self._parts.attempt_log.begin(seq, woken=True),
                    *_journaled(seq, each),
                )
            ]
            try:
                await self._parts.writer.write_once(changes)
            except UnavailableError as error:
                # the next try accepts the offers again, and takes the starts again, if the leases are still good by
                # then
                self._live.restore(accepted)
                self._parts.attempt_log.restore([change for change in changes if isinstance(change, stored.Started)])
                await self._parts.writer.pause(error)
            else:
                self._transitions.publish_replies(changes)
                break
        # an acknowledgement permits the next effect, which a runner that lost the lease meanwhile must not perform
        for each in self._good(runner, checkpoints):
            position = each.index if each.entry is not None else each.index - 1
            lease = self._parts.shard.leases.get(each.lease)
            runner.acknowledge(each.lease, position, each.number, urgent=lease is not None and lease.is_quiet)

    def _lifecycle_records(self, seq: int, events: Sequence[LifecycleEvent]) -> Iterator[stored.StateChange]:
        """Yield the wanted lifecycle events from within an execution, after its start, if that is not stored yet."""
        occurred = self._parts.outbox.records_from_runner(seq, events)
        if occurred:
            yield from self._parts.attempt_log.begin(seq)
        yield from occurred

    async def _release_refused(self, tokens: Collection[bytes]) -> None:
        """Release leases whose checkpoints consume events that may have gone to other receivers; store the losses."""
        retracted = [
            self._parts.shard.losses.release(token, charged=False, end=AttemptEnd.RETRACTED) for token in tokens
        ]
        lost = [loss for loss in retracted if loss is not None]
        for loss in lost:
            self._parts.attempt_log.drop(loss.seq)
        await self._transitions.apply(TransitionBatch(losses=lost))

    def _good(self, runner: RunnerPort, checkpoints: Sequence[Checkpoint]) -> list[Checkpoint]:
        """Return the checkpoints whose leases are good, and revoke the leases of the others."""
        good = [each for each in checkpoints if self._parts.shard.leases.seq_of(each.lease) is not None]
        if len(good) < len(checkpoints):
            stale = {each.lease for each in checkpoints}.difference(each.lease for each in good)
            runner.revoke(list(stale), "LEASE_LOST")
        return good

    async def settle(self, runner: RunnerPort, outcomes: Sequence[Outcome]) -> None:
        """Store the outcomes of attempts, then acknowledge them; stale leases are revoked."""
        journaled: list[stored.StateChange] = []
        ends: list[stored.Ended] = []
        settled: list[bytes] = []
        stale: list[bytes] = []
        losses: list[Loss] = []
        parks: list[stored.Parked] = []
        now_ms = self._parts.now_ms()
        patient = True
        for outcome in outcomes:
            lease = self._parts.shard.leases.get(outcome.lease)
            # the lease was lost while the runner was away: its outcome may still explain the loss
            if lease is None:
                end = self._report_late(runner, outcome, now_ms)
                (stale if end is None else settled).append(outcome.lease)
                ends += end or []
                continue
            seq, patient = lease.seq, patient and not lease.is_quiet
            settled.append(outcome.lease)
            for checkpoint in outcome.checkpoints:
                journaled += self._lifecycle_records(seq, checkpoint.events)
                journaled += _journaled(seq, checkpoint)
            if outcome.events:
                journaled += self._lifecycle_records(seq, outcome.events)
            # whatever ended the attempt is stored now, and says that it began
            self._parts.attempt_log.drop(seq)
            if isinstance(outcome.ending, Released):
                losses += self._release(outcome.lease, outcome.ending)
            elif isinstance(outcome.ending, Parked):
                parks.append(self._park(outcome, outcome.ending))
            else:
                ends.append(self._end(outcome, outcome.ending, now_ms))
        if stale:
            runner.revoke(stale, "LEASE_LOST")
        if settled:
            with self._parts.runners.storing(runner):
                await self._parts.writer.run_shielded(
                    self._apply(TransitionBatch(journaled, ends, losses, parks, patient=patient))
                )
            runner.settle(settled)

    def _report_late(self, runner: RunnerPort, outcome: Outcome, now_ms: int) -> list[stored.Ended] | None:
        """Process a late outcome for a lease that was lost while the runner was absent.

        Returns the end of the execution, if the outcome ends it, else an empty list; None: the outcome does not explain
        the loss, or no explanation is expected.
        """
        ending = outcome.ending
        charged = isinstance(ending, Released) and ending.charged
        if not charged and not isinstance(ending, Faulted):
            return None
        reported = self._parts.shard.losses.report_late_failure(runner.runner_id, outcome.lease, final=not charged)
        if reported is None:
            return None
        seq, attempts, is_ending, newer = reported
        if not is_ending:
            return []
        self._parked.withdraw(seq, newer, "LEASE_LOST")
        error = ending.error if isinstance(ending, Faulted) else attempts_exhausted(attempts)
        return [stored.Ended(seq, Status.FAULTED, now_ms, attempts, error=error)]

    async def _apply(self, batch: TransitionBatch) -> None:
        """Store and apply transitions, then let the executions among them wait that were parked."""
        await self._transitions.apply(batch)
        soonest = self._parts.now_ms() + MIN_WAIT_MS
        # only now: it might be woken at once, and must not be assigned before it is stored that its lease is void
        for parked in batch.parks:
            seq, wake_at_ms, _, subscriptions, *_ = parked
            due_ms = None if wake_at_ms is None else max(wake_at_ms, soonest)
            self._parts.shard.parked(seq, due_ms, retries=parked.retry is not None)
            if subscriptions:
                self._parked.begin(seq, subscriptions)
            queue = self._parts.shard.timers.get(seq)
            if queue is None:
                continue  # an operator removed it meanwhile, or what it waits for was there already
            if parked.destinations:
                self._outages.parked(seq, queue.flow_id, parked.destinations)
            elif parked.retry is not None and (origin := parked.retry.error.destination):
                retry = parked.retry
                self._parts.outages.retry_later(seq, queue.flow_id, origin, retry.keys[0], follows=retry.follows)
        if batch.parks:
            self._wake_timer.arm()

    def _release(self, token: bytes, ending: Released) -> list[Loss]:
        # only the report of an exit is `to_back`
        end = AttemptEnd.PROCESS_ENDED if ending.to_back else AttemptEnd.RELEASED
        loss = self._parts.shard.losses.release(
            token, charged=ending.charged, to_back=ending.to_back, end=end, detail=ending.reason[:MAX_DETAIL]
        )
        return [] if loss is None else [loss]

    def _park(self, outcome: Outcome, ending: Parked) -> stored.Parked:
        taken = self._parts.shard.park(outcome.lease)
        if taken is None:
            raise InternalError("a lease vanished between two checks")
        term = self._parts.shard.leases.term_of(taken.seq)
        return stored.Parked(
            taken.seq,
            ending.wake_at_ms,
            taken.attempt,
            ending.subscriptions,
            term,
            history=outcome.history,
            retry=ending.retry,
            destinations=ending.destinations,
        )

    def _end(self, outcome: Outcome, ending: Completed | Faulted, now_ms: int) -> stored.Ended:
        lease = self._parts.shard.end(outcome.lease)
        if lease is None:
            raise InternalError("a lease vanished between two checks")
        if isinstance(ending, Completed):
            status, output, error, reply = Status.COMPLETED, ending.output, None, ending.reply
        else:
            status, output, error, reply = Status.FAULTED, None, ending.error, None
        return stored.Ended(
            lease.seq,
            status,
            now_ms,
            lease.attempt,
            output,
            error,
            reply,
            outcome.history,
            lease.runner.id,
            lease.assigned_ms,
        )
