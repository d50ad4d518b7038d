"""ClusterService: who is there and how they fare. Kept in memory only: it is told again every 2 s."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from flowhook import limits
from flowhook.errors import ExhaustedError, InvalidError
from flowhook.v1 import cluster_service_pb2 as pb
from flowhook.v1 import cluster_service_pb2_grpc
from flowhook.wire import convert
from router.services import guarded

FORGET_SECONDS: Final = 60.0
MAX_PROCESSES: Final = 1000
MAX_NAME: Final = 63


class ClusterService(cluster_service_pb2_grpc.ClusterServiceServicer):
    """See protos/flowhook/v1/cluster_service.proto."""

    def __init__(self, own: Callable[[], pb.Process], *, clock: Callable[[], float] = time.monotonic) -> None:
        """Serve; `own` describes the router itself."""
        self._own = own
        self._clock = clock
        self._processes: dict[str, tuple[float, pb.Process]] = {}

    @guarded.method
    async def ReportProcess(  # noqa: N802 - the name of the RPC
        self, request: pb.ReportProcessRequest, context: guarded.Context
    ) -> pb.ReportProcessResponse:
        """Remember a process."""
        del context
        process = request.process
        if not 0 < len(process.name) <= MAX_NAME or len(process.metrics) > limits.MIB:
            raise InvalidError("a process has a name, and metrics of at most 1 MiB", reason="PROCESS_INVALID")
        self._forget()
        if process.name not in self._processes and len(self._processes) >= MAX_PROCESSES:
            raise ExhaustedError("too many processes report", reason="TOO_MANY_PROCESSES")
        self._processes[process.name] = (self._clock(), process)
        return pb.ReportProcessResponse()

    @guarded.method
    async def GetCluster(  # noqa: N802 - the name of the RPC
        self, request: pb.GetClusterRequest, context: guarded.Context
    ) -> pb.GetClusterResponse:
        """Return all processes, the router included, by name."""
        del request, context
        self._forget()
        now = self._clock()
        processes: list[pb.Process] = [self._own()]
        for seen, process in self._processes.values():
            process.last_seen.CopyFrom(convert.duration(now - seen))
            processes.append(process)
        processes.sort(key=lambda process: process.name)
        return pb.GetClusterResponse(processes=processes)

    def _forget(self) -> None:
        horizon = self._clock() - FORGET_SECONDS
        self._processes = {name: entry for name, entry in self._processes.items() if entry[0] > horizon}
