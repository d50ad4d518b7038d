"""Executes one document in a child without a router, for `flowhook exec`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import orjson

from flowhook.events.workflow_input import has_webhook, takes_raw_body, workflow_input
from flowhook.model import Subscription, WorkflowError
from flowhook.wire import convert
from runner import ipc
from runner.components.base import SharedResources
from runner.components.registry import components
from runner.evaluation.evaluator import Evaluator
from runner.guard.evaluation_record import Activity, EvaluationRecord
from runner.interpreter import effects
from runner.interpreter.errors import USED_SECRETS, Kind, TaskFault, error, fault
from runner.interpreter.execution_context import ExecutionContext, secrets_data
from runner.interpreter.execution_machine import ExecutionMachine
from runner.interpreter.journal import pointer_of
from runner.interpreter.program import compile_program
from runner.outbound.http_client import HttpClient
from runner.outbound.request_bodies import EventAttachments
from runner.quarantine import INPUT
from runner.worker.effect_executor import EffectExecutor
from runner.worker.local_cluster import LOCAL_COMPONENTS, LocalClock, LocalEvents, placeholder_urls
from runner.worker.monitored_coroutine import MonitoredCoroutine
from runner.worker.tracing import ReachedError, Tracer

REPORTED_WAIT_SECONDS: Final = 1.0  # idle time from which a wait is reported
_WAITS: Final = frozenset({"wait", "retry"})


async def execute(order: ipc.RunDocument, record: EvaluationRecord, control: ipc.ControlChannel) -> ipc.RunEnded:
    """Run to the end or to the `until` task and return the outcome; traces, replies and waits are sent to `control`."""
    program = compile_program(orjson.loads(order.definition), Evaluator(record))
    event = convert.event_from_bytes(order.event)

    async def secret(name: str) -> bytes:
        return _secret(order.secrets, name)

    try:
        secrets = secrets_data({name: _secret(order.secrets, name) for name in program.secrets})
    except TaskFault as problem:
        return ipc.RunEnded(None, problem.at(USED_SECRETS).error)
    raw = takes_raw_body(program.definition)
    clock = LocalClock(skips=order.skip_waits)
    record.begin(INPUT, Activity.BODY)
    data = workflow_input(event, webhook=has_webhook(program.definition), raw=raw)
    record.end()
    workflow = ExecutionContext(
        id=event.id,
        definition=program.definition,
        raw_input=data,
        started_at_ms=event.receive_time_ms,
        clock=clock.now_ms,
        secrets=secrets,
        one_time=placeholder_urls(event, program.definition),
    )
    attachments = EventAttachments(event, event.id, raw=raw)
    report = (lambda entry: control.send(ipc.TaskTraced(entry))) if order.trace else None
    machine = ExecutionMachine(
        program, workflow, observer=Tracer(report, order.until) if report or order.until else None
    )
    async with (
        HttpClient(address_policy=order.settings.address_policy) as http,
        SharedResources(order.settings) as shared,
    ):
        executor = EffectExecutor({**components(), **LOCAL_COMPONENTS}, http, order.settings, shared)

        async def perform(effect: effects.Perform) -> effects.EffectResult:
            result = await MonitoredCoroutine(
                executor.perform(event.id, effect, secret, attachments), record, b"", effect.instance
            )
            if result.reply is not None:
                control.send(ipc.ReplySent(result.reply))
            return result

        try:
            ending = await run_to_end(
                machine, perform, control.flush, clock=clock, events=LocalEvents(order.events), on_wait=control.send
            )
        except ReachedError as end:
            return ipc.RunEnded(end.output, None, reached=True)
    match ending:
        case effects.WorkflowCompleted(output=output):
            return ipc.RunEnded(output, None)
        case effects.WorkflowFaulted(error=problem_):
            return ipc.RunEnded(None, problem_)


async def run_to_end(
    machine: ExecutionMachine,
    perform: Callable[[effects.Perform], Awaitable[effects.EffectResult]],
    on_pause: Callable[[], Awaitable[None]],
    *,
    clock: LocalClock,
    events: LocalEvents,
    on_wait: Callable[[ipc.WaitStarted], None],
) -> effects.WorkflowCompleted | effects.WorkflowFaulted:
    """Drive an execution that has not started to its end, without journaling.

    `perform` performs one effect; several run concurrently. `on_pause` is awaited when the execution pauses, `on_wait`
    called with each long wait while no call is in flight.
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
            elif (event := events.take(step.subscriptions)) is not None:
                step = machine.deliver(event)
            elif calls:
                seconds = None if step.wake_at_ms is None else clock.seconds_until(step.wake_at_ms)
                done, _ = await asyncio.wait(calls, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
                step = machine.resume(calls.pop(call := done.pop()), call.result()) if done else machine.advance()
            elif step.wake_at_ms is not None:
                if (wait := _waiting(step, clock)).seconds >= REPORTED_WAIT_SECONDS:
                    on_wait(wait)
                await clock.sleep_until(step.wake_at_ms)
                step = machine.advance()
            else:
                return effects.WorkflowFaulted(_no_events(step.subscriptions[0]))
    finally:
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
    return step.ending


def _waiting(step: effects.Step, clock: LocalClock) -> ipc.WaitStarted:
    """Describe the wait of an execution that has no call in flight."""
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
        "or --event @FILE, or start a cluster by flowhook up"
    )
    return error(Kind.CONFIGURATION, detail, instance=pointer_of(awaited.key))


def _secret(secrets: Mapping[str, bytes], name: str) -> bytes:
    if name not in secrets:
        raise fault(Kind.AUTHORIZATION, f"the secret {name} is not set; set it by --secret {name}=@FILE")
    return secrets[name]
