"""Composition root of the router."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import Final

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH_SERVICE
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry

from flowhook import logs, metrics
from flowhook.client.channel import SERVER_OPTIONS
from flowhook.config import RouterSettings
from flowhook.errors import ConflictError, InvalidError
from flowhook.private_files import restrict_permissions
from flowhook.process import ProcessState
from flowhook.process_reports import build_report
from flowhook.token_verifier import TokenVerifier
from flowhook.tokens import ensure_tokens
from flowhook.v1 import (
    cluster_service_pb2,
    cluster_service_pb2_grpc,
    execution_service_pb2,
    execution_service_pb2_grpc,
    flow_service_pb2,
    flow_service_pb2_grpc,
    ingest_service_pb2,
    ingest_service_pb2_grpc,
    rejection_service_pb2,
    rejection_service_pb2_grpc,
    runner_service_pb2,
    runner_service_pb2_grpc,
    secret_service_pb2,
    secret_service_pb2_grpc,
)
from router.admission import AdmissionControl
from router.callback_keys import CallbackKeys
from router.dispatch.shard_runtime import ShardRuntime
from router.encryption import SecretCipher, is_key_missing, load_secrets_key
from router.flow_table import FlowTable
from router.metrics import RouterMetrics
from router.parsing import InputParser
from router.registry_watch import RegistryWatch
from router.reply_tokens import ReplyTokens
from router.retention import expire_forever
from router.scheduling.shard import Shard
from router.services.authorization import Authorizer
from router.services.body_streams import BodySender, UploadReceiver
from router.services.callbacks import CallbackReceiver
from router.services.cluster import ClusterService
from router.services.emit_event_rpc import emit_event
from router.services.execution import ExecutionService
from router.services.flow import FlowService
from router.services.health import HealthService
from router.services.ingest import IngestService
from router.services.rejection import RejectionService
from router.services.runner import RunnerService
from router.services.secret import SecretService
from router.services.start_execution_rpc import start_execution
from router.storage.bodies import BodyStore
from router.storage.interface import Registry, Storage
from router.storage.sqlite import SWITCH_INTERVAL_SECONDS, open_sqlite
from router.triggers.cron_scheduler import CronScheduler
from router.triggers.event_publisher import EventPublisher
from router.triggers.execution_starter import ExecutionStarter
from router.triggers.join_trigger import JoinTrigger
from router.triggers.lifecycle_publisher import LifecyclePublisher

REATTACH_SECONDS: Final = 2.0
"""Time for runners to reattach and retain their executions, after their stream or the router ended."""

HEALTH_SECONDS: Final = 2.0
"""Between two checks of the health of storage."""

STOP_GRACE_SECONDS: Final = 2.0
"""Grace period for calls under way when the server stops."""

MAX_CONCURRENT_CALLS: Final = 20_000
"""Concurrent calls; most of them are waiting InvokeFlow calls."""

USES_SECONDS: Final = 60.0
"""Between two writes of the times when tokens were last used."""

MAX_TOLD: Final = 10
"""Most paths in one log entry."""

log = logs.get_logger(__name__)

_SERVICES: Final = tuple(
    module.DESCRIPTOR.services_by_name[name].full_name
    for module, name in (
        (ingest_service_pb2, "IngestService"),
        (flow_service_pb2, "FlowService"),
        (secret_service_pb2, "SecretService"),
        (rejection_service_pb2, "RejectionService"),
        (execution_service_pb2, "ExecutionService"),
        (runner_service_pb2, "RunnerService"),
        (cluster_service_pb2, "ClusterService"),
    )
)


async def serve(
    settings: RouterSettings, lifecycle: ProcessState, *, registry: CollectorRegistry | None = None
) -> None:
    """Serve until `lifecycle.stop` is set, then drain: runners detach, and writes under way become durable.

    Metrics are registered in `registry`, by default that of the process.

    Raises:
        FlowhookError: the data directory, the storage, the port or a certificate can't be used.
    """
    # else the storage's writer thread waits long for the GIL while this process is busy
    sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
    await _keep_private(settings)
    ensure_tokens(settings.data_dir)
    storage = await _open_storage(settings)
    try:
        key = await _load_key(settings, storage.registry)
        async with contextlib.aclosing(InputParser()) as parser:
            await _serve(settings, lifecycle, storage, key=key, parser=parser, registry=registry or metrics.registry())
    finally:
        await storage.close()


async def _serve(
    settings: RouterSettings,
    lifecycle: ProcessState,
    storage: Storage,
    *,
    key: bytes,
    parser: InputParser,
    registry: CollectorRegistry,
) -> None:
    cipher, tokens, callback_keys = SecretCipher(key), ReplyTokens(key), CallbackKeys(key)
    state = await storage.own(0)
    router_metrics = RouterMetrics(registry)
    core = Shard(
        epoch=state.epoch,
        lease_seconds=settings.lease_seconds,
        max_attempts=settings.max_attempts,
        reattach_seconds=REATTACH_SECONDS,
    )
    host = ShardRuntime(
        core=core,
        state=state,
        log_=storage.log(0),
        metrics=router_metrics,
        clock=time.monotonic,
        now_ms=_now_ms,
        buffer_seconds=settings.callback_seconds,
    )
    flows = FlowTable(storage.registry, policies=host, clock=time.monotonic)
    admission = AdmissionControl(
        host=host, flows=flows, parser=parser, total_backlog=settings.total_backlog, clock=time.monotonic
    )
    starter = ExecutionStarter(host=host, state=state, admission=admission, now_ms=_now_ms)
    cron_scheduler = CronScheduler(host=host, state=state, starter=starter, metrics=router_metrics, now_ms=_now_ms)
    join_trigger = JoinTrigger(arrivals=host.arrivals, state=state, starter=starter)
    publisher = EventPublisher(
        arrivals=host.arrivals,
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
    bodies = storage.bodies
    uploads = UploadReceiver(
        bodies=bodies, admission=admission, max_uploads=settings.max_uploads, max_bytes=settings.max_upload_bytes
    )
    reads = BodySender(bodies=bodies, state=state)
    runners = RunnerService(
        host=host,
        lease_seconds=settings.lease_seconds,
        emit_event=partial(emit_event, publisher=publisher),
        start_execution=partial(start_execution, admission=admission, starter=starter),
        reads=reads,
    )
    health_service = HealthService(_SERVICES)

    await cron_scheduler.recover()
    await flows.start(await host.recover(), [cron_scheduler, publisher])
    await host.settle()

    verifier = TokenVerifier(settings.data_dir)
    server = grpc.aio.server(
        interceptors=[Authorizer(verifier)],
        options=SERVER_OPTIONS,
        maximum_concurrent_rpcs=MAX_CONCURRENT_CALLS,
    )
    ingest_service_pb2_grpc.add_IngestServiceServicer_to_server(
        IngestService(
            host=host,
            state=state,
            admission=admission,
            callbacks=CallbackReceiver(
                admission=admission,
                arrivals=host.arrivals,
                state=state,
                keys=callback_keys,
                parser=parser,
                now_ms=_now_ms,
            ),
            tokens=tokens,
            metrics=router_metrics,
            bodies=bodies,
            uploads=uploads,
            now_ms=_now_ms,
        ),
        server,
    )
    flow_service_pb2_grpc.add_FlowServiceServicer_to_server(
        FlowService(
            registry=storage.registry,
            flows=flows,
            parser=parser,
            watch=RegistryWatch(storage.registry),
            functions=runners.components,
            callback_keys=callback_keys,
            next_of=cron_scheduler.next_of,
            now_ms=_now_ms,
        ),
        server,
    )
    rejection_service_pb2_grpc.add_RejectionServiceServicer_to_server(
        RejectionService(storage.rejections, now_ms=_now_ms), server
    )
    secret_service_pb2_grpc.add_SecretServiceServicer_to_server(
        SecretService(registry=storage.registry, cipher=cipher, now_ms=_now_ms), server
    )
    execution_service_pb2_grpc.add_ExecutionServiceServicer_to_server(
        ExecutionService(
            host=host, state=state, admission=admission, reads=reads, registry=storage.registry, now_ms=_now_ms
        ),
        server,
    )
    runner_service_pb2_grpc.add_RunnerServiceServicer_to_server(runners, server)
    cluster = ClusterService(partial(build_report, lifecycle), partial(metrics.render, registry))
    cluster_service_pb2_grpc.add_ClusterServiceServicer_to_server(cluster, server)
    health_pb2_grpc.add_HealthServicer_to_server(health_service, server)
    reflection.enable_server_reflection([*_SERVICES, HEALTH_SERVICE, reflection.SERVICE_NAME], server)

    _observe(router_metrics, host, cron_scheduler, uploads, bodies)
    port = _bind(server, settings)
    lifecycle.announce("grpc", settings.host, port)
    stop_host = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(host.run(stop_host))
        await server.start()
        following = tasks.create_task(flows.follow())
        upkeep = [
            tasks.create_task(_watch_health(storage, health_service, lifecycle)),
            tasks.create_task(_save_uses(verifier)),
            tasks.create_task(cron_scheduler.run()),
            tasks.create_task(join_trigger.run()),
            tasks.create_task(lifecycle_publisher.run()),
            tasks.create_task(
                expire_forever(
                    state, bodies, storage.registry, retention_seconds=settings.retention_seconds, now_ms=_now_ms
                )
            ),
        ]
        lifecycle.ready.set()
        await lifecycle.stop.wait()
        for task in upkeep:
            task.cancel()
        health_service.stop()
        await runners.drain(settings.drain_seconds)
        await server.stop(STOP_GRACE_SECONDS)
        await _save_uses_once(verifier)
        following.cancel()
        stop_host.set()


def _observe(
    router_metrics: RouterMetrics,
    host: ShardRuntime,
    cron_scheduler: CronScheduler,
    uploads: UploadReceiver,
    bodies: BodyStore,
) -> None:
    """Register the gauges of the router."""
    router_metrics.observe(
        "flowhook_router_backlog", "Accepted executions that have not ended.", lambda: host.core.unfinished
    )
    router_metrics.observe("flowhook_router_ready", "Executions ready for a runner.", lambda: host.core.ready)
    router_metrics.observe("flowhook_router_leased", "Executions under lease.", lambda: host.core.leased)
    router_metrics.observe(
        "flowhook_router_waiting", "Executions that wait for a time or an event.", lambda: host.core.waiting
    )
    router_metrics.observe("flowhook_router_suspended", "Suspended executions.", lambda: host.core.suspended)
    router_metrics.observe(
        "flowhook_router_arrivals", "Buffered events that no execution listens for yet.", lambda: host.arrivals.buffered
    )
    router_metrics.observe("flowhook_router_schedules", "Flows with a schedule.", lambda: len(cron_scheduler))
    router_metrics.observe("flowhook_router_uploads", "Uploads in progress.", lambda: uploads.under_way)
    router_metrics.observe(
        "flowhook_router_upload_bytes",
        "Bytes of uploads in progress, and of uploaded bodies without their event.",
        lambda: bodies.bytes,
    )
    router_metrics.observe("flowhook_router_runners", "Attached runners.", lambda: host.runners)


async def _keep_private(settings: RouterSettings) -> None:
    """Restrict the files in the data directory to their owner.

    Raises:
        InvalidError: the directory can't be used (`DATA_DIR_UNUSABLE`).
    """
    kind, _, path = settings.storage.partition(":")
    try:
        exposed = await asyncio.to_thread(
            restrict_permissions, settings.data_dir, Path(path) if kind == "sqlite" and path else None
        )
    except OSError as error:
        raise InvalidError(
            f"can't use the data directory {settings.data_dir}: {os.strerror(error.errno or 0)}",
            reason="DATA_DIR_UNUSABLE",
        ) from None
    if exposed:
        log.warning(
            "other users can access the data directory",
            paths=[str(path) for path in exposed[:MAX_TOLD]],
            count=len(exposed),
        )


async def _load_key(settings: RouterSettings, registry: Registry) -> bytes:
    """Return the secrets key; a new one if there are no secrets, or if they are to be discarded.

    Raises:
        FlowhookError: see `encryption.load_secrets_key`.
    """
    secrets = await registry.list_secrets()
    if secrets and settings.discard_secrets and is_key_missing(settings.data_dir, settings.secrets_key):
        await asyncio.gather(*(registry.delete_secret(secret.name) for secret in secrets))
        log.warning("secrets discarded: their key was missing", count=len(secrets))
        secrets = []
    return load_secrets_key(settings.data_dir, settings.secrets_key, sealed=len(secrets))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


async def _open_storage(settings: RouterSettings) -> Storage:
    url = settings.storage or f"sqlite:{settings.data_dir / 'flowhook.db'}"
    kind, _, path = url.partition(":")
    if kind != "sqlite" or not path:
        raise InvalidError(f"storage {kind!r} is not supported; use sqlite:PATH", reason="STORAGE_UNSUPPORTED")
    return await open_sqlite(Path(path), max_bytes=settings.storage_max_bytes)


def _bind(server: grpc.aio.Server, settings: RouterSettings) -> int:
    """Bind the server's port, with TLS when there is a certificate, and return it.

    Raises:
        InvalidError: a TLS file can't be read (`TLS_FILE_UNREADABLE`).
        ConflictError: the address can't be bound (`ADDRESS_IN_USE`).
    """
    address = (
        f"[{settings.host}]:{settings.grpc_port}" if ":" in settings.host else f"{settings.host}:{settings.grpc_port}"
    )
    credentials = _tls(settings)
    try:
        if credentials is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, credentials)
    except RuntimeError:
        raise ConflictError(
            f"can't listen on {address}: the address is in use, or not one of this machine's", reason="ADDRESS_IN_USE"
        ) from None


def _tls(settings: RouterSettings) -> grpc.ServerCredentials | None:
    if settings.tls_cert_file is None or settings.tls_key_file is None:
        if (settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file) != (None, None, None):
            raise InvalidError("TLS needs both --tls-cert-file and --tls-key-file", reason="TLS_FILE_UNREADABLE")
        return None
    client_ca = settings.tls_client_ca_file
    try:
        return grpc.ssl_server_credentials(
            [(settings.tls_key_file.read_bytes(), settings.tls_cert_file.read_bytes())],
            root_certificates=None if client_ca is None else client_ca.read_bytes(),
            require_client_auth=client_ca is not None,
        )
    except OSError as error:
        raise InvalidError(f"{error.filename}: {os.strerror(error.errno or 0)}", reason="TLS_FILE_UNREADABLE") from None


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


async def _watch_health(storage: Storage, service: HealthService, lifecycle: ProcessState) -> None:
    """Report the health of storage as gRPC health, until cancelled."""
    while True:
        healthy = await storage.healthy()
        service.set(serving=healthy)
        lifecycle.detail = "" if healthy else "storage is not writable"
        if healthy:
            lifecycle.ready.set()
        else:
            lifecycle.ready.clear()
        await asyncio.sleep(HEALTH_SECONDS)
