"""One shard's scheduling core with its storage and its attached runners.

Everything runs on one event loop; methods without `await` are atomic. Tasks that must outlive the call that caused
them (an outcome whose runner hung up is stored all the same) belong to `run`'s task group.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Final

from flowhook import logs
from flowhook.errors import ConflictError, InternalError, NotFoundError, UnavailableError
from flowhook.model import ERROR_TYPE_BASE, Status, WorkflowError
from router.dispatch.link import Checkpoint, Completed, Delivery, Outcome, Released, RunnerLink
from router.dispatch.observers import EndWaiters, ExecutionWatchers
from router.dispatch.payloads import Payload, PayloadCache
from router.metrics import RouterMetrics
from router.scheduling.queues import FlowPolicy
from router.scheduling.shard import Assigned, Exhausted, Loss, Shard
from router.storage import interface as storage

STARTED_DELAY: Final = 0.1
"""Seconds after which an attempt that is still under way is written down; a quicker one costs no write of its own."""

RETRY_DELAY: Final = 0.5
"""Seconds between tries to store what must not be lost, while storage is away."""

log = logs.get_logger(__name__)


def attempts_exhausted(attempts: int) -> WorkflowError:
    """Return why an execution that kills its runners is faulted."""
    return WorkflowError(
        type=f"{ERROR_TYPE_BASE}runtime",
        status=500,
        title="Runtime error",
        detail=f"given up after {attempts} attempts, each of which ended with its runner or lost its lease",
    )


class ShardHost:
    """See the module. Make it, `recover`, then `run` beside the server."""

    def __init__(
        self,
        *,
        core: Shard,
        state: storage.ShardState,
        log_: storage.EventLog,
        metrics: RouterMetrics,
        clock: Callable[[], float],
        now_ms: Callable[[], int],
    ) -> None:
        self._core = core
        self._state = state
        self._log = log_
        self._metrics = metrics
        self._clock = clock
        self._now_ms = now_ms
        self._links: dict[str, RunnerLink] = {}
        self._payloads = PayloadCache()
        self._started: dict[int, None] = {}
        self._pump_due = False
        self._started_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._closing = False
        self.waiters = EndWaiters()
        self.watchers = ExecutionWatchers()
        state.follow(self._on_logged)

    # --- life -------------------------------------------------------------------------------------------------------

    async def recover(self) -> set[str]:
        """Take in everything that storage holds unfinished. Call it once, before `run`.

        Returns:
            IDs of the flows that have something unfinished: their policies are to be set.

        Raises:
            UnavailableError: storage can't serve.
        """
        after, exhausted, flow_ids = 0, [], set()
        while rows := await self._state.unfinished(after_seq=after):
            for row in rows:
                flow_ids.add(row.flow_id)
                loss = self._core.recover(row.seq, row.flow_id, row.attempts)
                if loss is not None:
                    exhausted.append(loss)
            after = rows[-1].seq
        if self._core.unfinished:
            log.info("backlog recovered", executions=self._core.unfinished)
        if exhausted:
            await self._store_losses(exhausted)
        return flow_ids

    async def run(self, stop: asyncio.Event) -> None:
        """Dispatch until `stop` is set, then let what is under way become durable."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            self._wake()
            self._arm()
            await stop.wait()
            self._closing = True
            if self._timer is not None:
                self._timer.cancel()

    @property
    def core(self) -> Shard:
        """The scheduling core, for reading."""
        return self._core

    # --- events -----------------------------------------------------------------------------------------------------

    async def append(self, events: Sequence[storage.NewEvent]) -> list[storage.Appended]:
        """Store events durably; see `EventLog.append`."""
        return await self._log.append(events)

    def set_policy(self, flow_id: str, policy: FlowPolicy) -> None:
        """Replace what limits a flow."""
        self._core.set_policy(flow_id, policy)
        self._wake()

    def _on_logged(self, events: Sequence[storage.LoggedEvent]) -> None:
        for seq, event in events:
            if self._core.accept(seq, event.flow_id):
                self._payloads.put(seq, Payload(event.flow_revision, event.payload))
        self._wake()
        self._publish([logged.seq for logged in events])

    # --- runners ----------------------------------------------------------------------------------------------------

    def attach(self, link: RunnerLink, held: Iterable[bytes], *, explained: bool) -> list[bytes]:
        """Take in a runner and return the tokens it may keep; an earlier stream of it is ended."""
        earlier = self._links.pop(link.runner_id, None)
        if earlier is not None:
            earlier.close(ConflictError("this runner attached again", reason="RUNNER_REATTACHED"))
        self._links[link.runner_id] = link
        attached = self._core.attach(link.runner_id, held, explained=explained, now=self._clock())
        self._lost(attached.losses)
        self._arm()
        return attached.kept

    def detach(self, link: RunnerLink) -> None:
        """Note that a stream ended."""
        if self._links.get(link.runner_id) is link:
            del self._links[link.runner_id]
            self._core.detach(link.runner_id, self._clock())
            self._arm()

    def add_credit(self, link: RunnerLink, credit: int) -> bool:
        """Allow a runner more assignments; false when that is more than any may have."""
        if self._links.get(link.runner_id) is not link:
            return True
        self._wake()
        return self._core.add_credit(link.runner_id, credit)

    def renew(self, link: RunnerLink) -> None:
        """Extend all leases of a runner."""
        if self._links.get(link.runner_id) is link:
            self._core.renew(link.runner_id, self._clock())

    @property
    def runners(self) -> int:
        """Runners attached now."""
        return len(self._links)

    async def checkpoint(self, link: RunnerLink, checkpoints: Sequence[Checkpoint]) -> None:
        """Store journal entries, then acknowledge them; those of stale leases are revoked."""
        changes: list[storage.StateChange] = []
        good, stale = [], []
        for checkpoint in checkpoints:
            seq = self._core.lease_of(checkpoint.token)
            if seq is None:
                stale.append(checkpoint.token)
            else:
                changes.append(storage.Journaled(seq, checkpoint.position, checkpoint.entry))
                good.append(checkpoint)
        if stale:
            link.revoke(stale, "LEASE_LOST")
        if changes:
            await self._outlive(self._write(changes))
        for checkpoint in good:
            link.acknowledge(checkpoint.token, checkpoint.position)

    async def settle(self, link: RunnerLink, outcomes: Sequence[Outcome]) -> None:
        """Store how attempts ended, then settle them; those of stale leases are revoked."""
        changes: list[storage.StateChange] = []
        ends: list[storage.Ended] = []
        settled: list[bytes] = []
        stale: list[bytes] = []
        losses: list[Loss] = []
        now_ms = self._now_ms()
        for outcome in outcomes:
            seq = self._core.lease_of(outcome.token)
            if seq is None:
                stale.append(outcome.token)
                continue
            settled.append(outcome.token)
            changes += [storage.Journaled(seq, position, entry) for _, position, entry in outcome.checkpoints]
            if isinstance(outcome.result, Released):
                loss = self._core.release(outcome.token, charged=outcome.result.charged)
                losses += [] if loss is None else [loss]
            else:
                end = self._end(outcome.token, outcome.result, now_ms)
                ends.append(end)
                changes.append(end)
        if stale:
            link.revoke(stale, "LEASE_LOST")
        self._lost(losses)
        if changes:
            await self._outlive(self._store_ends(changes, ends))
        link.settle(settled)

    def _end(self, token: bytes, result: Completed | WorkflowError, now_ms: int) -> storage.Ended:
        taken = self._core.take(token)
        if taken is None:
            raise InternalError("a lease vanished between two looks")
        self._started.pop(taken.seq, None)
        if isinstance(result, Completed):
            return storage.Ended(
                taken.seq, Status.COMPLETED, now_ms, taken.attempt, output=result.output, reply=result.reply
            )
        return storage.Ended(taken.seq, Status.FAULTED, now_ms, taken.attempt, error=result)

    async def _store_ends(self, changes: Sequence[storage.StateChange], ends: Sequence[storage.Ended]) -> None:
        await self._write(changes)
        for end in ends:
            self._core.ended(end.seq)
            self._metrics.ended(end.status)
            self.waiters.ended(end)
        self._wake()
        self._publish([end.seq for end in ends])

    # --- operators --------------------------------------------------------------------------------------------------

    async def cancel(self, execution_id: str) -> storage.ExecutionRecord:
        """End an execution that has not ended.

        Raises:
            NotFoundError: there is none (`EXECUTION_NOT_FOUND`).
            ConflictError: it has ended, or is ending at this moment (`EXECUTION_ENDED`).
            UnavailableError: storage can't serve.
        """
        record = await self.find(execution_id)
        cancelled = None if record.status.ended else self._core.cancel(record.seq, record.flow_id)
        if cancelled is None:
            raise ConflictError(f"{execution_id} has ended already", reason="EXECUTION_ENDED")
        attempts, lease = cancelled
        self._started.pop(record.seq, None)
        self._payloads.pop(record.seq)
        if lease is not None and (link := self._links.get(lease.runner.id)) is not None:
            link.revoke([lease.token], "EXECUTION_CANCELLED")
        end = storage.Ended(record.seq, Status.CANCELLED, self._now_ms(), attempts)
        await self._outlive(self._store_ends([end], [end]))
        return await self.find(execution_id)

    async def find(self, execution_id: str) -> storage.ExecutionRecord:
        """Return an execution as it stands now.

        Raises:
            NotFoundError: it is unknown or past retention (`EXECUTION_NOT_FOUND`).
            UnavailableError: storage can't serve.
        """
        record = await self._state.find(execution_id)
        if record is None:
            raise NotFoundError(f"there is no execution {execution_id}", reason="EXECUTION_NOT_FOUND")
        return self.overlay(record)

    def overlay(self, record: storage.ExecutionRecord) -> storage.ExecutionRecord:
        """Return a record with what only the core knows yet: that a runner works on it."""
        attempt = None if record.status.ended else self._core.attempt_of(record.seq)
        return record if attempt is None else record._replace(status=Status.RUNNING, attempts=attempt)

    # --- dispatch ---------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        """Dispatch soon, once for everything that happens until then."""
        if not self._pump_due and self._tasks is not None and not self._closing:
            self._pump_due = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        self._pump_due = False
        if self._closing:
            return
        known: dict[str, list[Delivery]] = {}
        unknown: list[Assigned] = []
        assigned = self._core.assign()
        for item in assigned:
            payload = self._payloads.pop(item.seq)
            if payload is None or item.attempt > 1:
                unknown.append(item)
            else:
                known.setdefault(item.runner_id, []).append(
                    Delivery(item.token, item.attempt, payload.flow_revision, payload.payload)
                )
            self._started[item.seq] = None
        for runner_id, deliveries in known.items():
            self._links[runner_id].assign(deliveries)
        if unknown:
            self._spawn(self._load_and_assign(unknown))
        if assigned:
            self._note_started_later()
            self._publish([item.seq for item in assigned])

    async def _load_and_assign(self, assigned: Sequence[Assigned]) -> None:
        """Read what runners need of executions that are not fresh, then hand them over."""
        try:
            work = await self._state.work([item.seq for item in assigned])
        except UnavailableError as error:
            log.warning("work can't be read", reason=error.reason)
            await asyncio.sleep(RETRY_DELAY)
            self._lost([loss for item in assigned if (loss := self._core.release(item.token, charged=False))])
            return
        by_runner: dict[str, list[Delivery]] = {}
        for item in assigned:
            found = work.get(item.seq)
            if found is None or self._core.lease_of(item.token) is None:
                continue
            by_runner.setdefault(item.runner_id, []).append(
                Delivery(item.token, item.attempt, found.flow_revision, found.payload, found.journal)
            )
        for runner_id, deliveries in by_runner.items():
            if (link := self._links.get(runner_id)) is not None:
                link.assign(deliveries)

    def _note_started_later(self) -> None:
        if not self._started_due:
            self._started_due = True
            asyncio.get_running_loop().call_later(STARTED_DELAY, self._note_started)

    def _note_started(self) -> None:
        """Write down the attempts that are still under way, so that they count even if everything dies now."""
        self._started_due = False
        started, self._started = self._started, {}
        changes = [
            storage.Started(seq, attempt) for seq in started if (attempt := self._core.attempt_of(seq)) is not None
        ]
        if changes and not self._closing:
            self._spawn(self._try_write(changes))

    # --- losses and time --------------------------------------------------------------------------------------------

    def _arm(self) -> None:
        """Set the timer to the core's next deadline."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self._core.next_deadline()
        if deadline is not None and self._tasks is not None and not self._closing:
            delay = max(0.01, deadline - self._clock())
            self._timer = asyncio.get_running_loop().call_later(delay, self._on_deadline)

    def _on_deadline(self) -> None:
        expired = self._core.expire(self._clock())
        for runner_id in expired.silent:
            link = self._links.pop(runner_id, None)
            if link is not None:
                log.warning("runner fell silent", runner=runner_id)
                link.close(UnavailableError("no renewal in time", reason="RUNNER_SILENT"))
        self._lost(expired.losses)
        self._wake()
        self._arm()

    def _lost(self, losses: Sequence[Loss]) -> None:
        if losses:
            log.warning("leases lost", executions=len(losses))
            self._metrics.leases_lost.inc(len(losses))
            self._spawn(self._store_losses(losses))
            self._wake()

    async def _store_losses(self, losses: Sequence[Loss]) -> None:
        now_ms = self._now_ms()
        ends = [
            storage.Ended(loss.seq, Status.FAULTED, now_ms, loss.attempts, error=attempts_exhausted(loss.attempts))
            for loss in losses
            if isinstance(loss, Exhausted)
        ]
        requeued = [storage.Requeued(loss.seq, loss.attempts) for loss in losses if not isinstance(loss, Exhausted)]
        await self._store_ends([*requeued, *ends], ends)

    # --- storage ----------------------------------------------------------------------------------------------------

    async def _write(self, changes: Sequence[storage.StateChange]) -> None:
        """Store changes, however long storage is away: they must not be lost while this process lives."""
        while True:
            try:
                return await self._state.write(changes)
            except UnavailableError as error:
                log.warning("state can't be stored; trying again", reason=error.reason, changes=len(changes))
                if self._closing:
                    raise
                await asyncio.sleep(RETRY_DELAY)

    async def _try_write(self, changes: Sequence[storage.StateChange]) -> None:
        try:
            await self._state.write(changes)
        except UnavailableError as error:
            log.warning("starts not written down", reason=error.reason)

    async def _outlive(self, work: Coroutine[Any, Any, None]) -> None:
        """Wait for `work`, which goes on when the waiting call is cancelled."""
        await asyncio.shield(self._spawn(work))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        if self._tasks is None:
            work.close()
            raise UnavailableError("the router is not running", reason="ROUTER_STOPPED")
        return self._tasks.create_task(work)

    def _publish(self, seqs: Sequence[int]) -> None:
        if self.watchers.any and not self._closing:
            self._spawn(self._publish_records(seqs))

    async def _publish_records(self, seqs: Sequence[int]) -> None:
        try:
            records = await self._state.records(seqs[: storage.DEFAULT_PAGE])
        except UnavailableError:
            return
        self.watchers.publish(self.overlay(records[seq]) for seq in seqs if seq in records)
