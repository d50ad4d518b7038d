"""ClusterService: process membership and health, in memory; processes report every 2 s."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from math import inf
from typing import Final

import attrs

from flowhook import limits
from flowhook.model.cluster import StorageUsage
from flowhook.process.process_state import ProcessState
from flowhook.reporting import reported_metrics
from flowhook.reporting.process_reports import MAX_BUILD, MAX_DETAIL, MAX_NAME, build_report
from flowhook.sharing import FairQueue, current_principal
from flowhook.v1 import cluster_service_pb2 as pb
from flowhook.v1 import cluster_service_pb2_grpc
from flowhook.wire import convert
from flowhook.wire.mapping import to_proto
from router.calls.authorization import caller
from router.calls.error_mapping import unary_rpc
from router.cluster.shard_map import ShardSituation
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
        return pb.ReportProcessResponse(metrics_dropped=not complete, router_time_ms=self._parts.now_ms())

    @unary_rpc
    async def GetCluster(self, request: pb.GetClusterRequest) -> pb.GetClusterResponse:
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
        response.processes.extend(self._standbys())
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
        router = next((each for each in self._standbys() if each.name == name), None)
        if router is None:
            self._processes.dismiss(name)
        elif (silence := convert.seconds(router.last_seen)) < ALIVE_SECONDS:
            raise process_alive(name)
        else:
            self._dismissed[name] = self._parts.clock() - silence

    def _add_address_problem(self, own: pb.Process) -> None:
        """Add to the description of this router, the owner, who can't call it; it is not ready if most can't."""
        situation = self._situation()
        for record, _ in situation.copies:
            problem = situation.problem(record)[:MAX_DETAIL]
            if situation.owner is None or record.router != situation.owner.router or not problem:
                continue
            if situation.is_isolated(record):
                own.ready, own.detail = False, problem
            else:
                own.warnings.append(problem)

    def _standbys(self) -> Iterator[pb.Process]:
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
                yield pb.Process(
                    name=record.router[:MAX_NAME],
                    role="router",
                    build=record.version[:MAX_BUILD],
                    ready=record.candidate and not isolated,
                    detail=problem if isolated else "" if record.candidate else detail,
                    warnings=list(filter(None, (record.warning, "" if isolated else problem))),
                    last_seen=convert.duration(silence),
                )
