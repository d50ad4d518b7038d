"""Routers on a replicated log, in this process, on a NATS server of the test."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import asynccontextmanager, closing, suppress

import aiohttp
import grpc
from prometheus_client import CollectorRegistry
from support.cluster_keys import keys_of
from support.patience import PATIENCE

from chaos.replication import examine
from edge import app as edge_app
from flowhook.client import AsyncClient
from flowhook.client.channel import connect
from flowhook.errors import UnavailableError
from flowhook.process.process_state import ProcessState
from flowhook.process.settings import EdgeSettings, RouterSettings
from flowhook.security.tokens import ensure_tokens
from flowhook.v1 import shard_service_pb2, shard_service_pb2_grpc
from router.process import app
from router.storage.commit_log.jetstream import connect as connect_log
from router.storage.encryption import load_secrets_key


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
        self.token = cluster.token
        self.registry = CollectorRegistry()
        self.task = asyncio.create_task(app.serve(self.settings, self.lifecycle, registry=self.registry))

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
        """Return the shard as it describes it, from the time on that it listens."""
        await self.until(lambda router: "grpc" in router.lifecycle.addresses)
        async with connect(self.target, self.token()) as channel:
            stub = shard_service_pb2_grpc.ShardServiceStub(channel)
            return (await stub.GetShards(shard_service_pb2.GetShardsRequest())).shards[0]

    def client(self):
        return AsyncClient(self.target, token=self.token(), timeout=PATIENCE)

    def metric(self, name, **labels):
        return self.registry.get_sample_value(name, labels)

    async def follows(self, position):
        """Wait until it has applied the log up to a position."""
        while (await self.copy()).position < position:
            await self.until(lambda _: True)
            await asyncio.sleep(0.01)

    async def copy(self):
        """Return what it says of its own copy of the data."""
        return next(copy for copy in (await self.shard()).copies if copy.router == self.name)

    async def stop(self):
        self.lifecycle.stop.set()
        await self.task

    def wipe(self):
        """Remove its copy of the data, while it is stopped."""
        shutil.rmtree(self.view_dir)


class ReplicatedRouters:
    """Routers that share tokens, a key and a log; those that still run at the end are stopped."""

    def __init__(self, directory, url):
        self.directory = directory
        self.url = url
        self.routers = []
        ensure_tokens(directory)
        load_secrets_key(directory)

    def token(self, role="admin"):
        return (self.directory / f"{role}.token").read_text().strip()

    def start(self, name, **settings):
        router = ReplicatedRouter(self, name, **settings)
        self.routers.append(router)
        return router

    async def owner(self, *, but=None):
        """Wait until a router serves, other than `but`, and return it."""
        while True:
            if all(router.task.done() for router in self.routers):  # or this would wait for ever
                await asyncio.gather(*(router.task for router in self.routers))
                raise AssertionError("all routers have ended")
            for router in self.routers:
                if router.task.done() or router is but or "grpc" not in router.lifecycle.addresses:
                    continue
                if router.lifecycle.ready.is_set():
                    with suppress(grpc.RpcError):  # it changes its server
                        owner = (await router.shard()).owner
                        if owner.serving and owner.router == router.name:
                            return router
            await asyncio.sleep(0.01)

    def other(self, router):
        """Return the router that runs beside another one."""
        return next(each for each in self.routers if each is not router and not each.task.done())

    @property
    def target(self):
        """Addresses of all routers, for a client that follows the owner."""
        return ",".join(router.target for router in self.routers if not router.task.done())

    def client(self):
        return AsyncClient(self.target, token=self.token(), timeout=PATIENCE)

    async def assert_views_equal(self):
        """Stop all, and compare their views with the log, row by row."""
        await self.close()
        routers = {router.name: router for router in self.routers}
        await asyncio.to_thread(assert_views_equal, self.url, keys_of(self.directory), routers.values())

    async def close(self):
        for router in self.routers:
            router.lifecycle.stop.set()
        await asyncio.gather(*(router.task for router in self.routers), return_exceptions=True)


@asynccontextmanager
async def running_edge(routers, **settings):
    """Run an edge in front of all routers, and give a function that posts JSON to a flow."""
    settings = EdgeSettings(data_dir=routers.directory, router=routers.target, http_port=0, **settings)
    lifecycle = ProcessState(name="edge-1", role="edge")
    serving = asyncio.create_task(edge_app.serve(settings, lifecycle, registry=CollectorRegistry()))
    ready = asyncio.create_task(lifecycle.ready.wait())
    try:
        await asyncio.wait({serving, ready}, return_when=asyncio.FIRST_COMPLETED)
        async with aiohttp.ClientSession(f"http://{lifecycle.addresses['http']}") as session:

            async def post(flow_id, body, headers=None):
                async with session.post(f"/hook/{flow_id}", json=body, headers=headers) as response:
                    return response.status, response.headers, await response.json()

            yield post
    finally:
        ready.cancel()
        lifecycle.stop.set()
        await serving


def assert_views_equal(url, keys, routers):
    """Compare the views of routers that have stopped with the log, row by row. Blocks."""
    with closing(connect_log(url, keys, router="examiner")) as replicated:
        found = examine(replicated.log, {router.name: router.view_dir for router in routers})
    assert not any(found.problems.values()), found.problems
    assert found.counts["views_compared"] >= len(routers) - 1, found.counts  # another may start from the first one


class Load:
    """Sends events to a flow until it is told to stop, and remembers those that were acknowledged."""

    def __init__(self, client, flow_id, body):
        self._client = client
        self._flow_id = flow_id
        self._body = body
        self._stopping = False
        self.ids = []

    async def run(self):
        while not self._stopping:
            with suppress(UnavailableError):  # it was not acknowledged
                self.ids.append(await self._client.ingest(self._flow_id, self._body))

    def stop(self):
        self._stopping = True


@asynccontextmanager
async def load(client, flow_id, body=b"{}"):
    """Send events meanwhile; at the end, every one of them is answered."""
    load = Load(client, flow_id, body)
    running = asyncio.create_task(load.run())
    try:
        yield load
    finally:
        load.stop()
        await running


@asynccontextmanager
async def replicated_routers(directory, url):
    routers = ReplicatedRouters(directory, url)
    try:
        yield routers
    finally:
        await routers.close()
