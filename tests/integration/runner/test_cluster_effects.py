"""What a runner asks of the router beside work: to publish events, and to start other flows."""

from __future__ import annotations

import orjson
import pytest
from aiohttp import web
from support.attach_messages import entry_message

from flowhook.errors import ExhaustedError, InvalidError, NotFoundError, UnavailableError
from flowhook.model import JournalEntry, Origin, WorkflowError
from flowhook.security.callback_tokens import verify
from flowhook.wire import convert

EMIT = {"tell": {"emit": {"event": {"with": {"type": "paid", "data": "${ .body }"}}}}}
RUN = {
    "check": {"run": {"workflow": {"namespace": "shop", "name": "check", "version": "1.0.0", "input": "${ .body }"}}}
}


@pytest.fixture
async def sink(http_server):
    """An address that takes events, but for the first one, and what came there."""
    received = []

    async def take(request):
        received.append((request.headers, orjson.loads(await request.read())))
        return web.Response(status=503 if len(received) == 1 else 202)

    return await http_server(take), received


async def test_an_event_is_published_once_and_journaled(router, served):
    router.define("orders", [EMIT])
    stream = await router.attached()
    router.assign(stream, assignment := router.assignment("orders", {"n": 1}))
    event = orjson.loads((await router.outcome(assignment.lease)).completed.output)
    (request,) = router.emitted
    assert orjson.loads(request.event) == event
    execution_id = convert.event_from_bytes(assignment.event).id
    assert (event["type"], event["data"], event["source"]) == ("paid", {"n": 1}, "/flows/orders")
    assert (request.execution_id, request.depth) == (execution_id, 0)
    assert request.idempotency_key == event["id"] == f"{execution_id}:/do/0/tell#0"
    assert [item.entry.key for item in stream.checkpoints] == ["/do/0/tell#0:time", "/do/0/tell#0"]


async def test_an_event_goes_to_a_sink_as_well_and_again_until_it_has_it(router, served, sink):
    address, received = sink
    retry = {"limit": {"attempt": {"count": 1}}}
    router.define("orders", [{"tell": {**EMIT["tell"], "metadata": {"sink": address, "retry": retry}}}])
    stream = await router.attached()
    event = orjson.loads((await router.run(stream, "orders", {"n": 1})).completed.output)
    assert [body for _, body in received] == [event, event]
    headers = received[0][0]
    assert headers["Content-Type"] == "application/cloudevents+json; charset=utf-8"
    assert headers["Idempotency-Key"] == event["id"]
    assert len({request.SerializeToString() for request in router.emitted}) == 1


@pytest.fixture
def sink_for_all():
    """Whether the settings name the sink."""
    return False


@pytest.fixture
async def settings(settings, sink, sink_for_all):
    event_sink = sink[0] if sink_for_all else ""
    return settings.model_copy(update={"public_url": "https://hooks.example", "event_sink": event_sink})


@pytest.mark.parametrize("sink_for_all", [True])
async def test_the_settings_may_name_a_sink_for_all_events(router, served, sink):
    router.define("orders", [{"tell": {**EMIT["tell"], "metadata": {"retry": {"limit": {"attempt": {"count": 1}}}}}}])
    stream = await router.attached()
    await router.run(stream, "orders", {"n": 1})
    assert len(sink[1]) == 2


