"""Routers that know who owns the shard: real gRPC servers, each behind a relay, with services that a test gives them.

All answer ShardService. The other services are answered by the owner alone; the others refuse with SHARD_MOVED.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager

import grpc
import grpc.aio
from support.relays import relayed

from flowhook.client.channel import SERVER_OPTIONS
from flowhook.errors import UnauthenticatedError, UnavailableError
from flowhook.v1 import shard_service_pb2, shard_service_pb2_grpc
from flowhook.wire import status

SHARD_SERVICE = "/flowhook.v1.ShardService/"


class ShardRouter(shard_service_pb2_grpc.ShardServiceServicer, grpc.aio.ServerInterceptor):
    """One of the routers.

    Attributes:
        address: where clients find it.
        owns: whether it answers other calls than those of ShardService.
        calls: names of the methods of these calls, refused ones included.
        watches: how many watches began.
        refuses_tokens: whether it refuses all watches as unauthenticated.
    """

    def __init__(self):
        self.address = ""
        self.owns = False
        self.calls = []
        self.watches = 0
        self.refuses_tokens = False
        self._owner = shard_service_pb2.ShardOwner()
        self._changed = asyncio.Event()
        self._stack = AsyncExitStack()
        self._relay = None

    async def start(self, services, *, secure=None):
        """Serve; `services` register themselves with a server."""
        server = grpc.aio.server(options=SERVER_OPTIONS, interceptors=[self])
        shard_service_pb2_grpc.add_ShardServiceServicer_to_server(self, server)
        for register in services:
            register(server)
        port = server.add_secure_port("127.0.0.1:0", secure) if secure else server.add_insecure_port("127.0.0.1:0")
        await server.start()
        self._stack.push_async_callback(server.stop, None)
        self._relay = await self._stack.enter_async_context(relayed(f"127.0.0.1:{port}"))
        self.address = self._relay.target

    async def kill(self):
        """End it with all its connections; nothing listens at its address any more."""
        if self._relay is not None:
            self._relay.resume()
            self._relay.abort()
        await self._stack.aclose()

    @property
    def connections(self):
        """How many clients are connected."""
        return self._relay.connections

    def pause(self):
        """Let it read and write nothing, with its connections open."""
        self._relay.pause()

    def resume(self):
        self._relay.resume()

    def report(self, epoch, address, *, serving=True):
        """Let it report an owner from now on."""
        self._owner = shard_service_pb2.ShardOwner(epoch=epoch, address=address, router="it", serving=serving)
        self._changed.set()
        self._changed = asyncio.Event()

    async def WatchShards(self, request, context):  # noqa: N802 - the name of the RPC
        self.watches += 1
        if self.refuses_tokens:
            await status.abort(context, UnauthenticatedError("the token is invalid"))
        while True:
            changed = self._changed
            yield shard_service_pb2.WatchShardsResponse(owners=[self._owner])
            await changed.wait()

    async def intercept_service(self, continuation, details):
        handler = await continuation(details)
        if handler is None or details.method.startswith(SHARD_SERVICE):
            return handler
        self.calls.append(details.method.rpartition("/")[2])
        return handler if self.owns else _refusing(handler)


def _refusing(handler):
    async def refuse(_request, context):
        await status.abort(context, UnavailableError("another router owns the shard", reason="SHARD_MOVED"))

    kinds = ["stream" if streams else "unary" for streams in (handler.request_streaming, handler.response_streaming)]
    make = getattr(grpc, f"{kinds[0]}_{kinds[1]}_rpc_method_handler")
    return make(refuse, handler.request_deserializer, handler.response_serializer)


class ShardRouters:
    """Some routers, none of which owns the shard yet."""

    def __init__(self, routers):
        self._routers = routers
        self.target = ",".join(router.address for router in routers)

    def __getitem__(self, number):
        return self._routers[number]

    def __iter__(self):
        return iter(self._routers)

    def move(self, number, epoch, *, serving=True):
        """Make a router the owner, and let all report that, except for former owners that are paused."""
        owner = self._routers[number]
        for router in self._routers:
            router.owns = router is owner and serving
            router.report(epoch, owner.address, serving=serving)


@asynccontextmanager
async def shard_routers(count, *services, secure=None):
    """Serve `count` routers that have the same `services`, each a function that adds one to a server."""
    routers = [ShardRouter() for _ in range(count)]
    try:
        for router in routers:
            await router.start(services, secure=secure)
        yield ShardRouters(routers)
    finally:
        for router in routers:
            await router.kill()
