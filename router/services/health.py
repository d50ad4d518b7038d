"""The grpc.health.v1 service; one state for all services, because it depends on storage and ownership.

This replaces the servicer of grpcio-health-checking, which blocks the notification of other watchers while it writes to
one, so that a watcher that does not read delays all updates. It also retains every service name a watcher asks for.

Source: https://github.com/grpc/grpc/blob/master/doc/health-checking.md
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import attrs
from grpc_health.v1 import health_pb2 as pb
from grpc_health.v1 import health_pb2_grpc

from flowhook.errors import NotFoundError
from router.calls.error_mapping import Write, server_stream_rpc, unary_rpc


@attrs.define(eq=False, repr=False)
class HealthService(health_pb2_grpc.HealthServicer):  # type: ignore[misc] # there are no stubs of it
    """Implements Check and Watch."""

    _services: Collection[str]  # the names that may be queried, beside the empty one of the process as a whole
    # whether only the process as a whole serves, and none of the services
    _standby: bool = attrs.field(default=False, kw_only=True)
    _serving: bool = attrs.field(init=False, default=True)
    _stopping: bool = attrs.field(init=False, default=False)
    _changed: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)

    def set(self, *, serving: bool) -> None:
        """Set whether the router serves; no effect after `stop`, except to report not serving."""
        serving = serving and not self._stopping
        if serving is not self._serving:
            self._serving = serving
            self._changed.set()
            self._changed = asyncio.Event()

    def stop(self) -> None:
        """Report not serving from now on, permanently."""
        self._stopping = True
        self.set(serving=False)

    @unary_rpc
    async def Check(self, request: pb.HealthCheckRequest) -> pb.HealthCheckResponse:
        if request.service and request.service not in self._services:
            raise NotFoundError("unknown service", reason="SERVICE_UNKNOWN")
        return pb.HealthCheckResponse(status=self._status(request.service))

    @server_stream_rpc
    async def Watch(self, request: pb.HealthCheckRequest, write: Write) -> None:
        reported = None
        while True:
            changed, status = self._changed, self._status(request.service)
            if status != reported:
                reported = status
                await write(pb.HealthCheckResponse(status=status))
                continue  # it may have changed meanwhile
            await changed.wait()

    def _status(self, service: str) -> pb.HealthCheckResponse.ServingStatus:
        if service and service not in self._services:
            return pb.HealthCheckResponse.SERVICE_UNKNOWN
        serving = self._serving and not (self._standby and service)
        return pb.HealthCheckResponse.SERVING if serving else pb.HealthCheckResponse.NOT_SERVING
