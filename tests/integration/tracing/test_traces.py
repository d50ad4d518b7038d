"""The spans of events and executions, as a real collector receives them from a real edge, router and runner."""

from __future__ import annotations

import asyncio
import dataclasses
import io
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from support.edges import running_edge
from support.http_servers import http_server
from support.otlp import running_collector
from support.patience import PATIENCE
from support.routers import running_router
from support.runners import attached
from support.workers import running_worker

from edge import app as edge_app
from flowhook.errors import InvalidError
from flowhook.model import Status
from flowhook.model.rejections import TEST_TRACE, RequestOutcome
from flowhook.process.process_state import ProcessState
from flowhook.process.settings import EdgeSettings, RunnerSettings
from flowhook.tracing.configuration import configured
from runner import app as runner_app
from runner.components.registry import components
from runner.worker import app as worker_app

TRACE = "0af7651916cd43dd8448eb211c80319c"
SENDER = "b7ad6b7169203331"
STATE = "vendor=opaque,other=1"
SECRET = "very-secret-value"

FLOW = """
document: {{dsl: 1.0.3, namespace: default, name: pay, version: 1.0.0}}
webhook: {{auth: {{api_key: {{header: X-Key, secret: door}}}}}}
execution: {{outage: {{failures: 3, probe: PT1S}}, retry: {{delay: PT0.01S, limit: {{attempt: {{count: 9}}}}}}}}
do:
  - each:
      for: {{in: "${{ [1, 2] }}", each: n}}
      do:
        - charge:
            call: http
            with: {{method: post, endpoint: "{url}/charge?token={secret}", body: {{a: "{secret}"}}}}
  - pause: {{wait: PT1.5S}}
  - tell: {{call: http, with: {{method: get, endpoint: "{url}/tell"}}}}
"""


class Target:
    """What flows call: answers with the next of `statuses`, then 200."""

    def __init__(self):
        self.url = ""
        self.statuses = []
        self.bodies = []
        self.requests = []

    async def handle(self, request):
        self.bodies.append(await request.read())
        self.requests.append(request)
        return web.json_response({}, status=self.statuses.pop(0) if self.statuses else 200)

    def parents(self):
        return [request.headers["traceparent"] for request in self.requests]


class Traced:
    def __init__(self, collector, target, url, edge, client):
        self.collector, self.target, self.url, self.edge, self.client = collector, target, url, edge, client

    async def send(self, flow="pay", headers=None, query="", status=202, body=b'{"n": 1}'):
        given = {"X-Key": "key-of-the-door", "Content-Type": "application/json", **(headers or {})}
        url = f"http://{self.edge}/hook/{flow}{query}"
        async with aiohttp.ClientSession() as session, session.post(url, data=body, headers=given) as answer:
            assert answer.status == status, await answer.text()
            return (await answer.json()).get("id")

    async def ended(self, execution_id, status=Status.COMPLETED):
        async with asyncio.timeout(PATIENCE):
            while not (execution := (await self.client.executions.get(execution_id)).execution).status.ended:
                await asyncio.sleep(0.02)
        assert execution.status is status, execution.error
        return execution


def outcome(span):
    return span.attributes["flowhook.execution.outcome"]


