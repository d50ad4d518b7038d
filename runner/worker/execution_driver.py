"""Drives the executions of a worker: one loop runs their turns, and tasks perform their effects.

An execution runs synchronously as long as it needs no I/O. One loop (`ExecutionDriver.pump`) drives all of them,
because expressions are evaluated one at a time anyway. Each effect is performed in its own task, and its result is
processed by that loop.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Final, Generic, TypeVar

import attrs

from flowhook.attach import messages
from flowhook.attach.limits import MAX_DESTINATIONS
from flowhook.attach.send_pacing import QUIET
from flowhook.errors import InvalidError
from flowhook.limits import MIB
from flowhook.model import JournalEntry, Subscription
from flowhook.payloads.field_types import with_types
from flowhook.process import logs
from flowhook.process.ticks import next_tick
from flowhook.wire import convert
from runner.guard.evaluation_record import EvaluationRecord
from runner.interpreter import effects
from runner.interpreter.effects import JournalWrite
from runner.interpreter.errors import Kind, error
from runner.interpreter.execution_context import ExecutionContext, secrets_data
from runner.interpreter.execution_machine import ExecutionMachine
from runner.metrics import METRICS
from runner.outbound.destinations import Destinations
from runner.session import (
    Abandon,
    Effect,
    LeasesConfirmed,
    Session,
    UpdateDestinations,
)
from runner.worker.active_execution import ActiveExecution, ActiveExecutions, StartCall, TurnInput, report_defect
from runner.worker.effect_calls import EffectCalls
from runner.worker.effect_executor import EffectExecutor
from runner.worker.execution_spans import ExecutionTracing
from runner.worker.preparation import ExecutionPreparer, Prepared
from runner.worker.quarantine_driver import QuarantineDriver
from runner.worker.router_reads import SecretCache

# Time that executions run before the loop yields to the stream and to calls. It also yields after each call that is
# started, since the first steps of a call take a good part of a millisecond.
TURN_SECONDS: Final = 0.0005

# Number of executions, beside those that wait for calls, up to which more work is requested. More makes flows with
# little work wait longer beside a backlog whose executions make calls; half as many is slower (docs/performance.md).
ACTIVE: Final = 40
# Number more while all recent executions ended in their first turn: they are driven faster than requested one by one,
# and leave room at once. With 88 an execution costs 4 % less, and flows with little work wait longer.
ACTIVE_AT_ONCE: Final = 32
RECENT: Final = 64  # executions whose first turns count
# bytes of events in all executions, above which no more than `ACTIVE` are requested; 72 of 1 KB are far below
ACTIVE_BYTES: Final = 4 * MIB

LONG_TURN_SECONDS: Final = 0.1
# pause after a turn of more than `LONG_TURN_SECONDS` (a slow expression), so that the stream can renew leases
REST_SECONDS: Final = 0.01
HOLD_SECONDS: Final = 0.25  # waits up to this long keep their lease, since parking would take about as long

log = logs.get_logger(__name__)


TICK_SECONDS: Final = 0.5
# time without a tick that counts as a stall; a router keeps the leases of a stream that ended for 2 s
STALL_SECONDS: Final = 1.0


@attrs.define(eq=False, repr=False)
class StallDetector:
    """Notices that the process stood still: it was stopped, its container frozen, or its machine suspended.

    Calls back after a stall, at the latest before the next check.

    After a stall it is not known which runs first on the event loop, a tick or what was read meanwhile: so those who
    rely on the time call `check`, too.
    """

    _clock: Callable[[], float]
    _on_stall: Callable[[float], None]  # called with the time (monotonic, seconds) at which a stall was noticed
    _seen: float = attrs.field(init=False, default=attrs.Factory(lambda self: self._clock(), takes_self=True))

    def check(self) -> None:
        """Call back if the last tick or check is too long ago."""
        now = self._clock()
        if now - self._seen > STALL_SECONDS:
            self._on_stall(now)
        self._seen = now

    async def run(self) -> None:
        while True:
            self.check()
            await next_tick(TICK_SECONDS)


T = TypeVar("T")


class TurnQueue(Generic[T]):
    """Queued items: first in, first out within a flow; flows in a ring, one item of each at a time.

    So a flow with hundreds of executions does not delay the others.
    """

    __slots__ = ("_ring", "_waiting")

    def __init__(self) -> None:
        self._ring: deque[str] = deque()
        self._waiting: dict[str, deque[T]] = {}

    def __bool__(self) -> bool:
        return bool(self._ring)

    def add(self, flow_id: str, item: T) -> None:
        """Append an item behind the other items of its flow."""
        waiting = self._waiting.get(flow_id)
        if waiting is None:
            waiting = self._waiting[flow_id] = deque()
            self._ring.append(flow_id)
        waiting.append(item)

    def next(self) -> T:
        """Remove and return the next item; `IndexError` if the queue is empty."""
        flow_id = self._ring.popleft()
        waiting = self._waiting[flow_id]
        item = waiting.popleft()
        if waiting:
            self._ring.append(flow_id)
        else:
            del self._waiting[flow_id]
        return item


SendRequest = Callable[..., None]  # `(*, urgent=False)` has the session's messages sent: at once if urgent, else soon


@attrs.define(eq=False, repr=False)
class ExecutionReporter:
    """Reports the progress and the end of executions. Messages of a flow with few executions here are urgent."""

    _session: Session
    _executions: ActiveExecutions
    _request_send: SendRequest

    def write(self, execution: ActiveExecution, writes: Collection[JournalWrite]) -> None:
        """Append to an execution's journal; `proceed` says when it is durable."""
        for write in writes:
            reply = None if write.reply is None else convert.reply_to_bytes(write.reply)
            self._session.checkpoint(
                messages.Checkpoint(
                    execution.lease,
                    execution.written,
                    write.entry,
                    write.compacts,
                    reply,
                    write.consumed,
                    tuple(write.lifecycle_events),
                    history=write.history,
                )
            )
            execution.written += 1
            if write.binding:
                execution.binding = execution.written
        self._send(execution)

    def publish_events(self, execution: ActiveExecution) -> None:
        events, execution.lifecycle_events = execution.lifecycle_events, ()
        if not self._session.report_events(execution.lease, execution.written, events) and not execution.events_dropped:
            log.warning("too many lifecycle events wait to be sent; dropping some", **execution.log_fields)
            execution.events_dropped = True
        self._send(execution)

    def subscribe(self, execution: ActiveExecution, subscriptions: Sequence[Subscription]) -> None:
        """Set what the execution waits for while it keeps its lease."""
        if self._session.subscribe(execution.lease, tuple(subscriptions)):
            self._send(execution)

    def finish(self, execution: ActiveExecution, ending: messages.Ending) -> None:
        history = b"" if execution.machine is None else execution.machine.take_history()
        self._session.finish(execution.lease, ending, execution.lifecycle_events, history)
        execution.lifecycle_events = ()
        self._send(execution)

    def _send(self, execution: ActiveExecution) -> None:
        self._request_send(urgent=self._executions.in_flow(execution.event.flow_id) <= QUIET)


