"""Executes one document in a child without a router, for `flowhook exec`, with what replaces a cluster."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import attrs
import orjson
from typing_extensions import override

from flowhook import limits
from flowhook.asyncio_tasks import end_tasks
from flowhook.document.definition import error_types, kind_of
from flowhook.events import cloud_events
from flowhook.events.workflow_input import workflow_input
from flowhook.model import Event, EventFilter, JournalEntry, Subscription, WorkflowError
from flowhook.model.error_types import Spelling
from flowhook.payloads.field_types import with_types
from flowhook.wire import convert
from runner import ipc
from runner.components.base import SharedResources
from runner.components.registry import components
from runner.evaluation.evaluator import Evaluator
from runner.evaluation.supervision import Supervision
from runner.guard.evaluation_record import Activity, EvaluationRecord
from runner.interpreter import effects, json_codec
from runner.interpreter.effects import DeliveredEvent
from runner.interpreter.errors import USED_SECRETS, Kind, TaskFault, error, fault
from runner.interpreter.execution_context import ExecutionContext, OneTimeUrls, secret_data, secrets_data
from runner.interpreter.execution_machine import ExecutionMachine
from runner.interpreter.journal import pointer_of
from runner.interpreter.program import compile_program
from runner.interpreter.redaction import Redactor
from runner.interpreter.tracing import Observation, Observer, TaskStart
from runner.ipc import ProvidedEvent
from runner.outbound.http_client import HttpClient
from runner.outbound.request_bodies import EventAttachments
from runner.quarantine import INPUT
from runner.tracing.comparisons import text_comparisons
from runner.worker.cluster_components import LOCAL_COMPONENTS
from runner.worker.effect_calls import MonitoredCoroutine
from runner.worker.effect_executor import EffectExecutor
from runner.worker.mocked_calls import MockedCalls, MockedHttpClient, UnansweredCallError

REPORTED_WAIT_SECONDS: Final = 1.0  # idle time from which a wait is reported
DEFAULT_RETRY: Final = "quick"  # instead of the default of a cluster: somebody waits for the end
_WAITS: Final = frozenset({"wait", "retry"})


@attrs.define(eq=False, repr=False, kw_only=True)
class LocalClock:
    """Real time plus the time that was skipped."""

    skips: bool = False  # whether `sleep_until` takes no time
    _skipped_ms: int = attrs.field(init=False, default=0)

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self._skipped_ms

    def seconds_until(self, moment_ms: int) -> float:
        return max(0.0, (moment_ms - self.now_ms()) / 1000)

    async def sleep_until(self, moment_ms: int) -> None:
        """Wait until a moment, or skip the time."""
        if self.skips:
            self._skipped_ms += max(0, moment_ms - self.now_ms())
        await asyncio.sleep(self.seconds_until(moment_ms))


class LocalEvents:
    """Events in the order given; each is delivered once, to the first subscription that matches it."""

    def __init__(self, events: Sequence[ProvidedEvent]) -> None:
        self._events = [(index, event, orjson.loads(event.payload)) for index, event in enumerate(events)]
        self._number = 0
        self.ended: dict[str, effects.EffectResult] = {}  # what executions of other flows ended with, by their IDs

    @property
    def unreceived(self) -> tuple[int, ...]:
        """Indexes of the events that were not delivered."""
        return tuple(index for index, _, _ in self._events)

    def dequeue(self, subscriptions: Sequence[Subscription]) -> DeliveredEvent | None:
        for place, (_, provided, event) in enumerate(self._events):
            for subscription in subscriptions:
                if any(_matches(each, event, callback=provided.callback) for each in subscription.filters):
                    del self._events[place]
                    self._number += 1
                    return DeliveredEvent(JournalEntry(subscription.key, provided.payload), self._number)
        for subscription in subscriptions:
            if (end := self.ended.pop(subscription.execution_id, None)) is not None:
                self._number += 1
                return DeliveredEvent(JournalEntry(subscription.key, end.output, end.error), self._number)
        return None


def _matches(event_filter: EventFilter, event: Mapping[str, Any], *, callback: bool) -> bool:
    """Whether a filter matches an event, without correlations: the task itself checks the event's data."""
    if event_filter.callback is not callback or event_filter.type not in ("", event.get("type")):
        return False
    return all(cloud_events.attribute(event, name) == value for name, value in event_filter.attributes)


def placeholder_urls(event: Event, callbacks: tuple[str, ...]) -> OneTimeUrls | None:
    """Return placeholders for a flow's callback URLs, which nothing serves; None for a flow without callbacks."""
    if not callbacks:
        return None
    return OneTimeUrls(callbacks, lambda name, number: f"/hook/{event.flow_id}/{name}/exec-{number + 1}")


