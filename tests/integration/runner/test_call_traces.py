"""What calls say of the trace that they belong to, with an export and without."""

from __future__ import annotations

from types import SimpleNamespace

import nats
import pytest
from aiohttp import web
from support.asyncapi_documents import document
from support.calls import echo
from support.cases import cases
from support.nats_servers import nats_server
from support.patience import PATIENCE
from support.pets import pets_server

from flowhook.model import Event
from flowhook.tracing.context import TraceContext, parse
from flowhook.tracing.tracer import SpanKind, SpanTracer
from runner.interpreter.effects import Perform
from runner.outbound.call_trace import CURRENT, CallTrace
from runner.worker.execution_spans import MAX_TASKS, ExecutionTracing

TRACE, SENDER, STATE = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "vendor=1"
TASK = TraceContext(TRACE, SENDER, sampled=True)
EVENT = Event(
    "evt_1", "pay", 0, None, "", "POST", "/", "", "", (("tracestate", STATE.encode()),), b"", TASK.traceparent
)


class Spans:
    """An exporter that keeps spans."""

    def __init__(self):
        self.exported, self.dropped, self.spans = 0, {}, []

    def put(self, span):
        self.spans.append(span)

    def close(self, seconds):
        pass


@pytest.fixture
def passed_on():
    token = CURRENT.set(CallTrace(TASK, STATE))
    yield
    CURRENT.reset(token)


@pytest.fixture
def spans():
    exporter = Spans()
    token = CURRENT.set(CallTrace(TASK, STATE, SpanTracer(exporter)))
    yield exporter.spans
    CURRENT.reset(token)


async def sent(call, http_server, **given):
    answer = await call("http", method="post", endpoint=await http_server(echo), output="content", **given)
    return {name: answer["headers"].get(name) for name in ("traceparent", "tracestate")}


async def test_without_a_trace_nothing_is_sent(call, http_server):
    assert await sent(call, http_server) == {"traceparent": None, "tracestate": None}
    assert (await sent(call, http_server, headers={"traceparent": ""}))["traceparent"] is None


async def test_without_an_export_the_senders_context_is_passed_on_as_it_is(call, http_server, passed_on):
    assert await sent(call, http_server) == {"traceparent": TASK.traceparent, "tracestate": STATE}


async def test_a_request_that_is_recorded_is_the_parent_of_what_it_leads_to(call, http_server, spans):
    found = await sent(call, http_server)
    (span,) = spans
    assert found == {"traceparent": span.context.traceparent, "tracestate": STATE}
    assert (span.parent, span.kind, span.name) == (TASK, SpanKind.CLIENT, "POST")
    assert span.attributes["http.response.status_code"] == 200
    assert span.attributes["server.address"] == "127.0.0.1"


@cases(
    ("headers", "expected"),
    [
        ({"traceparent": "of-the-flow"}, {"traceparent": "of-the-flow", "tracestate": None}),
        ({"TraceParent": "of-the-flow"}, {"traceparent": "of-the-flow", "tracestate": None}),
        ({"traceparent": ""}, {"traceparent": None, "tracestate": None}),
    ],
)
async def test_what_the_flow_says_counts(call, http_server, spans, headers, expected):
    assert await sent(call, http_server, headers=headers) == expected
    assert spans.pop().name == "POST"


async def test_a_redirect_to_another_origin_does_not_learn_the_context(call, http_server, passed_on):
    other = await http_server(echo)

    async def redirect(_request):
        return web.Response(status=307, headers={"Location": other})

    answer = await call("http", method="get", endpoint=await http_server(redirect), redirect=True)
    assert "traceparent" not in answer["headers"]


async def test_a_server_of_tokens_does_not_learn_the_context(call, http_server, spans):
    asked = []

    async def issue(request):
        asked.append(request.headers)
        return web.json_response({"access_token": "t0ken", "token_type": "Bearer"})

    client = {"id": "me", "secret": "s3cret"}
    policy = {"oauth2": {"authority": await http_server(issue), "grant": "client_credentials", "client": client}}
    endpoint = {"uri": await http_server(echo), "authentication": policy}
    answer = await call("http", method="get", endpoint=endpoint)
    assert answer["headers"]["traceparent"] == spans[0].context.traceparent
    assert "traceparent" not in asked[0]
    assert len(spans) == 1


@cases(
    ("status", "error"),
    [(200, ""), (404, "404"), (503, "503")],
)
async def test_a_status_that_is_an_error_is_named(perform, http_server, spans, status, error):
    async def answer(_request):
        return web.json_response({}, status=status)

    await perform("http", method="get", endpoint=await http_server(answer))
    assert spans.pop().error == error


async def test_a_sender_does_not_redact_errors_by_its_tracestate(perform, http_server):
    async def answer(_request):
        return web.Response(status=500, text="no such account")

    CURRENT.set(CallTrace(TASK, "vendor=1 no such account"))
    result = await perform("http", method="get", endpoint=await http_server(answer))
    assert result.error.response.body == "no such account"


async def test_no_connection_is_an_error(perform, spans):
    await perform("http", method="get", endpoint="http://127.0.0.1:1/")
    (span,) = spans
    assert span.error == "communication"
    assert "http.response.status_code" not in span.attributes


