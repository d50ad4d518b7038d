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

from flowhook.asyncio_tasks import wait_at_most
from flowhook.attach.messages import Outcome, SubscriptionUpdate
from flowhook.errors import ConflictError
from flowhook.model.executions import AttemptEnd
from flowhook.process import logs
from router.dispatch.assignment import AssignmentDispatcher, AssignmentLoader
from router.dispatch.effects import ASSIGN_READY, AssignReady, ListenAgain, Redeliver, RuntimeEffect, SendWantedTypes
from router.dispatch.event_delivery import EventDispatcher, ParkedExecutions
from router.dispatch.execution_commands import ExecutionCommands
from router.dispatch.journal_writer import JournalWriter
from router.dispatch.outage_control import OutageControl
from router.dispatch.parts import CachedEvent, ShardParts
from router.dispatch.receivers import ChildCompletions, LiveDelivery, ParkedDelivery
from router.dispatch.runners import ExitedRunner, RunnerPort
from router.dispatch.timers import DeadlineTimer, WakeTimer
from router.dispatch.transitions import TransitionBatch, TransitionWriter
from router.scheduling.leases import Loss
from router.scheduling.order_keys import HeldTurn
from router.scheduling.queues import FlowPolicy
from router.scheduling.shard import Shard
from router.storage import model as stored
from router.storage.incidents import IncidentLog

log = logs.get_logger(__name__)