class RunStoppedError(Exception):
    """The run stopped before its end: after the task to stop after, or where the flow waits for events."""

    def __init__(self, ended: ipc.RunEnded) -> None:
        super().__init__()
        self.ended = ended


@attrs.define(eq=False, repr=False)
class Tracer(Observer):
    """An observer that reports tasks and stops the run after one of them."""

    _report: Callable[[bytes], None] | None  # called with the result of `describe` for each task; None: no tracing
    _until: str  # name or JSON Pointer of the task to stop after; empty: none
    _error_types: Spelling = "open-workflow"  # how the flow wants types of errors to be spelled

    @override
    def task_started(self, started: TaskStart) -> None:
        """Do nothing."""

    @override
    def task_cancelled(self, number: int) -> None:
        """Do nothing."""

    @override
    def task_ended(self, seen: Observation) -> None:
        """Report a task that has ended; `RunStoppedError` if it is the task to stop after, and did not fault."""
        if self._report is not None:
            self._report(describe(seen, self._error_types))
        if self._until in (seen.node.name, seen.node.pointer) and seen.error is None:
            output = json_codec.encode_result(seen.output, "the task's output")
            raise RunStoppedError(ipc.RunEnded(output, None, reached=True))


def describe(seen: Observation, spelling: Spelling) -> bytes:
    """Return a JSON object that describes a task that has ended.

    `{task, name, kind, status, input}`; `iteration` within loops; `output` and `then` unless it faulted, else `error`;
    `context` when it exported one; `notes`, see `text_comparisons`, if there are any. `status` is completed, skipped or
    faulted. A value of more than `limits.MAX_RESULT_BYTES` is replaced by its size.
    """
    node = seen.node
    entry: dict[str, Any] = {"task": node.pointer, "name": node.name, "kind": kind_of(node.definition)}
    if seen.iterations:
        entry["iteration"] = seen.iterations
    entry["status"] = "faulted" if seen.error else "skipped" if seen.skipped else "completed"
    entry["input"] = _shown(seen.input)
    if notes := text_comparisons(node.definition, seen.scope):
        entry["notes"] = notes
    if seen.error is not None:
        entry["error"] = seen.error.as_dict(spelling)
        return orjson.dumps(entry)
    entry["output"] = _shown(seen.output)
    if node.export.transform is not None and not seen.skipped:
        entry["context"] = _shown(seen.context)
    entry["then"] = seen.then
    return orjson.dumps(entry)


def _shown(value: Any) -> Any:
    try:
        encoded = json_codec.encode(value)
    except TaskFault:
        return "(nested too deeply)"
    if len(encoded) > limits.MAX_RESULT_BYTES:
        return f"({len(encoded)} bytes)"
    return orjson.Fragment(encoded)


async def execute(order: ipc.RunDocument, record: EvaluationRecord, control: ipc.ControlChannel) -> ipc.RunEnded:
    """Run to the end or to the `until` task and return the outcome; traces, replies and waits are sent to `control`."""
    program = compile_program(
        orjson.loads(order.definition), Evaluator(Supervision(record)), default_retry=DEFAULT_RETRY
    )
    event = convert.event_from_bytes(order.event)

    async def secret(name: str) -> bytes:
        return _secret(order.secrets, name)

    try:
        secrets = secrets_data({name: _secret(order.secrets, name) for name in program.secrets})
    except TaskFault as problem:
        return ipc.RunEnded(None, problem.at(USED_SECRETS).error)
    clock = LocalClock(skips=order.skip_waits)
    record.begin(INPUT, Activity.BODY)
    data = workflow_input(event, webhook=program.has_webhook, raw=program.takes_raw_body)
    data = [data] if program.batches else data
    record.end()
    workflow = ExecutionContext(
        id=event.id,
        definition=program.definition,
        raw_input=with_types(data, program.fields),
        started_at_ms=event.receive_time_ms,
        clock=clock.now_ms,
        secrets=secrets,
        one_time=placeholder_urls(event, program.callbacks),
    )
    attachments = EventAttachments({event.id: event}, raw=program.takes_raw_body)
    report = (lambda entry: control.send(ipc.TaskTraced(entry))) if order.trace else None
    machine = ExecutionMachine(
        program,
        workflow,
        observer=Tracer(report, order.until, error_types(program.definition)) if report or order.until else None,
    )
    events, policy = LocalEvents(order.events), order.settings.address_policy
    mocks = None
    if order.mocks is not None:
        known = Redactor([secret_data(value) for value in order.secrets.values()])
        mocks = MockedCalls(order.mocks, known, control.send, events.ended)
    client = (
        HttpClient(address_policy=policy) if mocks is None else MockedHttpClient(address_policy=policy, mocks=mocks)
    )
    async with client as http, SharedResources(order.settings) as shared:
        executor = EffectExecutor({**components(), **LOCAL_COMPONENTS}, http, order.settings, shared)

        async def perform(effect: effects.Perform) -> effects.EffectResult:
            really = partial(executor.perform, event.id, effect, secret, attachments)
            call = really() if mocks is None else mocks.perform(effect, really)
            result = await MonitoredCoroutine(call, record, b"", effect.instance)
            if result.reply is not None:
                control.send(ipc.ReplySent(result.reply))
            return result

        try:
            ending = await run_to_end(
                machine,
                perform,
                control.flush,
                clock=clock,
                events=events,
                on_wait=control.send,
                stops_waiting=order.stops_waiting,
            )
        except RunStoppedError as stop:
            return dataclasses.replace(stop.ended, unreceived=events.unreceived)
        except UnansweredCallError as end:
            return ipc.RunEnded(None, None, unanswered=str(end))
    match ending:
        case effects.WorkflowCompleted(output=output):
            return ipc.RunEnded(output, None, unreceived=events.unreceived)
        case effects.WorkflowFaulted(error=problem_):
            return ipc.RunEnded(None, problem_, unreceived=events.unreceived)


