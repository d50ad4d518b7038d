"""ShardService: reports which router owns the shard, to clients that know several routers and to operators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Final

import attrs

from flowhook.errors import InvalidError
from flowhook.model.cluster import ShardCopyInfo, SnapshotInfo
from flowhook.reporting.process_reports import MAX_NAME
from flowhook.reporting.reachability import MAX_CAUSE, MAX_ROUTERS
from flowhook.v1 import shard_service_pb2 as pb
from flowhook.v1 import shard_service_pb2_grpc
from flowhook.wire.mapping import to_proto
from router.calls.authorization import caller
from router.calls.error_mapping import Write, server_stream_rpc, unary_rpc
from router.cluster.ownership import KnownOwner
from router.cluster.shard_map import ShardMap, ShardSituation
from router.reports.processes import check_may_report

MAX_ROUTER: Final = 64  # most characters of the name of a router
CHECKING_ROLES: Final = ("edge", "runner")  # roles of processes that report which routers they can call


@attrs.define(eq=False, repr=False)
class ShardService(shard_service_pb2_grpc.ShardServiceServicer):
    """See protos/flowhook/v1/shard_service.proto."""

    _map: ShardMap

    def situation(self) -> ShardSituation:
        return self._map.situation()

    @server_stream_rpc
    async def WatchShards(self, request: pb.WatchShardsRequest, write: Write) -> None:
        del request
        reported: pb.WatchShardsResponse | None = None
        while True:
            response = pb.WatchShardsResponse(owners=[_owner_to_proto(self._map.owner())])
            for each in self._map.routers():
                response.routers.add(router=each.router, address=each.address, instance=each.instance)
            if response != reported:
                reported = response
                await write(response)
                continue  # it may have changed meanwhile
            await self._map.changed()

    @unary_rpc
    async def GetShards(self, request: pb.GetShardsRequest) -> pb.GetShardsResponse:
        """Return the owner of the log, its copies with their positions, its servers and snapshots."""
        del request
        report = await self._map.log_report()
        situation = self._map.situation()
        shard = pb.Shard(owner=_owner_to_proto(situation.owner))
        for record, silence in situation.copies:
            problem, causes = situation.problem(record), situation.unreachable_from(record.router)
            copy = ShardCopyInfo(
                record.router, record.address, record.state, record.position, silence, record.version, problem, causes
            )
            shard.copies.append(to_proto(copy, pb.ShardCopy))
        response = pb.GetShardsResponse(shards=[shard])
        if report is not None:
            shard, status = response.shards[0], report.status
            shard.position, shard.first_position = status.last_position, status.first_position
            shard.log_bytes, shard.max_log_bytes = status.size, status.max_size or 0
            for snapshot in reversed(report.snapshots):
                position = int(snapshot.name.rpartition("/")[2].partition(".")[0])
                found = SnapshotInfo(position, snapshot.size, int(snapshot.create_time * 1000))
                shard.snapshots.append(to_proto(found, pb.Snapshot))
            for server in status.servers:
                response.servers.add(**asdict(server))
        return response

    @unary_rpc
    async def Identify(self, request: pb.IdentifyRequest) -> pb.IdentifyResponse:
        del request
        return pb.IdentifyResponse(instance=self._map.instance)

    @unary_rpc
    async def ReportReachability(self, request: pb.ReportReachabilityRequest) -> pb.ReportReachabilityResponse:
        routers = _checked(request)
        check_may_report(request.role, caller.get().scopes)
        self._map.report(request.role, request.process, routers)
        return pb.ReportReachabilityResponse()

    @unary_rpc
    async def HandOver(self, request: pb.HandOverRequest) -> pb.HandOverResponse:
        owner, successor = self._map.hand_over(request.router, caller.get().name)
        return pb.HandOverResponse(owner=_owner_to_proto(owner), router=successor)


def _checked(request: pb.ReportReachabilityRequest) -> Mapping[str, str]:
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
