"""Callbacks: what comes to a flow in the middle, over gRPC as edges and runners speak it."""

from __future__ import annotations

import time
from types import SimpleNamespace

import orjson
import pytest
from grpc.aio import AioRpcError
from support.routers import flow, running_router
from support.runners import attached

from flowhook import limits
from flowhook.client import channel
from flowhook.events import ids
from flowhook.model import Status
from flowhook.security import callback_tokens
from flowhook.v1 import (
    envelope_pb2,
    flow_service_pb2,
    flow_service_pb2_grpc,
    ingest_service_pb2,
    ingest_service_pb2_grpc,
)
from flowhook.v1 import runner_service_pb2 as pb
from flowhook.wire import convert
from flowhook.wire.status import from_rpc_error

CALLBACKS = b"""
webhook:
  auth: none
  callbacks:
    approval: {auth: none}
    photo: {auth: none, parse: raw, dedupe: {key: "${ .query.id }", window: PT1H}}
    slow: {auth: none, rate_limit: {per_second: 0.01, burst: 1}}
    shared: {auth: none, deliver: all}
    private: {}
"""
KEY = "/do/0/wait#0"
DAY_MS = 24 * 3600 * 1000


class Clock:
    """That of the router's services: the machine's, until it is told what to say."""

    fixed_ms: int | None = None

    def __call__(self):
        return time.time_ns() // 1_000_000 if self.fixed_ms is None else self.fixed_ms


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """Before the router starts, which keeps it."""
    clock = Clock()
    monkeypatch.setattr("router.process.serving._now_ms", clock)
    return clock


@pytest.fixture
async def orders(client):
    await client.flows.apply([flow("orders", CALLBACKS)])


@pytest.fixture
async def edge(router):
    connection = channel.connect(router.target, router.token("edge"))
    yield ingest_service_pb2_grpc.IngestServiceStub(connection)
    await connection.close(None)


def call(callback="approval", body=b"{}", *, flow_id="orders", **fields):
    event_id = fields.pop("event_id", None) or ids.mint(ids.slot_of(flow_id))
    return envelope_pb2.Event(
        id=event_id,
        flow_id=flow_id,
        receive_time=convert.timestamp(int(time.time() * 1000)),
        method="POST",
        path=f"/hook/{flow_id}/{callback}",
        content_type="application/json",
        body=body,
        callback=callback,
        **fields,
    )


async def sent(edge, *events):
    """What becomes of events: `accepted`, `duplicate`, or the reason of the refusal."""
    response = await edge.IngestEvents(ingest_service_pb2.IngestEventsRequest(events=events))
    return [
        (result.rejected.reason or ("duplicate" if result.accepted.duplicate else "accepted"))
        for result in response.results
    ]


async def callback_key(router, role="runner", flow_id="orders"):
    connection = channel.connect(router.target, router.token(role))
    stub = flow_service_pb2_grpc.FlowServiceStub(connection)
    found = await stub.GetFlow(flow_service_pb2.GetFlowRequest(flow_id=flow_id))
    await connection.close(None)
    return found.callback_key


def listen(callback="approval", key=KEY):
    return pb.Subscription(key=key, events=pb.EventFilters(filters=[pb.EventFilter(callback=True, type=callback)]))


async def begun(client, runner):
    """Start an execution: its ID, and what the runner has of it."""
    execution_id = await client.ingest("orders", {})
    [assignment] = await runner.assignments(1)
    return execution_id, assignment


async def test_a_callback_wakes_the_execution_that_listens_and_is_an_event_in_its_journal(router, client, edge, orders):
    async with attached(router, credit=2) as runner:
        execution_id, assignment = await begun(client, runner)
        await runner.park(assignment, subscriptions=[listen()])
        assert (await client.executions.get(execution_id)).execution.status is Status.WAITING
        event = call(body=b'{"ok":true}')
        assert await sent(edge, event) == ["accepted"]
        [again] = await runner.assignments(1)
        [entry] = again.journal
        content = orjson.loads(entry.output)
        assert (entry.key, content["id"], content["type"]) == (KEY, event.id, "approval")
        assert (content["source"], content["data"]["body"]) == ("/hook/orders/approval", {"ok": True})
        await runner.complete(again)
    detail = await client.executions.get(execution_id)
    assert (detail.execution.status, detail.execution.attempts) == (Status.COMPLETED, 1)