@asynccontextmanager
async def traced(tmp_path, monkeypatch, protocol="grpc", *, edge=None, runner=None, **variables):
    target = Target()
    async with running_collector() as collector, http_server(target.handle) as url, running_router(tmp_path) as router:
        for name, value in {**collector.variables(protocol), **variables}.items():
            monkeypatch.setenv(name, value)
        options = {"traces": True, **(edge or {})}
        traces = configured(enabled=True)
        target.url = url
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


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
async def test_two_retries_an_outage_a_wait_and_a_replay_are_told(tmp_path, monkeypatch, protocol):
    """Three calls fail: two are retries. The third opens the breaker, and the flow parks, goes on, waits, and ends."""
    async with traced(tmp_path, monkeypatch, protocol) as system:
        system.target.statuses = [503, 503, 503]
        event = await system.send(headers={"traceparent": f"00-{TRACE}-{SENDER}-01"})
        await system.ended(event)
        replay = await system.client.executions.replay(event)
        await system.ended(replay.id)
        collector = system.collector
        (send,) = await collector.until("send pay")
        gets = await collector.until("GET", 2)
        posts = await collector.until("POST", 7)
        # a probe may call once, and what it calls next may have to park again
        attempts = await collector.until("process pay", 5)
        while [outcome(each) for each in attempts].count("completed") < 2:
            attempts = await collector.until("process pay", len(attempts) + 1)
    first, *resumed = [each for each in attempts if not each.attributes["flowhook.execution.replay"]]
    of_replay = [each for each in attempts if each.attributes["flowhook.execution.replay"]]
    assert (first.trace_id, first.parent_id) == (TRACE, send.span_id)
    assert {each.parent_id for each in attempts[1:]} == {""}
    assert len({each.trace_id for each in attempts}) == len(attempts)
    assert {tuple(each.links) for each in attempts} == {((TRACE, send.span_id),)}
    assert [outcome(each) for each in (first, *resumed)] == ["parked"] * len(resumed) + ["completed"]
    assert [outcome(each) for each in of_replay] == ["parked", "completed"]
    assert not first.attributes["flowhook.execution.resumed"]
    assert all(each.attributes["flowhook.execution.resumed"] for each in resumed)
    assert {each.attributes["flowhook.execution.id"] for each in (first, *resumed)} == {event}
    assert {each.attributes["flowhook.execution.id"] for each in of_replay} == {replay.id}
    # the retries are in the first trace, what came after the outage in the next ones
    parked = {each.trace_id for each in resumed[:-1]}
    assert [post.trace_id for post in posts[:3]] == [first.trace_id] * 3
    assert {post.trace_id for post in posts[3:5]} <= parked
    assert [post.trace_id for post in posts[5:]] == [of_replay[0].trace_id] * 2
    assert [get.trace_id for get in gets] == [resumed[-1].trace_id, of_replay[1].trace_id]
    assert [post.attributes["http.response.status_code"] for post in posts] == [503] * 3 + [200] * 4
    assert [post.attributes.get("error.type") for post in posts] == ["503"] * 3 + [None] * 4
    assert [post.failed for post in posts] == [True] * 3 + [False] * 4
    assert [post.attributes.get("http.request.resend_count") for post in posts] == [None, 1, 2, *[None] * 4]
    # every request that was made has a span of its own, whose ID it carried
    made = [request.headers["traceparent"] for request in system.target.requests]
    assert sorted(made) == sorted(f"00-{span.trace_id}-{span.span_id}-01" for span in [*posts, *gets])


async def test_a_request_that_is_tried_again_in_one_attempt_says_how_often(tmp_path, monkeypatch):
    retries = """
document: {{dsl: 1.0.3, namespace: default, name: again, version: 1.0.0}}
webhook: {{auth: none}}
execution: {{retry: {{delay: PT0.01S, limit: {{attempt: {{count: 5}}}}}}}}
do: [{{tell: {{call: http, with: {{method: get, endpoint: "{url}/tell"}}}}}}]
"""
    async with traced(tmp_path, monkeypatch) as system:
        await system.client.flows.apply([retries.format(url=system.target.url).encode()])
        system.target.statuses = [503, 503]
        await system.ended(await system.send("again"))
        spans = await system.collector.until("GET", 3)
        (tell,) = await system.collector.until("tell")
    assert [span.attributes.get("http.request.resend_count") for span in spans] == [None, 1, 2]
    assert {span.parent_id for span in spans} == {tell.span_id}
    assert not tell.failed


