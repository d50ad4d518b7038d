"""The spans of events and executions, as a real collector receives them from a real edge, router and runner."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from support.edges import running_edge
from support.http_servers import http_server
from support.otlp import running_collector
from support.patience import PATIENCE
from support.routers import running_router
from support.workers import running_worker

from flowhook.model import Status
from flowhook.tracing.configuration import configured

TRACE = "0af7651916cd43dd8448eb211c80319c"
SENDER = "b7ad6b7169203331"
STATE = "vendor=opaque,other=1"
SECRET = "very-secret-value"

FLOW = """
document: {{dsl: 1.0.3, namespace: default, name: pay, version: 1.0.0}}
webhook: {{auth: {{api_key: {{header: X-Key, secret: door}}}}}}
execution: {{outage: {{failures: 1, probe: PT1S}}, retry: {{delay: PT0.01S, limit: {{attempt: {{count: 3}}}}}}}}
do:
  - each:
      for: {{in: "${{ [1, 2] }}", each: n}}
      do:
        - charge:
            call: http
            with: {{method: post, endpoint: "{url}/charge?token={secret}", body: {{a: "{secret}"}}}}
  - pause: {{wait: PT0.5S}}
  - tell: {{call: http, with: {{method: get, endpoint: "{url}/tell"}}}}
"""


class Target:
    """What flows call: answers with the next of `statuses`, then 200."""

    def __init__(self):
        self.statuses = []
        self.requests = []

    async def handle(self, request):
        self.requests.append(request)
        return web.json_response({}, status=self.statuses.pop(0) if self.statuses else 200)

    def parents(self):
        return [request.headers["traceparent"] for request in self.requests]


class Traced:
    def __init__(self, collector, target, url, edge, client):
        self.collector, self.target, self.url, self.edge, self.client = collector, target, url, edge, client

    async def send(self, flow="pay", headers=None, query="", status=202):
        given = {"X-Key": "key-of-the-door", "Content-Type": "application/json", **(headers or {})}
        url = f"http://{self.edge}/hook/{flow}{query}"
        async with aiohttp.ClientSession() as session, session.post(url, data=b'{"n": 1}', headers=given) as answer:
            assert answer.status == status, await answer.text()
            return (await answer.json()).get("id")

    async def ended(self, execution_id, status=Status.COMPLETED):
        async with asyncio.timeout(PATIENCE):
            while not (execution := (await self.client.executions.get(execution_id)).execution).status.ended:
                await asyncio.sleep(0.02)
        assert execution.status is status, execution.error
        return execution


@asynccontextmanager
async def traced(tmp_path, monkeypatch, protocol="grpc", *, edge=None, runner=None, **variables):
    target = Target()
    async with running_collector() as collector, http_server(target.handle) as url, running_router(tmp_path) as router:
        for name, value in {**collector.variables(protocol), **variables}.items():
            monkeypatch.setenv(name, value)
        options = {"traces": True, **(edge or {})}
        traces = configured(enabled=(runner or {}).pop("traces", True)) if runner else configured(enabled=True)
        async with (
            running_edge(router, **options) as address,
            running_worker(router, traces=traces, allow_private_addresses=True, **(runner or {})),
            router.client() as client,
        ):
            await client.secrets.set("door", b"key-of-the-door")
            await client.flows.apply([FLOW.format(url=url, secret=SECRET).encode()])
            yield Traced(collector, target, url, address, client)


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
async def test_an_event_is_traced_from_its_sender_to_what_its_flow_calls(tmp_path, monkeypatch, protocol):
    async with traced(tmp_path, monkeypatch, protocol) as system:
        event = await system.send(headers={"traceparent": f"00-{TRACE}-{SENDER}-00", "tracestate": STATE})
        await system.ended(event)
        collector = system.collector
        (server,) = await collector.until("POST /hook/{flow}")
        (send,) = await collector.until("send pay")
        process, resumed = await collector.until("process pay", 2)
        charges = await collector.until("charge", 2)
        posts = await collector.until("POST", 2)
        (get,) = await collector.until("GET")
        (each,), (tell,) = await collector.until("each"), await collector.until("tell")
    assert [each.kind for each in (server, send, process, charges[0], posts[0])] == [
        "SERVER", "PRODUCER", "CONSUMER", "INTERNAL", "CLIENT",
    ]  # fmt: skip
    assert {span.trace_id for span in (server, send, process, *charges, *posts)} == {TRACE}
    assert server.parent_id == SENDER
    assert send.parent_id == server.span_id
    assert (process.parent_id, process.links) == (send.span_id, [(TRACE, send.span_id)])
    assert each.parent_id == process.span_id
    assert [charge.parent_id for charge in charges] == [each.span_id] * 2
    assert [charge.attributes["flowhook.task.iteration"] for charge in charges] == [[0], [1]]
    assert [post.parent_id for post in posts] == [charge.span_id for charge in charges]
    assert process.attributes["flowhook.execution.outcome"] == "parked"
    # after the wait: another trace, which links to the event's
    assert resumed.trace_id != TRACE
    assert (resumed.parent_id, resumed.links) == ("", [(TRACE, send.span_id)])
    assert resumed.attributes["flowhook.execution.resumed"] is True
    assert (tell.parent_id, get.parent_id) == (resumed.span_id, tell.span_id)
    assert system.target.parents() == [
        *(f"00-{TRACE}-{post.span_id}-01" for post in posts),
        f"00-{resumed.trace_id}-{get.span_id}-01",
    ]
    assert [request.headers["tracestate"] for request in system.target.requests] == [STATE] * 3
    assert server.resource["service.name"] == "flowhook-edge"
    assert process.resource["service.name"] == "flowhook-runner"
    assert process.resource["service.instance.id"] == "runner-1"