async def test_watchers_see_an_execution_wait_and_go_on(router, client, edge, orders):
    changes = client.executions.watch()
    assert await anext(changes) is None

    async def shows(status):
        while (await anext(changes)).execution.status is not status:
            pass

    async with attached(router, credit=2) as runner:
        _, assignment = await begun(client, runner)
        await runner.park(assignment, subscriptions=[listen()])
        await shows(Status.WAITING)
        assert await sent(edge, call()) == ["accepted"]
        [again] = await runner.assignments(1)
        await shows(Status.RUNNING)
        await runner.complete(again)
        await shows(Status.COMPLETED)
    await changes.aclose()


async def test_a_callback_for_one_execution_reaches_none_while_several_wait(router, client, edge, orders):
    async with attached(router, credit=4) as runner:
        for _ in range(2):
            _, assignment = await begun(client, runner)
            await runner.park(assignment, subscriptions=[listen(), listen("shared", "/do/1/wait#0")])
        assert await sent(edge, call()) == ["CALLBACK_AMBIGUOUS"]
        assert await sent(edge, call("shared")) == ["accepted"]
        assert [each.journal[0].key for each in await runner.assignments(2)] == ["/do/1/wait#0"] * 2


async def test_a_callback_with_one_time_urls_alone_takes_no_event_without_a_token(router, client, edge, orders):
    assert await sent(edge, call("private")) == ["CALLBACK_NOT_FOUND"]
    execution_id = await client.ingest("orders", {})
    token = callback_tokens.issue(await callback_key(router), execution_id, "private", 0)
    assert await sent(edge, call("private", callback_token=token)) == ["accepted"]


async def test_callbacks_and_events_that_start_executions_may_come_together(client, edge, orders):
    other = call()
    other.callback = ""
    assert await sent(edge, call(), other, call("nothing"), call("photo")) == [
        "accepted",
        "accepted",
        "CALLBACK_NOT_FOUND",
        "accepted",
    ]
    assert [execution.id async for execution in client.executions.list(flow_id="orders")] == [other.id]


async def test_a_callback_that_comes_again_is_accepted_and_counts_once(router, client, edge, orders):
    event = call()
    assert await sent(edge, event, event) == ["accepted", "duplicate"]
    keyed = [call("photo", dedupe_key="7") for _ in range(2)]
    assert await sent(edge, *keyed) == ["accepted", "duplicate"]
    assert await sent(edge, call(dedupe_key="7")) == ["accepted"]
    async with attached(router, credit=9) as runner:
        _, assignment = await begun(client, runner)
        for number in (1, 2):
            await runner.park(assignment, subscriptions=[listen()])
            [assignment] = await runner.assignments(1)
            assert len(assignment.journal) == number
        assert await sent(edge, event) == ["duplicate"]


async def test_bodies_are_left_as_they_are_where_a_callback_says_so(router, client, edge, orders):
    await sent(edge, call("photo", b'{"a":1}'))
    async with attached(router, credit=2) as runner:
        _, assignment = await begun(client, runner)
        await runner.park(assignment, subscriptions=[listen("photo")])
        [again] = await runner.assignments(1)
        assert orjson.loads(again.journal[0].output)["data"]["body"] is None


async def test_a_one_time_url_is_good_for_its_execution_once_and_until_that_ends(router, client, edge, orders):
    key = await callback_key(router)
    async with attached(router, credit=9) as runner:
        (first, its), (second, other) = [await begun(client, runner) for _ in range(2)]
        for assignment in (its, other):
            await runner.park(assignment, subscriptions=[listen()])
        token = callback_tokens.issue(key, second, "approval", 0)
        event = call(callback_token=token)
        assert await sent(edge, event) == ["accepted"]
        [again] = await runner.assignments(1)
        assert (again.event, token in again.journal[0].output.decode()) == (other.event, False)
        assert await sent(edge, event, call(callback_token=token)) == ["duplicate", "CALLBACK_GONE"]
        # fresh ones, before it listens again, and when it has ended
        assert await sent(edge, call(callback_token=callback_tokens.issue(key, second, "approval", 1))) == ["accepted"]
        await runner.complete(again)
        late = call(callback_token=callback_tokens.issue(key, second, "approval", 2))
        assert await sent(edge, late, event) == ["CALLBACK_GONE", "duplicate"]
        assert (await client.executions.get(first)).execution.status is Status.WAITING


