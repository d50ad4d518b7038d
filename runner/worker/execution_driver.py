"""Drives the executions of a worker: one loop runs their turns, and tasks perform their effects.

An execution runs synchronously as long as it needs no I/O. One loop (`ExecutionDriver.pump`) drives all of them,
because expressions are evaluated one at a time anyway. Each effect is performed in its own task, and its result is
processed by that loop.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence
from typing import Final, Protocol

from google.protobuf.message import DecodeError

from flowhook import logs
from flowhook.attach import messages
from flowhook.errors import UnavailableError
from flowhook.model import JournalEntry, Subscription
from flowhook.send_pacing import QUIET
from flowhook.wire import convert
from runner import metrics, session
from runner.effect_executor import EffectExecutor
from runner.evaluator import Evaluator
from runner.guard.evaluation_record import EvaluationRecord
from runner.interpreter import effects
from runner.interpreter.errors import Kind, error
from runner.interpreter.execution_machine import ExecutionMachine
from runner.interpreter.scope import ExecutionContext
from runner.secret_values import secrets_data
from runner.worker.active_execution import ActiveExecution, StartCall, TurnInput, report_defect
from runner.worker.callback_urls import one_time_urls
from runner.worker.fair_queue import FairQueue
from runner.worker.monitored_coroutine import MonitoredCoroutine
from runner.worker.preparation import RETRY_SECONDS, ExecutionPreparer, Prepared
from runner.worker.quarantine_driver import QuarantineDriver
from runner.worker.secret_cache import SecretCache

TURN_SECONDS: Final = 0.0005
"""Time that executions run before the loop yields to the stream and to calls.

It also yields after each call that is started, since the first steps of a call take a good part of a millisecond.
"""

ACTIVE: Final = 40
"""Number of executions, beside those that wait for calls, up to which more work is requested.

More raises throughput little and makes flows with little work wait longer; half as many is slower
(docs/performance.md).
"""

LONG_TURN_SECONDS: Final = 0.1
REST_SECONDS: Final = 0.01
"""Pause after a turn of more than `LONG_TURN_SECONDS` (a slow expression), so that the stream can renew leases."""

HOLD_SECONDS: Final = 0.25
"""Waits up to this long keep their lease, since parking would take about as long."""

log = logs.get_logger(__name__)


class SendRequest(Protocol):
    """Schedules sending messages to the router."""

    def __call__(self, *, urgent: bool = False) -> None:
        """Send the session's messages: at once if `urgent`, else soon."""
        ...


