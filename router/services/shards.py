"""ShardService: reports which router owns the shard, to clients that know several routers and to operators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from flowhook.errors import InvalidError, PermissionDeniedError
from flowhook.reporting.process_reports import MAX_NAME
from flowhook.reporting.reachability import MAX_CAUSE, MAX_ROUTERS
from flowhook.v1 import shard_service_pb2 as pb
from flowhook.v1 import shard_service_pb2_grpc
from flowhook.wire import convert
from router.calls import error_mapping
from router.calls.authorization import caller_name, caller_scopes
from router.cluster.ownership import KnownOwner
from router.cluster.shard_map import LogReport, ShardMap, ShardSituation
from router.reports.processes import REPORTERS

MAX_ROUTER: Final = 64
"""Most characters of the name of a router."""
CHECKING_ROLES: Final = ("edge", "runner")
"""Roles of processes that report which routers they can call."""


class ShardService(shard_service_pb2_grpc.ShardServiceServicer):
    """See protos/flowhook/v1/shard_service.proto."""

    def __init__(self, shard_map: ShardMap) -> None:
        self._map = shard_map

    def situation(self) -> ShardSituation:
        """Return what this router knows of the shard."""
        return self._map.situation()

    @error_mapping.rpc_method
    async def WatchShards(  # type: ignore[override] # noqa: N802 - grpc.aio takes a coroutine that writes, too
        self, request: pb.WatchShardsRequest, context: error_mapping.Context
    ) -> None:
        """Stream the owner, and each change of it."""
        error_mapping.check_request_size(request)
        reported: pb.WatchShardsResponse | None = None
        while True:
            response = pb.WatchShardsResponse(owners=[_owner_to_proto(self._map.owner())])
            for each in self._map.routers():
                response.routers.add(router=each.router, address=each.address, instance=each.instance)
            if response != reported:
                reported = response
                await context.write(response)
                continue  # it may have changed meanwhile
            await self._map.changed()

    @error_mapping.rpc_method
    async def GetShards(  # noqa: N802 - the name of the RPC
        self, request: pb.GetShardsRequest, context: error_mapping.Context
    ) -> pb.GetShardsResponse:
        """Return the state of the shard, of all routers, and of the servers of the log."""
        del request, context
        report = await self._map.log_report()
        situation = self._map.situation()
        shard = pb.Shard(owner=_owner_to_proto(situation.owner))
        for record, silence in situation.copies:
            shard.copies.add(
                router=record.router,
                address=record.address,
                state=record.state.value,
                position=record.position,
                silence=convert.duration(silence),
                version=record.version,
                unreachable_from=[
                    pb.Unreachable(process=process, cause=cause)
                    for process, cause in situation.unreachable_from(record.router).items()
                ],
                problem=situation.problem(record),
            )
        response = pb.GetShardsResponse(shards=[shard])
        if report is not None:
            _add_report(response, report)
        return response

    @error_mapping.rpc_method
    async def Identify(  # noqa: N802 - the name of the RPC
        self, request: pb.IdentifyRequest, context: error_mapping.Context
    ) -> pb.IdentifyResponse:
        """Return which process this is."""
        del request, context
        return pb.IdentifyResponse(instance=self._map.instance)

    @error_mapping.rpc_method
    async def ReportReachability(  # noqa: N802 - the name of the RPC
        self, request: pb.ReportReachabilityRequest, context: error_mapping.Context
    ) -> pb.ReportReachabilityResponse:
        """Take in which routers a process can call."""
        del context
        routers = _checked(request)
        if not REPORTERS[request.role].intersection(caller_scopes.get()):
            raise PermissionDeniedError(
                f"the token does not permit reports of a process with role {request.role}", reason="SCOPE_MISSING"
            )
        self._map.report(request.role, request.process, routers)
        return pb.ReportReachabilityResponse()

    @error_mapping.rpc_method
    async def HandOver(  # noqa: N802 - the name of the RPC
        self, request: pb.HandOverRequest, context: error_mapping.Context
    ) -> pb.HandOverResponse:
        """Have the owner hand over, soon after the answer."""
        del context
        owner, successor = self._map.hand_over(request.router, caller_name.get())
        return pb.HandOverResponse(owner=_owner_to_proto(owner), router=successor)


def _checked(request: pb.ReportReachabilityRequest) -> Mapping[str, str]:
    """Return the routers of a report, each with its cause.

    Raises:
        InvalidError: a field is not within its bounds (`REACHABILITY_INVALID`).
    """
    names = (request.process, *(each.router for each in request.routers))
    texts = (*names, *(each.cause for each in request.routers))
    if (
        request.role not in CHECKING_ROLES
        or len(request.process) > MAX_NAME
        or len(request.routers) > MAX_ROUTERS
        or not all(names)
        or any(len(each.router) > MAX_ROUTER or len(each.cause) > MAX_CAUSE for each in request.routers)
        or not all(text.isprintable() for text in texts)
    ):
        raise InvalidError(
            "`role` must be edge or runner, and names and causes printable and within the lengths of the API",
            reason="REACHABILITY_INVALID",
        )
    return {each.router: each.cause for each in request.routers}


def _owner_to_proto(owner: KnownOwner | None) -> pb.ShardOwner:
    if owner is None:
        return pb.ShardOwner()
    return pb.ShardOwner(epoch=owner.epoch, router=owner.router, address=owner.address, serving=owner.serving)


def _add_report(response: pb.GetShardsResponse, report: LogReport) -> None:
    shard, status = response.shards[0], report.status
    shard.position, shard.first_position = status.last_position, status.first_position
    shard.log_bytes, shard.max_log_bytes = status.size, status.max_size or 0
    for snapshot in reversed(report.snapshots):
        position = int(snapshot.name.rpartition("/")[2].partition(".")[0])
        entry = shard.snapshots.add(position=position, size=snapshot.size)
        entry.create_time.CopyFrom(convert.timestamp(int(snapshot.create_time * 1000)))
    for server in status.servers:
        response.servers.add(
            name=server.name,
            version=server.version,
            current=server.current,
            leader=server.leader,
            lag=server.lag,
            problem=server.problem,
        )
