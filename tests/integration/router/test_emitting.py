"""EmitEvent: events that flows emit start others, once each."""

from __future__ import annotations

import asyncio
import base64

import orjson
import pytest
from support import jobs
from support.effects import CALLER, effects_of
from support.patience import PATIENCE
from support.routers import flow, running_router
from support.runners import attached

from flowhook import limits
from flowhook.errors import ExhaustedError, InvalidError
from flowhook.model import Origin
from flowhook.wire import convert

EVENT = {"specversion": "1.0", "id": "1", "source": "/flows/shop", "type": "paid", "data": {"order": 7}}

BOTH = "[{with: {type: paid}}, {with: {type: sent}}]"


@pytest.fixture
async def effects(router):
    async with effects_of(router) as effects:
        yield effects


def starts_on(name, strategy, rest=b"", *, read="read: envelope, "):
    return flow(name, b"schedule: {%bon: %b}\n%b" % (read.encode(), strategy.encode(), rest))


async def executions(client, flow_id=""):
    return [item async for item in client.executions.list(flow_id=flow_id)]


async def input_of(client, execution_id):
    event = (await client.executions.get(execution_id)).event
    assert event.origin is Origin.EVENTS
    return orjson.loads(event.body)


async def test_an_event_starts_every_flow_that_wants_it_with_an_array_of_it(client, effects):
    await client.flows.apply(
        [
            starts_on("one", "{one: {with: {type: paid, source: /flows/shop}}}"),
            starts_on("any", "{any: [{with: {type: other}}, {with: {type: paid}}]}"),
            starts_on("all-events", "{any: []}"),
            starts_on("valued", "{one: {with: {type: paid}, correlate: {o: {from: .data.order, expect: 7}}}}"),
            starts_on("not-this", "{one: {with: {type: paid}, correlate: {o: {from: .data.order, expect: 8}}}}"),
            starts_on("nor-this", "{one: {with: {type: paid, subject: x}}}"),
        ]
    )
    assert await effects.emit(EVENT) == 4
    found = await executions(client)
    assert {item.flow_id for item in found} == {"one", "any", "all-events", "valued"}
    for item in found:
        assert await input_of(client, item.id) == [EVENT]


BINARY = {"data_base64": "eyJhIjogMX0=", "datacontenttype": "application/json"}


@pytest.mark.parametrize(
    ("content", "read", "given"),
    [
        ({"data": {"order": 7}}, "", {"order": 7}),
        ({"data": {"order": 7}}, "read: data, ", {"order": 7}),
        ({"data": {"order": 7}}, "read: raw, ", '{"order":7}'),
        ({"data": "text"}, "read: raw, ", "text"),
        ({}, "", None),
        (BINARY, "", {"a": 1}),
        (BINARY, "read: raw, ", BINARY["data_base64"]),
    ],
)
async def test_what_is_read_of_the_events_is_the_input(client, effects, content, read, given):
    both = "{all: [{with: {type: paid}}, {with: {type: sent}}]}"
    await client.flows.apply(
        [starts_on("one", "{one: {with: {type: paid}}}", read=read), starts_on("both", both, read=read)]
    )
    for number, type_ in enumerate(("paid", "sent")):
        event = {key: value for key, value in EVENT.items() if key != "data"} | content | {"type": type_}
        await effects.emit(event, key=f"{CALLER}:{number}")
    await jobs.until(lambda: executions(client, "both"), bool)
    assert [await input_of(client, item.id) for item in await executions(client, "one")] == [[given]]
    assert [await input_of(client, item.id) for item in await executions(client, "both")] == [[given, given]]


async def test_data_that_is_nested_too_deeply_to_be_an_input_is_refused(client, effects):
    await client.flows.apply([starts_on("one", "{one: {with: {type: paid}}}", read="")])
    deep = base64.b64encode(b"[" * 1024 + b"]" * 1024).decode()
    event = {**EVENT, **BINARY, "data_base64": deep}
    del event["data"]
    with pytest.raises(InvalidError) as caught:
        await effects.emit(event)
    assert caught.value.reason == "CLOUD_EVENT_INVALID"
    assert await effects.emit(EVENT, key=f"{CALLER}:2") == 1


async def test_each_event_starts_one_and_the_same_call_again_none(client, effects):
    await client.flows.apply([starts_on("one", "{one: {with: {type: paid}}}")])
    assert await asyncio.gather(effects.emit(EVENT), effects.emit(EVENT), effects.emit(EVENT)) == [1, 1, 1]
    assert len(await executions(client)) == 1
    await effects.emit(EVENT, key=f"{CALLER}:/do/0/emit#1")
    assert len(await executions(client)) == 2