async def test_a_call_over_grpc_is_a_span_and_carries_it(call, spans):
    async with pets_server() as pets:
        await call("grpc", service=pets.service, method="Greet", arguments={"name": "Ada"})
    (span,) = spans
    assert pets.calls[0]["traceparent"] == span.context.traceparent
    assert pets.calls[0]["tracestate"] == STATE
    assert (span.kind, span.parent) == (SpanKind.CLIENT, TASK)
    assert span.name == span.attributes["rpc.method"]
    assert span.name.endswith("/Greet")
    assert (span.attributes["rpc.system.name"], span.attributes["rpc.status_code"]) == ("grpc", "OK")


@pytest.mark.parametrize("own", [None, "of-the-flow"])
async def test_a_message_to_a_broker_carries_the_context(call, documents, tmp_path, spans, own):
    headers = {} if own is None else {"traceparent": own}
    with nats_server(tmp_path) as broker:
        client = await nats.connect(f"nats://{broker.address}", user="flowhook", password="secret")
        inbox = await client.subscribe("plain.>")
        await client.flush()
        described = await documents(document(broker.address, "nats", address="plain.{order}"))
        login = {"basic": {"username": "flowhook", "password": "secret"}}
        given = {"document": described, "operation": "announce", "protocol": "nats", "authentication": login}
        await call("asyncapi", message={"payload": {"order": 8}, "headers": headers}, **given)
        message = await inbox.next_msg(PATIENCE)
        await client.close()
    span = spans[-1]
    assert message.headers["traceparent"] == (own or span.context.traceparent)
    assert (span.name, span.kind) == ("send plain.{order}", SpanKind.PRODUCER)
    assert span.attributes["messaging.destination.template"] == "plain.{order}"
    assert span.attributes["messaging.system"] == "nats"


def perform_of(key="/do/0/tell#0"):
    return Perform(key, "http", {}, "/do/0/tell")


def test_a_runner_may_be_told_to_pass_nothing_on():
    def headers_of(tracing, spans=None):
        trace = tracing.of_call(EVENT, spans, perform_of())
        with trace.exchange("GET", SpanKind.CLIENT, {}) as exchange:
            return exchange.headers

    assert headers_of(ExecutionTracing(None)) == {"traceparent": TASK.traceparent, "tracestate": STATE}
    assert headers_of(ExecutionTracing(None, passes=False)) == {}
    tracing = ExecutionTracing(SpanTracer(Spans()), passes=False)
    recorded = tracing.begin(EVENT, attempt=1, resumed=False, revision=1)
    assert headers_of(tracing, recorded) == {}


@cases("traceparent", ["", "no-trace", f"00-{'0' * 32}-{SENDER}-01", "x" * 10_000])
def test_what_is_no_context_is_not_passed_on(traceparent):
    event = EVENT._replace(traceparent=traceparent)
    assert ExecutionTracing(None).of_call(event, None, perform_of()) is None


def test_a_runner_that_records_does_not_pass_on_that_it_does_where_it_does_not():
    tracing = ExecutionTracing(SpanTracer(Spans(), 0.0))
    event = EVENT._replace(headers=(("traceparent", TASK.traceparent.encode()),))
    assert tracing.begin(event, attempt=1, resumed=False, revision=1) is None
    passed = parse(tracing.of_call(event, None, perform_of()).context.traceparent)
    assert (passed.trace_id, passed.sampled) == (TRACE, False)
    assert passed.span_id != SENDER


def test_an_attempt_has_so_many_spans_however_long_it_loops():
    exporter = Spans()
    recorded = ExecutionTracing(SpanTracer(exporter)).begin(EVENT, attempt=1, resumed=False, revision=1)
    node = SimpleNamespace(name="tell", definition={}, pointer="/do/0/tell")
    for number in range(MAX_TASKS + 50):
        recorded.task_started(SimpleNamespace(node=node, key=f"/do/0/tell[{number}]", number=number))
        with recorded.of_call(perform_of(f"/do/0/tell[{number}]#0")).exchange("GET", SpanKind.CLIENT, {}) as exchange:
            assert parse(exchange.headers["traceparent"]).sampled
        recorded.task_ended(SimpleNamespace(iterations=(), skipped=False, number=number, error=None))
    recorded.end("completed", None)
    assert len(exporter.spans) == 2 * MAX_TASKS + 1


@cases(
    ("changes", "is_child"),
    [
        ({}, True),
        ({"attempt": 2}, False),
        ({"resumed": True}, False),
        ({"after": 14 * 60}, True),
        ({"after": 16 * 60}, False),
        ({"batch": True}, False),
    ],
)
def test_the_first_attempt_within_a_quarter_of_an_hour_is_a_child_of_the_event(changes, is_child):
    exporter = Spans()
    event = EVENT if "batch" not in changes else EVENT._replace(batch=(EVENT, EVENT))
    now = EVENT.receive_time_ms / 1000 + changes.get("after", 0)
    tracing = ExecutionTracing(SpanTracer(exporter), now=lambda: now)
    recorded = tracing.begin(
        event, attempt=changes.get("attempt", 1), resumed=changes.get("resumed", False), revision=3
    )
    recorded.end("completed", None)
    (span,) = exporter.spans
    assert span.parent == (TASK if is_child else None)
    assert (span.context.trace_id == TRACE) is is_child
    assert set(span.links) == {TASK}
    assert len(span.links) == (3 if "batch" in changes else 1)
    assert span.attributes.get("messaging.batch.message_count") == (3 if "batch" in changes else None)