async def test_a_token_that_is_wrong_is_not_found(router, client, edge, orders):
    await client.flows.apply([flow("others", CALLBACKS)])
    key, other_key = await callback_key(router), await callback_key(router, flow_id="others")
    execution_id = await client.ingest("orders", {})
    tokens = [
        "x",
        callback_tokens.issue(other_key, execution_id, "approval", 0),
        callback_tokens.issue(key, execution_id, "photo", 0),
        callback_tokens.issue(key, execution_id, "approval", 0)[:-1],
    ]
    assert await sent(edge, *(call(callback_token=token) for token in tokens)) == ["CALLBACK_NOT_FOUND"] * 4
    unknown = callback_tokens.issue(key, ids.mint(0), "approval", 0)
    assert await sent(edge, call(callback_token=unknown)) == ["CALLBACK_GONE"]


async def test_a_one_time_url_is_good_for_thirty_days_although_its_execution_still_listens(
    router, client, edge, orders, clock
):
    key = await callback_key(router)
    async with attached(router, credit=2) as runner:
        execution_id, assignment = await begun(client, runner)
        await runner.park(assignment, subscriptions=[listen()])
        received = (await client.executions.get(execution_id)).execution.receive_time_ms
        token = callback_tokens.issue(key, execution_id, "approval", 0)
        clock.fixed_ms = received + 30 * DAY_MS + 1
        assert await sent(edge, call(callback_token=token)) == ["CALLBACK_GONE"]
        assert (await client.executions.get(execution_id)).execution.status is Status.WAITING
        # that it was refused did not use it up
        clock.fixed_ms = received + 30 * DAY_MS
        assert await sent(edge, call(callback_token=token)) == ["accepted"]
        [again] = await runner.assignments(1)
        assert [entry.key for entry in again.journal] == [KEY]


async def test_wrong_tokens_do_not_use_up_the_rate(edge, orders):
    assert await sent(edge, *(call("slow", callback_token="x") for _ in range(3))) == ["CALLBACK_NOT_FOUND"] * 3
    assert await sent(edge, call("slow"), call("slow"), call()) == ["accepted", "RATE_LIMITED", "accepted"]


async def test_what_is_too_large_or_too_much_is_refused(edge, orders, monkeypatch):
    assert await sent(edge, call(body=b'"%s"' % (b"x" * limits.MAX_RESULT_BYTES))) == ["CALLBACK_TOO_LARGE"]
    monkeypatch.setattr("flowhook.limits.MAX_BUFFERED_EVENTS", 1)
    assert await sent(edge, call()) == ["accepted"]
    assert await sent(edge, call(), call(event_id="evt_x")) == ["EVENT_BUFFER_FULL", "EVENT_ID_INVALID"]


async def test_a_callback_of_a_flow_that_is_unknown_or_has_none_is_not_found(client, edge, orders):
    await client.flows.apply([flow("plain")])
    assert await sent(edge, call(flow_id="nobody"), call(flow_id="plain")) == ["FLOW_NOT_FOUND", "CALLBACK_NOT_FOUND"]
    await client.flows.apply([flow("orders")])
    assert await sent(edge, call()) == ["CALLBACK_NOT_FOUND"]


async def test_events_that_only_flows_make_are_not_handed_in(edge, orders):
    made = [
        call(origin=envelope_pb2.Event.ORIGIN_SCHEDULE),
        call(depth=1),
        call(replay={"task": "/do/0/a"}),
        call(parent_execution_id="evt_1"),
        call(batch=[b""]),
    ]
    plain = [envelope_pb2.Event.FromString(event.SerializeToString()) for event in made]
    for event in plain:
        event.callback = ""
    assert await sent(edge, *made, *plain) == ["ORIGIN_INVALID"] * 10
    assert await sent(edge, call("", callback_token="x")) == ["CALLBACK_NOT_NAMED"]
    with pytest.raises(AioRpcError) as caught:
        await edge.InvokeFlow(ingest_service_pb2.InvokeFlowRequest(event=call()))
    assert from_rpc_error(caught.value).reason == "CALLBACK_NOT_INVOKABLE"


