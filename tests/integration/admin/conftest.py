"""The admin process's server in this process, before a router that says what the test wants."""

from __future__ import annotations

import asyncio

import aiohttp
import grpc
import pytest

from admin import app
from flowhook.client import channel
from flowhook.process.process_state import ProcessState
from flowhook.process.settings import AdminSettings
from flowhook.v1 import (
    cluster_service_pb2,
    cluster_service_pb2_grpc,
    execution_service_pb2,
    execution_service_pb2_grpc,
    shard_service_pb2,
    shard_service_pb2_grpc,
)
from flowhook.wire import convert


class Cluster(cluster_service_pb2_grpc.ClusterServiceServicer):
    """The processes that the test put in, as a router would tell them."""

    def __init__(self):
        self.processes = []
        self.away = False
        self.reported = asyncio.Event()
        self.asked = asyncio.Event()
        self.answers = asyncio.Event()
        self.answers.set()

    def add(self, name, *, ready=True, detail="", metrics=b"", last_seen=0.1):
        process = cluster_service_pb2.Process(
            name=name,
            role=name.partition("-")[0],
            build="0.1.0",
            pid=7,
            host="host",
            ready=ready,
            detail=detail,
            metrics=metrics,
            last_seen=convert.duration(last_seen),
        )
        self.processes.append(process)

    async def GetCluster(self, request, context):  # noqa: N802 - the name of the RPC
        self.asked.set()
        await self.answers.wait()
        if self.away:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "away")
        return cluster_service_pb2.GetClusterResponse(processes=self.processes)

    async def ReportProcess(self, request, context):  # noqa: N802 - the name of the RPC
        self.reported.set()
        return cluster_service_pb2.ReportProcessResponse()


class Shards(shard_service_pb2_grpc.ShardServiceServicer):
    """The state of a shard of whose router something is wrong."""

    problem = ""

    async def GetShards(self, request, context):  # noqa: N802 - the name of the RPC
        copies = [shard_service_pb2.ShardCopy(router="router-1", problem=self.problem)]
        return shard_service_pb2.GetShardsResponse(shards=[shard_service_pb2.Shard(copies=copies)])


class HalfBodies(execution_service_pb2_grpc.ExecutionServiceServicer):
    """Bodies that a router begins to send, before it goes away."""

    async def ReadBody(self, request, context):  # noqa: N802 - the name of the RPC
        yield execution_service_pb2.ReadBodyResponse(chunk=b"half")
        await context.abort(grpc.StatusCode.UNAVAILABLE, "away")


@pytest.fixture
async def router():
    """A server of ClusterService alone; `stop` it to see the router away."""
    server = grpc.aio.server(options=channel.SERVER_OPTIONS)
    cluster = Cluster()
    cluster_service_pb2_grpc.add_ClusterServiceServicer_to_server(cluster, server)
    execution_service_pb2_grpc.add_ExecutionServiceServicer_to_server(HalfBodies(), server)
    cluster.shards = Shards()
    shard_service_pb2_grpc.add_ShardServiceServicer_to_server(cluster.shards, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    cluster.target = f"127.0.0.1:{port}"
    cluster.stop = lambda: server.stop(0)
    yield cluster
    await server.stop(0)


@pytest.fixture
async def admin(router, tmp_path):
    """An HTTP client of the admin process: `await admin("GET", "/readyz")` gives status, headers and text."""
    (tmp_path / "view.token").write_text("fhk_t\n")
    settings = AdminSettings(
        data_dir=tmp_path, router=router.target, admin_port=0, admin_hosts="Admin.example.com, 192.0.2.7"
    )
    lifecycle = ProcessState(name="admin-1", role="admin")
    serving = asyncio.create_task(app.serve(settings, lifecycle))
    await lifecycle.ready.wait()

    async with aiohttp.ClientSession(f"http://{lifecycle.addresses['http']}") as session:

        async def ask(method, path, host=None, **headers):
            headers |= {} if host is None else {"Host": host}
            async with session.request(method, path, headers=headers) as response:
                return response.status, response.headers, await response.text()

        ask.router = router
        ask.address = lifecycle.addresses["http"]
        ask.stop = lifecycle.stop.set
        ask.serving = serving
        yield ask
    lifecycle.stop.set()
    await serving
