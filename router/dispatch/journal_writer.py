"""Stores what runners report of their executions: journal entries, and outcomes of attempts.

A report under a good lease is passed to storage at the moment the lease is checked, and acknowledged after it is
durable. A report under a stale lease is answered with the revocation of that lease.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

from flowhook.errors import InternalError, UnavailableError
from flowhook.lifecycle import LifecycleEvent
from flowhook.model import Status, WorkflowError
from router.dispatch.attempt_log import AttemptLog
from router.dispatch.durable_writes import RetryingWriter
from router.dispatch.lifecycle_outbox import LifecycleOutbox
from router.dispatch.live_delivery import LiveDelivery
from router.dispatch.runner_port import (
    AttemptCompleted,
    AttemptOutcome,
    AttemptParked,
    AttemptReleased,
    ReportedCheckpoint,
    RunnerPort,
)
from router.dispatch.transitions import TransitionBatch, TransitionWriter, attempts_exhausted
from router.scheduling.changes import Loss
from router.scheduling.leases import Lease
from router.scheduling.shard import Shard
from router.storage import model as stored


def _journaled(seq: int, checkpoint: ReportedCheckpoint) -> Iterator[stored.StateChange]:
    if checkpoint.entry is not None:
        yield stored.Journaled(seq, checkpoint.position, checkpoint.entry, checkpoint.compacts, checkpoint.history)
    if checkpoint.arrival:
        yield stored.Consumed(checkpoint.arrival)
    if checkpoint.reply is not None:
        yield stored.Replied(seq, checkpoint.reply)


class JournalWriter:
    """Stores checkpoints and outcomes, and acknowledges them."""

    def __init__(
        self,
        *,
        core: Shard,
        durable: RetryingWriter,
        occurrences: LifecycleOutbox,
        conclusions: TransitionWriter,
        offers: LiveDelivery,
        starts: AttemptLog,
        withdrawn: Callable[[int, Lease | None, str], None],
        renew: Callable[[RunnerPort], object],
        is_superseded: Callable[[RunnerPort], bool],
        now_ms: Callable[[], int],
    ) -> None:
        """Record reports on the executions of `core`.

        Args:
            core: the scheduling core, which knows the good leases and gives them up.
            durable: retrying writer.
            occurrences: outbox for lifecycle events.
            conclusions: stores state transitions, then applies and publishes them.
            offers: events and ends offered to running executions.
            starts: attempts that are not stored yet.
            withdrawn: cleans up after an execution that was removed from the core, and revokes its lease, if any.
            renew: extends the leases of a runner that is still attached.
            is_superseded: whether the runner has a newer stream, on which it repeats what is not stored yet.
            now_ms: Unix time in ms.
        """
        self._core = core
        self._durable = durable
        self._occurrences = occurrences
        self._conclusions = conclusions
        self._offers = offers
        self._starts = starts
        self._withdrawn = withdrawn
        self._renew = renew
        self._is_superseded = is_superseded
        self._now_ms = now_ms
        self.storing: Counter[RunnerPort] = Counter()
        """Number of reports being stored for each runner; its renewals may be queued behind them, and not be read."""

    async def checkpoint(self, link: RunnerPort, checkpoints: Sequence[ReportedCheckpoint]) -> None:
        """Store journal entries, then acknowledge them; stale leases are revoked."""
        with self._busy(link):
            await self._durable.run_shielded(self._journal(link, checkpoints))

    async def _journal(self, link: RunnerPort, checkpoints: Sequence[ReportedCheckpoint]) -> None:
        while checkpoints := self._good(link, checkpoints):
            if self._is_superseded(link):
                return
            taken, refused = self._offers.take(checkpoints)
            if refused:
                self._offers.restore(taken)
                await self._take_away(refused)
                continue
            changes = [
                change
                for each in checkpoints
                if (seq := self._core.leases.seq_of(each.token)) is not None
                for change in (
                    *(self._happened(seq, each.events) if each.events else ()),
                    *self._begun(seq),
                    *_journaled(seq, each),
                )
            ]
            try:
                await self._durable.write_once(changes)
            except UnavailableError as error:
                self._offers.restore(taken)
                self._starts.restore([change for change in changes if isinstance(change, stored.Started)])
                await self._durable.pause(error)
            else:
                self._conclusions.publish_replies(changes)
                break
        # an acknowledgement permits the next effect, which a runner that lost the lease meanwhile must not perform
        for each in self._good(link, checkpoints):
            position = each.position if each.entry is not None else each.position - 1
            link.acknowledge(each.token, position, each.number, urgent=self._core.leases.is_quiet(each.token))

    def _happened(self, seq: int, events: Sequence[LifecycleEvent]) -> Iterator[stored.StateChange]:
        """Yield the wanted lifecycle events from within an execution, after its start, if that is not stored yet."""
        occurred = self._occurrences.records_from_runner(seq, events)
        if occurred and (started := self._starts.take(seq)) is not None:
            yield started
        yield from occurred

    def _begun(self, seq: int) -> Iterator[stored.StateChange]:
        if (started := self._starts.take_waiting(seq)) is not None:
            yield started

    async def _take_away(self, tokens: Collection[bytes]) -> None:
        """Release leases whose checkpoints consume events that may have gone to other receivers; store the losses."""
        lost = [loss for token in tokens if (loss := self._core.release(token, charged=False)) is not None]
        for loss in lost:
            self._starts.drop(loss.seq)
        await self._conclusions.apply(TransitionBatch(losses=lost))

    def _good(self, link: RunnerPort, checkpoints: Sequence[ReportedCheckpoint]) -> list[ReportedCheckpoint]:
        """Return the checkpoints whose leases are good, and revoke the leases of the others."""
        good = [each for each in checkpoints if self._core.leases.seq_of(each.token) is not None]
        if len(good) < len(checkpoints):
            stale = {each.token for each in checkpoints}.difference(each.token for each in good)
            link.revoke(list(stale), "LEASE_LOST")
        return good

    async def settle(self, link: RunnerPort, outcomes: Sequence[AttemptOutcome]) -> None:
        """Store the outcomes of attempts, then acknowledge them; stale leases are revoked."""
        journaled: list[stored.StateChange] = []
        ends: list[stored.Ended] = []
        settled: list[bytes] = []
        stale: list[bytes] = []
        losses: list[Loss] = []
        parks: list[stored.Parked] = []
        now_ms = self._now_ms()
        for outcome in outcomes:
            seq = self._core.leases.seq_of(outcome.token)
            if seq is None:
                end = self._confess(link, outcome, now_ms)
                (stale if end is None else settled).append(outcome.token)
                ends += end or []
                continue
            settled.append(outcome.token)
            for checkpoint in outcome.checkpoints:
                journaled += self._happened(seq, checkpoint.events)
                journaled += _journaled(seq, checkpoint)
            if outcome.events:
                journaled += self._happened(seq, outcome.events)
            self._starts.drop(seq)
            if isinstance(outcome.result, AttemptReleased):
                released = outcome.result
                loss = self._core.release(outcome.token, charged=released.charged, to_back=released.to_back)
                losses += [] if loss is None else [loss]
            elif isinstance(outcome.result, AttemptParked):
                parks.append(self._park(outcome.token, outcome.result)._replace(history=outcome.history))
            else:
                ends.append(self._end(outcome, outcome.result, now_ms))
        if stale:
            link.revoke(stale, "LEASE_LOST")
        if settled:
            with self._busy(link):
                await self._durable.run_shielded(
                    self._conclusions.apply(TransitionBatch(journaled, ends, losses, parks))
                )
            link.settle(settled)

    def _confess(self, link: RunnerPort, outcome: AttemptOutcome, now_ms: int) -> list[stored.Ended] | None:
        """Process a late outcome for a lease that was lost while the runner was absent.

        Returns:
            The end of the execution, if the outcome ends it, else an empty list; None: the outcome does not explain the
            loss, or no explanation is expected.
        """
        result = outcome.result
        charged = isinstance(result, AttemptReleased) and result.charged
        if not charged and not isinstance(result, WorkflowError):
            return None
        confessed = self._core.losses.report_late_failure(link.runner_id, outcome.token, final=not charged)
        if confessed is None:
            return None
        seq, attempts, is_ending, newer = confessed
        if not is_ending:
            return []
        self._withdrawn(seq, newer, "LEASE_LOST")
        error = result if isinstance(result, WorkflowError) else attempts_exhausted(attempts)
        return [stored.Ended(seq, Status.FAULTED, now_ms, attempts, error=error)]

    @contextmanager
    def _busy(self, link: RunnerPort) -> Iterator[None]:
        """Count a runner as alive while a report of it is being stored: its next renewal may not be read meanwhile."""
        self.storing[link] += 1
        try:
            yield
        finally:
            self._renew(link)
            self.storing[link] -= 1
            if not self.storing[link]:
                del self.storing[link]
            self._durable.tell()

    def _park(self, token: bytes, result: AttemptParked) -> stored.Parked:
        taken = self._core.park(token)
        if taken is None:
            raise InternalError("a lease vanished between two looks")
        term = self._core.leases.term_of(taken.seq)
        return stored.Parked(taken.seq, result.wake_at_ms, taken.attempt, result.subscriptions, term)

    def _end(self, outcome: AttemptOutcome, result: AttemptCompleted | WorkflowError, now_ms: int) -> stored.Ended:
        taken, history = self._core.take(outcome.token), outcome.history
        if taken is None:
            raise InternalError("a lease vanished between two looks")
        if isinstance(result, AttemptCompleted):
            return stored.Ended(
                taken.seq, Status.COMPLETED, now_ms, taken.attempt, result.output, None, result.reply, history
            )
        return stored.Ended(taken.seq, Status.FAULTED, now_ms, taken.attempt, error=result, history=history)