class ExecutionDriver:
    """All executions of this process."""

    def __init__(
        self,
        *,
        link: session.Session,
        preparer: ExecutionPreparer,
        secrets: SecretCache,
        caller: EffectExecutor,
        record: EvaluationRecord,
        tasks: asyncio.TaskGroup,
        announce: SendRequest,
        sent: Callable[[], asyncio.Future[None]],
        evaluator: Evaluator,
        quarantine: QuarantineDriver,
        public_url: str = "",
    ) -> None:
        """Start without executions.

        Args:
            link: receives checkpoints and outcomes.
            preparer: fetches what executions need and parses their events.
            secrets: resolves the secrets that components name.
            caller: performs effects.
            record: shared with the guard; shows whose expression is evaluated.
            tasks: task group for everything that runs beside the pump.
            announce: called when `link` has messages to send.
            sent: returns a future that is done once all present messages of `link` are sent, or the stream is over.
            evaluator: evaluates the expressions of flows that are not in quarantine.
            quarantine: drives executions of flows in quarantine.
            public_url: scheme and host of the one-time URLs.
        """
        self._link = link
        self._preparer = preparer
        self._secrets = secrets
        self._caller = caller
        self._record = record
        self._tasks = tasks
        self._announce = announce
        self._sent = sent
        self._evaluator = evaluator
        self._quarantine = quarantine
        self._apart = 0
        self._public_url = public_url
        self._in_hand: dict[bytes, ActiveExecution] = {}
        self._by_flow: Counter[str] = Counter()
        self._calling = 0
        self._ready: FairQueue[tuple[ActiveExecution, TurnInput | StartCall]] = FairQueue()
        self._doubted: dict[bytes, ActiveExecution] = {}
        self._wake = asyncio.Event()
        self._draining = False
        self._turn_ends = 0.0
        link.limit(ACTIVE)
        self._wanted: frozenset[str] = frozenset()

    def want(self, types: frozenset[str]) -> None:
        """Report lifecycle events of these types, and of no others, from now on."""
        self._wanted = types
        for execution in self._in_hand.values():
            if execution.run is not None and execution.apart is None:  # in quarantine: after its turn
                execution.run.want(types)

    def start(self, assignment: messages.Assignment) -> None:
        """Start working on an assignment."""
        if self._draining:
            self._link.finish(assignment.lease, messages.Released("DRAINING", charged=False))
            self._announce()
            return
        try:
            event = convert.event_from_bytes(assignment.event)
        except DecodeError:
            problem = error(Kind.RUNTIME, "the stored event is damaged")
            self._link.finish(assignment.lease, messages.Faulted(problem))
            self._announce()
            return
        execution = ActiveExecution(
            assignment.lease,
            event,
            assignment.flow_revision,
            assignment.journal,
            assignment.effect_scope or event.id,
            written=assignment.journal_start + len(assignment.journal),
        )
        execution.durable = execution.binding = execution.written
        self._in_hand[assignment.lease] = execution
        self._by_flow[event.flow_id] += 1
        metrics.RUNNING.set(len(self._in_hand))
        prepared = self._preparer.at_once(execution)
        if prepared is not None:
            self._begin(execution, prepared)
        else:
            execution.preparing = self._tasks.create_task(self._prepare(execution), name=f"prepare {event.id}")

    def proceed(self, lease: bytes, index: int) -> None:
        """Record that a journal is durable up to `index`, and start the effect that waited for it."""
        execution = self._in_hand.get(lease)
        if execution is None:
            return
        execution.durable = max(execution.durable, index + 1)
        self._launch_held(execution)

    def go_on(self) -> None:
        """Start the effects that were held while it was uncertain whether leases are still valid."""
        doubted, self._doubted = self._doubted, {}
        for execution in doubted.values():
            self._launch_held(execution)

    def deliver(self, lease: bytes, number: int, entry: JournalEntry) -> None:
        """Deliver an awaited event to an execution; `number` identifies the delivery to the router."""
        execution = self._in_hand.get(lease)
        if execution is not None:
            self._queue(execution, effects.ExternalEvent(entry, number))

    def abandon(self, lease: bytes) -> None:
        """Stop working on a lease that is lost."""
        execution = self._in_hand.get(lease)
        if execution is not None:
            self._remove(execution, "abandoned")

    def drain(self) -> None:
        """Start no more calls and accept no more work; release executions that need a call and have none in flight."""
        self._draining = True
        for execution in list(self._in_hand.values()):
            if execution.run is None:
                self._give_back(execution)
            else:
                self._launch_held(execution)

    def release_all(self) -> None:
        """Release all executions, uncharged, and every later assignment."""
        self._draining = True
        for execution in list(self._in_hand.values()):
            self._give_back(execution)

    def _give_back(self, execution: ActiveExecution) -> None:
        self._end(execution, messages.Released("DRAINING", charged=False), "released")

    async def pump(self) -> None:
        """Drive executions until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._begin_turn()
            while self._ready:
                execution, news = self._ready.next()
                if news is StartCall.TURN:
                    self._launch_next(execution)
                else:
                    self._drive(execution, news)
                late = time.monotonic() - self._turn_ends
                if late > 0 or news is StartCall.TURN:
                    self._make_room()
                    await asyncio.sleep(0 if late < LONG_TURN_SECONDS else REST_SECONDS)
                    self._begin_turn()
            self._make_room()

    def _begin_turn(self) -> None:
        self._turn_ends = time.monotonic() + TURN_SECONDS
        self._evaluator.begin_turn()

    def _make_room(self) -> None:
        """Request more work for executions that only wait here, for their calls or in quarantine.

        Three waiting executions raise the limit by four, because the router withholds a quarter of it from any single
        flow.
        """
        if self._link.limit(ACTIVE + (self._calling + self._apart) * 4 // 3):
            self._announce()

    async def _prepare(self, execution: ActiveExecution) -> None:
        """Fetch what an execution needs; losing the lease cancels this."""
        prepared = await self._preparer.prepare(execution)
        execution.preparing = None
        self._begin(execution, prepared)

    def _begin(self, execution: ActiveExecution, prepared: Prepared | messages.Ending) -> None:
        if not isinstance(prepared, Prepared):
            self._end(execution, prepared, "released" if isinstance(prepared, messages.Released) else "faulted")
            return
        event, (flow, secrets, data) = execution.event, prepared
        workflow = execution.workflow = ExecutionContext(
            id=event.id,
            definition=flow.program.definition,
            raw_input=data,
            started_at_ms=event.receive_time_ms,
            clock=_now_ms,
            secrets=secrets_data(secrets),
            must_yield=lambda: time.monotonic() > (execution.turn_ends or self._turn_ends),
            effect_scope=execution.effect_scope,
            depth=event.depth,
            one_time=one_time_urls(self._public_url, event, flow),
        )
        execution.run = ExecutionMachine(flow.program, workflow, execution.journal, wanted=self._wanted)
        self._queue(execution)

    def _queue(self, execution: ActiveExecution, news: TurnInput | StartCall = None) -> None:
        self._ready.add(execution.event.flow_id, (execution, news))
        self._wake.set()

    def _drive(self, execution: ActiveExecution, news: TurnInput) -> None:
        run = execution.run
        if run is None or self._in_hand.get(execution.lease) is not execution:
            return  # abandoned meanwhile
        if execution.apart is not None:
            execution.later.append(news)
            return
        if execution.timer is not None:
            execution.timer.cancel()
            execution.timer = None
        if execution.event.flow_id in self._quarantine:
            self._apart += 1
            driving = self._drive_apart(execution, run, news, self._wanted)
            execution.apart = self._tasks.create_task(driving, name=f"quarantine {execution.event.id}")
            execution.apart.add_done_callback(self._note_driven)  # also of one that is cancelled before it begins
            return
        self._record.assign(execution.lease, execution.event.flow_id)
        try:
            turn = _next_turn(run, news)
        except Exception as problem:  # noqa: BLE001 - it ends this execution, not the whole process
            turn = effects.Step(effects.WorkflowFaulted(report_defect(execution, problem)))
        self._take_turn(execution, turn)

    async def _drive_apart(
        self, execution: ActiveExecution, run: ExecutionMachine, news: TurnInput, wanted: frozenset[str]
    ) -> None:
        """Drive an execution in quarantine, concurrently; `wanted` is the event filter that `run` was given last."""
        try:
            turn = await self._quarantine.turn(execution, run, lambda: _next_turn(run, news))
        except Exception as problem:  # noqa: BLE001 - it ends this execution, not the whole process
            turn = effects.Step(effects.WorkflowFaulted(report_defect(execution, problem)))
        execution.apart = None
        if self._wanted is not wanted:
            run.want(self._wanted)
        if self._in_hand.get(execution.lease) is execution:
            if turn is None:
                self._end(execution, messages.Released("EVALUATOR_DIED", charged=True), "released")
            else:
                self._take_turn(execution, turn)
        later, execution.later = execution.later, []
        for each in later:
            if isinstance(each, tuple):
                self._take_result(execution, *each)
            else:
                self._queue(execution, each)

    def _note_driven(self, _driving: asyncio.Task[None]) -> None:
        self._apart -= 1

    def _take_turn(self, execution: ActiveExecution, turn: effects.Step) -> None:
        if turn.writes:
            self._write(execution, turn.writes)
        execution.told = tuple(turn.told)
        match turn.ending:
            case effects.WorkflowCompleted(output=output):
                self._end(execution, messages.Completed(output), "completed")
            case effects.WorkflowFaulted(error=problem_):
                self._end(execution, messages.Faulted(problem_), "faulted")
            case None:
                self._follow(execution, turn)
                if execution.told:
                    self._recount(execution)

    def _take_result(self, execution: ActiveExecution, effect: effects.Perform, result: effects.EffectResult) -> None:
        """Journal the result of a call, and resume the execution once the entry is sent.

        Evaluating the result, or anything else meanwhile, may get this process killed; the result is safe by then.
        """
        run = execution.run
        if run is None or not self._is_under_way(execution, effect):
            return  # it was cancelled, or its execution is gone
        if execution.apart is not None:
            execution.later.append((effect, result))
            return
        self._returned(execution, effect.key)
        try:
            writes = run.queue_result(effect, result)
        except Exception as problem:  # noqa: BLE001 - it ends this execution, not the whole process
            self._end(execution, messages.Faulted(report_defect(execution, problem)), "faulted")
            return
        if writes:
            self._write(execution, writes)
        if writes and self._link.attached:
            self._sent().add_done_callback(lambda _: self._queue(execution))
        else:
            self._queue(execution)

    def _write(self, execution: ActiveExecution, writes: Collection[effects.JournalWrite]) -> None:
        for write in writes:
            self._link.checkpoint(
                execution.lease,
                execution.written,
                write.entry,
                compacts=write.compacts,
                reply=None if write.reply is None else convert.reply_to_bytes(write.reply),
                arrival=write.arrival,
                events=tuple(write.told),
                history=write.history,
            )
            execution.written += 1
            if write.binding:
                execution.binding = execution.written
        self._tell(execution)

    def _recount(self, execution: ActiveExecution) -> None:
        """Report the lifecycle events since the last journal entry, while the execution continues."""
        events, execution.told = execution.told, ()
        if not self._link.report_events(execution.lease, execution.written, events) and not execution.events_dropped:
            log.warning("too much waits to be told; leaving out what happens", execution=execution.event.id)
            execution.events_dropped = True
        self._tell(execution)

    def _follow(self, execution: ActiveExecution, turn: effects.Step) -> None:
        """Carry out what a turn requests: cancellations, effects, subscriptions and waits."""
        for key in turn.cancel:
            call = self._returned(execution, key)
            if call is not None:
                call[1].cancel()
            execution.held = deque(held for held in execution.held if held[1].key != key)
        execution.held.extend((execution.binding, effect) for effect in turn.perform)
        self._launch_held(execution)
        if self._in_hand.get(execution.lease) is not execution:
            return  # given back
        if turn.paused:
            self._queue(execution)
            return
        if self._link.subscribe(
            execution.lease, tuple(turn.subscriptions) if execution.calls or execution.held else ()
        ):
            self._tell(execution)
        if turn.wake_at_ms is not None or turn.subscriptions:
            self._wait(execution, turn.wake_at_ms, turn.subscriptions)

    def _wait(self, execution: ActiveExecution, wake_at_ms: int | None, subscriptions: Sequence[Subscription]) -> None:
        """Wait for a time or an event: parked, unless it is soon or a call is in flight."""
        seconds = None if wake_at_ms is None else (wake_at_ms - _now_ms()) / 1000
        if (seconds is None or seconds > HOLD_SECONDS) and not execution.calls and not execution.held:
            self._park(execution, wake_at_ms, subscriptions)
        elif seconds is not None:
            execution.timer = asyncio.get_running_loop().call_later(max(0.0, seconds), self._queue, execution)

    def _park(self, execution: ActiveExecution, wake_at_ms: int | None, subscriptions: Sequence[Subscription]) -> None:
        self._end(execution, messages.Parked(wake_at_ms, tuple(subscriptions)), "parked")

    def _launch_held(self, execution: ActiveExecution) -> None:
        """Queue the start of effects whose journal is durable; in a drain, release the execution instead."""
        if self._draining:
            run = execution.run
            is_at_rest = (
                run is not None and not run.has_pending_input and not execution.calls and execution.apart is None
            )
            if execution.held and is_at_rest:
                self._give_back(execution)
            return
        if not execution.launching and execution.held and execution.held[0][0] <= execution.durable:
            execution.launching = True
            self._queue(execution, StartCall.TURN)

    def _launch_next(self, execution: ActiveExecution) -> None:
        """Start an effect, if the lease is certainly valid."""
        execution.launching = False
        if self._in_hand.get(execution.lease) is not execution:
            return  # abandoned meanwhile
        is_due = execution.held and execution.held[0][0] <= execution.durable  # else it was cancelled meanwhile
        if is_due and not self._draining:
            now = time.monotonic()
            if not self._link.leases_certain(now):
                self._doubt(execution, now)
                return
            self._launch(execution, execution.held.popleft()[1])
        self._launch_held(execution)

    def _doubt(self, execution: ActiveExecution, now: float) -> None:
        """Hold effects until the router confirms the leases: this process or the router was stalled."""
        if not self._doubted:
            self._link.renew(now)
            self._announce(urgent=True)
        self._doubted[execution.lease] = execution

    def _launch(self, execution: ActiveExecution, effect: effects.Perform) -> None:
        task = self._tasks.create_task(self._perform(execution, effect), name=f"{effect.function} {execution.event.id}")
        self._calling += not execution.calls
        execution.calls[effect.key] = (effect, task)

    def _returned(self, execution: ActiveExecution, key: str) -> tuple[effects.Perform, asyncio.Task[None]] | None:
        """Remove a call, and return it if it was in flight."""
        call = execution.calls.pop(key, None)
        self._calling -= call is not None and not execution.calls
        return call

    async def _perform(self, execution: ActiveExecution, effect: effects.Perform) -> None:
        flow_id = execution.event.flow_id

        async def secret(name: str) -> bytes:
            while True:  # until the call's deadline cancels this
                try:
                    return (await self._secrets.resolve((name,), flow_id))[name]
                except UnavailableError as problem:
                    log.debug("router not available", reason=problem.reason)
                    await asyncio.sleep(RETRY_SECONDS)

        performing = self._caller.perform(execution.effect_scope, effect, secret, execution.attachments)
        result = await MonitoredCoroutine(performing, self._record, execution.lease, effect.instance)
        self._take_result(execution, effect, result)

    @staticmethod
    def _is_under_way(execution: ActiveExecution, effect: effects.Perform) -> bool:
        call = execution.calls.get(effect.key)
        return call is not None and call[0] is effect

    def _end(self, execution: ActiveExecution, ending: messages.Ending, outcome: str) -> None:
        history = b"" if execution.run is None else execution.run.take_history()
        self._link.finish(execution.lease, ending, execution.told, history)
        execution.told = ()
        self._tell(execution)
        self._remove(execution, outcome)

    def _tell(self, execution: ActiveExecution) -> None:
        """Schedule sending an execution's messages: at once if its flow has few executions here."""
        self._announce(urgent=self._by_flow[execution.event.flow_id] <= QUIET)

    def _remove(self, execution: ActiveExecution, outcome: str) -> None:
        if self._in_hand.pop(execution.lease, None) is not None:
            self._by_flow[execution.event.flow_id] -= 1
            if not self._by_flow[execution.event.flow_id]:
                del self._by_flow[execution.event.flow_id]
        self._doubted.pop(execution.lease, None)
        if execution.timer is not None:
            execution.timer.cancel()
        for task in (execution.preparing, execution.apart, *(task for _, task in execution.calls.values())):
            if task is not None and task is not asyncio.current_task():
                task.cancel()
        self._calling -= bool(execution.calls)
        execution.calls.clear()
        metrics.EXECUTIONS.labels(outcome).inc()
        metrics.RUNNING.set(len(self._in_hand))


def _next_turn(run: ExecutionMachine, news: TurnInput) -> effects.Step:
    if news is None:
        return run.go_on() if run.started else run.start()
    return run.deliver(news)


def apply_effects(effects_: Collection[session.Effect], executions: ExecutionDriver) -> None:
    """Apply the session's effects that concern executions."""
    for effect in effects_:
        match effect:
            case session.StartAttempt(assignment=assignment):
                executions.start(assignment)
            case session.Proceed(lease=lease, index=index):
                executions.proceed(lease, index)
            case session.LeasesConfirmed():
                executions.go_on()
            case session.Deliver(lease=lease, number=number, entry=entry):
                executions.deliver(lease, number, entry)
            case session.Abandon(lease=lease):
                executions.abandon(lease)
            case session.SetLifecycleFilter(types=types):
                executions.want(types)
            case _:
                pass


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
