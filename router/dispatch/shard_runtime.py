"""Connects one shard's scheduling core with its storage and its attached runners.

Everything runs on one event loop; methods without `await` are atomic. Tasks that must outlive the call that started
them (the outcome of a runner that disconnected is stored all the same) belong to `run`'s task group.

Fencing relies on the order of writes. A report made under a lease is passed to storage at the moment the lease is
checked, and storage preserves the order of calls. The record that the lease is lost is one of these calls, and the
execution is assigned again only after it: the next runner finds everything that was ever acknowledged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final

from flowhook import logs
from flowhook.errors import ConflictError, UnavailableError
from flowhook.model import Status
from router.dispatch.assignment_loader import AssignmentLoader
from router.dispatch.attempt_log import AttemptLog
from router.dispatch.durable_writes import RetryingWriter
from router.dispatch.event_cache import CachedEvent, EventCache
from router.dispatch.execution_commands import ExecutionCommands
from router.dispatch.exited_runner import ExitedRunner
from router.dispatch.journal_writer import JournalWriter
from router.dispatch.lifecycle_outbox import LifecycleOutbox
from router.dispatch.observers import ExecutionWatchers, ReplyWaiters
from router.dispatch.parked import ParkedExecutions
from router.dispatch.runner_port import AttemptOutcome, EventDelivery, LiveSubscriptions, RunnerAssignment, RunnerPort
from router.dispatch.timers import DeadlineTimer, WakeTimer
from router.dispatch.transitions import TransitionBatch, TransitionWriter, runtime_error
from router.metrics import RouterMetrics
from router.scheduling.changes import AttemptsExhausted, LeaseGranted, Loss
from router.scheduling.leases import Lease
from router.scheduling.queues import FlowPolicy
from router.scheduling.shard import Shard
from router.storage import model as stored
from router.storage.interface import EventLog, ShardState

MIN_WAIT_MS: Final = 50
"""Shortest wait of a parked execution. A runner whose clock is behind the router's parks an execution again that was
woken on time; this bounds how often."""

log = logs.get_logger(__name__)


class ShardRuntime:
    """One shard: scheduling core, storage, runners. Call `recover` and `settle`, then `run` beside the server."""

    def __init__(
        self,
        *,
        core: Shard,
        state: ShardState,
        log_: EventLog,
        metrics: RouterMetrics,
        clock: Callable[[], float],
        now_ms: Callable[[], int],
        keep_seconds: float,
    ) -> None:
        """Create a shard runtime.

        Args:
            core: the scheduling core.
            state: stored state of executions.
            log_: the event log.
            metrics: counters.
            clock: monotonic clock, seconds.
            now_ms: Unix time in ms.
            keep_seconds: how long events are buffered that nobody waits for.
        """
        self._core = core
        self._state = state
        self._log = log_
        self._metrics = metrics
        self._clock = clock
        self._now_ms = now_ms
        self._links: dict[str, RunnerPort] = {}
        self._payloads = EventCache()
        self._pump_due = False
        self._draining = False
        self._exhausted: list[AttemptsExhausted] = []
        self._interest: frozenset[str] = frozenset()
        self.occurrences = LifecycleOutbox(now_ms)
        self._durable = RetryingWriter(state, self.occurrences)
        self._starts = AttemptLog(core, self._durable, now_ms)
        self._deadline = DeadlineTimer(core, self._durable, clock=clock, expire=self._expire)
        self._alarm = WakeTimer(core, self._durable, now_ms=now_ms, woken=self._woken)
        self._loader = AssignmentLoader(
            core=core,
            state=state,
            write=self._durable.write_once,
            spawn=self._durable.spawn,
            wake=self.wake,
            lost=self._lost,
            fault=self._fault,
        )
        self.waiters = ReplyWaiters()
        self.operators = ExecutionCommands(
            core=core,
            state=state,
            durable=self._durable,
            conclude=self._conclude,
            withdrawn=self._withdrawn,
            changed=self._changed,
            now_ms=now_ms,
        )
        self.watchers = ExecutionWatchers(self.operators.records)
        self._waiting = ParkedExecutions(
            core=core,
            state=state,
            log_=log_,
            durable=self._durable,
            conclude=self._conclude,
            send=self._send,
            now_ms=now_ms,
            keep_seconds=keep_seconds,
        )
        self.arrivals = self._waiting.arrivals
        self.occurrences.by_executions = self._waiting.lifecycle
        self.occurrences.changed = self.publish_wanted_events
        self._conclusions = TransitionWriter(
            core=core,
            durable=self._durable,
            metrics=metrics,
            ends=self._waiting.ends,
            offers=self._waiting.offers,
            waiters=self.waiters,
            watchers=self.watchers,
            now_ms=now_ms,
            wait=self._wait,
            wake=self.wake,
        )
        self.recorder = JournalWriter(
            core=core,
            durable=self._durable,
            occurrences=self.occurrences,
            conclusions=self._conclusions,
            offers=self._waiting.offers,
            starts=self._starts,
            withdrawn=self._withdrawn,
            renew=self.renew,
            is_superseded=self.is_superseded,
            now_ms=now_ms,
        )
        state.follow(self._on_logged)

    # --- life -------------------------------------------------------------------------------------------------------

    async def recover(self) -> dict[str, int]:
        """Load all unfinished executions from storage. Call it once, then `settle`, before `run`.

        Returns:
            Flows with unfinished executions, whose policies the caller sets, each with a revision that is stored.

        Raises:
            UnavailableError: storage can't serve.
        """
        after, flows = 0, {}
        while rows := await self._state.unfinished(after_seq=after):
            for row in rows:
                flows[row.flow_id] = row.flow_revision
                loss = self._recover(row)
                if loss is not None:
                    self._exhausted.append(loss)
                if row.subscriptions:
                    self._waiting.recover(row)
            after = rows[-1].seq
        self._loader.recovered_up_to = after
        if self._core.unfinished:
            log.info("backlog recovered", executions=self._core.unfinished)
        return flows

    async def settle(self) -> None:
        """Store the transitions that recovery led to. Call it when the wanted lifecycle events are known.

        Raises:
            UnavailableError: storage can't serve.
        """
        exhausted, self._exhausted = self._exhausted, []
        if exhausted:
            await self._conclude(TransitionBatch(losses=exhausted))
        await self._waiting.settle()

    def _recover(self, row: stored.UnfinishedExecution) -> AttemptsExhausted | None:
        seq, term, key = row.seq, row.term, row.order_key
        if row.status is Status.WAITING:
            self._core.recover_waiting(seq, row.flow_id, row.attempts, row.wake_at_ms, term=term, order_key=key)
        elif row.status is Status.SUSPENDED:
            self._core.recover_suspended(seq, row.flow_id, row.attempts, term=term, order_key=key)
        else:
            begun = row.status is Status.RUNNING
            return self._core.recover(seq, row.flow_id, row.attempts, begun=begun, term=term, order_key=key)
        return None

    async def run(self, stop: asyncio.Event) -> None:
        """Dispatch until `stop` is set, then wait for writes under way to become durable."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._durable.tasks = tasks
                self._core.begin(self._clock())
                telling = tasks.create_task(self.watchers.run())
                self.wake()
                self._deadline.arm()
                self._alarm.arm()
                await stop.wait()
                self._durable.closing = True
                self._loader.leave_all()
                telling.cancel()
                self._deadline.cancel()
                self._alarm.cancel()
        finally:
            self._durable.tasks = None

    async def drain(self, seconds: float) -> None:
        """Stop assigning, and wait up to `seconds` for runners to finish the executions that they have."""
        self._draining = True
        self._loader.leave_all()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._durable.until(lambda: not (self._core.leased or self.recorder.storing))

    @property
    def core(self) -> Shard:
        """The scheduling core, for reading."""
        return self._core

    # --- events -----------------------------------------------------------------------------------------------------

    async def append(self, events: Sequence[stored.NewEvent]) -> list[stored.Appended]:
        """Store events durably; see `EventLog.append`."""
        return await self._log.append(events)

    def set_policy(self, flow_id: str, policy: FlowPolicy) -> None:
        """Replace the limits of a flow."""
        self._core.set_policy(flow_id, policy)
        self.wake()

    def retire(self, flow_id: str) -> None:
        """Let the remaining executions of a deleted flow finish under its last limits."""
        self._core.retire(flow_id)
        self.wake()

    def on_completion(self, listener: Callable[[Sequence[stored.Ended]], None]) -> None:
        """Register `listener` to be called with executions that ended, once that is durable."""
        self._conclusions.on_completion(listener)

    def _on_logged(self, events: Sequence[stored.LoggedEvent]) -> None:
        for seq, event in events:
            if self._core.accept(seq, event.flow_id, event.order_key) and event.resumes is None:
                self._payloads.put(seq, CachedEvent(event.flow_revision, event.payload))
        self.wake()
        self.watchers.changed(logged.seq for logged in events)

    # --- runners ----------------------------------------------------------------------------------------------------

    def attach(self, link: RunnerPort, held: Iterable[bytes], *, explained: bool) -> list[bytes]:
        """Register a runner and return the lease tokens that it retains; an earlier stream of it is closed."""
        earlier = self._links.pop(link.runner_id, None)
        if earlier is not None:
            earlier.close(ConflictError("this runner attached again", reason="RUNNER_REATTACHED"))
            self._loader.leave(earlier)
        self.publish_wanted_events()
        self._links[link.runner_id] = link
        if self._interest:
            link.want(self._interest)
        attached = self._core.attach(link.runner_id, held, explained=explained, now=self._clock())
        self._lost(attached.losses)
        for seq in attached.adopted:
            self._waiting.leave(seq)
        if attached.adopted:
            self.watchers.changed(attached.adopted)
        if attached.refunded or attached.adopted:
            self._starts.add([*attached.refunded, *attached.adopted])
            self._starts.woken(attached.adopted)
        self._deadline.arm()
        return attached.kept

    async def exited(self, runner_id: str, evaluated: AttemptOutcome | None, *, explained: bool) -> None:
        """Settle the leases of a runner whose process has ended; `evaluated` is the outcome of what it evaluated then.

        All executions that it had are assigned again. Returns once the outcome `evaluated`, if any, is durable.
        """
        link = ExitedRunner(runner_id)
        self.attach(link, [] if evaluated is None else [evaluated.token], explained=explained)
        try:
            if evaluated is not None:
                await self.recorder.settle(link, [evaluated])
        finally:
            self.detach(link)

    def renew_on_behalf(self, runner_id: str) -> None:
        """Extend all leases of an attached runner on behalf of a process that is alive but too busy to renew them."""
        self._core.runners.renew(runner_id, self._clock())

    def detach(self, link: RunnerPort) -> None:
        """Unregister a runner's stream, which has ended."""
        if self._links.get(link.runner_id) is link:
            del self._links[link.runner_id]
            self._loader.leave(link)
            self._core.runners.detach(link.runner_id, self._clock())
            self._deadline.arm()

    def is_superseded(self, link: RunnerPort) -> bool:
        """Whether the runner attached again: it repeats on the new stream what is not stored from an earlier one.

        Storing reports from both streams would restore entries that the new one compacted.
        """
        return self._links.get(link.runner_id, link) is not link

    def add_credit(self, link: RunnerPort, credit: int) -> bool:
        """Allow a runner more assignments; false when that exceeds the maximum credit."""
        if self._links.get(link.runner_id) is not link:
            return True
        self.wake()
        return self._core.runners.add_credit(link.runner_id, credit)

    def renew(self, link: RunnerPort) -> bool:
        """Extend all leases of a runner; false when it lost them, or has attached again since."""
        if self._links.get(link.runner_id) is not link:
            return False
        self._core.runners.renew(link.runner_id, self._clock())
        return True

    def listen(self, link: RunnerPort, listening: LiveSubscriptions) -> None:
        """Subscribe a running execution to the events and ends that it waits for meanwhile."""
        if not self._waiting.listen(listening):
            link.revoke([listening.token], "LEASE_LOST")
        self.publish_wanted_events()

    def publish_wanted_events(self) -> None:
        """Send runners the set of wanted lifecycle events that only runners can report, if it has changed."""
        interest = self.occurrences.from_runners
        if interest != self._interest:
            self._interest = interest
            for link in self._links.values():
                link.want(interest)

    def _send(self, arrival: EventDelivery) -> None:
        lease = self._core.leases.get(arrival.token)
        link = None if lease is None else self._links.get(lease.runner.id)
        if link is not None:  # else its runner subscribes again when it attaches
            link.hand_over(arrival, urgent=self._core.leases.is_quiet(arrival.token))
            self._metrics.delivered.inc()

    @property
    def runners(self) -> int:
        """Number of attached runners."""
        return len(self._links)

    async def _conclude(self, conclusion: TransitionBatch) -> None:
        await self._conclusions.apply(conclusion)

    def _fault(self, item: LeaseGranted, why: str) -> None:
        """Fault an execution that can't be assigned to any runner."""
        taken = self._core.take(item.token)
        if taken is not None:
            log.error("an execution can't be run", seq=item.seq, cause=why)
            self._starts.drop(item.seq)
            self._core.runners.return_credit(item.runner_id)
            error = runtime_error(f"it can't be run: {why}")
            end = stored.Ended(item.seq, Status.FAULTED, self._now_ms(), taken.attempt, error=error)
            self._durable.spawn(self._conclude(TransitionBatch(ends=[end])))

    # --- operators --------------------------------------------------------------------------------------------------

    def _withdrawn(self, seq: int, lease: Lease | None, reason: str) -> None:
        """Clean up after an execution was removed from the core, and revoke its lease, if there was one."""
        self._starts.drop(seq)
        self._payloads.pop(seq)
        self._waiting.leave(seq)
        link = None if lease is None else self._links.get(lease.runner.id)
        if lease is not None and link is not None:
            link.revoke([lease.token], reason)

    def _changed(self, seq: int) -> None:
        self.wake()
        self.watchers.changed([seq])

    # --- dispatch ---------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Schedule a dispatch on the event loop; calls until then are merged into one."""
        if not self._pump_due and self._durable.tasks is not None and not self._draining:
            self._pump_due = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        self._pump_due = False
        if self._durable.closing or self._draining:
            return
        self.publish_wanted_events()
        known: dict[str, list[RunnerAssignment]] = {}
        unknown: dict[str, list[LeaseGranted]] = {}
        full = [link.runner_id for link in self._links.values() if link.full or self._loader.full(link)]
        assigned = self._core.assign(full)
        for item in assigned:
            payload = self._payloads.pop(item.seq)
            if payload is None or item.attempt > 1:
                unknown.setdefault(item.runner_id, []).append(item)
            else:
                known.setdefault(item.runner_id, []).append(
                    RunnerAssignment(item.token, item.attempt, payload.flow_revision, payload.payload)
                )
        for runner_id, deliveries in known.items():
            urgent = any(self._core.leases.is_quiet(delivery.token) for delivery in deliveries)
            self._links[runner_id].assign(deliveries, urgent=urgent)
        for runner_id, items in unknown.items():
            self._loader.add(self._links[runner_id], items)
        if assigned:
            if self._core.queued:
                self.wake()  # for the next batch
            self._starts.add(item.seq for item in assigned)
            self.watchers.changed(item.seq for item in assigned)

    # --- losses and time --------------------------------------------------------------------------------------------

    def _expire(self, now: float) -> None:
        for busy in self.recorder.storing:
            self.renew(busy)
        expired = self._core.expire(now)
        for runner_id in expired.silent:
            link = self._links.pop(runner_id, None)
            if link is not None:
                log.warning("runner fell silent", runner=runner_id)
                link.close(UnavailableError("no renewal in time", reason="RUNNER_SILENT"))
                self._loader.leave(link)
        self._lost(expired.losses)
        self.wake()

    def _wait(self, parks: Sequence[stored.Parked]) -> None:
        soonest = self._now_ms() + MIN_WAIT_MS
        for seq, wake_at_ms, _, subscriptions, *_ in parks:
            self._core.parked(seq, None if wake_at_ms is None else max(wake_at_ms, soonest))
            if subscriptions:
                self._waiting.begin(seq, subscriptions)
        if parks:
            self._alarm.arm()

    def _woken(self, seqs: Sequence[int]) -> None:
        for seq in seqs:
            self._waiting.leave(seq)
        self._starts.woken(seqs)
        self.wake()
        self.watchers.changed(seqs)

    def _lost(self, losses: Sequence[Loss]) -> None:
        if losses:
            for loss in losses:
                self._starts.drop(loss.seq)
            log.warning("leases lost", executions=len(losses))
            self._metrics.leases_lost.inc(len(losses))
            self._durable.spawn(self._conclude(TransitionBatch(losses=losses)))
