"""Client methods for the processes of the cluster."""

from __future__ import annotations

from collections.abc import Sequence

from flowhook.client.asyncio_transport import AsyncTransport
from flowhook.client.results import ProcessInfo
from flowhook.v1.cluster_service_pb2 import GetClusterRequest
from flowhook.v1.cluster_service_pb2_grpc import ClusterServiceStub
from flowhook.wire import convert


class Cluster:
    """The processes of the cluster. Scope `admin` or `view`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._call = transport.call
        self._stub = ClusterServiceStub(transport.channel)

    async def processes(self, *, metrics: bool = True) -> Sequence[ProcessInfo]:
        """Return the router and all processes that reported in the last 60 s, by name, with or without metrics."""
        response = await self._call(self._stub.GetCluster, GetClusterRequest(without_metrics=not metrics))
        return [
            ProcessInfo(
                name=process.name,
                role=process.role,
                build=process.build,
                pid=process.pid,
                host=process.host,
                ready=process.ready,
                detail=process.detail,
                metrics=process.metrics,
                last_seen=convert.seconds(process.last_seen),
            )
            for process in response.processes
        ]
