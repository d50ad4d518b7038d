"""EmitEvent: events that flows emit reach the executions that listen for them."""

from __future__ import annotations

import orjson
import pytest
from support.effects import CALLER, effects_of
from support.routers import running_router
from support.runners import attached

from flowhook import limits
from flowhook.errors import ExhaustedError
from flowhook.v1 import runner_service_pb2 as pb

EVENT = {"specversion": "1.0", "id": "1", "source": "/flows/shop", "type": "paid", "data": {"order": 7}}
KEY = "/do/0/wait#0"


@pytest.fixture
async def effects(router):
    async with effects_of(router) as effects:
        yield effects


def listening(name, type_="paid", rest=""):
    return f"""
document: {{dsl: 1.0.3, namespace: default, name: {name}, version: 1.0.0}}
do: [{{wait: {{listen: {{to: {{one: {{with: {{type: {type_}}}}}}}}}}}}}]
{rest}
""".encode()


def subscription(type_="paid", *, callback=False, key=KEY):
    event_filter = pb.EventFilter(type=type_, callback=callback)
    return pb.Subscription(key=key, events=pb.EventFilters(filters=[event_filter]))


async def park(runner, *subscriptions):
    """Have what comes next wait for events."""
    (assignment,) = await runner.assignments(1)
    await runner.park(assignment, subscriptions=subscriptions or [subscription()])
    return assignment


def journal_of(assignment):
    return [(entry.key, orjson.loads(entry.output)) for entry in assignment.journal]


async def arrived(runner):
    """What was written into the journal of what comes next, which ends then."""
    return (await all_arrived(runner, 1))[0]


async def all_arrived(runner, count):
    assignments = await runner.assignments(count)
    for each in assignments:
        await runner.complete(each)
    return [journal_of(each) for each in assignments]


async def test_an_event_goes_to_all_who_wait_for_it_in_all_flows(router, client, effects):
    await client.flows.apply([listening("a"), listening("b"), listening("c", "sent")])
    async with attached(router, credit=9) as runner:
        for name in ("a", "a", "b", "c"):
            await client.ingest(name, {})
            await park(runner, subscription("sent" if name == "c" else "paid"))
        assert await effects.emit(EVENT) == 2
        assert await all_arrived(runner, 3) == [[(KEY, EVENT)]] * 3


async def test_an_event_that_comes_before_anybody_waits_is_buffered_also_over_a_restart(tmp_path):
    async with running_router(tmp_path) as router, router.client() as client, effects_of(router) as effects:
        await client.flows.apply([listening("a")])
        assert await effects.emit(EVENT) == 1
        assert await effects.emit(EVENT | {"type": "sent"}, key=f"{CALLER}:2") == 0
    async with running_router(tmp_path) as router, router.client() as client, effects_of(router) as effects:
        assert await effects.emit(EVENT) == 1  # again: it is the same one
        await client.ingest("a", {})
        async with attached(router, credit=9) as runner:
            await park(runner)
            assert await arrived(runner) == [(KEY, EVENT)]
            await client.ingest("a", {})
            await park(runner)
            assert await effects.emit(EVENT | {"id": "2"}, key=f"{CALLER}:2") == 1
            assert await arrived(runner) == [(KEY, EVENT | {"id": "2"})]


async def test_an_execution_may_wait_for_what_its_own_flow_emits(router, client, effects):
    await client.flows.apply([listening("a")])
    execution_id = await client.ingest("a", {})
    async with attached(router, credit=9) as runner:
        await park(runner)
        assert await effects.emit(EVENT, key=f"{execution_id}:/do/0/emit#0", caller=execution_id) == 1
        assert await arrived(runner) == [(KEY, EVENT)]


async def test_no_event_passes_for_a_callback(router, client, effects):
    callbacks = "webhook: {auth: none, callbacks: {approval: {}}}"
    await client.flows.apply([listening("a", "approval", callbacks)])
    await client.ingest("a", {})
    async with attached(router, credit=9) as runner:
        await park(runner, subscription("approval", callback=True), subscription("sent", key="/do/1/wait#0"))
        assert await effects.emit(EVENT | {"type": "approval"}) == 0
        assert await effects.emit(EVENT | {"type": "sent"}, key=f"{CALLER}:2") == 1
        assert await arrived(runner) == [("/do/1/wait#0", EVENT | {"type": "sent"})]


@pytest.mark.parametrize("how", ["changed", "deleted"])
async def test_who_waits_gets_its_event_although_the_flow_would_not_wait_for_it_any_more(router, client, effects, how):
    await client.flows.apply([listening("a")])
    await client.ingest("a", {})
    async with attached(router, credit=9) as runner:
        await park(runner)
        if how == "changed":
            await client.flows.apply([listening("a", "sent")])
        else:
            await client.flows.delete("a")
        assert await effects.emit(EVENT | {"subject": "x"}) == 1
        assert await arrived(runner) == [(KEY, EVENT | {"subject": "x"})]
        assert await effects.emit(EVENT, key=f"{CALLER}:2") == 0


async def test_a_flow_that_keeps_too_many_events_is_in_nobodys_way(router, client, effects, monkeypatch):
    await client.flows.apply([listening("a"), listening("b")])
    monkeypatch.setattr(limits, "MAX_BUFFERED_EVENTS", 1)
    assert await effects.emit(EVENT) == 2
    await client.ingest("b", {})
    async with attached(router, credit=9) as runner:
        await park(runner)
        assert await arrived(runner) == [(KEY, EVENT)]
        for _ in range(2):
            with pytest.raises(ExhaustedError) as caught:
                await effects.emit(EVENT | {"id": "2"}, key=f"{CALLER}:2")
            assert caught.value.reason == "EVENT_BUFFER_FULL"
        await client.ingest("b", {})
        await park(runner)
        assert await arrived(runner) == [(KEY, EVENT | {"id": "2"})]


async def test_a_flow_may_be_started_by_an_event_that_another_execution_of_it_waits_for(router, client, effects):
    await client.flows.apply([listening("a", rest="schedule: {on: {one: {with: {type: paid}}}}")])
    await client.ingest("a", {})
    async with attached(router, credit=9) as runner:
        await park(runner)
        assert await effects.emit(EVENT) == 1
        assert sorted(map(len, await all_arrived(runner, 2))) == [0, 1]
