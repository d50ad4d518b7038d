"""Composition root of the child."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from typing import Final

from pydantic import SecretStr

import flowhook
from flowhook.asyncio_tasks import wait_at_most
from flowhook.client.channel import open_channel
from flowhook.process import logs
from flowhook.process.installation import watch_installation
from flowhook.process.metrics import process_metrics, registry
from flowhook.process.process_state import ProcessState
from flowhook.process.ticks import next_tick
from flowhook.reporting.process_reports import ProcessReporter
from flowhook.reporting.reachability import ReachabilityReporter
from flowhook.tracing.tracer import running_tracer
from runner import ipc
from runner.components.base import SharedResources
from runner.components.registry import callable_components, components
from runner.evaluation.evaluator import Evaluator
from runner.evaluation.supervision import Supervision
from runner.guard.evaluation_record import EvaluationRecord
from runner.metrics import METRICS
from runner.outbound.http_client import HttpClient
from runner.quarantine.isolated_evaluator import EvaluatorPool
from runner.quarantine.quarantined_flows import QuarantinedFlows
from runner.session import RouterClock, Session
from runner.worker import standalone
from runner.worker.attach_client import RouterConnection
from runner.worker.cluster_components import cluster_components
from runner.worker.effect_executor import EffectExecutor
from runner.worker.execution_driver import ExecutionDriver
from runner.worker.execution_spans import ExecutionTracing
from runner.worker.preparation import ExecutionPreparer
from runner.worker.quarantine_driver import QuarantineDriver
from runner.worker.router_reads import BodyFetcher, ProgramCache, SecretCache

BEAT_SECONDS: Final = 0.5
SETTLE_SECONDS: Final = 2.0  # time that the router has to settle the last outcomes

log = logs.get_logger(__name__)


async def work(control: ipc.ControlChannel, record: EvaluationRecord) -> None:
    """Wait for the parent's order and carry it out: serve until told to drain, or run one document.

    Exits the process when the parent is gone, because evaluations would no longer be supervised.
    """
    components()  # import them before the order arrives
    order = await control.receive()
    match order:
        case ipc.Begin():
            await _serve(order, control, record)
        case ipc.RunDocument():
            logs.configure(level="warning")  # on stderr: stdout is for the flow's output
            control.send(await standalone.execute(order, record, control))
            await control.flush()
        case _:
            os._exit(0)


async def _serve(order: ipc.Begin, control: ipc.ControlChannel, record: EvaluationRecord) -> None:
    settings = order.settings
    logs.configure(level=settings.log_level, log_format=settings.log_format, process=order.runner_id)
    loop = asyncio.get_running_loop()
    process_state = ProcessState(name=order.runner_id, role="runner")
    METRICS.expose(registry())
    METRICS.kills += order.kills
    session = Session(
        runner_id=order.runner_id,
        components=tuple(callable_components()),
        build=flowhook.__version__,
        capacity=settings.concurrency,
        losses_explained=order.losses_explained,
    )
    quarantined = QuarantinedFlows(
        time.monotonic,
        order.quarantined,
        on_added=lambda flow_id, seconds: control.send(ipc.Quarantined(flow_id, seconds)),
    )
    supervision = Supervision(record, quarantined.add)

    def attached(renew_seconds: float) -> None:
        process_state.ready.set()
        control.send(ipc.RouterAttached(renew_seconds))

    def detached(detail: str) -> None:
        process_state.ready.clear()
        process_state.detail = detail
        control.send(ipc.RouterDetached(detail))

    async with (
        process_metrics(process_state),
        open_channel(settings.model_copy(update={"token": SecretStr(order.token)}), "runner") as channel,
        HttpClient(address_policy=settings.address_policy) as http,
        SharedResources(settings) as shared,
        contextlib.aclosing(EvaluatorPool(settings)) as isolated,
        running_tracer(order.traces, "runner", order.runner_id, registry()) as tracer,
        asyncio.TaskGroup() as tasks,
    ):
        router_clock = RouterClock()
        connection = RouterConnection(channel, session, time.monotonic, router_clock, attached, detached)
        secrets, quarantine = SecretCache(channel, loop.time), QuarantineDriver(quarantined, isolated)
        executions = ExecutionDriver(
            session=session,
            preparer=ExecutionPreparer(
                flows=ProgramCache(channel, Evaluator(supervision)),
                secrets=secrets,
                bodies=BodyFetcher(channel),
                supervision=supervision,
                quarantine=quarantine,
            ),
            secrets=secrets,
            executor=EffectExecutor({**components(), **cluster_components(channel)}, http, settings, shared),
            record=record,
            tasks=tasks,
            request_send=connection.announce,
            sent=connection.sent,
            quarantine=quarantine,
            now_ms=router_clock.now_ms,
            public_url=settings.public_url,
            tracing=ExecutionTracing(tracer, order.runner_id, settings.traces_queue, settings.pass_trace_context),
            wake_guard=lambda: control.send(ipc.Working()),
        )
        record.rest()
        service = [
            tasks.create_task(connection.run(executions), name="attach"),
            tasks.create_task(executions.pump(), name="pump"),
            tasks.create_task(executions.stalls.run(), name="watch for stalls"),
            tasks.create_task(_beat(record), name="beat"),
            tasks.create_task(ProcessReporter(channel, process_state).run(), name="report"),
            tasks.create_task(ReachabilityReporter(channel, process_state).run(), name="report reachability"),
            tasks.create_task(watch_installation(process_state), name="watch the installation"),
        ]
        while isinstance(last := await control.receive(), ipc.ReadMetrics):
            control.send(ipc.MetricsRead(await process_state.metrics()))
        if not isinstance(last, ipc.Shutdown):
            os._exit(1)
        process_state.stop.set()
        await _drain(last.seconds, session, executions, connection)
        for task in service:
            task.cancel()
    log.debug("drained")


async def _drain(seconds: float, session: Session, executions: ExecutionDriver, connection: RouterConnection) -> None:
    """Wait for calls in flight, release executions that would begin new ones, and wait until all is settled."""
    session.drain()
    executions.drain()
    await wait_at_most(seconds, connection.idle())
    executions.release_all()
    await wait_at_most(SETTLE_SECONDS, connection.idle())


async def _beat(record: EvaluationRecord) -> None:
    while True:
        record.beat()
        await next_tick(BEAT_SECONDS)
