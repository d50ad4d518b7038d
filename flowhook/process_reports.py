"""Reports to the router that a process lives, and its metrics."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from typing import Final

import grpc

import flowhook
from flowhook import logs, metrics
from flowhook.process import Lifecycle
from flowhook.v1 import cluster_service_pb2, cluster_service_pb2_grpc

log = logs.get_logger(__name__)


def describe(lifecycle: Lifecycle, rendered: bytes) -> cluster_service_pb2.Process:
    """Return what a process reports of itself; `rendered` are its metrics in the Prometheus text format."""
    stopping = lifecycle.stop.is_set()
    ready = lifecycle.ready.is_set() and not stopping
    return cluster_service_pb2.Process(
        name=lifecycle.name,
        role=lifecycle.role,
        build=flowhook.__version__,
        pid=os.getpid(),
        host=socket.gethostname(),
        ready=ready,
        detail="" if ready else "draining" if stopping else lifecycle.detail or "not ready",
        metrics=rendered,
    )


class Reporter:
    """Tells the router every 2 s that this process lives, with its metrics; a router that is away is tolerated."""

    INTERVAL: Final = 2.0
    """Seconds between reports, and the deadline of one."""

    def __init__(
        self, channel: grpc.aio.Channel, lifecycle: Lifecycle, *, render: Callable[[], bytes] = metrics.render
    ) -> None:
        """Report on `lifecycle` over `channel`, which stays the caller's; `render` gives at most 1 MiB."""
        self._stub = cluster_service_pb2_grpc.ClusterServiceStub(channel)
        self._lifecycle = lifecycle
        self._render = render

    async def run(self) -> None:
        """Report until cancelled: at once, as soon as the process is ready, then every `INTERVAL`."""
        while True:
            try:
                await self._stub.ReportProcess(self._request(), timeout=self.INTERVAL)
            except grpc.aio.AioRpcError as error:
                log.debug("report not delivered", code=error.code().name)
            if self._lifecycle.ready.is_set():
                await asyncio.sleep(self.INTERVAL)
            else:
                # not `wait_for`: before Python 3.12 it may lose a cancellation that comes with the event
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self.INTERVAL):
                        await self._lifecycle.ready.wait()

    def _request(self) -> cluster_service_pb2.ReportProcessRequest:
        return cluster_service_pb2.ReportProcessRequest(process=describe(self._lifecycle, self._render()))
