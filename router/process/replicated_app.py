"""Composition root of a router on a replicated log."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Final

import attrs
from prometheus_client import CollectorRegistry
from typing_extensions import override

from flowhook.errors import ConflictError, InvalidError
from flowhook.process import logs, metrics
from flowhook.process.metrics import ExposedMetrics
from flowhook.process.process_metrics import process_metrics
from flowhook.process.process_state import ProcessState
from flowhook.process.settings import RouterSettings
from flowhook.security.private_files import make_directory
from flowhook.security.token_verifier import TokenVerifier
from flowhook.security.tokens import FILE as TOKENS_FILE
from flowhook.sharing.table import RouterLimits
from router.cluster.address_checks import channel_opener
from router.cluster.member import Member
from router.cluster.shard_map import LogReport
from router.cluster.term import StopRequest, Term, TermRunner
from router.cluster.watches import PeerDifferences, refuse_namesake
from router.flows.parsing import InputParser
from router.process.credentials import CredentialWatch
from router.process.grpc_server import StandbyServer
from router.process.serving import OwnedShard
from router.services.shards import ShardService
from router.storage.commit_log.interface import LogReplacedError, ObjectStore, ReplicatedLog
from router.storage.commit_log.jetstream.opening import connect
from router.storage.commit_log.refusals import Refusals, RefusedKind
from router.storage.commit_log.seals import ClusterKeys
from router.storage.encryption import KEY_FILE, key_fingerprint, require_secrets_key
from router.storage.errors import translate
from router.storage.limits import REPLICATED_LIMITS
from router.storage.replicated.rebuilding import FORMAT_FACT, KEY_FACT, LOG_FACT
from router.storage.replicated.recorder import LogRecorder
from router.storage.replicated.snapshot_schedule import SnapshotSchedule, SnapshotTask
from router.storage.replicated.snapshots import SnapshotStore
from router.storage.replicated.view import View, read_last_erasure
from router.storage.schema import FORMAT_VERSION
from router.storage.storage import DataLock, Storage, open_storage

# most time that runners get to finish what they have when the shard is handed over: the next owner adopts them
HAND_OVER_SECONDS: Final = 2.0
LOCK_FILE: Final = "router.lock"
MAX_NAME: Final = 64
_UNUSABLE_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9_-]", re.ASCII)

log = logs.get_logger(__name__)


async def serve_replicated(
    settings: RouterSettings, process_state: ProcessState, *, registry: CollectorRegistry | None = None
) -> None:
    """Follow, and serve while this router is the owner, until the process is to stop.

    Raises:
        FlowhookError: the log, the view, the port or a certificate can't be used.
    """
    if not (settings.data_dir / TOKENS_FILE).exists():
        raise InvalidError(
            f"{settings.data_dir / TOKENS_FILE} is missing: all routers of a replicated log need the same tokens."
            f" Copy {TOKENS_FILE} and {KEY_FILE} from another router; for the first one, make them with"
            " 'flowhook tokens create'",
            reason="TOKENS_MISSING",
        )
    key = require_secrets_key(settings.data_dir, settings.secrets_key)
    name = _UNUSABLE_IN_NAMES.sub("-", process_state.name)[:MAX_NAME]
    view = View(settings.view_dir or settings.data_dir / "view")
    lock = await asyncio.to_thread(_lock, view)
    try:
        await _serve_view(settings, process_state, name, view, key=key, registry=registry or metrics.registry())
    finally:
        lock.release()


def _lock(view: View) -> DataLock:
    """Lock a view, which a follower writes and discards, for this process. Blocks."""
    try:
        make_directory(view.path.parent)
        return DataLock(view.path.with_name(LOCK_FILE))
    except OSError as error:
        raise translate(error) from error


async def _serve_view(
    settings: RouterSettings,
    process_state: ProcessState,
    name: str,
    view: View,
    *,
    key: bytes,
    registry: CollectorRegistry,
) -> None:
    replicated = await asyncio.to_thread(
        connect,
        settings.storage,
        ClusterKeys(key),
        router=name,
        creds_file=settings.nats_creds_file,
        ca_file=settings.nats_ca_file,
    )
    try:
        await asyncio.to_thread(_check_key, replicated, key)
        await asyncio.to_thread(_check_log, replicated, view)
        async with (
            contextlib.aclosing(InputParser()) as parser,
            process_metrics(process_state, registry) as exposed,
        ):
            runner = _Runner(settings, process_state, key=key, parser=parser, registry=registry, exposed=exposed)
            member = _new_member(name, replicated, view, runner, settings=settings, process_state=process_state)
            credentials = CredentialWatch(settings, process_state, key, changed=partial(setattr, member, "tokens"))
            watching = [
                asyncio.create_task(credentials.run(), name="watch the key and the tokens"),
                asyncio.create_task(
                    PeerDifferences(name, process_state, member.situation).run(), name="compare with other routers"
                ),
            ]
            try:
                async with refuse_namesake(name, replicated.heartbeats, process_state):
                    await member.run()
            finally:
                for task in watching:
                    task.cancel()
    finally:
        await asyncio.to_thread(replicated.close)


def _new_member(
    name: str,
    replicated: ReplicatedLog,
    view: View,
    runner: _Runner,
    *,
    settings: RouterSettings,
    process_state: ProcessState,
) -> Member:
    snapshots = SnapshotStore(replicated.objects, view.path.with_name("snapshot"))
    schedule = SnapshotSchedule.of_log(
        replicated.log, time.monotonic(), log_bytes=settings.snapshot_log_bytes, seconds=settings.snapshot_seconds
    )
    task = SnapshotTask(
        snapshots,
        replicated.log,
        view.path,
        schedule=schedule,
        clock=time.monotonic,
        last_erasure=partial(read_last_erasure, view),
    )
    member = Member(
        name=name,
        replicated=replicated,
        view=view,
        restore=partial(snapshots.restore_view, view, replicated.log.identity),
        snapshot=task.run_if_due,
        grew=schedule.grew,
        open_storage=partial(_open, settings, view, replicated.objects),
        runner=runner,
        process_state=process_state,
        drain_seconds=min(settings.drain_seconds, HAND_OVER_SECONDS),
        open_channel=channel_opener(settings),
    )
    runner.use(member, replicated.refusals, lambda: task.failing)
    return member


@attrs.define(eq=False, repr=False)
class _Runner(TermRunner):
    _settings: RouterSettings
    _process_state: ProcessState
    _key: bytes = attrs.field(kw_only=True)
    _parser: InputParser = attrs.field(kw_only=True)
    _registry: CollectorRegistry = attrs.field(kw_only=True)
    _exposed: ExposedMetrics = attrs.field(kw_only=True)
    _verifier: TokenVerifier = attrs.field(
        init=False, default=attrs.Factory(lambda self: TokenVerifier(self._settings.data_dir), takes_self=True)
    )
    _port: int = attrs.field(init=False, default=attrs.Factory(lambda self: self._settings.grpc_port, takes_self=True))
    _shards: ShardService = attrs.field(init=False)
    _standby: StandbyServer = attrs.field(init=False)

    def use(self, member: Member, refusals: Refusals, snapshots_failing: Callable[[], float]) -> None:
        """Answer with a map, and show it in metrics; call it once, before anything else."""
        _observe(self._registry, member, refusals, snapshots_failing)
        self._shards = ShardService(member)
        self._standby = StandbyServer(self._settings, self._verifier, self._shards, member.owner)

    @override
    async def stand_by(self) -> str:
        self._port = await self._standby.start(self._port)
        self._process_state.announce("grpc", self._settings.host, self._port)
        return self._settings.advertise or _reachable(self._settings.host, self._port)

    @override
    async def stand_down(self) -> None:
        await self._standby.stop()

    @override
    async def serve(self, term: Term, stop: StopRequest, serving: Callable[[], None]) -> None:
        of_term = CollectorRegistry()
        shard = OwnedShard(
            settings=self._settings,
            process_state=self._process_state,
            storage=term.storage,
            state=term.state,
            key=self._key,
            parser=self._parser,
            verifier=self._verifier,
            shards=self._shards,
            stop=stop,
            port=self._port,
            registry=of_term,
            limits=RouterLimits(),
            confirmed=term.fence.confirmed,
            before_bind=self._standby.stop,
            serving=serving,
        )
        self._exposed.registries.append(of_term)
        try:
            await shard.serve()
        finally:
            self._exposed.registries.remove(of_term)


def _observe(
    registry: CollectorRegistry, member: Member, refusals: Refusals, snapshots_failing: Callable[[], float]
) -> None:
    def known() -> list[LogReport]:
        return [] if member.known_log is None else [member.known_log]

    metrics.expose(
        registry,
        {
            "flowhook_router_owner": lambda: float(member.record().state.owns),
            "flowhook_router_log_position": lambda: member.record().position,
            "flowhook_standby_lag_records": lambda: member.lag,
            "flowhook_router_log_bytes": lambda: [((), log.status.size) for log in known()],
            "flowhook_nats_server_up": lambda: [
                ((server.name,), float(server.current)) for log in known() for server in log.status.servers
            ],
            "flowhook_snapshot_age_seconds": lambda: [
                ((), max(0.0, time.time() - log.snapshots[-1].create_time)) for log in known() if log.snapshots
            ],
            "flowhook_router_reached_by": lambda: member.record().reach,
            "flowhook_router_unreachable_from": lambda: member.cut_off,
            "flowhook_router_snapshots_failing_seconds": snapshots_failing,
            "flowhook_router_log_refused": lambda: [((kind.value,), refusals.count(kind)) for kind in RefusedKind],
        },
    )


def _reachable(host: str, port: int) -> str:
    """Return the address of a server, with the host's name in place of a wildcard."""
    if host in ("", "0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        host = socket.gethostname()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _check_key(replicated: ReplicatedLog, key: bytes) -> None:
    """Refuse a key of secrets that is not the one of the other routers. Blocks."""
    check = key_fingerprint(key)
    if replicated.facts.agree(KEY_FACT, check) != check:
        raise ConflictError(
            f"the key of secrets is not that of the other routers: copy {KEY_FILE}, or set FLOWHOOK_SECRETS_KEY, so"
            " that all have the same",
            reason="SECRETS_KEY_DIFFERS",
        )


def _check_log(replicated: ReplicatedLog, view: View) -> None:
    """Refuse a log that is not the one that the routers have used before, or has another format. Blocks.

    That is a fact beside the log, which can be deleted together with it. Then it is at least what this router knows.
    """
    identity = replicated.log.identity
    known = replicated.facts.get(LOG_FACT)
    if known is None:
        followed = view.log()
        if followed in ("", identity):
            replicated.facts.agree(FORMAT_FACT, str(FORMAT_VERSION))
            known = replicated.facts.agree(LOG_FACT, identity)
        else:
            known = followed
    if known != identity:
        raise LogReplacedError(
            "the log was deleted and created again: nothing that was acknowledged is in it. Restore it, or make a new"
            " one of a router's view with 'flowhook cluster rebuild-log'"
        )
    stored = replicated.facts.get(FORMAT_FACT)
    if stored != str(FORMAT_VERSION):
        raise ConflictError(
            f"the log has {'an earlier format' if stored is None else f'format {stored}'} of the database, and this"
            f" Flowhook writes format {FORMAT_VERSION}. If it is a later one, use that; else stop all routers, and let"
            " 'flowhook cluster seal' rewrite the log: nothing leads back",
            reason="LOG_FORMAT_UNSUPPORTED",
        )


async def _open(settings: RouterSettings, view: View, objects: ObjectStore, recorder: LogRecorder) -> Storage:
    return await open_storage(
        view.path,
        max_bytes=settings.storage_max_bytes,
        limits=REPLICATED_LIMITS,
        transaction_log=recorder,
        objects=objects,
        durable=False,
    )
