"""Composition root of the child."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from typing import Final

from pydantic import SecretStr

import flowhook
from flowhook import logs
from flowhook.client.channel import open_channel
from flowhook.process import Lifecycle
from flowhook.process_reports import Reporter
from runner import control, metrics, session
from runner.calls import Caller
from runner.components.registry import callable_components, components
from runner.components.shared import Shared
from runner.evaluator import Evaluator
from runner.guard.record import Record
from runner.outbound import HttpClient
from runner.quarantine.flows import QuarantinedFlows
from runner.quarantine.pool import EvaluatorPool
from runner.worker import single
from runner.worker.attach import Attachment
from runner.worker.bodies import Bodies
from runner.worker.cluster import cluster_functions
from runner.worker.executions import Executions
from runner.worker.flows import Flows
from runner.worker.preparing import Preparer
from runner.worker.quarantine import Quarantine
from runner.worker.secrets import Secrets

BEAT_SECONDS: Final = 0.5
SETTLE_SECONDS: Final = 2.0
"""Time that the router has to settle the last outcomes."""

log = logs.get_logger(__name__)


async def work(pipe: control.Pipe, record: Record) -> None:
    """Wait for the parent's order and carry it out: serve until told to drain, or run one document.

    Exits the process when the parent is gone, because evaluations would no longer be supervised.
    """
    components()  # import them before the order arrives
    order = await pipe.receive()
    match order:
        case control.Begin():
            await _serve(order, pipe, record)
        case control.Execute():
            logs.configure(level="warning")  # on stderr: stdout is for the flow's output
            pipe.send(await single.execute(order, record, pipe))
            await pipe.flush()
        case _:
            os._exit(0)


async def _serve(order: control.Begin, pipe: control.Pipe, record: Record) -> None:
    settings = order.settings
    logs.configure(level=settings.log_level, log_format=settings.log_format, process=order.runner_id)
    loop = asyncio.get_running_loop()
    lifecycle = Lifecycle(name=order.runner_id, role="runner")
    metrics.EVALUATION_KILLS.inc(order.kills)
    link = session.Session(
        runner_id=order.runner_id,
        components=tuple(callable_components()),
        build=flowhook.__version__,
        capacity=settings.concurrency,
        losses_explained=order.losses_explained,
    )
    quarantined = QuarantinedFlows(
        time.monotonic,
        order.quarantined,
        on_added=lambda flow_id, seconds: pipe.send(control.Quarantined(flow_id, seconds)),
    )
    evaluator = Evaluator(record, on_slow=quarantined.add)

    def attached(renew_seconds: float) -> None:
        lifecycle.ready.set()
        pipe.send(control.Attached(renew_seconds))

    def detached(detail: str) -> None:
        lifecycle.ready.clear()
        lifecycle.detail = detail
        pipe.send(control.Detached(detail))

    async with (
        open_channel(settings.model_copy(update={"token": SecretStr(order.token)}), "runner") as channel,
        HttpClient(allow_private_addresses=settings.allow_private_addresses) as http,
        Shared(settings) as shared,
        contextlib.aclosing(EvaluatorPool(settings)) as isolated,
        asyncio.TaskGroup() as tasks,
    ):
        attachment = Attachment(channel, link, time.monotonic)
        attachment.on_attached, attachment.on_detached = attached, detached
        secrets, quarantine = Secrets(channel, loop.time), Quarantine(quarantined, isolated)
        executions = Executions(
            link=link,
            preparer=Preparer(
                flows=Flows(channel, evaluator),
                secrets=secrets,
                bodies=Bodies(channel),
                record=record,
                quarantine=quarantine,
                on_slow=quarantined.add,
            ),
            secrets=secrets,
            caller=Caller({**components(), **cluster_functions(channel)}, http, settings, shared),
            record=record,
            tasks=tasks,
            announce=attachment.announce,
            sent=attachment.sent,
            evaluator=evaluator,
            quarantine=quarantine,
            public_url=settings.public_url,
        )
        service = [
            tasks.create_task(attachment.run(executions), name="attach"),
            tasks.create_task(executions.pump(), name="pump"),
            tasks.create_task(_beat(record), name="beat"),
            tasks.create_task(Reporter(channel, lifecycle).run(), name="report"),
        ]
        await _drain(await _told_to_drain(pipe), link, executions, attachment)
        for task in service:
            task.cancel()
    log.debug("drained")


async def _told_to_drain(pipe: control.Pipe) -> float:
    order = await pipe.receive()
    if not isinstance(order, control.Drain):
        os._exit(1)
    return order.seconds


async def _drain(seconds: float, link: session.Session, executions: Executions, attachment: Attachment) -> None:
    """Wait for calls in flight, release executions that would begin new ones, and wait until all is settled."""
    link.drain()
    executions.drain()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await attachment.idle()
    executions.give_back()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SETTLE_SECONDS):
            await attachment.idle()


async def _beat(record: Record) -> None:
    while True:
        record.beat()
        await asyncio.sleep(BEAT_SECONDS)