async def test_a_sub_flow_belongs_to_the_trace_of_the_flow_that_runs_it(tmp_path, monkeypatch):
    outer = b"""
document: {dsl: 1.0.3, namespace: default, name: outer, version: 1.0.0}
webhook: {auth: none}
do: [{run-it: {run: {workflow: {namespace: default, name: inner, version: latest}, await: false}}}]
"""
    inner = b"document: {dsl: 1.0.3, namespace: default, name: inner, version: 1.0.0}\ndo: [{ok: {set: {ok: true}}}]\n"
    async with traced(tmp_path, monkeypatch) as system:
        await system.client.flows.apply([outer, inner])
        await system.send("outer", headers={"traceparent": f"00-{TRACE}-{SENDER}-00"})
        (send,) = await system.collector.until("send inner")
        (process,) = await system.collector.until("process inner")
        (task,) = await system.collector.until("run-it")
    assert (send.trace_id, send.parent_id) == (TRACE, task.span_id)
    assert (process.trace_id, process.parent_id) == (TRACE, send.span_id)


async def test_no_span_has_a_secret_a_body_a_query_or_a_header(tmp_path, monkeypatch):
    async with traced(tmp_path, monkeypatch) as system:
        await system.ended(await system.send(headers={"X-Other": SECRET}, query=f"?q={SECRET}"))
        (server,) = await system.collector.until("POST /hook/{flow}")
        await system.collector.until("GET")
        (post, _) = await system.collector.until("POST", 2)
        refused = await refusal(system)
    assert SECRET.encode() not in b"".join(system.collector.bodies)
    assert b"key-of-the-door" not in b"".join(system.collector.bodies)
    assert b"wrong-key-of-somebody" not in b"".join(system.collector.bodies)
    assert post.attributes["url.full"].endswith("/charge")
    assert {name: server.attributes[name] for name in ("http.route", "url.path", "flowhook.flow")} == {
        "http.route": "/hook/{flow}",
        "url.path": "/hook/pay",
        "flowhook.flow": "pay",
    }
    assert server.attributes["http.response.status_code"] == 202
    assert server.attributes["http.request.body.size"] == 8
    assert server.attributes["flowhook.auth.scheme"] == "api_key"
    assert refused.attributes["flowhook.rejection.reason"] == "UNAUTHENTICATED"
    assert not refused.failed  # the fault is the sender's


async def refusal(system):
    await system.send(headers={"X-Key": "wrong-key-of-somebody"}, status=401)
    return (await system.collector.until("POST /hook/{flow}", 2))[1]


async def test_a_stranger_does_not_decide_what_is_recorded(tmp_path, monkeypatch):
    """Neither by the flag nor by a trace ID that every ratio would take, nor at the runner."""
    async with traced(tmp_path, monkeypatch, OTEL_TRACES_SAMPLER="always_off") as system:
        low = "0" * 31 + "1"
        await system.ended(await system.send(headers={"traceparent": f"00-{low}-{SENDER}-01"}))
        parents = system.target.parents()
    assert system.collector.spans == []
    assert {parent.split("-")[1] for parent in parents} == {low}  # it is continued all the same
    assert {parent.split("-")[3] for parent in parents} == {"00"}
    assert SENDER not in {parent.split("-")[2] for parent in parents}


