"""One router of several: follows the log, claims the shard when its owner is gone, serves it, and follows again."""

from __future__ import annotations

import asyncio
import contextlib
import math
import secrets
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final

import attrs
from typing_extensions import override

import flowhook
from flowhook.asyncio_tasks import end_tasks, first, wait_at_most
from flowhook.errors import FlowhookError, UnavailableError
from flowhook.model.audit import AuditEntry
from flowhook.model.cluster import describe_no_quorum
from flowhook.process import logs
from flowhook.process.process_state import ProcessState
from flowhook.process.settings import RouterSettings
from flowhook.retrying import RETRY_SECONDS
from router.cluster.ownership import KnownOwner, Ownership
from router.cluster.reachability import AddressChecks, ReachabilityReports, channel_opener
from router.cluster.records import HEARTBEAT_SECONDS, MAX_TEXT, MAX_UNREACHABLE, MemberState, RouterRecord
from router.cluster.shard_map import (
    LIVE_SECONDS,
    HandOverRequest,
    LogReport,
    RouterAddress,
    ShardMap,
    ShardSituation,
    choose_successor,
)
from router.cluster.term import FenceCheck, StopRequest, Term, TermRunner
from router.cluster.watches import LogServerWatch
from router.storage.commit_log.interface import FencedError, LogReplacedError, LogStatus, LogTrimmedError, ReplicatedLog
from router.storage.limits import REPLICATED_LIMITS
from router.storage.replicated.batch import RecordUnknownError
from router.storage.replicated.follower import Follower, LogDamagedError, ViewDivergedError
from router.storage.replicated.recorder import LogRecorder
from router.storage.replicated.snapshots import PREFIX, SnapshotSchedule, SnapshotStore, SnapshotTask
from router.storage.replicated.view import Forgetting, View, read_last_erasure
from router.storage.storage import Storage, open_storage

LOOK_SECONDS: Final = 0.1  # between two updates of the ownership by heartbeats and by what was followed
SNAPSHOT_CHECK_SECONDS: Final = 1.0  # between two checks whether a snapshot is due
# how long a router that is to stop waits for calls to end, and for the log to take what they store, after runners had
# time to finish
STORE_SECONDS: Final = 8.0
# most time that runners get to finish what they have when the shard is handed over: the next owner adopts them
HAND_OVER_SECONDS: Final = 2.0
BLOCKED_SECONDS: Final = 5.0  # pause before following is tried again when an operator has to act
WARNING: Final = "log"  # kind of the warning that something which came from the servers of the log is not authentic
log = logs.get_logger(__name__)


async def unless(work: Awaitable[Any], stop: asyncio.Event, abandon: Callable[[], None]) -> Any:
    """Return the result of `work`; when `stop` is set meanwhile, call `abandon`, which makes it end."""
    task = asyncio.ensure_future(work)
    await first(asyncio.shield(task), stop.wait())
    if not task.done():
        abandon()
    return await task


