"""Serves a shard as its owner: builds all that works on it, and answers calls until it is to stop or lost it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import attrs
import grpc.aio
from prometheus_client import CollectorRegistry

from flowhook.errors import FlowhookError
from flowhook.process import logs
from flowhook.process.lifecycle import describe_full
from flowhook.process.process_state import ProcessState
from flowhook.process.settings import RouterSettings
from flowhook.process.ticks import next_tick
from flowhook.security.tokens import TokenVerifier
from flowhook.sharing.table import RouterLimits
from router.bodies.body_streams import BodySender, UploadReceiver
from router.calls.audit_recorder import AuditRecorder
from router.calls.call_durations import CallDurations
from router.cluster.term import StopRequest
from router.dispatch.parts import ShardParts
from router.dispatch.shard_runtime import ShardRuntime
from router.executions.reading import ExecutionReader
from router.flows.admission import AdmissionControl
from router.flows.flow_table import FlowTable
from router.flows.intake import EventIntake
from router.flows.parsing import InputParser
from router.flows.registry_watch import RegistryWatch
from router.flows.series_keeper import SeriesKeeper
from router.flows.statistics_reader import FlowStatisticsReader
from router.jobs.job_runner import JobActions, JobRunner
from router.jobs.job_specs import MatchingExecutions
from router.jobs.removal import ExecutionRemoval
from router.process.backup_schedule import BackupSchedule
from router.process.exposed_metrics import expose_shard
from router.process.grpc_server import add_service, bind, enable_reflection, new_server, service_names
from router.process.retention import RetentionKeeper
from router.rejections.received_requests import ReceivedRequests
from router.rejections.rejection_acceptance import OriginalSeal, RejectionAcceptance
from router.replay.replays import Replays
from router.scheduling.shard import Shard
from router.secrets.callback_keys import CallbackKeys, ReplyTokens
from router.secrets.flow_secrets import FlowSecrets, SecretMatches
from router.services.audit import AuditService
from router.services.cluster import ClusterService
from router.services.execution import ExecutionService
from router.services.flow import FlowService
from router.services.health import HealthService
from router.services.incident import IncidentService
from router.services.ingest import IngestService
from router.services.job import JobService
from router.services.rejection import RejectionService
from router.services.runner import RunnerService
from router.services.secret import SecretService
from router.services.shards import ShardService
from router.storage.encryption import SecretCipher, check_key_stored
from router.storage.limits import RESERVE_BYTES
from router.storage.shard_state import ShardState
from router.storage.storage import Storage
from router.triggers.cron_scheduler import CronScheduler
from router.triggers.event_publisher import EventPublisher
from router.triggers.execution_starter import ExecutionStarter
from router.triggers.join_trigger import JoinTrigger
from router.triggers.lifecycle_publisher import IncidentPublisher, LifecyclePublisher
from router.triggers.silence_watch import SilenceWatch

# time for runners to reattach and retain their executions, after their stream or the router ended
REATTACH_SECONDS: Final = 2.0
HEALTH_SECONDS: Final = 2.0  # between two checks of the health of storage, and the most that one may take
STOP_GRACE_SECONDS: Final = 2.0  # grace period for calls under way when the server stops
USES_SECONDS: Final = 60.0  # between two writes of the times when tokens were last used
log = logs.get_logger(__name__)


@attrs.define(eq=False, repr=False, kw_only=True)
class OwnedShard:
    """A shard that this router owns, and all that serves it."""

    _settings: RouterSettings
    _process_state: ProcessState
    _storage: Storage
    _state: ShardState
    _key: bytes  # of secrets
    _parser: InputParser
    _verifier: TokenVerifier
    _shards: ShardService
    _stop: StopRequest
    _port: int  # where gRPC listens; 0: any port
    _registry: CollectorRegistry  # where metrics are registered
    _limits: RouterLimits  # what callers share
    _confirmed: Callable[[], bool] = lambda: True  # whether the ownership is certain: work is assigned only then
    _before_bind: Callable[[], Awaitable[None]] | None = None  # called when everything is ready but the port
    _serving: Callable[[], None]  # called once calls are answered
    _durations: CallDurations = attrs.field(init=False, factory=CallDurations)

    async def serve(self) -> None:
        """Serve until a stop is requested; then drain, unless the shard is lost. The caller closes the storage.

        Raises:
            FlowhookError: the storage, the port or a certificate can't be used.
        """
        settings, storage, state, key, limits = self._settings, self._storage, self._state, self._key, self._limits
        registry, cipher, callback_keys = storage.registry, SecretCipher(key), CallbackKeys(key)
        parts = ShardParts(
            shard=Shard(
                epoch=state.epoch,
                fence=state.fence,
                lease_seconds=settings.lease_seconds,
                max_attempts=settings.max_attempts,
                reattach_seconds=REATTACH_SECONDS,
            ),
            state=state,
            log=storage.log,
            registry=self._registry,
            clock=time.monotonic,
            now_ms=_now_ms,
            limits=limits,
        )
        runtime = ShardRuntime(parts, buffer_seconds=settings.callback_seconds, may_assign=self._confirmed)
        flows = FlowTable(registry, policies=runtime, clock=time.monotonic)
        admission = AdmissionControl(
            runtime=runtime, flows=flows, parser=self._parser, total_backlog=settings.total_backlog
        )
        starter = ExecutionStarter(parts, admission)
        cron_scheduler = CronScheduler(parts, starter)
        join_trigger = JoinTrigger(parts, runtime.events, starter)
        publisher = EventPublisher(parts, runtime.events, join_trigger, starter)
        silence_watch = SilenceWatch(parts, storage.silences, publisher, _now_ms())
        retention = RetentionKeeper(
            settings=settings,
            state=state,
            bodies=storage.bodies,
            registry=registry,
            now_ms=_now_ms,
            removed=parts.metrics.by_label["flowhook_retention_deleted_total"],
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
            runtime=runtime,
            lease_seconds=settings.lease_seconds,
            admission=admission,
            publisher=publisher,
            starter=starter,
            body_sender=reads,
        )
        health_service = HealthService(service_names())
        matches = SecretMatches(_now_ms())
        flow_secrets, series = FlowSecrets(registry, matches), SeriesKeeper(runtime, storage.series, storage.usage)

        await cron_scheduler.recover()
        await flows.start(await runtime.recover(), [cron_scheduler, publisher, silence_watch, retention])
        await runtime.settle(storage.incidents)

        intake = EventIntake(
            runtime=runtime,
            admission=admission,
            parser=self._parser,
            bodies=storage.bodies,
            keys=callback_keys,
            matches=matches,
        )
        flow_service = FlowService(
            registry=registry,
            flows=flows,
            parser=self._parser,
            watch=RegistryWatch(registry),
            functions=runners.components,
            address_policy=settings.address_policy,
            callback_keys=callback_keys,
            cipher=cipher,
            statistics=FlowStatisticsReader(
                registry=registry,
                runtime=runtime,
                secrets=flow_secrets,
                next_of=cron_scheduler.next_of,
                silent_since=silence_watch.silent_since,
            ),
            series=series,
            now_ms=_now_ms,
        )
        replays = Replays(runtime=runtime, admission=admission, registry=registry)
        removal = ExecutionRemoval(runtime, storage)
        executions = ExecutionService(
            runtime=runtime,
            reader=ExecutionReader(state, runtime.executions, admission),
            body_sender=reads,
            replays=replays,
            removal=removal,
            replicated=settings.database() is None,
        )
        store, matching, actions = storage.jobs, MatchingExecutions(runtime), JobActions(runtime, replays, removal)
        runner = JobRunner(store=store, matching=matching, actions=actions, clock=time.monotonic, now_ms=_now_ms)
        jobs = JobService(runner=runner, replays=replays)
        cluster = ClusterService(
            process_state=self._process_state,
            parts=parts,
            total_backlog=settings.total_backlog,
            usage=storage.usage,
            situation=self._shards.situation,
        )
        rejections = RejectionService(
            rejections=storage.rejections,
            acceptance=RejectionAcceptance(storage=storage, intake=intake, seal=OriginalSeal(key), now_ms=_now_ms),
            received=ReceivedRequests(state, runtime.executions, storage.rejections),
            now_ms=_now_ms,
        )
        ingest = IngestService(runtime=runtime, intake=intake, tokens=ReplyTokens(key), uploads=uploads)
        server = new_server(self._verifier, limits, AuditRecorder(storage.audit, now_ms=_now_ms), self._durations)
        for servicer in (
            ingest,
            flow_service,
            rejections,
            AuditService(storage.audit),
            IncidentService(runtime.outages, storage.incidents),
            SecretService(
                registry=registry,
                cipher=cipher,
                secrets=flow_secrets,
                now_ms=_now_ms,
                check_key=partial(check_key_stored, settings.data_dir, settings.secrets_key, key),
            ),
            executions,
            jobs,
            runners,
            cluster,
            self._shards,
            health_service,
        ):
            add_service(server, servicer)
        enable_reflection(server)
        expose_shard(
            runtime=runtime,
            storage=storage,
            cron_scheduler=cron_scheduler,
            uploads=uploads,
            silence_watch=silence_watch,
            jobs=runner,
            verifier=self._verifier,
            flows=flows,
            durations=self._durations,
        )
        if self._before_bind is not None:
            await self._before_bind()
        self._process_state.announce("grpc", settings.host, bind(server, settings, self._port))
        upkeep = (
            self._watch_health(health_service),
            self._save_uses(),
            cron_scheduler.run(),
            join_trigger.run(),
            silence_watch.run(),
            LifecyclePublisher(parts, registry, publisher).run(),
            IncidentPublisher(outages=runtime.outages, incidents=storage.incidents, publisher=publisher).run(),
            series.run(),
            runner.run(),
            retention.run(),
            BackupSchedule(settings, self._process_state, parts.metrics.expose).run(),
        )
        try:
            await self._run(server, runtime, flows, runners, ingest, upkeep=upkeep, stopping=health_service.stop)
            await asyncio.gather(series.close(), self._save_uses_once())
        except* FlowhookError:
            if self._stop.drain_seconds is not None or not self._stop.requested.is_set():
                raise
            # the shard is lost: what was under way could not be stored here; callers repeat it with the next owner

    async def _run(
        self,
        server: grpc.aio.Server,
        runtime: ShardRuntime,
        flows: FlowTable,
        runners: RunnerService,
        ingest: IngestService,
        *,
        upkeep: Sequence[Coroutine[Any, Any, None]],
        stopping: Callable[[], None],
    ) -> None:
        """Run everything until a stop is requested, and end it in an order that loses nothing."""
        stop_runtime = asyncio.Event()
        async with contextlib.AsyncExitStack() as undo, asyncio.TaskGroup() as tasks:
            undo.push_async_callback(server.stop, None)  # also when a task fails: the port is needed again
            tasks.create_task(runtime.run(stop_runtime))
            await server.start()
            following = tasks.create_task(flows.follow())
            running = [tasks.create_task(each) for each in upkeep]
            self._serving()
            await self._stop.requested.wait()
            for task in running:
                task.cancel()
            stopping()
            if self._stop.drain_seconds is not None:
                await runners.drain(self._stop.drain_seconds)
            ingest.end_streams()
            # read anew: the shard may have been lost meanwhile
            await server.stop(None if self._stop.drain_seconds is None else STOP_GRACE_SECONDS)
            following.cancel()
            stop_runtime.set()

    async def _save_uses(self) -> None:
        while True:
            await asyncio.sleep(USES_SECONDS)
            await self._save_uses_once()

    async def _save_uses_once(self) -> None:
        try:
            await asyncio.to_thread(self._verifier.save_uses)
        except OSError as error:
            log.debug("last uses of tokens not saved", cause=os.strerror(error.errno or 0))

    async def _watch_health(self, service: HealthService) -> None:
        while True:
            lack = await self._lack()
            service.set(serving=not lack)
            self._process_state.detail = lack
            if lack:
                self._process_state.ready.clear()
            else:
                self._process_state.ready.set()
            await next_tick(HEALTH_SECONDS)

    async def _lack(self) -> str:
        if not self._confirmed():
            return "the replicated log (NATS) does not answer"
        try:
            async with asyncio.timeout(HEALTH_SECONDS):
                lack = await self._storage.lack()
        except TimeoutError:
            lack = f"a write takes more than {HEALTH_SECONDS:g} s"
        if not lack:
            return ""
        full = await asyncio.to_thread(describe_full, [self._storage.path.parent], least_bytes=RESERVE_BYTES)
        return f"{full}: make room" if full else f"storage is not writable: {lack}"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