async def test_a_runner_decides_by_its_share_what_no_edge_has_decided(tmp_path, monkeypatch):
    off = {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"}
    async with traced(tmp_path, monkeypatch, edge={"traces": False}, **off) as system:
        await system.ended(await system.send(headers={"traceparent": f"00-{TRACE}-{SENDER}-01"}))
        parents = system.target.parents()
    assert system.collector.spans == []
    assert {parent[:35] for parent in parents} == {f"00-{TRACE}"}


async def test_own_senders_may_be_trusted(tmp_path, monkeypatch):
    trusted = {"traces_trust_senders": True}
    async with traced(tmp_path, monkeypatch, edge=trusted, OTEL_TRACES_SAMPLER="always_off") as system:
        await system.send(headers={"traceparent": f"00-{TRACE}-{SENDER}-00"})
        await system.send(headers={"traceparent": f"00-{TRACE}-{SENDER}-01"})
        (server,) = await system.collector.until("POST /hook/{flow}")
        await system.collector.until("process pay")
    assert (server.trace_id, server.parent_id) == (TRACE, SENDER)
    assert len(system.collector.named("POST /hook/{flow}")) == 1


async def test_the_queue_may_be_a_link_only(tmp_path, monkeypatch):
    async with traced(tmp_path, monkeypatch, runner={"traces_queue": "link"}) as system:
        await system.send(headers={"traceparent": f"00-{TRACE}-{SENDER}-00"})
        (send,) = await system.collector.until("send pay")
        (process, *_) = await system.collector.until("process pay")
    assert process.trace_id != TRACE
    assert (process.parent_id, process.links) == ("", [(TRACE, send.span_id)])


async def test_a_repeated_delivery_says_so_and_starts_nothing(tmp_path, monkeypatch):
    flow = b"""
document: {dsl: 1.0.3, namespace: default, name: once, version: 1.0.0}
webhook: {auth: none, dedupe: {key: "${ .headers[\\"x-id\\"] }"}}
do: [{ok: {set: {ok: true}}}]
"""
    async with traced(tmp_path, monkeypatch) as system:
        await system.client.flows.apply([flow])
        for _ in range(2):
            await system.send("once", headers={"X-Id": "7"})
        first, second = await system.collector.until("POST /hook/{flow}", 2)
        await system.collector.until("process once")
    assert "flowhook.duplicate" not in first.attributes
    assert second.attributes["flowhook.duplicate"] is True
    assert len(system.collector.named("process once")) == 1


@pytest.mark.parametrize(
    ("serve", "settings"), [(edge_app.serve, EdgeSettings), (runner_app.serve, RunnerSettings)], ids=["edge", "runner"]
)
async def test_a_process_whose_variables_are_not_supported_does_not_start(tmp_path, monkeypatch, serve, settings):
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "by-the-moon")
    chosen = settings(data_dir=tmp_path, token="fhk_some_token", traces=True)
    with pytest.raises(InvalidError, match="OTEL_TRACES_SAMPLER is one of"):
        await serve(chosen, ProcessState(name="one-1", role="edge"))


async def test_a_log_line_of_a_call_has_trace_flow_and_execution(tmp_path, monkeypatch, capfd):
    async def fail(arguments, context):
        raise RuntimeError(SECRET)

    broken = {**components(), "http": dataclasses.replace(components()["http"], _invoke=fail)}
    monkeypatch.setattr(worker_app, "components", lambda: broken)
    async with traced(tmp_path, monkeypatch) as system:
        event = await system.send(headers={"traceparent": f"00-{TRACE}-{SENDER}-01"})
        await system.ended(event, Status.FAULTED)
    (line,) = [line for line in capfd.readouterr().out.splitlines() if "component failed unexpectedly" in line]
    assert all(each in line for each in (f"execution={event}", "flow=pay", f"trace_id={TRACE}"))
    assert SECRET not in line


async def test_requests_that_wait_for_their_flow_or_send_much_are_traced_as_others(tmp_path, monkeypatch):
    reply = b"""
document: {dsl: 1.0.3, namespace: default, name: answers, version: 1.0.0}
webhook: {auth: none, parse: raw, respond: {mode: reply}, max_body: 8MiB}
do: [{ok: {set: {id: "${ .id }"}}}]
"""
    size = 5 * 1024 * 1024
    async with traced(tmp_path, monkeypatch) as system:
        await system.client.flows.apply([reply])
        answered = await system.send("answers", headers={"Content-Type": "application/octet-stream"}, status=200)
        await system.collector.until("process answers")
        await system.client.flows.apply([reply.replace(b"mode: reply", b"mode: accept").replace(b"1.0.0", b"1.0.1")])
        large = await system.send(
            "answers", body=io.BytesIO(b"x" * size), headers={"Content-Type": "application/octet-stream"}
        )
        servers = await system.collector.until("POST /hook/{flow}", 2)
        sends = await system.collector.until("send answers", 2)
        processes = await system.collector.until("process answers", 2)
    assert [span.attributes["flowhook.event.id"] for span in servers] == [answered, large]
    assert servers[1].attributes["http.request.body.size"] == size
    assert [span.parent_id for span in processes] == [span.span_id for span in sends]
    assert sends[0].began_ns <= processes[0].began_ns <= processes[0].ended_ns <= sends[0].ended_ns


