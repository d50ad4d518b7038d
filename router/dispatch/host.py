"""One shard's scheduling core with its storage and its attached runners.

Everything runs on one event loop; methods without `await` are atomic. Tasks that must outlive the call that caused
them (an outcome whose runner hung up is stored all the same) belong to `run`'s task group.

Fencing rests on the order of writes. What a runner says under a lease is handed to storage at the moment the lease is
seen to be good, and storage keeps the order of calls. The record that the lease is lost is one of these calls, and
only after it is the execution assigned again: whoever gets it finds everything that was ever acknowledged.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from flowhook import logs
from flowhook.errors import ConflictError, InternalError, UnavailableError
from flowhook.model import Status, WorkflowError
from router.dispatch.conclusions import Conclusion, Conclusions, attempts_exhausted, runtime_error
from router.dispatch.durable import Durable
from router.dispatch.link import Checkpoint, Completed, Delivery, Outcome, Parked, Released, RunnerLink
from router.dispatch.loader import Loader
from router.dispatch.observers import EndWaiters, ExecutionWatchers
from router.dispatch.operators import Operators
from router.dispatch.payloads import Payload, PayloadCache
from router.dispatch.waiting import Waiting
from router.metrics import RouterMetrics
from router.scheduling.changes import Assigned, Exhausted, Loss
from router.scheduling.leases import Lease
from router.scheduling.queues import FlowPolicy
from router.scheduling.shard import Shard
from router.storage import interface as storage

STARTED_DELAY: Final = 0.1
"""Seconds after which an attempt that is still under way is written down; a quicker one costs no write of its own."""

CLOCK_LOOK: Final = 0.5
"""Seconds after which the wall clock is asked again while executions wait: it may be set, and it goes on while the
machine sleeps, when the clock that timers run by may stand still."""

MIN_WAIT_MS: Final = 50
"""How long an execution waits at least. A runner whose clock is behind ours parks again what was woken on time; this is
how often at the most."""

LATE_SECONDS: Final = 0.5
"""A deadline that is noticed so much too late says that this process stood still, not its runners."""

CATCH_UP_SECONDS: Final = 0.25
"""What this process then gives itself to read what runners said meanwhile."""

log = logs.get_logger(__name__)


def _journaled(seq: int, checkpoint: Checkpoint) -> Iterator[storage.StateChange]:
    yield storage.Journaled(seq, checkpoint.position, checkpoint.entry, checkpoint.compacts)
    if checkpoint.reply is not None:
        yield storage.Replied(seq, checkpoint.reply)


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
        keep_seconds: float,
    ) -> None:
        """Make a host.

        Args:
            core: what runs next.
            state: what is stored of executions.
            log_: where events come from.
            metrics: what is counted.
            clock: seconds of a clock that never goes back.
            now_ms: Unix time.
            keep_seconds: how long events are kept that nobody waits for.
        """
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
        self._wake_timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._draining = False
        self._storing: Counter[RunnerLink] = Counter()
        self._durable = Durable(state)
        self._loader = Loader(
            core=core, state=state, spawn=self._durable.spawn, wake=self.wake, lost=self._lost, fault=self._fault
        )
        self.waiters = EndWaiters()
        self.operators = Operators(
            core=core,
            state=state,
            durable=self._durable,
            conclude=self._conclude,
            withdrawn=self._withdrawn,
            changed=self._changed,
            now_ms=now_ms,
        )
        self.watchers = ExecutionWatchers(self.operators.records)
        self._waiting = Waiting(
            core=core,
            state=state,
            log_=log_,
            durable=self._durable,
            conclude=self._conclude,
            now_ms=now_ms,
            keep_seconds=keep_seconds,
        )
        self.arrivals = self._waiting.arrivals
        self._conclusions = Conclusions(
            core=core,
            durable=self._durable,
            metrics=metrics,
            ends=self._waiting.ends,
            waiters=self.waiters,
            watchers=self.watchers,
            now_ms=now_ms,
            wait=self._wait,
            wake=self.wake,
        )
        state.follow(self._on_logged)

    # --- life -------------------------------------------------------------------------------------------------------

    async def recover(self) -> dict[str, int]:
        """Take in everything that storage holds unfinished. Call it once, before `run`.

        Returns:
            Flows that have something unfinished, whose policies are to be set, with a revision that is kept of each.

        Raises:
            UnavailableError: storage can't serve.
        """
        after, exhausted, flows = 0, [], {}
        while rows := await self._state.unfinished(after_seq=after):
            for row in rows:
                flows[row.flow_id] = row.flow_revision
                loss = self._recover(row)
                if loss is not None:
                    exhausted.append(loss)
                if row.subscriptions:
                    self._waiting.recover(row)
            after = rows[-1].seq
        self._loader.recovered_up_to = after
        if self._core.unfinished:
            log.info("backlog recovered", executions=self._core.unfinished)
        if exhausted:
            await self._conclude(Conclusion(losses=exhausted))
        await self._waiting.settle()
        return flows

    def _recover(self, row: storage.Unfinished) -> Exhausted | None:
        seq, key = row.seq, row.order_key
        if row.status is Status.WAITING:
            self._core.recover_waiting(seq, row.flow_id, row.attempts, row.wake_at_ms, order_key=key)
        elif row.status is Status.SUSPENDED:
            self._core.recover_suspended(seq, row.flow_id, row.attempts, order_key=key)
        else:
            return self._core.recover(seq, row.flow_id, row.attempts, requeued=row.requeued, order_key=key)
        return None

    async def run(self, stop: asyncio.Event) -> None:
        """Dispatch until `stop` is set, then let what is under way become durable."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._durable.tasks = tasks
                self._core.begin(self._clock())
                telling = tasks.create_task(self.watchers.run())
                self.wake()
                self._arm()
                self._arm_wake()
                await stop.wait()
                self._durable.closing = True
                self._loader.leave_all()
                telling.cancel()
                for timer in (self._timer, self._wake_timer):
                    if timer is not None:
                        timer.cancel()
        finally:
            self._durable.tasks = None

    async def drain(self, seconds: float) -> None:
        """Hand out nothing more, and wait up to `seconds` for runners to end what they have."""
        self._draining = True
        self._loader.leave_all()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._durable.until(lambda: not (self._core.leased or self._storing))

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
        self.wake()

    def retire(self, flow_id: str) -> None:
        """Let what a deleted flow left behind end under the limits it had."""
        self._core.retire(flow_id)
        self.wake()

    def follow_ends(self, listener: Callable[[Sequence[storage.Ended]], None]) -> None:
        """Have `listener` called with executions that ended, once that is durable."""
        self._conclusions.follow_ends(listener)

    def _on_logged(self, events: Sequence[storage.LoggedEvent]) -> None:
        for seq, event in events:
            if self._core.accept(seq, event.flow_id, event.order_key) and event.resumes is None:
                self._payloads.put(seq, Payload(event.flow_revision, event.payload))
        self.wake()
        self.watchers.changed(logged.seq for logged in events)

    # --- runners ----------------------------------------------------------------------------------------------------

    def attach(self, link: RunnerLink, held: Iterable[bytes], *, explained: bool) -> list[bytes]:
        """Take in a runner and return the tokens it may keep; an earlier stream of it is ended."""
        earlier = self._links.pop(link.runner_id, None)
        if earlier is not None:
            earlier.close(ConflictError("this runner attached again", reason="RUNNER_REATTACHED"))
            self._loader.leave(earlier)
        self._links[link.runner_id] = link
        attached = self._core.attach(link.runner_id, held, explained=explained, now=self._clock())
        self._lost(attached.losses)
        if attached.pardoned:
            self._started.update(dict.fromkeys(attached.pardoned))
            self._note_started_later()
        self._arm()
        return attached.kept

    def detach(self, link: RunnerLink) -> None:
        """Note that a stream ended."""
        if self._links.get(link.runner_id) is link:
            del self._links[link.runner_id]
            self._loader.leave(link)
            self._core.detach(link.runner_id, self._clock())
            self._arm()

    def add_credit(self, link: RunnerLink, credit: int) -> bool:
        """Allow a runner more assignments; false when that is more than any may have."""
        if self._links.get(link.runner_id) is not link:
            return True
        self.wake()
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
        with self._busy(link):
            await self._durable.outlive(self._journal(link, checkpoints))

    async def _journal(self, link: RunnerLink, checkpoints: Sequence[Checkpoint]) -> None:
        while checkpoints := self._good(link, checkpoints):
            changes = [
                change
                for each in checkpoints
                if (seq := self._core.lease_of(each.token)) is not None
                for change in _journaled(seq, each)
            ]
            try:
                await self._state.write(changes)
            except UnavailableError as error:
                await self._durable.pause(error)
            else:
                self._conclusions.pass_on_replies(changes)
                break
        # an acknowledgement permits the next effect: whoever lost its lease meanwhile must not perform it
        for each in self._good(link, checkpoints):
            link.acknowledge(each.token, each.position)

    def _good(self, link: RunnerLink, checkpoints: Sequence[Checkpoint]) -> list[Checkpoint]:
        """Return those under leases that are good, and revoke the others."""
        good = [each for each in checkpoints if self._core.lease_of(each.token) is not None]
        if len(good) < len(checkpoints):
            stale = {each.token for each in checkpoints}.difference(each.token for each in good)
            link.revoke(list(stale), "LEASE_LOST")
        return good

    async def settle(self, link: RunnerLink, outcomes: Sequence[Outcome]) -> None:
        """Store how attempts ended, then settle them; those of stale leases are revoked."""
        journaled: list[storage.StateChange] = []
        ends: list[storage.Ended] = []
        settled: list[bytes] = []
        stale: list[bytes] = []
        losses: list[Loss] = []
        parks: list[storage.Parked] = []
        now_ms = self._now_ms()
        for outcome in outcomes:
            seq = self._core.lease_of(outcome.token)
            if seq is None:
                end = self._confess(link, outcome, now_ms)
                (stale if end is None else settled).append(outcome.token)
                ends += end or []
                continue
            settled.append(outcome.token)
            journaled += [change for checkpoint in outcome.checkpoints for change in _journaled(seq, checkpoint)]
            if isinstance(outcome.result, Released):
                loss = self._core.release(outcome.token, charged=outcome.result.charged)
                losses += [] if loss is None else [loss]
            elif isinstance(outcome.result, Parked):
                parks.append(self._park(outcome.token, outcome.result))
            else:
                ends.append(self._end(outcome.token, outcome.result, now_ms))
        if stale:
            link.revoke(stale, "LEASE_LOST")
        if settled:
            with self._busy(link):
                await self._durable.outlive(self._conclude(Conclusion(journaled, ends, losses, parks)))
            link.settle(settled)

    def _confess(self, link: RunnerLink, outcome: Outcome, now_ms: int) -> list[storage.Ended] | None:
        """Take in what became of a lease that a runner lost by its absence: the end of the execution, if it ends.

        None: nobody waits for that, or it does not explain the loss.
        """
        result = outcome.result
        charged = isinstance(result, Released) and result.charged
        if not charged and not isinstance(result, WorkflowError):
            return None
        confessed = self._core.confess(link.runner_id, outcome.token, final=not charged)
        if confessed is None:
            return None
        seq, attempts, is_ending = confessed
        if not is_ending:
            return []
        self._payloads.pop(seq)
        error = result if isinstance(result, WorkflowError) else attempts_exhausted(attempts)
        return [storage.Ended(seq, Status.FAULTED, now_ms, attempts, error=error)]

    @contextmanager
    def _busy(self, link: RunnerLink) -> Iterator[None]:
        """Count a runner as alive while what it said is being stored: nobody reads what it says after that."""
        self._storing[link] += 1
        try:
            yield
        finally:
            self.renew(link)
            self._storing[link] -= 1
            if not self._storing[link]:
                del self._storing[link]
            self._durable.tell()

    def _park(self, token: bytes, result: Parked) -> storage.Parked:
        taken = self._core.park(token)
        if taken is None:
            raise InternalError("a lease vanished between two looks")
        self._started.pop(taken.seq, None)
        return storage.Parked(taken.seq, result.wake_at_ms, taken.attempt, result.subscriptions)

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

    async def _conclude(self, conclusion: Conclusion) -> None:
        await self._conclusions.conclude(conclusion)

    def _fault(self, item: Assigned, why: str) -> None:
        """End an execution that no runner can ever get."""
        taken = self._core.take(item.token)
        if taken is not None:
            log.error("an execution can't be run", seq=item.seq, cause=why)
            self._core.refund(item.runner_id)
            error = runtime_error(f"it can't be run: {why}")
            end = storage.Ended(item.seq, Status.FAULTED, self._now_ms(), taken.attempt, error=error)
            self._durable.spawn(self._conclude(Conclusion(ends=[end])))

    # --- operators --------------------------------------------------------------------------------------------------

    def _withdrawn(self, seq: int, lease: Lease | None, reason: str) -> None:
        """Forget what an execution was about, and tell the runner that works on it."""
        self._started.pop(seq, None)
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
        """Dispatch soon, once for everything that happens until then."""
        if not self._pump_due and self._durable.tasks is not None and not self._draining:
            self._pump_due = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        self._pump_due = False
        if self._durable.closing or self._draining:
            return
        known: dict[str, list[Delivery]] = {}
        unknown: dict[str, list[Assigned]] = {}
        full = [link.runner_id for link in self._links.values() if link.full or self._loader.full(link)]
        assigned = self._core.assign(full)
        for item in assigned:
            payload = self._payloads.pop(item.seq)
            if payload is None or item.attempt > 1:
                unknown.setdefault(item.runner_id, []).append(item)
            else:
                known.setdefault(item.runner_id, []).append(
                    Delivery(item.token, item.attempt, payload.flow_revision, payload.payload)
                )
            self._started[item.seq] = None
        for runner_id, deliveries in known.items():
            self._links[runner_id].assign(deliveries)
        for runner_id, items in unknown.items():
            self._loader.add(self._links[runner_id], items)
        if assigned:
            if self._core.queued:
                self.wake()  # for the next batches
            self._note_started_later()
            self.watchers.changed(item.seq for item in assigned)

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
        if changes and not self._durable.closing:
            self._durable.spawn(self._durable.try_write(changes))

    # --- losses and time --------------------------------------------------------------------------------------------

    def _arm(self) -> None:
        """Set the timer to the core's next deadline."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self._core.next_deadline()
        if deadline is not None:
            self._arm_at(max(deadline, self._clock() + 0.01))

    def _arm_at(self, due: float) -> None:
        if self._durable.tasks is not None and not self._durable.closing:
            self._due = due
            self._timer = asyncio.get_running_loop().call_later(due - self._clock(), self._on_deadline)

    def _on_deadline(self) -> None:
        now = self._clock()
        if now - self._due > LATE_SECONDS:
            self._arm_at(now + CATCH_UP_SECONDS)
            return
        for busy in self._storing:
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
        self._arm()

    def _wait(self, parks: Sequence[storage.Parked]) -> None:
        soonest = self._now_ms() + MIN_WAIT_MS
        for seq, wake_at_ms, _, subscriptions in parks:
            self._core.parked(seq, None if wake_at_ms is None else max(wake_at_ms, soonest))
            if subscriptions:
                self._waiting.begin(seq, subscriptions)
        if parks:
            self._arm_wake()

    def _arm_wake(self) -> None:
        """Have the waiting executions looked at when the first of them is due, and now and then before."""
        earliest = self._core.next_wake()
        if earliest is None or self._durable.tasks is None or self._durable.closing:
            return
        delay = min(max((earliest - self._now_ms()) / 1000, 0.001), CLOCK_LOOK)
        loop = asyncio.get_running_loop()
        if self._wake_timer is not None:
            if self._wake_timer.when() <= loop.time() + delay:
                return
            self._wake_timer.cancel()
        self._wake_timer = loop.call_later(delay, self._on_wake)

    def _on_wake(self) -> None:
        self._wake_timer = None
        woken = self._core.wake(self._now_ms())
        for seq in woken:
            self._waiting.leave(seq)
        if woken:
            self.wake()
            self.watchers.changed(woken)
        self._arm_wake()

    def _lost(self, losses: Sequence[Loss]) -> None:
        if losses:
            log.warning("leases lost", executions=len(losses))
            self._metrics.leases_lost.inc(len(losses))
            self._durable.spawn(self._conclude(Conclusion(losses=losses)))