async def test_another_flow_is_started_and_its_end_waited_for(router, served):
    router.define("orders", [RUN])
    stream = await router.attached()
    first = router.assignment("orders", {"n": 1}, depth=3)
    router.assign(stream, first)
    outcome = await router.outcome(first.lease)
    (request,) = router.started
    execution_id = convert.event_from_bytes(first.event).id
    assert (request.flow_id, request.version, request.input) == ("shop.check", "1.0.0", b'{"n":1}')
    assert (request.parent_execution_id, request.parent_depth) == (execution_id, 3)
    assert request.idempotency_key == f"{execution_id}:/do/0/check#0"
    (subscription,) = outcome.parked.subscriptions
    assert (subscription.key, subscription.execution_id) == ("/do/0/check#0:end", "evt_child")
    second = router.assignment("orders", {"n": 1}, attempt=2)
    failed = WorkflowError("https://example.com/own", 409, "Own", "/do/5/x", "why")
    second.journal.extend([stream.checkpoints[0].entry, entry_message(JournalEntry(subscription.key, None, failed))])
    router.assign(stream, second)
    fault = (await router.outcome(second.lease)).faulted
    assert (fault.type, fault.status, fault.instance) == ("https://example.com/own", 409, "/do/0/check")
    assert len(router.started) == 1


async def test_a_replay_publishes_the_same_events_and_starts_other_flows_anew(router, served):
    router.define("orders", [{"tell": {**EMIT["tell"], "output": {"as": "$input"}}}, RUN])
    stream = await router.attached()
    replay = router.assignment("orders", {"n": 1})
    replay.effect_scope = "evt_original"
    router.assign(stream, replay)
    await router.outcome(replay.lease)
    assert router.emitted[0].idempotency_key == "evt_original:/do/0/tell#0"
    execution_id = convert.event_from_bytes(replay.event).id
    assert router.started[0].idempotency_key == f"{execution_id}:/do/1/check#0"


ONCE = {"metadata": {"retry": {"limit": {"attempt": {"count": 0}}}}}


@pytest.mark.parametrize(
    ("refusal", "kind", "status"),
    [
        (NotFoundError("no such flow", reason="FLOW_NOT_FOUND"), "configuration", 400),
        (NotFoundError("another version", reason="FLOW_VERSION_NOT_FOUND"), "configuration", 400),
        (InvalidError("too deep", reason="WORKFLOW_TOO_DEEP"), "runtime", 500),
        (ExhaustedError("full", reason="BACKLOG_FULL", retry_after=7), "communication", 429),
    ],
)
async def test_what_the_router_refuses_faults_the_task(router, served, refusal, kind, status):
    router.define("orders", [{"check": {**RUN["check"], **ONCE}}])
    router.refusals = [refusal]
    stream = await router.attached()
    fault = (await router.run(stream, "orders", {})).faulted
    assert (fault.type.rpartition("/")[2], fault.status, fault.detail) == (kind, status, refusal.message)


async def test_a_router_that_is_away_is_asked_again(router, served):
    router.define("orders", [{"tell": {**EMIT["tell"], **ONCE}}])
    router.refusals = [UnavailableError("away")]
    stream = await router.attached()
    assert (await router.run(stream, "orders", {})).WhichOneof("result") == "completed"
    assert len(router.emitted) == 1


async def test_what_a_flow_is_started_by_is_its_input(router, served):
    router.define("child", [{"put": {"set": {"seen": "${ . }", "given": "${ $workflow.input }"}}}])
    stream = await router.attached()
    outcome = await router.run(stream, "child", {"n": 1}, origin=Origin.WORKFLOW)
    assert orjson.loads(outcome.completed.output) == {"seen": {"n": 1}, "given": {"n": 1}}


async def test_expressions_see_a_url_for_each_callback_that_the_router_will_know(router, served):
    router.callback_key = b"k" * 32
    urls = {"put": {"set": {"urls": "${ $runtime.metadata.callbacks }"}}}
    router.define("orders", [urls], webhook={"callbacks": {"approval": {}, "payment": {}}})
    stream = await router.attached()
    router.assign(stream, assignment := router.assignment("orders"))
    found = orjson.loads((await router.outcome(assignment.lease)).completed.output)["urls"]
    for name in ("approval", "payment"):
        start = f"https://hooks.example/hook/orders/{name}/"
        assert found[name].startswith(start)
        token = found[name].removeprefix(start)
        assert verify(router.callback_key, name, token) == convert.event_from_bytes(assignment.event).id