@attrs.define(eq=False, repr=False, kw_only=True)
class Member(ShardMap):
    """A router of a cluster; implements `shard_map.ShardMap`."""

    _name: str  # of this router, unique in the cluster
    _settings: RouterSettings
    _process_state: ProcessState
    _replicated: ReplicatedLog
    _view: View  # this router's copy of the data
    _runner: TermRunner = attrs.field(init=False)
    instance: str = attrs.field(init=False, factory=partial(secrets.token_hex, 8))
    tokens: str = attrs.field(init=False, default="")  # fingerprint of the tokens, to announce
    known_log: LogReport | None = attrs.field(init=False, default=None)  # as it was some seconds ago
    _heard: dict[str, float] = attrs.field(init=False, factory=dict)  # when the last heartbeat of each router came
    _snapshots: SnapshotStore = attrs.field(init=False)
    _schedule: SnapshotSchedule = attrs.field(init=False)
    _snapshot_task: SnapshotTask = attrs.field(init=False)
    _log_servers: LogServerWatch = attrs.field(init=False)
    _ownership: Ownership = attrs.field(init=False)
    _checks: AddressChecks = attrs.field(init=False)
    _reports: ReachabilityReports = attrs.field(init=False, factory=partial(ReachabilityReports, time.monotonic))
    _asked: HandOverRequest | None = attrs.field(init=False, default=None)
    _address: str = attrs.field(init=False, default="")
    _position: int = attrs.field(init=False, default=0)
    _follower: Follower | None = attrs.field(init=False, default=None)
    _recorder: LogRecorder | None = attrs.field(init=False, default=None)
    _reporting: asyncio.Task[LogReport] | None = attrs.field(init=False, default=None)
    _changed: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)
    _looked: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)
    _announced: tuple[Any, ...] = attrs.field(init=False, default=())
    _announced_at: float = attrs.field(init=False, default=0.0)
    _blocked: str = attrs.field(init=False, default="")

    def __attrs_post_init__(self) -> None:
        settings, replicated, view = self._settings, self._replicated, self._view
        self._snapshots = SnapshotStore(replicated.objects, view.path.with_name("snapshot"))
        self._schedule = SnapshotSchedule.of_log(
            replicated.log, time.monotonic(), log_bytes=settings.snapshot_log_bytes, seconds=settings.snapshot_seconds
        )
        self._snapshot_task = SnapshotTask(
            self._snapshots,
            replicated.log,
            view.path,
            schedule=self._schedule,
            clock=time.monotonic,
            last_erasure=partial(read_last_erasure, view),
        )
        self._log_servers = LogServerWatch(self._log_status, self._process_state)
        self._ownership = Ownership(self._name, time.monotonic())
        self._checks = AddressChecks(self._name, channel_opener(settings), self._live_peers)

    # --- who owns the shard -----------------------------------------------------------------------------------------

    @override
    def owner(self) -> KnownOwner | None:
        own = self._ownership
        if own.owns:
            return KnownOwner(own.router, self._address, own.epoch, own.state is MemberState.SERVING)
        return own.owner()

    @override
    async def changed(self) -> None:
        await self._changed.wait()

    @override
    def situation(self) -> ShardSituation:
        own, peers = self.record(), self._ownership.peers(time.monotonic())
        live = {record.router: record for record in (own, *self._live_peers())}
        unreachable = self._checks.unreachable()
        for router, record in live.items():  # one that is dead can't be reached either, and that is no news
            unreachable += self._reports.unreachable(router)
            unreachable += (each for each in record.unreachable if each.router in live)
        copies = sorted([(own, 0.0), *peers], key=lambda copy: copy[0].router)
        return ShardSituation(self.owner(), copies, unreachable)

    @override
    def routers(self) -> list[RouterAddress]:
        live = [RouterAddress(each.router, each.address, each.instance) for each in self._live_peers()]
        live.append(RouterAddress(self._ownership.router, self._address, self.instance))
        return sorted(each for each in live if each.address and each.instance)

    @override
    def report(self, role: str, process: str, routers: Mapping[str, str]) -> None:
        self._reports.store(role, process, routers)

    @override
    def hand_over(self, router: str, by: str) -> tuple[KnownOwner, str]:
        owner = self.owner()
        if owner is None or not owner.serving:
            raise UnavailableError("no router owns the shard and serves now", reason="NO_OWNER")
        successor = choose_successor(router, owner, self.situation())
        self._asked = HandOverRequest(owner.epoch, successor, by, time.monotonic())
        return owner, successor

    def _live_peers(self) -> list[RouterRecord]:
        return [record for record, silence in self._ownership.peers(time.monotonic()) if silence <= LIVE_SECONDS]

    @override
    async def log_report(self) -> LogReport:
        # one at a time: without a quorum each blocks for long, and the threads are needed to follow and to serve
        known = self.known_log
        if known is not None and describe_no_quorum(
            known.status.servers
        ):  # told at once; the watch looks whether it is back
            return known
        return await self._look_at_log()

    async def _look_at_log(self) -> LogReport:
        if self._reporting is None or self._reporting.done():
            self._reporting = asyncio.create_task(asyncio.to_thread(self._report), name="report the log")
        self.known_log = await asyncio.shield(self._reporting)
        return self.known_log

    async def _log_status(self) -> LogStatus:
        return (await self._look_at_log()).status

    def _report(self) -> LogReport:
        status, known = self._replicated.log.status(), self.known_log
        if describe_no_quorum(status.servers):  # the objects can't be had either
            return LogReport(status, [] if known is None else known.snapshots)
        return LogReport(status, self._replicated.objects.stored(PREFIX))

    def live(self) -> list[RouterRecord]:
        """Return this router, and the others that were heard lately."""
        return [self.record(), *self._live_peers()]

    def lags(self) -> list[tuple[tuple[str], float]]:
        """Return how many records of the log each live router's copy lags behind the owner's, by its last heartbeat."""
        owner, live = self.owner(), self.live()
        end = max((each.position for each in live if owner is not None and each.router == owner.router), default=0)
        return [((each.router,), max(0, end - each.position)) for each in live]

    @property
    def max_log_bytes(self) -> int | None:
        return self._replicated.log.max_bytes

    @property
    def cut_off(self) -> int:
        """How many edges and runners can't reach this router, by the reports that it has itself."""
        return self._ownership.voices.cut_off

    # --- life -------------------------------------------------------------------------------------------------------

    async def run(self, runner: TermRunner) -> None:
        """Follow and serve until the process is to stop. FlowhookError: it can't, whatever it tries."""
        self._runner = runner
        upkeep = [
            asyncio.create_task(self._look_forever(), name="look who owns the shard"),
            asyncio.create_task(self._make_snapshots(), name="make snapshots"),
            asyncio.create_task(self._checks.run(), name="check the addresses of routers"),
            asyncio.create_task(self._log_servers.run(), name="watch the servers of the log"),
        ]
        for task in upkeep:  # without it this router would neither claim nor be heard
            task.add_done_callback(lambda _: self._process_state.stop.set())
        try:
            while not self._process_state.stop.is_set():
                self._address = await self._runner.stand_by()
                follower = await self._follow()
                if follower is None:
                    break
                term = await self._claim(follower)
                if term is not None:
                    await self._serve(term)
        finally:
            self._ownership.stop()
            ended = await end_tasks(upkeep)
            self._announce()
            await self._runner.stand_down()
        for each in ended:
            if isinstance(each, Exception):
                raise each

    async def _look_forever(self) -> None:
        """Take in what was heard, and announce this router: at once when something changed, else periodically."""
        while True:
            self._look(time.monotonic())
            self._looked.set()
            await asyncio.sleep(LOOK_SECONDS)

    async def _make_snapshots(self) -> None:
        while True:
            await asyncio.sleep(SNAPSHOT_CHECK_SECONDS)
            if self._ownership.makes_snapshots(time.monotonic()):
                await asyncio.to_thread(self._snapshot_task.run_if_due)

    def _look(self, now: float) -> None:
        self._process_state.warn(WARNING, self._replicated.refusals.warning)
        heard = self._replicated.heartbeats.heard()
        for router, (heard_at, content) in heard.items():
            record = None if self._heard.get(router) == heard_at else RouterRecord.decode(content)
            if record is not None and record.router == router:
                self._ownership.heard(record, heard_at)
        self._heard = {router: heard_at for router, (heard_at, _) in heard.items()}
        follower = self._follower
        if follower is not None:
            position = follower.position
            self._position = position.position
            self._ownership.follows(
                current=follower.current, epoch=follower.epoch, own=position.own, now=now, claim=follower.claim
            )
        elif self._recorder is not None:
            self._position = self._recorder.position
        else:
            self._ownership.follows(current=False, epoch=0, now=now)
        self._ownership.voices = self._reports.voices(self._ownership.router)
        self._hand_over_if_due(now)
        facts = (self._ownership.state, self._ownership.candidate, self._asked, self.owner(), self.routers())
        if facts != self._announced or now - self._announced_at >= HEARTBEAT_SECONDS:
            if self._announced[3:] != facts[3:]:
                self._changed.set()
                self._changed = asyncio.Event()
            self._announced = facts
            self._announced_at = now
            self._announce()

    def _hand_over_if_due(self, now: float) -> None:
        """Hand over if an operator asks for it, here or at another router, or if this owner is not reached."""
        own = self._ownership
        if self._asked is not None and self._asked.is_over(own.epoch, now):
            self._asked = None
        if own.state is not MemberState.SERVING:
            return
        asked = self._asked
        if asked is None:
            asked = next(filter(None, (HandOverRequest.of(peer, own.epoch, now) for peer in self._live_peers())), None)
        if asked is not None and any(standby.router == asked.successor for standby in own.standbys(now)):
            log.warning("this router hands over, as an operator asks", successor=asked.successor, by=asked.by)
            self._asked = asked
            own.hand_over(asked.successor, now)
        elif successor := own.due_successor(now):
            problem = self.situation().problem(self.record())
            cause = "this router hands over, because most edges and runners can't reach it"
            log.error(cause, successor=successor, problem=problem)
            own.hand_over(successor, now)

    def _announce(self) -> None:
        self._replicated.heartbeats.publish(self.record().encode())

    def record(self) -> RouterRecord:
        """Return what this router tells the others of itself."""
        own, owner, asked = self._ownership, self.owner(), self._asked
        unreachable = self._checks.unreachable()
        if owner is not None:
            unreachable += self._reports.unreachable(owner.router)
        return RouterRecord(
            router=own.router,
            address=self._address,
            version=flowhook.__version__,
            state=own.state,
            epoch=own.epoch,
            yielded=own.yielded,
            position=self._position,
            candidate=own.candidate,
            instance=self.instance,
            tokens=self.tokens,
            time_ms=_now_ms(),
            stopping=self._process_state.stop.is_set(),
            reach=own.voices.reach,
            cut_off=0 if owner is None else self._reports.voices(owner.router).cut_off,
            unreachable=tuple(unreachable[:MAX_UNREACHABLE]),
            successor=own.successor,
            asked_epoch=0 if asked is None else asked.epoch,
            asked_successor="" if asked is None else asked.successor,
            asked_by="" if asked is None else asked.by,
            claim=0 if self._recorder is None else self._recorder.claim,
            warning=self._replicated.refusals.warning[:MAX_TEXT],
            snapshots_failing=math.ceil(self._snapshot_task.failing),
        )

    async def _look_again(self) -> None:
        self._looked.clear()
        await self._looked.wait()

    async def _wait_for_look(self) -> None:
        await first(self._look_again(), self._process_state.stop.wait())

    # --- following --------------------------------------------------------------------------------------------------

    async def _follow(self) -> Follower | None:
        """Follow the log until a claim is due, and return what followed; None: the process is to stop."""
        while not self._process_state.stop.is_set():
            halt = threading.Event()
            following = asyncio.create_task(asyncio.to_thread(self._follow_until, halt), name="follow the log")
            try:
                while not following.done() and not self._process_state.stop.is_set():
                    await self._wait_for_look()
                    self._report_readiness()
                    if self._ownership.due(time.monotonic()):
                        break
            finally:
                halt.set()
                await asyncio.wait({following})
            follower, self._follower = self._follower, None
            pause = self._explain(following.exception())
            if self._ownership.state is MemberState.CLAIMING:
                if pause is None and follower is not None:
                    return follower
                self._ownership.refused(time.monotonic())
            if pause is not None:
                self._process_state.ready.clear()
                await wait_at_most(pause, self._process_state.stop.wait())
        return None

    def _follow_until(self, halt: threading.Event) -> None:
        identity = self._replicated.log.identity
        position = self._view.position()
        if position is not None and position.log != identity:
            # the routers have agreed on this log: an operator has made it, or this view is another cluster's
            aside = self._view.set_aside()
            log.warning("the view belongs to another log, and is set aside", file=str(aside))
            position = None
        if position is None or position.position == 0:
            # also for an empty view: the log may begin behind a snapshot at position 0, which a migration made
            position = self._snapshots.restore_view(self._view, identity) or self._view.create(identity)
        try:
            forget = Forgetting(self._view).step
            self._follower = Follower(
                self._replicated.log, self._view, position, grew=self._schedule.grew, forget=forget
            )
            self._follower.follow(halt)
        except LogTrimmedError:
            # too old, or new while the log has been purged already: the newest snapshot is younger
            self._follower = None
            self._view.discard()
            raise
        except LogDamagedError as error:
            self._follower = None
            if self._snapshots.restore_view(self._view, identity, error.position) is None:
                raise
            raise UnavailableError(f"{error.message}: the view was restored from a snapshot that has it") from None

    def _explain(self, error: BaseException | None) -> float | None:
        if error is None:
            return None
        self._process_state.detail = (
            f"{error.reason}: {error.message}" if isinstance(error, FlowhookError) else str(error)
        )
        if isinstance(error, ViewDivergedError):
            log.error("the view is discarded: it does not fit the log", cause=str(error))
            self._view.discard()
            return RETRY_SECONDS
        if isinstance(error, LogReplacedError | LogDamagedError | RecordUnknownError):
            self._blocked = self._process_state.detail  # while it is tried again, too
            log.error("this router can't follow the log", reason=error.reason, cause=str(error))
            return BLOCKED_SECONDS
        if isinstance(error, UnavailableError | LogTrimmedError):
            log.warning("following is interrupted", cause=str(error))
            return RETRY_SECONDS
        log.error("following failed; the view is discarded", exc_info=error)
        self._view.discard()
        return RETRY_SECONDS

    def _report_readiness(self) -> None:
        """Be ready while this router could take over, and the shard is served."""
        owner = self._ownership.owner()
        current = self._follower is not None and self._follower.current
        if current:
            self._blocked = ""
        if current and owner is not None and owner.serving:
            self._process_state.detail = ""
            self._process_state.ready.set()
        else:
            owned = f"waiting until {owner.router}, the owner of the shard, serves" if owner is not None else ""
            lack = owned or "waiting for an owner of the shard"
            if not current:
                lack = self._blocked or f"following the log, at position {self._position}"
            self._process_state.detail = lack
            self._process_state.ready.clear()

    # --- owning -----------------------------------------------------------------------------------------------------

    async def _claim(self, follower: Follower) -> Term | None:
        """Append the record that makes this router the owner; None: another was faster."""
        storage: Storage | None = None
        known = self._ownership.epoch
        self._process_state.detail = "taking over the shard"
        try:
            await asyncio.to_thread(_catch_up, follower, self._replicated)
            if follower.epoch > known:
                raise FencedError("another router was faster")
            loop = asyncio.get_running_loop()
            recorder = LogRecorder(
                self._replicated.log,
                follower.end(),
                lost=lambda error: _call_soon(loop, self._lost, recorder, error),
                now_ms=_now_ms,
                grew=self._schedule.grew,
            )
            storage = await open_storage(
                self._view.path,
                max_bytes=self._settings.storage_max_bytes,
                limits=REPLICATED_LIMITS,
                transaction_log=recorder,
                objects=self._replicated.objects,
                durable=False,
            )
            state = await unless(storage.own(), self._process_state.stop, recorder.abandon)
        except (FlowhookError, LogTrimmedError) as error:
            log.info("the shard was not taken over", cause=str(error))
            if storage is not None:
                await storage.close()
            self._ownership.refused(time.monotonic())
            return None
        self._recorder = recorder
        self._ownership.claimed(recorder.epoch)
        self._look(time.monotonic())
        log.info("this router owns the shard", epoch=recorder.epoch, position=recorder.position)
        return Term(storage, state, FenceCheck(self._replicated.log, recorder), recorder)

    def _lost(self, recorder: LogRecorder, error: FlowhookError) -> None:
        if recorder is self._recorder and self._ownership.owns:
            log.warning("this router does not own the shard any more", reason=error.reason, cause=str(error))
            self._ownership.lose()

    async def _serve(self, term: Term) -> None:
        self._process_state.detail = "recovering the executions of the shard"
        stop = StopRequest()
        abandoning: asyncio.TimerHandle | None = None
        serving = asyncio.create_task(self._runner.serve(term, stop, self._ownership.ready), name="serve the shard")
        checking = asyncio.create_task(self._check_fence(term), name="check that the shard is still owned")
        try:
            while not serving.done() and self._ownership.keeps and not self._process_state.stop.is_set():
                await first(self._wait_for_look(), asyncio.shield(serving))
            if self._process_state.stop.is_set():
                self._ownership.stop()
            if self._ownership.state is MemberState.HANDING_OVER and not serving.done():
                await self._audit_hand_over(term)
                seconds = min(self._settings.drain_seconds, HAND_OVER_SECONDS)
                stop.drain(seconds)
                # without a quorum, what is under way would never end
                abandoning = asyncio.get_running_loop().call_later(seconds + STORE_SECONDS, term.recorder.abandon)
            while not serving.done():
                if not self._ownership.owns:
                    term.recorder.abandon()
                    stop.lose()
                await first(self._look_again(), asyncio.shield(serving))
            await serving
        except* UnavailableError as errors:
            # the storage can't serve here now, for example while it recovers: another router may fare better
            log.warning("the shard can't be served", cause=str(errors.exceptions[0]))
            self._ownership.lose()
        finally:
            await end_tasks([checking])
            if not self._ownership.owns:
                term.recorder.abandon()
            await term.storage.close()
            if abandoning is not None:
                abandoning.cancel()
            self._recorder = None
            self._ownership.done(time.monotonic())
            self._look(time.monotonic())

    async def _audit_hand_over(self, term: Term) -> None:
        """Record a hand-over that an operator asked another router for; this router's server records its own calls."""
        asked = self._asked
        if asked is None or not asked.router or not self._ownership.successor:
            return
        reason = f"asked of {asked.router}"
        entry = AuditEntry(0, _now_ms(), asked.by, "ShardService/HandOver", asked.successor, reason, "")
        try:
            await term.storage.audit.add(entry)
        except FlowhookError as error:
            log.warning("audit entry not stored", action=entry.action, actor=entry.actor, cause=str(error))

    async def _check_fence(self, term: Term) -> None:
        while True:
            if not await asyncio.to_thread(term.fence.check):
                self._ownership.lose()
            await asyncio.sleep(LOOK_SECONDS)


def _catch_up(follower: Follower, replicated: ReplicatedLog) -> None:
    tail = replicated.log.tail()
    follower.catch_up(0 if tail is None else tail.position)


def _call_soon(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *arguments: Any) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to know
        loop.call_soon_threadsafe(function, *arguments)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
