"""Serves a shard as its owner: builds all that works on it, and answers calls until it is to stop or lost it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import grpc.aio
from grpc_health.v1 import health_pb2_grpc
from prometheus_client import CollectorRegistry

from flowhook import limits
from flowhook.errors import FlowhookError, InternalError, UnavailableError
from flowhook.process import logs
from flowhook.process.process_state import ProcessState
from flowhook.process.settings import RouterSettings
from flowhook.reporting.process_reports import build_report
from flowhook.security.token_verifier import TokenVerifier
from flowhook.sharing.table import RouterLimits
from flowhook.v1 import (
    audit_service_pb2_grpc,
    cluster_service_pb2_grpc,
    execution_service_pb2_grpc,
    flow_service_pb2_grpc,
    ingest_service_pb2_grpc,
    job_service_pb2_grpc,
    rejection_service_pb2_grpc,
    runner_service_pb2_grpc,
    secret_service_pb2_grpc,
    shard_service_pb2_grpc,
)
from router.bodies.body_streams import BodySender, UploadReceiver
from router.calls.audit_recorder import AuditRecorder
from router.cluster.term import StopRequest
from router.dispatch.parts import ShardParts
from router.dispatch.shard_runtime import ShardRuntime
from router.executions.reading import ExecutionLists
from router.flows.admission import AdmissionControl
from router.flows.flow_table import FlowTable
from router.flows.intake import EventIntake
from router.flows.parsing import InputParser
from router.flows.registry_watch import RegistryWatch
from router.flows.statistics_reader import FlowStatisticsReader
from router.jobs.actions import JobActions
from router.jobs.job_runner import JobRunner
from router.jobs.job_specs import MatchingExecutions
from router.jobs.removal import ExecutionRemoval
from router.metrics import RouterMetrics
from router.process.grpc_server import bind, enable_reflection, new_server, service_names
from router.rejections.rejection_acceptance import OriginalSeal, RejectionAcceptance
from router.rejections.verifier_pool import VerifierPool
from router.replay.replays import Replays
from router.scheduling.shard import Shard
from router.secrets.callback_keys import CallbackKeys, ReplyTokens
from router.secrets.flow_secrets import FlowSecrets, SecretMatches
from router.services.audit import AuditService
from router.services.cluster import ClusterService
from router.services.execution import ExecutionService
from router.services.flow import FlowService
from router.services.health import HealthService
from router.services.ingest import IngestService
from router.services.job import JobService
from router.services.rejection import RejectionService
from router.services.runner import RunnerService
from router.services.secret import SecretService
from router.services.shards import ShardService
from router.storage.bodies import BodyStore
from router.storage.encryption import SecretCipher
from router.storage.registry import Registry
from router.storage.shard_state import ShardState
from router.storage.storage import Storage
from router.triggers.cron_scheduler import CronScheduler
from router.triggers.event_publisher import EventPublisher
from router.triggers.execution_starter import ExecutionStarter
from router.triggers.join_trigger import JoinTrigger
from router.triggers.lifecycle_publisher import LifecyclePublisher

SWEEP_SECONDS: Final = 60.0  # between two sweeps
STEP_SECONDS: Final = 0.05  # between two steps of one sweep, so that it never holds up acceptance
STEP: Final = 500  # executions removed in one step
# one in this many sweeps removes revisions, too: that takes longer, and few revisions are created in an hour
REVISION_SWEEPS: Final = 60
# time for runners to reattach and retain their executions, after their stream or the router ended
REATTACH_SECONDS: Final = 2.0
HEALTH_SECONDS: Final = 2.0  # between two checks of the health of storage, and the most that one may take
STOP_GRACE_SECONDS: Final = 2.0  # grace period for calls under way when the server stops
USES_SECONDS: Final = 60.0  # between two writes of the times when tokens were last used
log = logs.get_logger(__name__)


async def expire_forever(
    state: ShardState, bodies: BodyStore, registry: Registry, *, retention_seconds: float, now_ms: Callable[[], int]
) -> None:
    """Remove ended executions and former revisions of flows that are past retention, in small steps, until cancelled.

    When storage fails, the next sweep tries again. Each sweep also removes bodies that no event has referred to for
    `limits.UPLOAD_SECONDS`.
    """
    for number in itertools.count():
        bodies.sweep(seconds=limits.UPLOAD_SECONDS)
        executions = revisions = 0
        before_ms = now_ms() - int(retention_seconds * 1000)
        try:
            while step := await state.expire(ended_before_ms=before_ms, limit=STEP):
                executions += step
                await asyncio.sleep(STEP_SECONDS)
            if number % REVISION_SWEEPS == 0:
                revisions = await registry.forget_revisions(superseded_before_ms=before_ms)
        except (UnavailableError, InternalError) as error:
            log.warning("sweep failed", reason=error.reason)
        if executions or revisions:
            log.info("expired executions removed", executions=executions, revisions=revisions)
        await asyncio.sleep(SWEEP_SECONDS)


async def serve_shard(
    settings: RouterSettings,
    process_state: ProcessState,
    storage: Storage,
    state: ShardState,
    *,
    key: bytes,
    parser: InputParser,
    verifier: TokenVerifier,
    shards: ShardService,
    stop: StopRequest,
    port: int,
    registry: CollectorRegistry,
    render: Callable[[], bytes],
    limits: RouterLimits,
    confirmed: Callable[[], bool] = lambda: True,
    before_bind: Callable[[], Awaitable[None]] | None = None,
    serving: Callable[[int], None] = lambda _port: None,
) -> None:
    """Serve until `stop` is requested; then drain, unless the shard is lost. The caller closes the storage.

    Args:
        settings: those of the router.
        process_state: state of the process.
        storage: it holds the shard.
        state: the shard, which this router owns.
        key: key of secrets.
        parser: parses what senders sent.
        verifier: verifies tokens.
        shards: answers who owns the shard.
        stop: ends the serving.
        port: where gRPC listens; 0: any port.
        registry: where metrics are registered.
        render: returns the metrics of the process.
        limits: what callers share.
        confirmed: whether this router certainly is the owner still: work is assigned only then.
        before_bind: called when everything is ready but the port.
        serving: called with the port once calls are answered.

    Raises:
        FlowhookError: the storage, the port or a certificate can't be used.
    """
    cipher, callback_keys = SecretCipher(key), CallbackKeys(key)
    router_metrics = RouterMetrics(registry)
    core = Shard(
        epoch=state.epoch,
        lease_seconds=settings.lease_seconds,
        max_attempts=settings.max_attempts,
        reattach_seconds=REATTACH_SECONDS,
    )
    host = ShardRuntime(
        ShardParts(
            shard=core,
            state=state,
            log=storage.log(0),
            metrics=router_metrics,
            clock=time.monotonic,
            now_ms=_now_ms,
            limits=limits,
        ),
        buffer_seconds=settings.callback_seconds,
        may_assign=confirmed,
    )
    flows = FlowTable(storage.registry, policies=host, clock=time.monotonic)
    admission = AdmissionControl(
        runtime=host, flows=flows, parser=parser, total_backlog=settings.total_backlog, clock=time.monotonic
    )
    starter = ExecutionStarter(runtime=host, state=state, admission=admission, now_ms=_now_ms)
    cron_scheduler = CronScheduler(ends=host.ends, state=state, starter=starter, metrics=router_metrics, now_ms=_now_ms)
    join_trigger = JoinTrigger(events=host.events, state=state, starter=starter)
    publisher = EventPublisher(
        events=host.events,
        join_trigger=join_trigger,
        starter=starter,
        metrics=router_metrics,
        outbox=host.outbox,
        now_ms=_now_ms,
    )
    lifecycle_publisher = LifecyclePublisher(
        outbox=host.outbox,
        state=state,
        registry=storage.registry,
        publisher=publisher,
        metrics=router_metrics,
        now_ms=_now_ms,
    )
    uploads = UploadReceiver(
        bodies=storage.bodies,
        admission=admission,
        uploads=replace(limits.uploads, total=2 * settings.max_uploads, reserved=settings.max_uploads * 3 // 2),
        upload_bytes=replace(
            limits.upload_bytes, total=settings.max_upload_bytes, reserved=settings.max_upload_bytes // 2
        ),
    )
    reads = BodySender(bodies=storage.bodies, state=state, limit=limits.downloads)
    runners = RunnerService(
        runtime=host,
        lease_seconds=settings.lease_seconds,
        admission=admission,
        publisher=publisher,
        starter=starter,
        body_sender=reads,
        now_ms=_now_ms,
    )
    health_service = HealthService(service_names())
    matches = SecretMatches(_now_ms())
    flow_secrets = FlowSecrets(storage.registry, matches)

    await cron_scheduler.recover()
    await flows.start(await host.recover(), [cron_scheduler, publisher])
    await host.settle()

    server = new_server(verifier, limits, AuditRecorder(storage.audit, now_ms=_now_ms))
    intake = EventIntake(
        runtime=host,
        state=state,
        admission=admission,
        parser=parser,
        bodies=storage.bodies,
        keys=callback_keys,
        matches=matches,
        metrics=router_metrics,
        now_ms=_now_ms,
    )
    ingest_service_pb2_grpc.add_IngestServiceServicer_to_server(
        ingest := IngestService(runtime=host, state=state, intake=intake, tokens=ReplyTokens(key), uploads=uploads),
        server,
    )
    flow_service_pb2_grpc.add_FlowServiceServicer_to_server(
        FlowService(
            registry=storage.registry,
            flows=flows,
            parser=parser,
            watch=RegistryWatch(storage.registry),
            functions=runners.components,
            address_policy=settings.address_policy,
            callback_keys=callback_keys,
            cipher=cipher,
            next_of=cron_scheduler.next_of,
            statistics=FlowStatisticsReader(
                registry=storage.registry,
                state=state,
                runtime=host,
                secrets=flow_secrets,
                next_of=cron_scheduler.next_of,
                now_ms=_now_ms,
            ),
            now_ms=_now_ms,
        ),
        server,
    )
    rejection_service_pb2_grpc.add_RejectionServiceServicer_to_server(_rejection_service(storage, key, intake), server)
    audit_service_pb2_grpc.add_AuditServiceServicer_to_server(AuditService(storage.audit), server)
    secret_service_pb2_grpc.add_SecretServiceServicer_to_server(
        SecretService(registry=storage.registry, cipher=cipher, secrets=flow_secrets, now_ms=_now_ms), server
    )
    replays = Replays(runtime=host, state=state, admission=admission, registry=storage.registry, now_ms=_now_ms)
    removal = ExecutionRemoval(
        records=host.executions,
        state=state,
        commands=host.commands,
        rejections=storage.rejections,
        bodies=storage.bodies,
    )
    execution_service_pb2_grpc.add_ExecutionServiceServicer_to_server(
        ExecutionService(
            runtime=host,
            state=state,
            admission=admission,
            lists=ExecutionLists(state, host.executions, admission),
            body_sender=reads,
            replays=replays,
            removal=removal,
            replicated=settings.storage.startswith(("nats:", "tls:")),
            now_ms=_now_ms,
        ),
        server,
    )
    jobs = _job_service(storage, state, host, replays, removal)
    job_service_pb2_grpc.add_JobServiceServicer_to_server(jobs, server)
    runner_service_pb2_grpc.add_RunnerServiceServicer_to_server(runners, server)
    cluster_service_pb2_grpc.add_ClusterServiceServicer_to_server(
        ClusterService(
            own=partial(build_report, process_state),
            render=render,
            shard=core,
            total_backlog=settings.total_backlog,
            usage=storage.usage,
            situation=shards.situation,
            now_ms=_now_ms,
            shared=limits,
        ),
        server,
    )
    shard_service_pb2_grpc.add_ShardServiceServicer_to_server(shards, server)
    health_pb2_grpc.add_HealthServicer_to_server(health_service, server)
    enable_reflection(server)

    _observe(router_metrics, host, cron_scheduler, uploads)
    if before_bind is not None:
        await before_bind()
    port = bind(server, settings, port)
    process_state.announce("grpc", settings.host, port)
    upkeep = (
        _watch_health(storage, health_service, process_state, confirmed),
        _save_uses(verifier),
        cron_scheduler.run(),
        join_trigger.run(),
        lifecycle_publisher.run(),
        host.restore_statistics(),
        jobs.runner.run(),
        expire_forever(
            state, storage.bodies, storage.registry, retention_seconds=settings.retention_seconds, now_ms=_now_ms
        ),
    )
    try:
        await _run(
            server,
            host,
            flows,
            runners,
            ingest,
            upkeep=upkeep,
            serving=partial(serving, port),
            stop=stop,
            stopping=health_service.stop,
        )
        await _save_uses_once(verifier)
    except* FlowhookError:
        if stop.drain_seconds is not None or not stop.requested.is_set():
            raise
        # the shard is lost: what was under way could not be stored here, and callers repeat it with the next owner


def _rejection_service(storage: Storage, key: bytes, intake: EventIntake) -> RejectionService:
    """Return the service of rejected requests, whose events `intake` stores."""
    verifiers, seal = VerifierPool(), OriginalSeal(key)
    acceptance = RejectionAcceptance(
        rejections=storage.rejections,
        registry=storage.registry,
        verifiers=verifiers,
        seal=seal,
        intake=intake,
        now_ms=_now_ms,
    )
    return RejectionService(
        rejections=storage.rejections, seal=seal, acceptance=acceptance, verifiers=verifiers, now_ms=_now_ms
    )


def _job_service(
    storage: Storage, state: ShardState, runtime: ShardRuntime, replays: Replays, removal: ExecutionRemoval
) -> JobService:
    """Return the service of bulk jobs, with their runner."""
    matching = MatchingExecutions(state, runtime.executions, time.monotonic)
    actions = JobActions(
        commands=runtime.commands, records=runtime.executions, state=state, replays=replays, removal=removal
    )
    runner = JobRunner(store=storage.jobs, matching=matching, actions=actions, clock=time.monotonic, now_ms=_now_ms)
    return JobService(
        store=storage.jobs, runner=runner, matching=matching, replays=replays, state=state, now_ms=_now_ms
    )


async def _run(
    server: grpc.aio.Server,
    runtime: ShardRuntime,
    flows: FlowTable,
    runners: RunnerService,
    ingest: IngestService,
    *,
    upkeep: Sequence[Coroutine[Any, Any, None]],
    serving: Callable[[], None],
    stop: StopRequest,
    stopping: Callable[[], None],
) -> None:
    """Run everything until `stop` is requested, and end it in an order that loses nothing."""
    stop_host = asyncio.Event()
    async with contextlib.AsyncExitStack() as undo, asyncio.TaskGroup() as tasks:
        undo.push_async_callback(server.stop, None)  # also when a task fails: the port is needed again
        tasks.create_task(runtime.run(stop_host))
        await server.start()
        following = tasks.create_task(flows.follow())
        running = [tasks.create_task(each) for each in upkeep]
        serving()
        await stop.requested.wait()
        for task in running:
            task.cancel()
        stopping()
        if stop.drain_seconds is not None:
            await runners.drain(stop.drain_seconds)
        ingest.end_streams()
        await server.stop(None if stop.drain_seconds is None else STOP_GRACE_SECONDS)
        following.cancel()
        stop_host.set()


def _observe(
    router_metrics: RouterMetrics,
    runtime: ShardRuntime,
    cron_scheduler: CronScheduler,
    uploads: UploadReceiver,
) -> None:
    """Register the gauges of the router."""
    router_metrics.observe(
        "flowhook_router_backlog", "Accepted executions that have not ended.", lambda: runtime.shard.unfinished
    )
    router_metrics.observe("flowhook_router_ready", "Executions ready for a runner.", lambda: runtime.shard.ready)
    router_metrics.observe("flowhook_router_leased", "Executions under lease.", lambda: runtime.shard.leased)
    router_metrics.observe(
        "flowhook_router_waiting", "Executions that wait for a time or an event.", lambda: runtime.shard.waiting
    )
    router_metrics.observe("flowhook_router_suspended", "Suspended executions.", lambda: runtime.shard.suspended)
    router_metrics.observe(
        "flowhook_router_buffered_events",
        "Buffered events that no execution listens for yet.",
        lambda: runtime.events.buffered,
    )
    router_metrics.observe("flowhook_router_schedules", "Flows with a schedule.", lambda: len(cron_scheduler))
    router_metrics.observe("flowhook_router_uploads", "Uploads in progress.", lambda: uploads.under_way)
    router_metrics.observe(
        "flowhook_router_upload_bytes",
        "Bytes of uploads in progress, and of uploaded bodies without their event.",
        lambda: uploads.bytes,
    )
    router_metrics.observe("flowhook_router_runners", "Attached runners.", lambda: runtime.runners)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


async def _save_uses(verifier: TokenVerifier) -> None:
    """Write the times when tokens were last used to disk, periodically."""
    while True:
        await asyncio.sleep(USES_SECONDS)
        await _save_uses_once(verifier)


async def _save_uses_once(verifier: TokenVerifier) -> None:
    try:
        await asyncio.to_thread(verifier.save_uses)
    except OSError as error:
        log.debug("last uses of tokens not saved", cause=os.strerror(error.errno or 0))


async def _watch_health(
    storage: Storage,
    service: HealthService,
    process_state: ProcessState,
    confirmed: Callable[[], bool],
) -> None:
    """Report the health of storage as gRPC health, until cancelled."""
    while True:
        healthy = confirmed() and await _is_healthy(storage)
        service.set(serving=healthy)
        process_state.detail = "" if healthy else "storage is not writable"
        if healthy:
            process_state.ready.set()
        else:
            process_state.ready.clear()
        await asyncio.sleep(HEALTH_SECONDS)


async def _is_healthy(storage: Storage) -> bool:
    try:
        async with asyncio.timeout(HEALTH_SECONDS):
            return await storage.healthy()
    except TimeoutError:
        return False
