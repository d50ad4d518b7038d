"""Routers on a replicated log, in this process, on a NATS server of the test."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress

import grpc
from prometheus_client import CollectorRegistry

from flowhook.client import AsyncClient
from flowhook.client.channel import connect
from flowhook.config import RouterSettings
from flowhook.process import ProcessState
from flowhook.tokens import ensure_tokens
from flowhook.v1 import shard_service_pb2, shard_service_pb2_grpc
from router import app
from router.encryption import load_secrets_key


class ReplicatedRouter:
    """One router: its process state, the task that serves, and how to reach it."""

    def __init__(self, cluster, name, **settings):
        self.name = name
        self.lifecycle = ProcessState(name=name, role="router")
        self.view_dir = cluster.directory / name
        self.settings = RouterSettings(
            **{
                "data_dir": cluster.directory,
                "grpc_port": 0,
                "storage": cluster.url,
                "view_dir": self.view_dir,
                "drain_seconds": 0.1,
                "lease_seconds": 60,
            }
            | settings
        )
        self._token = cluster.token
        self.task = asyncio.create_task(app.serve(self.settings, self.lifecycle, registry=CollectorRegistry()))

    @property
    def target(self):
        return self.lifecycle.addresses["grpc"]

    async def until(self, condition):
        """Wait until `condition(self)` holds; what made the router end is raised."""
        while not condition(self):
            if self.task.done():
                await self.task
                raise AssertionError(f"{self.name} ended")
            await asyncio.sleep(0.01)

    async def shard(self):
        async with connect(self.target, self._token()) as channel:
            stub = shard_service_pb2_grpc.ShardServiceStub(channel)
            return (await stub.GetShards(shard_service_pb2.GetShardsRequest())).shards[0]

    def client(self):
        return AsyncClient(self.target, token=self._token())

    async def stop(self):
        self.lifecycle.stop.set()
        await self.task


class ReplicatedRouters:
    """Routers that share tokens, a key and a log; those that still run at the end are stopped."""

    def __init__(self, directory, url):
        self.directory = directory
        self.url = url
        self.routers = []
        ensure_tokens(directory)
        load_secrets_key(directory)

    def token(self):
        return (self.directory / "admin.token").read_text().strip()

    def start(self, name, **settings):
        router = ReplicatedRouter(self, name, **settings)
        self.routers.append(router)
        return router

    async def owner(self, *, but=None):
        """Wait until a router serves, other than `but`, and return it."""
        while True:
            for router in self.routers:
                if router.task.done() or router is but or "grpc" not in router.lifecycle.addresses:
                    continue
                if router.lifecycle.ready.is_set():
                    with suppress(grpc.RpcError):  # it changes its server
                        owner = (await router.shard()).owner
                        if owner.serving and owner.router == router.name:
                            return router
            await asyncio.sleep(0.01)

    async def close(self):
        for router in self.routers:
            router.lifecycle.stop.set()
        await asyncio.gather(*(router.task for router in self.routers), return_exceptions=True)


@asynccontextmanager
async def replicated_routers(directory, url):
    routers = ReplicatedRouters(directory, url)
    try:
        yield routers
    finally:
        await routers.close()
