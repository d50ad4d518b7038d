"""ShardService: reports which router owns the shard, to clients that know several routers and to operators."""

from __future__ import annotations

from collections import Counter
from typing import Final

from flowhook.errors import ExhaustedError
from flowhook.v1 import shard_service_pb2 as pb
from flowhook.v1 import shard_service_pb2_grpc
from flowhook.wire import convert
from router.cluster.ownership import KnownOwner
from router.cluster.shard_map import LogReport, ShardMap, ShardSituation
from router.services import error_mapping
from router.services.authorization import caller_flows

MAX_WATCHERS: Final = 1000
"""Most streams of WatchShards; each edge, runner and client has one to each router. As many again with tokens that are
restricted to some flows, so that senders can't keep edges and runners from knowing the owner."""


class ShardService(shard_service_pb2_grpc.ShardServiceServicer):
    """See protos/flowhook/v1/shard_service.proto."""

    def __init__(self, shard_map: ShardMap) -> None:
        self._map = shard_map
        self._watchers: Counter[bool] = Counter()

    def situation(self) -> ShardSituation:
        """Return what this router knows of the shard."""
        return self._map.situation()

    @error_mapping.rpc_method
    async def WatchShards(  # type: ignore[override] # noqa: N802 - grpc.aio takes a coroutine that writes, too
        self, request: pb.WatchShardsRequest, context: error_mapping.Context
    ) -> None:
        """Stream the owner, and each change of it."""
        error_mapping.check_request_size(request)
        restricted = caller_flows.get() is not None
        if self._watchers[restricted] >= MAX_WATCHERS:
            raise ExhaustedError("too many watchers", reason="TOO_MANY_WATCHERS", retry_after=10)
        self._watchers[restricted] += 1
        reported: pb.ShardOwner | None = None
        try:
            while True:
                owner = _owner_to_proto(self._map.owner())
                if owner != reported:
                    reported = owner
                    await context.write(pb.WatchShardsResponse(owners=[owner]))
                    continue  # it may have changed meanwhile
                await self._map.changed()
        finally:
            self._watchers[restricted] -= 1

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
            )
        response = pb.GetShardsResponse(shards=[shard])
        if report is not None:
            _add_report(response, report)
        return response


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
        entry = shard.snapshots.add(position=position, bytes=snapshot.size)
        entry.create_time.CopyFrom(convert.timestamp(int(snapshot.create_time * 1000)))
    for server in status.servers:
        response.servers.add(
            name=server.name, version=server.version, current=server.current, leader=server.leader, lag=server.lag
        )
