"""The gRPC server of a router that does not own the shard: reports the owner, and refuses all other calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import attrs
import grpc
import grpc.aio
from typing_extensions import override

from flowhook.errors import UnavailableError
from flowhook.process.settings import RouterSettings
from flowhook.security.token_verifier import TokenVerifier
from flowhook.sharing.table import RouterLimits
from router.calls.authorization import refusal
from router.cluster.ownership import KnownOwner
from router.process.grpc_server import OWNER_SERVICES, add_service, bind, enable_reflection, new_server, service_names
from router.services.health import HealthService
from router.services.shards import ShardService

_METHODS: Final = frozenset(
    f"/{service.full_name}/{method.name}" for service in OWNER_SERVICES for method in service.methods
)


@attrs.define(eq=False, repr=False)
class StandbyServer:
    """Answers ShardService and health checks; calls that only the owner answers fail with `SHARD_MOVED`."""

    _settings: RouterSettings
    _verifier: TokenVerifier
    _shards: ShardService  # answers who owns the shard
    _owner: Callable[[], KnownOwner | None]  # returns the owner
    _server: grpc.aio.Server | None = attrs.field(init=False, default=None)

    async def start(self, port: int) -> int:
        """Start, unless it runs, and return the port that it listens on (given 0: any).

        Raises:
            FlowhookError: the port or a certificate can't be used.
        """
        if self._server is not None:
            return port
        server = new_server(self._verifier, RouterLimits())
        add_service(server, self._shards)
        add_service(server, HealthService(service_names(), standby=True))
        enable_reflection(server)
        server.add_generic_rpc_handlers((_Elsewhere(self._owner),))
        port = bind(server, self._settings, port)
        await server.start()
        self._server = server
        return port

    async def stop(self) -> None:
        """Stop, and free the port; no effect if it does not run."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(None)


@attrs.define(eq=False, repr=False)
class _Elsewhere(grpc.GenericRpcHandler):  # type: ignore[type-arg] # generic in the stubs alone
    """Refuses the calls that only the owner answers."""

    _owner: Callable[[], KnownOwner | None]

    @override
    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        if handler_call_details.method not in _METHODS:
            return None
        owner = self._owner()
        where = "no router owns it now" if owner is None else f"{owner.router} at {owner.address} owns it"
        return refusal(UnavailableError(f"this router does not own the shard: {where}", reason="SHARD_MOVED"))