@attrs.define(eq=False, repr=False, kw_only=True)
class ExecutionDriver:
    """All executions of this process; let `pump` run, and `stalls.run` beside it."""

    _session: Session  # receives checkpoints and outcomes
    _preparer: ExecutionPreparer
    _secrets: SecretCache  # resolves the secrets that components name
    _executor: EffectExecutor
    _record: EvaluationRecord  # shared with the guard; shows whose expression is evaluated
    _tasks: asyncio.TaskGroup  # for everything that runs beside the pump
    _request_send: SendRequest  # called when the session has messages to send
    # returns a future that is done once all present messages of the session are sent, or the stream is over
    _sent: Callable[[], asyncio.Future[None]]
    _quarantine: QuarantineDriver
    _now_ms: Callable[[], int]  # the clock of executions: Unix milliseconds of the router's clock, see `RouterClock`
    _public_url: str = ""  # scheme and host of the one-time URLs
    _tracing: ExecutionTracing = attrs.field(factory=lambda: ExecutionTracing(None))
    _wake_guard: Callable[[], None] = lambda: None  # tells the guard that there is an execution again
    _executions: ActiveExecutions = attrs.field(init=False, factory=ActiveExecutions)
    _destinations: Destinations = attrs.field(init=False)
    _reporter: ExecutionReporter = attrs.field(init=False)
    _calls: EffectCalls = attrs.field(init=False)
    _ready: TurnQueue[tuple[ActiveExecution, TurnInput | StartCall]] = attrs.field(init=False, factory=TurnQueue)
    _awaiting_renewal: dict[bytes, ActiveExecution] = attrs.field(init=False, factory=dict)
    _wake: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)
    _in_quarantine: int = attrs.field(init=False, default=0)
    # share of recent executions that ended in their first turn, from 0 to 1
    _at_once: float = attrs.field(init=False, default=0.0)
    _draining: bool = attrs.field(init=False, default=False)
    _turn_ends: float = attrs.field(init=False, default=0.0)
    _lifecycle_types: frozenset[str] = attrs.field(init=False, default=frozenset())
    stalls: StallDetector = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._reporter = ExecutionReporter(self._session, self._executions, self._request_send)
        self._destinations = Destinations(self._report_call)
        self._calls = EffectCalls(
            self._executor,
            self._secrets,
            self._record,
            self._tasks,
            self._preparer.attachments,
            self._take_result,
            self._destinations,
            self._tracing,
        )
        self.stalls = StallDetector(time.monotonic, self._session.doubt_leases)
        self._session.limit(ACTIVE)

    def set_lifecycle_types(self, types: frozenset[str]) -> None:
        self._lifecycle_types = types
        for execution in self._executions:
            if execution.machine is not None and execution.quarantine_task is None:  # in quarantine: after its turn
                execution.machine.set_lifecycle_types(types)

    def update_destinations(self, update: UpdateDestinations) -> None:
        """Take in what is down, and start the effects that wait here for a destination that is up again."""
        self._destinations.update(update.updates, renewed=update.renewed)
        for execution in self._executions:
            if execution.blocked:
                flow_id = execution.event.flow_id
                for key, (effect, origin) in list(execution.blocked.items()):
                    if not self._destinations.parks(flow_id, origin):
                        del execution.blocked[key]
                        execution.held.append((0, effect))
                self._launch_held(execution)

    def _report_call(self, report: messages.CallReport) -> None:
        if self._session.report_call(report):
            self._request_send()

    def start(self, assignment: messages.Assignment) -> None:
        """Take an assignment: it is queued, or returned to the router if this runner drains."""
        if self._draining:
            self._session.finish(assignment.lease, messages.Released("DRAINING", charged=False))
            self._request_send()
            return
        try:
            event = convert.event_from_bytes(assignment.event)
        except InvalidError:
            problem = error(Kind.RUNTIME, "the stored event can't be read")
            self._session.finish(assignment.lease, messages.Faulted(problem))
            self._request_send()
            return
        execution = ActiveExecution.of(assignment, event)
        if not self._executions and self._record.work():
            self._wake_guard()
        self._executions.add(execution)
        self._queue(execution)

    def proceed(self, lease: bytes, index: int) -> None:
        """Record that a journal is durable up to `index`, and start the effect that waited for it."""
        execution = self._executions.get(lease)
        if execution is None:
            return
        execution.durable = max(execution.durable, index + 1)
        self._launch_held(execution)

    def leases_confirmed(self) -> None:
        """Start the effects that were held while it was uncertain whether leases are still valid."""
        awaiting, self._awaiting_renewal = self._awaiting_renewal, {}
        for execution in awaiting.values():
            self._launch_held(execution)

    def deliver(self, lease: bytes, number: int, entry: JournalEntry) -> None:
        """Deliver an awaited event to an execution; `number` identifies the delivery to the router."""
        execution = self._executions.get(lease)
        if execution is not None:
            self._queue(execution, effects.DeliveredEvent(entry, number))

    def abandon(self, lease: bytes) -> None:
        execution = self._executions.get(lease)
        if execution is not None:
            self._remove(execution, "abandoned")

    def drain(self) -> None:
        """Start no more calls and accept no more work; release executions that need a call and have none in flight."""
        self._draining = True
        for execution in self._executions:
            if execution.machine is None:
                self._release(execution)
            else:
                self._launch_held(execution)

    def release_all(self) -> None:
        """Release all executions, uncharged, and every later assignment."""
        self._draining = True
        for execution in self._executions:
            self._release(execution)

    def _release(self, execution: ActiveExecution) -> None:
        self._end(execution, messages.Released("DRAINING", charged=False), "released")

    async def pump(self) -> None:
        """Drive executions in turns until cancelled; after `TURN_SECONDS` the event loop does other work."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._turn_ends = time.monotonic() + TURN_SECONDS
            while self._ready:
                execution, turn_input = self._ready.next()
                if turn_input is StartCall.TURN:
                    self._launch_next(execution)
                else:
                    self._drive(execution, turn_input)
                late = time.monotonic() - self._turn_ends
                if late > 0 or turn_input is StartCall.TURN:
                    self._update_capacity()
                    await asyncio.sleep(0 if late < LONG_TURN_SECONDS else REST_SECONDS)
                    self._turn_ends = time.monotonic() + TURN_SECONDS
            self._update_capacity()

    def _update_capacity(self) -> None:
        waiting = self._calls.executions + self._in_quarantine
        if self._session.limit(window(waiting, self._at_once, self._executions.event_bytes)):
            self._request_send()

    def _prepare(self, execution: ActiveExecution) -> ExecutionMachine | None:
        """Prepare an execution in its first turn, under the guard; None: it waits for what is fetched, or has ended.

        So those that only wait for their turn have neither input nor machine, and bodies are parsed in turns, too.
        """
        if self._tracing.records:
            execution.spans = self._tracing.begin(
                execution.event,
                attempt=execution.attempt,
                resumed=execution.resumed,
                revision=execution.revision,
                journal=execution.journal,
            )
        prepared = self._preparer.at_once(execution)
        if prepared is not None:
            return self._begin(execution, prepared)
        execution.preparing = self._tasks.create_task(self._fetch(execution), name=f"prepare {execution.event.id}")
        return None

    async def _fetch(self, execution: ActiveExecution) -> None:
        """Fetch what an execution needs; losing the lease cancels this."""
        prepared = await self._preparer.prepare(execution)
        execution.preparing = None
        if self._begin(execution, prepared) is not None:
            self._queue(execution)

    def _begin(self, execution: ActiveExecution, prepared: Prepared | messages.Ending) -> ExecutionMachine | None:
        if not isinstance(prepared, Prepared):
            self._end(execution, prepared, "released" if isinstance(prepared, messages.Released) else "faulted")
            return None
        event, (flow, secrets, data) = execution.event, prepared
        try:
            execution.workflow = ExecutionContext(
                id=event.id,
                definition=flow.program.definition,
                raw_input=with_types(data, flow.program.fields),
                started_at_ms=event.receive_time_ms,
                clock=self._now_ms,
                secrets=secrets_data(secrets) if secrets else {},
                must_yield=lambda: time.monotonic() > self._turn_ends,
                effect_scope=execution.effect_scope,
                depth=event.depth,
                one_time=flow.one_time_urls(self._public_url, event),
            )
            execution.takes_raw_body = flow.program.takes_raw_body
            machine = execution.machine = ExecutionMachine(
                flow.program,
                execution.workflow,
                execution.journal,
                execution.spans,
                lifecycle_types=self._lifecycle_types,
            )
            if execution.spans is not None:
                execution.spans.is_replaying = machine.is_replaying
        except Exception as problem:  # noqa: BLE001 - it ends this execution, not the whole process
            self._end(execution, messages.Faulted(report_defect(execution, problem)), "faulted")
        return execution.machine

    def _queue(self, execution: ActiveExecution, turn_input: TurnInput | StartCall = None) -> None:
        self._ready.add(execution.event.flow_id, (execution, turn_input))
        self._wake.set()

    def _drive(self, execution: ActiveExecution, turn_input: TurnInput) -> None:
        if execution not in self._executions:
            return  # abandoned meanwhile
        machine = execution.machine
        if machine is not None:
            self._record.assign(execution.lease, execution.event.flow_id)
        elif (machine := self._prepare(execution)) is None:
            return
        if execution.quarantine_task is not None:
            execution.postponed.append(turn_input)
            return
        if execution.timer is not None:
            execution.timer.cancel()
            execution.timer = None
        if execution.event.flow_id in self._quarantine:
            self._in_quarantine += 1
            driving = self._drive_in_quarantine(execution, machine, turn_input, self._lifecycle_types)
            execution.quarantine_task = self._tasks.create_task(driving, name=f"quarantine {execution.event.id}")
            # a callback, because a task that is cancelled before it begins runs no code of its own
            execution.quarantine_task.add_done_callback(self._driven_in_quarantine)
            return
        try:
            step = _next_step(machine, turn_input)
        except Exception as problem:  # noqa: BLE001 - it ends this execution, not the whole process
            step = effects.Step(effects.WorkflowFaulted(report_defect(execution, problem)))
        if not (execution.begun or step.paused):
            execution.begun = True
            self._at_once += ((step.ending is not None) - self._at_once) / RECENT
        self._take_step(execution, step)

    async def _drive_in_quarantine(
        self,
        execution: ActiveExecution,
        machine: ExecutionMachine,
        turn_input: TurnInput,
        lifecycle_types: frozenset[str],
    ) -> None:
        """Drive an execution in quarantine, concurrently; `lifecycle_types` are those that `machine` was given last."""
        try:
            step = await self._quarantine.drive(execution, machine, lambda: _next_step(machine, turn_input))
        except Exception as problem:  # noqa: BLE001 - it ends this execution, not the whole process
            step = effects.Step(effects.WorkflowFaulted(report_defect(execution, problem)))
        execution.quarantine_task = None
        if self._lifecycle_types is not lifecycle_types:
            machine.set_lifecycle_types(self._lifecycle_types)
        if execution in self._executions:
            if step is None:
                self._end(execution, messages.Released("EVALUATOR_DIED", charged=True), "released")
            else:
                self._take_step(execution, step)
        postponed, execution.postponed = execution.postponed, []
        for each in postponed:
            if isinstance(each, tuple):
                self._take_result(execution, *each)
            else:
                self._queue(execution, each)

    def _driven_in_quarantine(self, _task: asyncio.Task[None]) -> None:
        self._in_quarantine -= 1

    def _take_step(self, execution: ActiveExecution, step: effects.Step) -> None:
        if step.writes:
            self._reporter.write(execution, step.writes)
            METRICS.journaled(execution.event.flow_id, step.writes)
        execution.lifecycle_events = tuple(step.lifecycle_events)
        match step.ending:
            case effects.WorkflowCompleted(output=output):
                self._end(execution, messages.Completed(output), "completed")
            case effects.WorkflowFaulted(error=problem_):
                self._end(execution, messages.Faulted(problem_), "faulted")
            case None:
                self._carry_out(execution, step)
                if execution.lifecycle_events:
                    self._reporter.publish_events(execution)

    def _take_result(self, execution: ActiveExecution, effect: effects.Perform, result: effects.EffectResult) -> None:
        """Journal the result of a call, and resume the execution once the entry is sent.

        Evaluating the result, or anything else meanwhile, may get this process killed; the result is safe by then.
        """
        machine = execution.machine
        if machine is None or not self._calls.is_in_flight(execution, effect):
            return  # it was cancelled, or its execution is gone
        if execution.quarantine_task is not None:
            execution.postponed.append((effect, result))
            return
        self._calls.finish(execution, effect.key)
        if result.destination:
            execution.blocked[effect.key] = (effect, result.destination)
            self._queue(execution)  # to park, unless there is more to do
            return
        try:
            writes = machine.queue_result(effect, result)
        except Exception as problem:  # noqa: BLE001 - it ends this execution, not the whole process
            self._end(execution, messages.Faulted(report_defect(execution, problem)), "faulted")
            return
        if writes:
            self._reporter.write(execution, writes)
        if writes and self._session.attached:
            self._sent().add_done_callback(lambda _: self._queue(execution))
        else:
            self._queue(execution)

    def _carry_out(self, execution: ActiveExecution, step: effects.Step) -> None:
        for key in step.cancel:
            self._calls.cancel(execution, key)
        execution.update_held(step)
        self._launch_held(execution)
        if execution not in self._executions:
            return  # released
        if step.paused:
            self._queue(execution)
            return
        self._reporter.subscribe(execution, step.subscriptions if execution.calls or execution.held else ())
        if step.wake_at_ms is not None or step.subscriptions or execution.blocked:
            self._wait(execution, step.wake_at_ms, step.subscriptions)

    def _wait(self, execution: ActiveExecution, wake_at_ms: int | None, subscriptions: Sequence[Subscription]) -> None:
        """Wait for a time or an event: parked, unless it is soon or a call is in flight."""
        seconds = None if wake_at_ms is None else (wake_at_ms - self._now_ms()) / 1000
        if (seconds is None or seconds > HOLD_SECONDS) and not execution.calls and not execution.held:
            retry = None if execution.machine is None else execution.machine.next_retry
            origins = dict.fromkeys(origin for _, origin in execution.blocked.values()) if execution.blocked else ()
            destinations = tuple(origins)[:MAX_DESTINATIONS]
            self._end(execution, messages.Parked(wake_at_ms, tuple(subscriptions), retry, destinations), "parked")
        elif seconds is not None:
            execution.timer = asyncio.get_running_loop().call_later(max(0.0, seconds), self._queue, execution)

    def _launch_held(self, execution: ActiveExecution) -> None:
        """Queue the start of effects whose journal is durable; in a drain, release the execution instead."""
        if self._draining:
            machine = execution.machine
            is_idle = machine is not None and not machine.has_pending_input and execution.quarantine_task is None
            if execution.held and is_idle and not execution.calls:
                self._release(execution)
            return
        if execution.has_due_effect and not execution.launching:
            execution.launching = True
            self._queue(execution, StartCall.TURN)

    def _launch_next(self, execution: ActiveExecution) -> None:
        execution.launching = False
        if execution not in self._executions:
            return  # abandoned meanwhile
        if execution.has_due_effect and not self._draining:  # else it was cancelled meanwhile
            self.stalls.check()
            now = time.monotonic()
            if not self._session.leases_certain(now):
                # this process or the router was stalled: held until the router confirms the leases
                if not self._awaiting_renewal:
                    self._session.renew(now)
                    self._request_send(urgent=True)
                self._awaiting_renewal[execution.lease] = execution
                return
            self._calls.start(execution, execution.held.popleft()[1])
        self._launch_held(execution)

    def _end(self, execution: ActiveExecution, ending: messages.Ending, outcome: str) -> None:
        self._reporter.finish(execution, ending)
        self._remove(execution, outcome, ending)

    def _remove(self, execution: ActiveExecution, outcome: str, ending: messages.Ending | None = None) -> None:
        self._executions.remove(execution)
        if execution.spans is not None:
            execution.spans.end(outcome, ending)
        if not self._executions:
            self._record.rest()
        self._awaiting_renewal.pop(execution.lease, None)
        if execution.timer is not None:
            execution.timer.cancel()
        for task in (execution.preparing, execution.quarantine_task):
            if task is not None and task is not asyncio.current_task():
                task.cancel()
        self._calls.cancel_all(execution)
        METRICS.attempts[outcome] += 1


def window(waiting: int, at_once: float, event_bytes: int) -> int:
    """Return the number of executions up to which more work is requested.

    Args:
        waiting: number of those that only wait here, for their calls or in quarantine. Three of them raise the window
            by four, because the router withholds a quarter of it from any single flow.
        at_once: share of recent executions that ended in their first turn, from 0 to 1.
        event_bytes: size of the events of all executions.
    """
    more = int(ACTIVE_AT_ONCE * at_once) if event_bytes < ACTIVE_BYTES else 0
    return ACTIVE + more + waiting * 4 // 3


def _next_step(machine: ExecutionMachine, turn_input: TurnInput) -> effects.Step:
    return machine.advance() if turn_input is None else machine.deliver(turn_input)


def apply_effects(effects_: Collection[Effect], executions: ExecutionDriver) -> None:
    """Pass what the session decided to the executions."""
    for effect in effects_:
        match effect:
            case messages.AssignmentBatch(assignments=assignments):
                for assignment in assignments:
                    executions.start(assignment)
            case messages.DurableCheckpoint(lease=lease, index=index):
                executions.proceed(lease, index)
            case LeasesConfirmed():
                executions.leases_confirmed()
            case messages.EventDelivery(lease=lease, number=number, entry=entry):
                executions.deliver(lease, number, entry)
            case Abandon(lease=lease):
                executions.abandon(lease)
            case messages.LifecycleFilter(event_types=types):
                executions.set_lifecycle_types(types)
            case UpdateDestinations():
                executions.update_destinations(effect)
            case _:
                pass