async def run_to_end(
    machine: ExecutionMachine,
    perform: Callable[[effects.Perform], Awaitable[effects.EffectResult]],
    on_pause: Callable[[], Awaitable[None]],
    *,
    clock: LocalClock,
    events: LocalEvents,
    on_wait: Callable[[ipc.WaitStarted], None],
    stops_waiting: bool = False,
) -> effects.WorkflowCompleted | effects.WorkflowFaulted:
    """Drive an execution that has not started to its end, without journaling.

    `perform` performs one effect; several run concurrently. `on_pause` is awaited when the execution pauses, `on_wait`
    called with each long wait while no call is in flight.

    Raises:
        RunStoppedError: it `stops_waiting`, and listens for events that are not there.
    """
    calls: dict[asyncio.Future[effects.EffectResult], effects.Perform] = {}
    step = machine.advance()
    try:
        while step.ending is None:
            for call in [call for call, effect in calls.items() if effect.key in step.cancel]:
                del calls[call]
                call.cancel()
            calls.update({asyncio.ensure_future(perform(effect)): effect for effect in step.perform})
            if step.paused:
                await on_pause()
                step = machine.advance()
            elif (event := events.dequeue(step.subscriptions)) is not None:
                step = machine.deliver(event)
            elif calls:
                seconds = None if step.wake_at_ms is None else clock.seconds_until(step.wake_at_ms)
                done, _ = await asyncio.wait(calls, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
                step = machine.resume(calls.pop(call := done.pop()), call.result()) if done else machine.advance()
            elif stops_waiting and step.subscriptions:
                waiting = pointer_of(step.subscriptions[0].key)
                raise RunStoppedError(ipc.RunEnded(None, None, waiting=waiting))
            elif step.wake_at_ms is not None:
                if (wait := _waiting(step, clock)).seconds >= REPORTED_WAIT_SECONDS:
                    on_wait(wait)
                await clock.sleep_until(step.wake_at_ms)
                step = machine.advance()
            else:
                return effects.WorkflowFaulted(_no_events(step.subscriptions[0]))
    finally:
        await end_tasks(calls)
    return step.ending


def _waiting(step: effects.Step, clock: LocalClock) -> ipc.WaitStarted:
    seconds = clock.seconds_until(step.wake_at_ms or 0)
    if step.subscriptions:
        awaited = step.subscriptions[0]
        return ipc.WaitStarted(pointer_of(awaited.key), "listen", seconds, _types(step.subscriptions), clock.skips)
    what = step.wakes.rpartition(":")[2]
    return ipc.WaitStarted(pointer_of(step.wakes), what if what in _WAITS else "timeout", seconds, skipped=clock.skips)


def _types(subscriptions: Sequence[Subscription]) -> tuple[str, ...]:
    return tuple(sorted({each.type for subscription in subscriptions for each in subscription.filters if each.type}))


def _no_events(awaited: Subscription) -> WorkflowError:
    types = f" of type {' or '.join(_types([awaited]))}" if _types([awaited]) else ""
    detail = (
        f"the task waits for events{types}, but without a cluster there are none: give them by --callback NAME=@FILE "
        "or --event @FILE, in a test by `events`, or start a cluster by flowhook up"
    )
    return error(Kind.CONFIGURATION, detail, instance=pointer_of(awaited.key))


def _secret(secrets: Mapping[str, bytes], name: str) -> bytes:
    if name not in secrets:
        raise fault(Kind.AUTHORIZATION, f"the secret {name} is not set; set it by --secret {name}=@FILE")
    return secrets[name]
