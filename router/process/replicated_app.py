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

from flowhook.asyncio_tasks import beside
from flowhook.errors import ConflictError, InvalidError
from flowhook.process import logs, metrics
from flowhook.process.metrics import ExposedMetrics, process_metrics
from flowhook.process.process_state import ProcessState
from flowhook.process.settings import RouterSettings
from flowhook.reporting.process_reports import CLOCK
from flowhook.security.private_files import make_directory
from flowhook.security.tokens import FILE as TOKENS_FILE
from flowhook.security.tokens import TokenVerifier
from flowhook.sharing.table import RouterLimits
from router.cluster.member import Member
from router.cluster.shard_map import LogReport
from router.cluster.term import StopRequest, Term, TermRunner
from router.cluster.watches import PeerDifferences, refuse_namesake
from router.flows.parsing import InputParser
from router.process.credentials import CredentialWatch
from router.process.grpc_server import StandbyServer
from router.process.serving import OwnedShard
from router.services.shards import ShardService
from router.storage.commit_log.interface import LogReplacedError, ReplicatedLog
from router.storage.commit_log.jetstream.opening import connect
from router.storage.commit_log.refusals import Refusals, RefusedKind
from router.storage.commit_log.seals import ClusterKeys
from router.storage.encryption import KEY_FILE, key_fingerprint, require_secrets_key
from router.storage.errors import translate
from router.storage.replicated.rewriting import FORMAT_FACT, KEY_FACT, LOG_FACT
from router.storage.replicated.view import View
from router.storage.schema import FORMAT_VERSION
from router.storage.storage import DataLock

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
    async with contextlib.AsyncExitStack() as opened:
        opened.callback((await asyncio.to_thread(_lock, view)).release)
        replicated = await asyncio.to_thread(
            connect,
            settings.storage,
            ClusterKeys(key),
            router=name,
            creds_file=settings.nats_creds_file,
            ca_file=settings.nats_ca_file,
            on_wait=partial(setattr, process_state, "detail"),
        )
        opened.push_async_callback(asyncio.to_thread, replicated.close)
        await asyncio.to_thread(_check_key, replicated, key)
        await asyncio.to_thread(_check_log, replicated, view)
        parser = await opened.enter_async_context(contextlib.aclosing(InputParser()))
        exposed = await opened.enter_async_context(process_metrics(process_state, registry))
        member = Member(name=name, settings=settings, process_state=process_state, replicated=replicated, view=view)
        _observe(registry or metrics.registry(), member, replicated.refusals)
        runner = _Runner(settings, process_state, member, key=key, parser=parser, exposed=exposed)
        credentials = CredentialWatch(settings, process_state, key, changed=partial(setattr, member, "tokens"))
        differences = PeerDifferences(name, process_state, member.situation)
        async with (
            beside(credentials.run(), differences.run()),
            refuse_namesake(name, replicated.heartbeats, process_state),
        ):
            await member.run(runner)


def _lock(view: View) -> DataLock:
    """Lock a view, which a follower writes and discards, for this process. Blocks."""
    try:
        make_directory(view.path.parent)
        return DataLock(view.path.with_name(LOCK_FILE))
    except OSError as error:
        raise translate(error) from error


@attrs.define(eq=False, repr=False)
class _Runner(TermRunner):
    _settings: RouterSettings
    _process_state: ProcessState
    _member: Member
    _key: bytes = attrs.field(kw_only=True)
    _parser: InputParser = attrs.field(kw_only=True)
    _exposed: ExposedMetrics = attrs.field(kw_only=True)
    _port: int = attrs.field(init=False)
    _verifier: TokenVerifier = attrs.field(init=False)
    _shards: ShardService = attrs.field(init=False)
    _standby: StandbyServer = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._port = self._settings.grpc_port
        self._verifier = TokenVerifier(self._settings.data_dir)
        self._shards = ShardService(self._member)
        self._standby = StandbyServer(self._settings, self._verifier, self._shards, self._member.owner)

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
            self._process_state.warn(CLOCK, "")  # which the owner's reports tell


def _observe(registry: CollectorRegistry, member: Member, refusals: Refusals) -> None:
    def known() -> list[LogReport]:
        return [] if member.known_log is None else [member.known_log]

    maximum = member.max_log_bytes
    metrics.expose(
        registry,
        {
            "flowhook_router_owner": lambda: float(member.record().state.owns),
            "flowhook_router_log_position": lambda: member.record().position,
            "flowhook_standby_lag_records": member.lags,
            "flowhook_router_log_bytes": lambda: [((), log.status.size) for log in known()],
            "flowhook_router_log_max_bytes": lambda: [] if maximum is None else [((), maximum)],
            "flowhook_nats_server_up": lambda: [
                ((server.name,), float(server.current)) for log in known() for server in log.status.servers
            ],
            "flowhook_snapshot_age_seconds": lambda: [
                ((), max(0.0, time.time() - log.snapshots[-1].create_time)) for log in known() if log.snapshots
            ],
            "flowhook_router_reached_by": lambda: member.record().reach,
            "flowhook_router_unreachable_from": lambda: member.cut_off,
            "flowhook_router_snapshots_failing_seconds": lambda: [
                ((each.router,), each.snapshots_failing) for each in member.live()
            ],
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
        known = replicated.facts.agree(LOG_FACT, identity) if followed in ("", identity) else followed
    if known != identity:
        raise LogReplacedError(
            "the log was deleted and created again: nothing that was acknowledged is in it. Restore it, or make a new"
            " one of a router's view with 'flowhook cluster rebuild-log'"
        )
    stored = replicated.facts.agree(FORMAT_FACT, str(FORMAT_VERSION))
    if stored != str(FORMAT_VERSION):
        raise ConflictError(
            f"the log has format {stored} of the database, and this Flowhook writes format {FORMAT_VERSION}: use the"
            " Flowhook that wrote it; to go on with this one, restore a backup which that one made into an empty log",
            reason="LOG_FORMAT_UNSUPPORTED",
        )