class ShardRuntime:
    """One shard: scheduling core, storage, runners. Call `recover` and `settle`, then `run` beside the server.

    Events that no execution waits for are buffered for `buffer_seconds`; work is assigned only while `may_assign`.
    """

    def __init__(
        self, parts: ShardParts, *, buffer_seconds: float, may_assign: Callable[[], bool] = lambda: True
    ) -> None:
        self.parts = parts
        self.executions = parts.executions
        self.outbox = parts.outbox
        self.waiters = parts.waiters
        self.watchers = parts.watchers
        self.statistics = parts.statistics
        self.runners = parts.runners
        self._exhausted: list[Loss] = []
        self._at_destinations: list[stored.UnfinishedExecution] = []
        self.recovered_seq = 0  # the last execution that was accepted before the start
        live, parked_delivery = LiveDelivery(parts), ParkedDelivery(parts)
        self._completions = ChildCompletions(parts, parked_delivery, live)
        self._transitions = TransitionWriter(parts, self._completions, live)
        self.events = EventDispatcher(parts, parked_delivery, live, self._transitions, buffer_seconds)
        self._parked = ParkedExecutions(parts, parked_delivery, live, self._completions, self._transitions, self.events)
        self.commands = ExecutionCommands(parts, self._transitions, parked_delivery, self._parked)
        self._loader = AssignmentLoader(parts, self._transitions)
        self._dispatcher = AssignmentDispatcher(parts, self._loader, may_assign)
        self._deadline = DeadlineTimer(parts, self._loader, self._transitions)
        self._wake_timer = WakeTimer(parts, self._parked, self._transitions)
        self.outages = OutageControl(parts, self._parked, self.commands)
        self.recorder = JournalWriter(parts, self._transitions, live, self._parked, self._wake_timer, self.outages)
        parts.state.follow(self._on_logged)

    # --- life -------------------------------------------------------------------------------------------------------

    async def recover(self) -> dict[str, int]:
        """Load all unfinished executions from storage. Call it once, then `settle`, before `run`.

        Returns the flows with unfinished executions, whose policies the caller sets, each with a stored revision.
        """
        self.recovered_seq = await self.parts.state.last_seq()
        now, now_ms = self.parts.clock(), self.parts.now_ms()
        lines = await self.parts.state.rate_lines(now_ms=now_ms)
        self.parts.shard.queues.rates.begin(
            now, {line: now + (until_ms - now_ms) / 1000 for line, until_ms in lines.items()}
        )
        for turn in await self.parts.state.kept_turns():
            self.parts.shard.order_keys.recover_held(HeldTurn(*turn[:3]), turn.flow_id, turn.order_key)
        after, flows = 0, {}
        while rows := await self.parts.state.unfinished(after_seq=after):
            for row in rows:
                flows[row.flow_id] = row.flow_revision
                self.statistics.times.add(row.seq, now - max(0, now_ms - row.receive_time_ms) / 1000)
                loss = self._recover(row)
                if loss is not None:
                    self._exhausted.append(loss)
                if row.subscriptions:
                    self._parked.recover(row)
                if row.destinations:
                    self._at_destinations.append(row)
                elif row.retry_destination:
                    self.parts.outages.retry_later(
                        row.seq, row.flow_id, row.retry_destination, row.retry_key, follows=bool(row.retry_follows)
                    )
            after = rows[-1].seq
        if self.parts.shard.unfinished:
            log.info("backlog recovered", executions=self.parts.shard.unfinished)
        return flows

    async def settle(self, incidents: IncidentLog | None = None) -> None:
        """Store the transitions that recovery led to. Call it when the wanted lifecycle events are known.

        What was down before the start still is, as far as `incidents` know.
        """
        for each in await incidents.open() if incidents is not None else ():
            self.parts.outages.restore(each.incident, self.parts.now_ms())
        for row in self._at_destinations:
            self.parts.outages.recover(row.seq, row.flow_id, row.destinations, self.parts.now_ms())
        self._at_destinations.clear()
        self.parts.outages.watch_retries(self.parts.now_ms())
        exhausted, self._exhausted = self._exhausted, []
        if exhausted:
            await self._transitions.apply(TransitionBatch(losses=exhausted))
        await self._parked.settle()

    def _recover(self, row: stored.UnfinishedExecution) -> Loss | None:
        return self.parts.shard.recover(
            row.seq,
            row.flow_id,
            row.attempts,
            status=row.status,
            term=row.term,
            order_key=row.order_key,
            root=row.replay_root,
            keys=row.shaping,
            # some say themselves when they were received
            receive_ms=min(row.receive_time_ms, self.parts.now_ms()),
            wake_at_ms=row.wake_at_ms,
            retries=row.retries,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Dispatch until `stop` is set, then wait for writes under way to become durable."""
        async with self.parts.writer.running() as tasks:
            self.parts.shard.begin(self.parts.clock())
            loops = [tasks.create_task(self.watchers.run()), tasks.create_task(self._perform_effects())]
            self.wake()
            self._deadline.arm()
            self._wake_timer.arm()
            self.outages.publish()
            await stop.wait()
            self.parts.writer.close()
            self._dispatcher.stop()
            for loop in loops:
                loop.cancel()
            for each in (self._deadline, self._wake_timer, self.outages):
                each.alarm.cancel()

    async def drain(self, seconds: float) -> None:
        """Stop assigning, and wait up to `seconds` for runners to finish the executions that they have."""
        self._dispatcher.stop()
        shard, runners = self.parts.shard, self.parts.runners
        drained = self.parts.writer.until(lambda: not (runners.is_storing or (shard.leased and len(runners))))
        await wait_at_most(seconds, drained)

    async def _perform_effects(self) -> None:
        """Perform effects in order, until cancelled. A defect in one of them must not stop the work of all flows."""
        while True:
            for effect in await self.parts.effects.next():
                try:
                    self._perform(effect)
                except Exception:
                    log.exception("effect failed", effect=type(effect).__name__)

    def _perform(self, effect: RuntimeEffect) -> None:
        match effect:
            case AssignReady():
                self._dispatcher.assign()
            case SendWantedTypes():
                self.parts.runners.send_wanted_types()
            case Redeliver(event):
                self.parts.writer.spawn(self.events.redeliver(event))
            case ListenAgain(seq, number):
                self._parked.listen_again(seq, number)

    def wake(self) -> None:
        self.parts.effects.add(ASSIGN_READY)

    @property
    def shard(self) -> Shard:
        return self.parts.shard

    # --- events -----------------------------------------------------------------------------------------------------

    async def append(self, events: Sequence[stored.NewEvent]) -> list[stored.Appended]:
        patient = all(map(self.parts.shard.queues.is_busy, {event.flow_id for event in events}))
        return await self.parts.log.append(events, patient=patient)

    def set_policy(self, flow_id: str, policy: FlowPolicy) -> None:
        self.parts.shard.queues.set_policy(flow_id, policy)
        self.wake()

    def retire(self, flow_id: str) -> None:
        """Let the remaining executions of a deleted flow finish under its last limits."""
        self.parts.shard.queues.retire(flow_id)
        self.statistics.forget(flow_id)
        self.wake()

    def _on_logged(self, events: Sequence[stored.LoggedEvent]) -> None:
        now_ms = self.parts.now_ms()
        for seq, event in events:
            soon = self.parts.shard.accept(
                seq, event.flow_id, event.order_key, event.shaping, root=event.replay_root, now_ms=now_ms
            )
            if soon and event.resumes is None:
                self.parts.cache.put(seq, CachedEvent(event.flow_revision, event.payload))
        self.wake()
        if self.parts.shard.groups:
            self._wake_timer.arm()
        self.statistics.accepted(events, now_ms, self.parts.clock())
        if self.parts.awaited.flows:
            self.parts.awaited.accepted(events)
        self.watchers.changed(logged.seq for logged in events)

    # --- runners ----------------------------------------------------------------------------------------------------

    def attach(
        self, runner: RunnerPort, held: Iterable[bytes], *, explained: bool, end: AttemptEnd = AttemptEnd.NOT_HELD
    ) -> list[bytes]:
        """Register a runner and return the lease tokens that it retains; an earlier stream of it is closed."""
        earlier = self.parts.runners.remove(runner.runner_id)
        if earlier is not None:
            earlier.close(ConflictError("this runner attached again", reason="RUNNER_REATTACHED"))
            self._loader.leave(earlier)
        self.parts.runners.add(runner)
        if self.parts.outages:
            runner.update_destinations(self.parts.outages.states())
        now = self.parts.clock()
        attached = self.parts.shard.attach(runner.runner_id, held, explained=explained, now=now, end=end)
        self._transitions.lose(attached.losses)
        self._transitions.refund(attached.refunded, runner.runner_id)
        for seq in attached.adopted:
            self._parked.leave(seq)
        if attached.adopted:
            self.watchers.changed(attached.adopted)
        if attached.refunded or attached.adopted:
            self.parts.attempt_log.add([*attached.refunded, *attached.adopted])
            self.parts.attempt_log.woken(attached.adopted)
        self._deadline.arm()
        return attached.kept

    async def exited(self, runner_id: str, outcome: Outcome | None, *, explained: bool) -> None:
        """Settle the leases of a runner whose process has ended, with the outcome of what it evaluated then.

        All executions that it had are assigned again. Returns once the outcome, if any, is durable.
        """
        runner = ExitedRunner(runner_id)
        held = [] if outcome is None else [outcome.lease]
        self.attach(runner, held, explained=explained, end=AttemptEnd.PROCESS_ENDED)
        try:
            if outcome is not None:
                await self.recorder.settle(runner, [outcome])
        finally:
            self.detach(runner)

    def detach(self, runner: RunnerPort) -> None:
        if runner in self.parts.runners:
            self.parts.runners.remove(runner.runner_id)
            self._loader.leave(runner)
            self.parts.shard.runners.detach(runner.runner_id, self.parts.clock())
            self._deadline.arm()
            self.parts.writer.notify()

    def add_credit(self, runner: RunnerPort, credit: int) -> bool:
        """Allow a runner more assignments; false when that exceeds the maximum credit."""
        if runner not in self.parts.runners:
            return True
        if self.parts.shard.queues.may_assign:
            self.wake()
        return self.parts.shard.runners.add_credit(runner.runner_id, credit)

    def listen(self, runner: RunnerPort, update: SubscriptionUpdate) -> None:
        if not self._parked.listen(update):
            runner.revoke([update.lease], "LEASE_LOST")
        self.parts.runners.send_wanted_types()