async def test_a_callback_by_its_one_time_url_shows_no_token(tmp_path, monkeypatch):
    waiting = """
document: {{dsl: 1.0.3, namespace: default, name: waiting, version: 1.0.0}}
webhook: {{auth: none, callbacks: {{approval: {{}}}}}}
execution: {{order_by: "${{ .method }}"}}
do:
  - ask: {{call: http, with: {{method: post, endpoint: "{url}/", body: "${{ $runtime.metadata.callbacks.approval }}"}}}}
  - wait: {{listen: {{to: {{one: {{with: {{type: approval}}}}}}}}}}
"""
    async with traced(tmp_path, monkeypatch) as system:
        await system.client.flows.apply([waiting.format(url=system.target.url).encode()])
        event = await system.send("waiting")
        await system.collector.until("POST")
        path = system.target.bodies[0].decode()
        token = path.rpartition("/")[2]
        await system.send(path.removeprefix("/hook/"))
        await system.ended(event)
        (server,) = await system.collector.until("POST /hook/{flow}/{callback}/{token}")
        first, second = await system.collector.until("process waiting", 2)
        (ask,) = await system.collector.until("ask")
        asked, called_back = await system.collector.until("send waiting", 2)
    assert [each.attributes["messaging.message.conversation_id"] for each in (first, second)] == ["POST"] * 2
    assert [span_id for _, span_id in second.links] == [asked.span_id, called_back.span_id]
    assert server.attributes["url.path"] == "/hook/waiting/approval/REDACTED"
    assert server.attributes["flowhook.callback"] == "approval"
    assert len(token) > 20
    assert token.encode() not in b"".join(system.collector.bodies)
    assert ask.parent_id == first.span_id
    assert len(system.collector.named("ask")) == 1  # what was replayed from the journal has one span
    assert [each.attributes["flowhook.execution.outcome"] for each in (first, second)] == ["parked", "completed"]


async def test_a_router_says_whether_an_earlier_attempt_ended(tmp_path):
    lost = b"document: {dsl: 1.0.3, namespace: default, name: lost, version: 1.0.0}\ndo: [{ok: {set: {ok: true}}}]\n"
    async with running_router(tmp_path) as router, router.client() as client:
        await client.flows.apply([lost])
        await client.ingest("lost", b"{}")
        async with attached(router, credit=1) as runner:
            [first] = await runner.assignments(1)
            await runner.settle({"lease": first.lease, "released": {"reason": "DRAINING", "charged": False}})
            await runner.credit(1)
            [second] = await runner.assignments(1)
    assert (first.resumed, second.resumed) == (False, True)


async def test_test_events_are_told_from_others_where_requests_are_traced(tmp_path, monkeypatch):
    async with traced(tmp_path, monkeypatch) as system:
        parent = f"{TEST_TRACE}{'0' * 23}1-{SENDER}-01"
        event = await system.send(headers={"traceparent": parent})
        (server,) = await system.collector.until("POST /hook/{flow}")
        detail = await system.client.executions.get(event, max_body_bytes=0)
        async with asyncio.timeout(PATIENCE):
            while not (
                found := [each async for each in system.client.rejections.requests(outcome=RequestOutcome.TEST)]
            ):
                await asyncio.sleep(0.02)
    assert server.trace_id in detail.event.traceparent  # by which the console and `send` find the execution
    assert parent.startswith(f"00-{server.trace_id}")
    assert [each.execution_id for each in found] == [event]
