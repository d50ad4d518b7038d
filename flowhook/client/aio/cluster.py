"""Client methods for the processes and the shards of the cluster."""

from __future__ import annotations

from collections.abc import Sequence

from flowhook.client.aio.transport import AsyncTransport
from flowhook.model.cluster import (
    Backlog,
    ClusterLoad,
    ClusterShards,
    HandOver,
    LogServerInfo,
    ProcessInfo,
    ShardCopyInfo,
    ShardInfo,
    SnapshotInfo,
    StorageUsage,
)
from flowhook.v1.cluster_service_pb2 import DismissProcessRequest, GetClusterRequest
from flowhook.v1.cluster_service_pb2_grpc import ClusterServiceStub
from flowhook.v1.shard_service_pb2 import GetShardsRequest, HandOverRequest, Shard
from flowhook.v1.shard_service_pb2_grpc import ShardServiceStub
from flowhook.wire.mapping import from_proto


class Cluster:
    """The processes and the shards of the cluster. Scope `admin` or `view`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._call = transport.call
        self._stub = ClusterServiceStub(transport.channel)
        self._shards = ShardServiceStub(transport.channel)

    async def processes(self, *, metrics: bool = True) -> Sequence[ProcessInfo]:
        """Return the router and all processes, by name, with or without metrics.

        Those that ended in order are forgotten after a minute, others when they are dismissed.
        """
        response = await self._call(self._stub.GetCluster, GetClusterRequest(without_metrics=not metrics))
        return [from_proto(each, ProcessInfo) for each in response.processes]

    async def dismiss(self, name: str) -> None:
        """Forget a process that has ended and will not come back. Scope `admin`.

        Raises:
            NotFoundError: there is no process of this name (`PROCESS_NOT_FOUND`).
            ConflictError: it has reported just now (`PROCESS_ALIVE`).
        """
        await self._call(self._stub.DismissProcess, DismissProcessRequest(name=name))

    async def load(self) -> ClusterLoad:
        """Return the processes without metrics, the executions that have not ended, and what storage takes."""
        response = await self._call(self._stub.GetCluster, GetClusterRequest(without_metrics=True, with_storage=True))
        return ClusterLoad(
            processes=tuple(from_proto(each, ProcessInfo) for each in response.processes),
            backlog=from_proto(response.backlog, Backlog),
            storage=from_proto(response.storage, StorageUsage),
        )

    async def shards(self) -> ClusterShards:
        """Return the shards, their owners and copies, and the servers of the replicated log.

        Any router answers, whether it owns a shard or not, by what it knows.
        """
        response = await self._call(self._shards.GetShards, GetShardsRequest())
        return ClusterShards(
            tuple(map(_shard, response.shards)), tuple(from_proto(each, LogServerInfo) for each in response.servers)
        )

    async def hand_over(self, router: str = "") -> HandOver:
        """Have the owner of the shard hand it over to `router`; that begins soon after this returns. Scope `admin`.

        Without a name, to the standby that most edges and runners reach. Any router takes the request, and passes it on
        to the owner. Watch `shards`: the next owner has a higher epoch.

        Raises:
            NotFoundError: there is no such router (`ROUTER_UNKNOWN`).
            ConflictError: it owns the shard (`ALREADY_OWNER`), or can't take over now (`STANDBY_NOT_READY`).
            UnavailableError: no router serves now (`NO_OWNER`).
        """
        response = await self._call(self._shards.HandOver, HandOverRequest(router=router), repeatable=False)
        return HandOver(response.owner.router, response.owner.epoch, response.router)


def _shard(shard: Shard) -> ShardInfo:
    return ShardInfo(
        number=shard.shard,
        epoch=shard.owner.epoch,
        owner=shard.owner.router,
        address=shard.owner.address,
        serving=shard.owner.serving,
        position=shard.position,
        first_position=shard.first_position,
        log_bytes=shard.log_bytes,
        max_log_bytes=shard.max_log_bytes,
        copies=tuple(from_proto(each, ShardCopyInfo) for each in shard.copies),
        snapshots=tuple(from_proto(each, SnapshotInfo) for each in shard.snapshots),
    )
