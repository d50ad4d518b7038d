"""ClusterService: process membership and health, in memory; processes report every 2 s."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from math import inf
from typing import Final

import attrs
from prometheus_client import CollectorRegistry, generate_latest

from flowhook import limits
from flowhook.model.cluster import StorageUsage
from flowhook.process.metrics import expose
from flowhook.process.process_state import ProcessState
from flowhook.reporting import reported_metrics
from flowhook.reporting.process_reports import INTERVAL, MAX_BUILD, MAX_DETAIL, MAX_NAME, build_report, note_skew
from flowhook.sharing import FairQueue, current_principal
from flowhook.v1 import cluster_service_pb2 as pb
from flowhook.v1 import cluster_service_pb2_grpc
from flowhook.wire import convert
from flowhook.wire.mapping import to_proto
from router.calls.authorization import caller
from router.calls.error_mapping import unary_rpc
from router.cluster.shard_map import ShardSituation
from router.cluster.watches import ADDRESS
from router.dispatch.parts import ShardParts
from router.reports.processes import (
    ALIVE_SECONDS,
    FORGET_SECONDS,
    ProcessReports,
    checked_report,
    process_alive,
)

# size of reported metrics up to which they are checked at once, in some milliseconds
INLINE_BYTES: Final = 16 * limits.KIB


@attrs.define(eq=False, repr=False, kw_only=True)
class ClusterService(cluster_service_pb2_grpc.ClusterServiceServicer):
    """See protos/flowhook/v1/cluster_service.proto."""

    _process_state: ProcessState  # of the router itself
    _parts: ShardParts  # for reading; others compare their clocks with its `now_ms`
    _total_backlog: int  # unfinished executions beyond which events are refused
    _usage: Callable[[], Awaitable[StorageUsage]]  # measures what the data takes on the disk
    _situation: Callable[[], ShardSituation]  # returns the other routers, which do not report here
    # when routers that were dismissed had been heard last, by name; as many as there are routers
    _dismissed: dict[str, float] = attrs.field(init=False, factory=dict)
    _skew: float = attrs.field(init=False, default=0.0)  # by how much this router's clock is ahead of most others'
    _skew_due: float = attrs.field(init=False, default=-inf)  # time from which it is found out anew
    _processes: ProcessReports = attrs.field(init=False)
    _reports: FairQueue = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._processes = ProcessReports(self._parts.clock, series=self._parts.limits.report_series)
        self._reports = FairQueue(self._parts.limits.reports)

    @unary_rpc
    async def ReportProcess(self, request: pb.ReportProcessRequest) -> pb.ReportProcessResponse:
        process, scopes = request.process, caller.get().scopes
        metrics = None
        if len(process.metrics) > INLINE_BYTES:
            checked = checked_report(process, scopes)
            async with self._reports.seat(current_principal.get()):
                metrics = await asyncio.to_thread(reported_metrics.check, process.metrics, checked.name, checked.role)
        complete = self._processes.store(process, scopes, metrics, keeps_metrics=request.keeps_metrics)
        skew = self._router_skew()
        return pb.ReportProcessResponse(
            metrics_dropped=not complete,
            router_time_ms=self._parts.now_ms(),
            router_clock_skew=convert.duration(skew) if skew else None,
        )

    def _router_skew(self) -> float:
        if (now := self._parts.clock()) >= self._skew_due:
            self._skew_due = now + INTERVAL
            self._skew = self._processes.router_skew()
            note_skew(self._process_state, self._skew, "most others'")
        return self._skew

    @unary_rpc
    async def GetCluster(self, request: pb.GetClusterRequest) -> pb.GetClusterResponse:
        """Return the processes of the cluster, its backlog, and what is wrong with it."""
        bare = request.without_metrics
        own, core = build_report(self._process_state, b""), self._parts.shard
        if not bare:
            content = await self._process_state.metrics()
            own.metrics = await asyncio.to_thread(reported_metrics.labelled, content, own.name, own.role)
        now = self._parts.clock()
        self._add_address_problem(own)
        response = pb.GetClusterResponse(processes=[own])
        for report in self._processes.all():
            process = report.process
            shown = response.processes.add()
            shown.CopyFrom(process)
            shown.last_seen.CopyFrom(convert.duration(now - report.seen))
            if not bare:
                shown.metrics = report.metrics
            if process.role == "runner":
                shown.credit = core.runners.credit(process.name)
                shown.in_flight = core.runners.lease_count(process.name)
        response.processes.extend(self._standbys(bare=bare))
        response.processes.sort(key=lambda process: process.name)
        response.backlog.pending, response.backlog.running = core.ready, core.leased
        response.backlog.waiting, response.backlog.suspended = core.waiting, core.suspended
        response.backlog.limit = self._total_backlog
        if request.with_storage:
            response.storage.CopyFrom(to_proto(await self._usage(), pb.StorageUsage))
        return response

    @unary_rpc
    async def DismissProcess(self, request: pb.DismissProcessRequest) -> pb.DismissProcessResponse:
        self.dismiss(request.name)
        return pb.DismissProcessResponse()

    def dismiss(self, name: str) -> None:
        """Forget a process that reported here, or another router; for the errors see `ProcessReports.dismiss`."""
        router = next((each for each in self._standbys(bare=True) if each.name == name), None)
        if router is None:
            self._processes.dismiss(name)
        elif (silence := convert.seconds(router.last_seen)) < ALIVE_SECONDS:
            raise process_alive(name)
        else:
            self._dismissed[name] = self._parts.clock() - silence

    def _add_address_problem(self, own: pb.Process) -> None:
        """Add to the description of this router, the owner, that it is not ready because most can't call it."""
        situation = self._situation()
        for record, _ in situation.copies:
            problem = situation.problem(record)[:MAX_DETAIL]
            owner = situation.owner
            if owner is not None and record.router == owner.router and problem and situation.is_isolated(record):
                own.ready, own.detail = False, problem

    def _standbys(self, *, bare: bool) -> Iterator[pb.Process]:
        situation = self._situation()
        for record, silence in situation.copies:
            owner = situation.owner
            if record.stopping and silence >= FORGET_SECONDS:
                continue
            # heard again after it was dismissed: it is back
            dismissed = self._parts.clock() - silence <= self._dismissed.get(record.router, -inf) + 1
            if not dismissed and (owner is None or record.router != owner.router):
                problem = situation.problem(record)[:MAX_DETAIL]
                isolated = situation.is_isolated(record)
                detail = f"{record.state.value}, at position {record.position} of the log"
                warnings = {"log": record.warning, ADDRESS: "" if isolated else problem}
                warnings = {kind: text for kind, text in warnings.items() if text}
                yield pb.Process(
                    name=record.router[:MAX_NAME],
                    role="router",
                    build=record.version[:MAX_BUILD],
                    ready=record.candidate and not isolated,
                    detail=problem if isolated else "" if record.candidate else detail,
                    metrics=b"" if bare else _warnings_metric(record.router[:MAX_NAME], warnings),
                    warnings=warnings.values(),
                    last_seen=convert.duration(silence),
                )


def _warnings_metric(router: str, kinds: Iterable[str]) -> bytes:
    """Return `flowhook_warnings` of a router whose metrics are not known here, only what it warns of."""
    expose(shown := CollectorRegistry(), {"flowhook_warnings": lambda: [((kind,), 1) for kind in kinds]})
    return reported_metrics.labelled(generate_latest(shown), router, "router")
