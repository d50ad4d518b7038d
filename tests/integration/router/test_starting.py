"""StartExecution: a flow that runs another one, once, within the limits."""

from __future__ import annotations

import asyncio
from itertools import count

import pytest
from support.effects import CALLER, effects_of
from support.routers import flow, running_router
from support.runners import attached

from flowhook import limits
from flowhook.errors import ExhaustedError, InvalidError, NotFoundError, UnavailableError
from flowhook.events import ids
from flowhook.model import Origin, Status
from router.triggers.execution_starter import EffectIds

TINY = b"execution: {max_backlog: 1}\n"


@pytest.fixture
async def child(client):
    await client.flows.apply([flow("child")])


@pytest.fixture
async def effects(router):
    async with effects_of(router) as effects:
        yield effects


async def test_an_execution_is_started_with_its_input_one_level_deeper(router, client, child, effects):
    execution_id = await effects.start(input=b'{"a":1}', parent_depth=3)
    detail = await client.executions.get(execution_id)
    event = detail.event
    assert (event.origin, event.body, event.depth, event.dedupe_key) == (Origin.WORKFLOW, b'{"a":1}', 4, "")
    assert event.parent == CALLER
    assert (detail.execution.flow_id, detail.execution.status) == ("child", Status.PENDING)
    async with attached(router, credit=1) as runner:
        (assignment,) = await runner.assignments(1)
        await runner.complete(assignment)
    assert (await client.executions.get(execution_id)).execution.status is Status.COMPLETED


async def test_the_same_call_again_starts_nothing_and_another_one_does(client, child, effects):
    first, second, other = await asyncio.gather(effects.start(), effects.start(), effects.start(key=f"{CALLER}:b#0"))
    assert first == second != other
    replay = ids.mint(9)
    assert await effects.start(caller=replay) == first
    assert len([item async for item in client.executions.list()]) == 2


async def test_the_same_call_again_starts_nothing_after_a_restart(tmp_path):
    started = []
    for _ in range(2):
        async with running_router(tmp_path) as router, router.client() as client, effects_of(router) as effects:
            await client.flows.apply([flow("child")])
            started.append(await effects.start())
            assert [item.id async for item in client.executions.list()] == [started[0]]
    assert started[0] == started[1]


@pytest.mark.parametrize(
    ("fields", "kind", "reason"),
    [
        ({"flow_id": "nobody"}, NotFoundError, "FLOW_NOT_FOUND"),
        ({"version": "1.0.1"}, NotFoundError, "FLOW_VERSION_NOT_FOUND"),
        ({"parent_depth": limits.MAX_WORKFLOW_DEPTH}, InvalidError, "WORKFLOW_TOO_DEEP"),
        ({"parent_depth": -1}, InvalidError, "DEPTH_INVALID"),
        ({"input": b"{"}, InvalidError, "INPUT_INVALID"),
        ({"input": b'"%s"' % (b"x" * limits.MAX_RESULT_BYTES)}, InvalidError, "INPUT_TOO_LARGE"),
        ({"key": ""}, InvalidError, "IDEMPOTENCY_KEY_INVALID"),
        ({"key": "k" * 256}, InvalidError, "IDEMPOTENCY_KEY_INVALID"),
        ({"caller": "evt_"}, InvalidError, "EVENT_ID_INVALID"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.usefixtures("child")
async def test_what_can_not_be_started_is_refused(client, effects, fields, kind, reason):
    with pytest.raises(kind) as caught:
        await effects.start(**fields)
    assert caught.value.reason == reason
    assert [item async for item in client.executions.list()] == []


@pytest.mark.usefixtures("child")
async def test_an_id_that_another_flow_has_starts_nothing_and_is_said_to(client, effects):
    # an ID belongs to a slot, which some flows share
    other = next(name for number in count() if ids.slot_of(name := f"other-{number}") == ids.slot_of("child"))
    await client.flows.apply([flow(other)])
    await client.ingest(other, {}, event_id=EffectIds(f"{CALLER}:a", CALLER).derive("run", "child"))
    with pytest.raises(InvalidError) as caught:
        await effects.start(key=f"{CALLER}:a")
    assert caught.value.reason == "EVENT_ID_TAKEN"
    assert [item.flow_id async for item in client.executions.list()] == [other]


async def test_the_version_that_the_flow_has_and_the_latest_are_started_at_the_bound_of_depth(child, effects):
    deepest = limits.MAX_WORKFLOW_DEPTH - 1
    for number, version in enumerate(("1.0.0", "latest", "")):
        await effects.start(key=f"{CALLER}:{number}", version=version, parent_depth=deepest)


async def test_a_version_is_the_latest_revision_of_it_however_many_arrived_after(router, client, effects):
    def child(version, extra=b""):
        return flow("child", extra).replace(b"version: 1.0.0", b"version: " + version)

    for document in (child(b"1.0.0"), child(b"1.0.0", b"timeout: {after: PT1M}"), child(b"1.1.0")):
        await client.flows.apply([document])
    started = {
        version: await effects.start(key=f"{CALLER}:{version}", version=version)
        for version in ("1.0.0", "1.1.0", "latest")
    }
    revisions = {
        version: (await client.executions.get(execution_id)).execution.flow_revision
        for version, execution_id in started.items()
    }
    assert revisions == {"1.0.0": 2, "1.1.0": 3, "latest": 3}
    await client.flows.apply([child(b"1.0.0", b"timeout: {after: PT2M}")])
    again = await effects.start(key=f"{CALLER}:again", version="1.0.0")
    assert (await client.executions.get(again)).execution.flow_revision == 4
    async with attached(router, credit=4) as runner:
        assignments = await runner.assignments(4)
    assert sorted(each.flow_revision for each in assignments) == [2, 3, 3, 4]


async def test_a_full_backlog_refuses_what_is_new_and_answers_what_was_started_before(client, effects):
    await client.flows.apply([flow("child", TINY)])
    first = await effects.start()
    with pytest.raises(ExhaustedError) as caught:
        await effects.start(key=f"{CALLER}:b#0")
    assert caught.value.reason == "BACKLOG_FULL"
    assert await effects.start() == first


async def test_a_full_backlog_of_all_flows_refuses_what_is_new_and_answers_what_was_started_before(tmp_path):
    async with (
        running_router(tmp_path, total_backlog=1) as router,
        router.client() as client,
        effects_of(router) as effects,
    ):
        await client.flows.apply([flow("child")])
        first = await effects.start()
        with pytest.raises(UnavailableError) as caught:
            await effects.start(key=f"{CALLER}:b#0")
        assert caught.value.reason == "TOTAL_BACKLOG_FULL"
        assert await effects.start() == first


async def test_what_flows_start_keeps_to_the_order_of_its_keys(router, client, effects):
    await client.flows.apply([flow("child", b"execution: {order_by: '${ .account }'}\n")])
    first, second, third = [
        await effects.start(key=f"{CALLER}:{account}#{number}", input=b'{"account":%d}' % account)
        for number, account in enumerate((7, 7, 8))
    ]
    async with attached(router, credit=3) as runner:
        assignments = await runner.assignments(2)
        assert {each.event[2:32].decode() for each in assignments} == {first, third}
        await runner.complete(assignments[0])
        (assignment,) = await runner.assignments(1)
        assert assignment.event[2:32].decode() == second