async def test_runners_alone_get_the_key_of_a_flow_that_has_callbacks(router, client, orders):
    await client.flows.apply([flow("plain")])
    assert len(await callback_key(router)) == callback_tokens.KEY_BYTES
    assert await callback_key(router, "edge") == b""
    assert await callback_key(router, flow_id="plain") == b""


async def test_a_runner_that_has_executions_wait_for_nonsense_is_sent_away(router, client, orders):
    async with attached(router, credit=1) as runner:
        _, assignment = await begun(client, runner)
        with pytest.raises(AioRpcError) as caught:
            await runner.park(assignment, subscriptions=[pb.Subscription(key=KEY)])
    assert from_rpc_error(caught.value).reason == "ATTACH_PROTOCOL_VIOLATION"


async def test_an_execution_that_waits_for_more_than_fits_is_faulted(router, client, orders):
    value = pb.Correlation(path=".data", expected=b'"%s"' % (b"x" * limits.MIB))
    subscription = pb.Subscription(
        key=KEY, events=pb.EventFilters(filters=[pb.EventFilter(callback=True, type="approval", correlations=[value])])
    )
    async with attached(router, credit=1) as runner:
        execution_id, assignment = await begun(client, runner)
        await runner.park(assignment, subscriptions=[subscription])
    execution = (await client.executions.get(execution_id)).execution
    assert (execution.status, "has more than" in execution.error.detail) == (Status.FAULTED, True)


async def test_buffered_callbacks_and_deliveries_are_counted(router, client, edge, orders):
    await sent(edge, call(), call())
    async with attached(router, credit=2) as runner:
        _, assignment = await begun(client, runner)
        await runner.park(assignment, subscriptions=[listen()])
        await runner.assignments(1)
    [process] = await client.cluster.processes()
    values = {line.partition(b"{")[0] + line.rpartition(b"}")[2] for line in process.metrics.splitlines()}
    assert {b"flowhook_router_buffered_events 1.0", b"flowhook_router_deliveries_total 1.0"} <= values


async def test_callbacks_are_retained_as_long_as_the_setting_says(tmp_path):
    async with running_router(tmp_path, callback_seconds=0.001) as router, router.client() as client:
        await client.flows.apply([flow("orders", CALLBACKS)])
        connection = channel.connect(router.target, router.token("edge"))
        await sent(ingest_service_pb2_grpc.IngestServiceStub(connection), call())
        await connection.close(None)
        async with attached(router, credit=2) as runner:
            execution_id, assignment = await begun(client, runner)
            await runner.park(assignment, subscriptions=[listen()])
            assert (await client.executions.get(execution_id)).execution.status is Status.WAITING


async def test_a_large_callback_is_not_parsed_on_the_routers_loop(router, client, edge, orders, monkeypatch):
    """Nor where it is looked for: tens of milliseconds for a MiB, which its sender chooses."""
    value = pb.Correlation(path=".data.body.order", expected=b"2")
    filters = [pb.EventFilter(callback=True, type="approval", correlations=[value])]
    parsed = []

    def counted(payload, real=orjson.loads):
        parsed.append(payload)
        return real(payload)

    async with attached(router, credit=2) as runner:
        execution_id, assignment = await begun(client, runner)
        await runner.park(assignment, subscriptions=[pb.Subscription(key=KEY, events=pb.EventFilters(filters=filters))])
        large = {"lines": [[]] * 100_000}
        with monkeypatch.context() as patched:
            patched.setattr("router.scheduling.matching.orjson", SimpleNamespace(**vars(orjson) | {"loads": counted}))
            for order in (1, 2):
                assert await sent(edge, call(body=orjson.dumps({"order": order, **large}))) == ["accepted"]
        assert parsed == []
        [again] = await runner.assignments(1)
        assert orjson.loads(again.journal[0].output)["data"]["body"]["order"] == 2
        await runner.complete(again)
    assert (await client.executions.get(execution_id)).execution.status is Status.COMPLETED