async def test_a_flow_wants_events_as_soon_as_it_is_applied_until_it_is_changed_or_deleted(client, effects):
    await client.flows.apply([starts_on("a", "{one: {with: {type: paid}}}"), starts_on("b", "{any: []}")])
    assert await effects.emit(EVENT) == 2
    await client.flows.apply([starts_on("a", "{one: {with: {type: other}}}")])
    await client.flows.delete("b")
    assert await effects.emit(EVENT, key=f"{CALLER}:2") == 0
    assert len(await executions(client)) == 2


async def test_what_flows_want_is_known_after_a_restart(tmp_path):
    async with running_router(tmp_path) as router, router.client() as client:
        await client.flows.apply([starts_on("one", "{one: {with: {type: paid}}}"), flow("none")])
    async with running_router(tmp_path) as router, effects_of(router) as effects:
        assert await effects.emit(EVENT) == 1


async def test_a_flow_that_is_full_is_in_nobodys_way(router, client, effects):
    await client.flows.apply(
        [
            starts_on("full", "{any: []}", b"execution: {max_backlog: 1}\n"),
            starts_on("other", "{any: []}"),
        ]
    )
    await effects.emit(EVENT)
    with pytest.raises(ExhaustedError) as caught:
        await effects.emit(EVENT, key=f"{CALLER}:2")
    assert caught.value.reason == "BACKLOG_FULL"
    assert len(await executions(client, "other")) == 2
    async with attached(router, credit=1) as runner:
        (assignment,) = await runner.assignments(1)
        while convert.event_from_bytes(assignment.event).flow_id != "full":
            await runner.complete(assignment)
            await runner.credit(1)
            (assignment,) = await runner.assignments(1)
        await runner.complete(assignment)
    assert await effects.emit(EVENT, key=f"{CALLER}:2") == 2
    assert [len(await executions(client, name)) for name in ("full", "other")] == [2, 2]


@pytest.mark.parametrize(
    "event",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        EVENT | {"specversion": "0.3"},
        EVENT | {"id": ""},
        EVENT | {"source": 5},
        {name: value for name, value in EVENT.items() if name != "type"},
        EVENT | {"data": "x" * limits.MAX_RESULT_BYTES},
    ],
    ids=lambda event: str(event)[:40],
)
async def test_what_is_no_cloud_event_is_refused(effects, event):
    with pytest.raises(InvalidError) as caught:
        await effects.emit(event)
    assert caught.value.reason == "CLOUD_EVENT_INVALID"


@pytest.mark.parametrize("key", ["", "é", "k" * 256])
async def test_a_key_that_is_none_is_refused_whether_anybody_wants_the_event_or_not(effects, key):
    with pytest.raises(InvalidError) as caught:
        await effects.emit(EVENT, key=key)
    assert caught.value.reason == "IDEMPOTENCY_KEY_INVALID"


async def test_flows_that_start_one_another_by_events_come_to_an_end(client, effects):
    await client.flows.apply([starts_on("loop", "{one: {with: {type: paid}}}"), starts_on("both", f"{{all: {BOTH}}}")])
    deepest = limits.MAX_WORKFLOW_DEPTH - 1
    assert await effects.emit(EVENT | {"type": "sent"}, key=f"{CALLER}:sent", depth=2) == 1
    assert await effects.emit(EVENT, depth=deepest) == 2
    async with asyncio.timeout(PATIENCE):
        while len(found := await executions(client)) < 2:
            await asyncio.sleep(0.01)
    events = {item.flow_id: (await client.executions.get(item.id)).event for item in found}
    assert {flow_id: event.parent for flow_id, event in events.items()} == {"loop": CALLER, "both": ""}
    depths = {flow_id: event.depth for flow_id, event in events.items()}
    assert depths == {"loop": limits.MAX_WORKFLOW_DEPTH, "both": limits.MAX_WORKFLOW_DEPTH}
    for name in ("paid", "sent"):
        with pytest.raises(InvalidError) as caught:
            await effects.emit(EVENT | {"type": name}, key=f"{CALLER}:2", depth=limits.MAX_WORKFLOW_DEPTH)
        assert caught.value.reason == "WORKFLOW_TOO_DEEP"
    assert await effects.emit(EVENT | {"type": "other"}, key=f"{CALLER}:3", depth=limits.MAX_WORKFLOW_DEPTH) == 0
