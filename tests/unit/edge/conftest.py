from __future__ import annotations

import asyncio

import orjson
import pytest

from edge.metrics import EdgeMetrics
from edge.router.client import FoundFlows
from flowhook.errors import NotFoundError
from flowhook.v1.flow_service_pb2 import Flow, GetFlowResponse, WatchFlowsResponse
from flowhook.v1.ingest_service_pb2 import Accepted, IngestResult
from flowhook.v1.secret_service_pb2 import ResolveSecretsResponse


class ScriptedRouter:
    """`edge.router.client.RouterClient` without a network: each test says what it answers, and when."""

    def __init__(self):
        self.flows = {}
        self.urls = {}
        self.secrets = {}
        self.revision = 1
        self.requested = []
        self.searches = []
        self.batches = []
        self.responses = []
        self.changes = asyncio.Queue()
        self.watches = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.searching = asyncio.Event()
        self.searching.set()

    async def ingest(self, events, seconds):
        self.batches.append([event.id for event in events])
        await self.gate.wait()
        answer = self.responses.pop(0) if self.responses else None
        if isinstance(answer, Exception):
            raise answer
        return answer or [IngestResult(accepted=Accepted(execution_id=event.id)) for event in events]

    async def get_flow(self, flow_id, seconds):
        self.requested.append(flow_id)
        found = self.flows.get(flow_id)
        revision = self.revision
        await self.gate.wait()
        if found is None:
            raise NotFoundError("no such flow")
        if isinstance(found, Exception):
            raise found
        flow = Flow(definition=orjson.dumps({"webhook": found}), revision=1)
        return GetFlowResponse(flow=flow, registry_revision=revision)

    async def find_flows(self, flow_ids, seconds):
        self.searches.append(list(flow_ids))
        await self.gate.wait()
        await self.searching.wait()
        found = {each: each for each in flow_ids if each in self.flows}
        return FoundFlows(found | self.urls, has_urls=bool(self.urls))

    async def resolve_secrets(self, flow_id, names, seconds):
        revision = self.revision
        values = {name: self.secrets[name] for name in names if name in self.secrets}
        return ResolveSecretsResponse(values=values, registry_revision=revision)

    async def watch(self, start_revision):
        self.watches.append(start_revision)
        while True:
            change = await self.changes.get()
            if isinstance(change, Exception):
                raise change
            yield change

    def tell(self, **change):
        self.revision += 1
        self.changes.put_nowait(WatchFlowsResponse(revision=self.revision, **change))

    def progress(self):
        self.changes.put_nowait(WatchFlowsResponse(revision=self.revision))


@pytest.fixture
async def router():
    return ScriptedRouter()


@pytest.fixture
def counts():
    return EdgeMetrics()


@pytest.fixture
async def running():
    """Run coroutines until the end of the test."""
    tasks = []

    def start(coroutine):
        tasks.append(asyncio.create_task(coroutine))
        return tasks[-1]

    yield start
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        assert outcome is None or isinstance(outcome, asyncio.CancelledError), outcome


@pytest.fixture
def settled():
    """Let everything that can go on go on."""

    async def wait():
        for _ in range(30):
            await asyncio.sleep(0)

    return wait
