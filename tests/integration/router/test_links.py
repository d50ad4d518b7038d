"""Executions are linked with those that they start, and with those that receive their events."""

from __future__ import annotations

import asyncio

import pytest
from support.effects import CALLER, effects_of
from support.patience import PATIENCE
from support.routers import flow, running_router
from support.runners import attached
from support.started_flows import next_assignment

from flowhook.attach.messages import Checkpoint, SubscriptionUpdate
from flowhook.errors import InvalidError, NotFoundError
from flowhook.events import ids
from flowhook.model import EventFilter, Status, Subscription
from flowhook.model.execution_filter import ExecutionFilter
from flowhook.model.executions import NO_LINKS, ExecutionLinks, LinkedExecution, LinkKind
from flowhook.v1 import runner_service_pb2 as pb

PAID = {"specversion": "1.0", "id": "1", "source": "/flows/shop", "type": "paid"}
SENT = PAID | {"type": "sent"}
KEY = "/do/0/wait#0"
LISTENING = b"""
document: {dsl: 1.0.3, namespace: default, name: listens, version: 1.0.0}
do: [{wait: {listen: {to: {one: {with: {type: paid}}}}}}]
"""
RUN, EVENT, LISTEN = (LinkKind.RUN,), (LinkKind.EVENT,), (LinkKind.LISTEN,)


@pytest.fixture
async def effects(router):
    async with effects_of(router) as effects:
        yield effects


def starts_on(name, strategy):
    return flow(name, b"schedule: {on: %b}\n" % strategy.encode())


def subscription(type_="paid"):
    return pb.Subscription(key=KEY, events=pb.EventFilters(filters=[pb.EventFilter(type=type_)]))


async def caused(client, execution_id, **conditions):
    where = ExecutionFilter(caused_by=execution_id, **conditions)
    return [item.id async for item in client.executions.list(where=where)]


async def starting_executions(client, flow_id):
    """Wait for an execution of a flow, and return the IDs of all."""
    async with asyncio.timeout(PATIENCE):
        while not (found := [item.id async for item in client.executions.list(flow_id=flow_id)]):
            await asyncio.sleep(0.01)
    return found


async def links_of(client, execution_id):
    return (await client.executions.get(execution_id)).links


async def test_a_sub_flow_is_linked_both_ways_whether_or_not_its_result_is_in_the_journal(router, client, effects):
    await client.flows.apply([flow("parent"), flow("child")])
    parent = await client.ingest("parent", {})
    awaited = await effects.start(caller=parent, key=f"{parent}:/do/0/run#0")
    detached = await effects.start(caller=parent, key=f"{parent}:/do/1/run#0")
    assert await links_of(client, parent) == (
        (),
        (
            LinkedExecution(detached, RUN, "child", Status.PENDING),
            LinkedExecution(awaited, RUN, "child", Status.PENDING),
        ),
        False,
    )
    async with attached(router) as runner:
        assignment = await next_assignment(runner, "parent")
        await runner.checkpoint(assignment, 0, "/do/0/run#0", b'{"execution":"%b"}' % awaited.encode())
        await runner.checkpoint(assignment, 1, "", b"{}", compacts=True)
        [cause] = (await links_of(client, awaited)).causes
        assert cause == LinkedExecution(parent, RUN, "parent", Status.RUNNING)
        await runner.complete(assignment)
    assert [entry.key for entry in (await client.executions.get(parent)).journal] == [""]
    assert await caused(client, parent) == [detached, awaited]
    assert (await client.executions.count(ExecutionFilter(caused_by=parent))).count == 2


async def test_a_call_that_is_repeated_or_made_by_a_replay_leaves_the_links_as_they_are(client, effects):
    await client.flows.apply([flow("child")])
    child = await effects.start()
    assert await effects.start() == child
    replay = ids.mint(1)
    assert await effects.start(caller=replay) == child
    assert await links_of(client, child) == ((LinkedExecution(CALLER, RUN),), (), False)
    assert await caused(client, CALLER) == [child]


async def test_an_execution_is_linked_with_those_that_its_event_started_or_resumed(router, client, effects):
    starting = starts_on("starts", "{one: {with: {type: paid}}}")
    await client.flows.apply([flow("shop"), flow("waits"), flow("idle"), starting])
    emitter, waiting, idle = [await client.ingest(name, {}) for name in ("shop", "waits", "idle")]
    async with attached(router) as runner:
        await runner.park(await next_assignment(runner, "waits"), subscriptions=[subscription()])
        assert await effects.emit(PAID, caller=emitter, key=f"{emitter}:e") == 2
        [started] = [item.id async for item in client.executions.list(flow_id="starts")]
        await next_assignment(runner, "waits")
    assert [each[:3] for each in (await links_of(client, emitter)).caused] == [
        (started, EVENT, "starts"),
        (waiting, LISTEN, "waits"),
    ]
    for execution_id, kinds in ((started, EVENT), (waiting, LISTEN)):
        assert [each[:3] for each in (await links_of(client, execution_id)).causes] == [(emitter, kinds, "shop")]
    assert await links_of(client, idle) == NO_LINKS
    assert await caused(client, emitter) == [started, waiting]
    assert await caused(client, emitter, flow_id="waits") == [waiting]
    assert await caused(client, idle) == []


async def test_an_event_that_was_buffered_also_over_a_restart_is_linked_when_it_is_received(tmp_path):
    async with running_router(tmp_path) as router, router.client() as client, effects_of(router) as effects:
        await client.flows.apply([LISTENING])
        assert await effects.emit(PAID) == 1
    async with running_router(tmp_path) as router, router.client() as client:
        waiting = await client.ingest("listens", {})
        async with attached(router) as runner:
            await runner.park(await next_assignment(runner, "listens"), subscriptions=[subscription()])
            await next_assignment(runner, "listens")
        assert await caused(client, CALLER) == [waiting]
        assert (await links_of(client, waiting)).causes == (LinkedExecution(CALLER, LISTEN),)


async def test_an_execution_that_several_events_started_together_is_linked_with_all_their_emitters(client, effects):
    await client.flows.apply([flow("shop"), starts_on("joins", "{all: [{with: {type: paid}}, {with: {type: sent}}]}")])
    emitters = [await client.ingest("shop", {}) for _ in range(2)]
    for event, emitter in zip((SENT, PAID), emitters, strict=True):
        await effects.emit(event, caller=emitter, key=f"{emitter}:e")
    [event] = await starting_executions(client, "joins")
    found = (await links_of(client, event)).causes
    assert [(each.id, each.kinds) for each in found] == [(each, EVENT) for each in sorted(emitters)[::-1]]
    assert [await caused(client, each) for each in emitters] == [[event], [event]]


async def test_a_lifecycle_event_is_one_of_the_execution_that_it_is_about(router, client):
    reacting = starts_on("alerts", "{one: {with: {type: io.serverlessworkflow.workflow.faulted.v1}}}")
    await client.flows.apply([flow("work"), reacting])
    failed = await client.ingest("work", {})
    async with attached(router) as runner:
        await runner.fault(await next_assignment(runner, "work"))
        [alert] = await starting_executions(client, "alerts")
    assert await caused(client, failed) == [alert]
    assert (await client.executions.get(alert)).event.parent == failed
    assert (await links_of(client, alert)).causes == (LinkedExecution(failed, EVENT, "work", Status.FAULTED),)


async def test_an_event_that_is_handed_to_a_running_execution_is_linked_when_it_is_journaled(shard, runner):
    delivery = await shard.work_on(runner)
    record = await shard.record(shard.core.leases.seq_of(delivery.lease))
    listen = Subscription(KEY, (EventFilter(False, "paid"),))
    shard.host.listen(runner, SubscriptionUpdate(delivery.lease, 1, (listen,)))
    await shard.publish(type_="paid", callback=False, emitter=CALLER)
    await runner.until(lambda: runner.arrivals)
    arrival = runner.arrivals[-1]
    assert await shard.state.links(record.id, limit=9) == NO_LINKS
    await shard.host.recorder.checkpoint(runner, [Checkpoint(arrival.lease, 0, arrival.entry, consumed=arrival.number)])
    assert await shard.state.links(record.id, limit=9) == ExecutionLinks(causes=(LinkedExecution(CALLER, LISTEN),))
    assert await shard.state.links(CALLER, limit=9) == ExecutionLinks(caused=(LinkedExecution(record.id, LISTEN),))


async def test_each_portion_of_a_delivery_is_stored_with_its_links(shard, runner, monkeypatch):
    monkeypatch.setattr("router.dispatch.transitions.WRITE_BYTES", 10)
    for _ in range(2):
        delivery = await shard.work_on(runner)
        await shard.park(runner, delivery, Subscription(KEY, (EventFilter(False, "paid"),)))
    write = shard.state.write

    async def write_once(changes, **options):
        await write(changes, **options)
        shard.state.away = True

    monkeypatch.setattr(shard.state, "write", write_once)
    publishing = asyncio.create_task(shard.publish(type_="paid", callback=False, emitter=CALLER))
    async with asyncio.timeout(PATIENCE):
        await shard.state.refused.wait()
    # if the router ends here, the first portion is not delivered again
    assert len((await shard.state.links(CALLER, limit=9)).caused) == 1
    shard.state.away = False
    monkeypatch.undo()
    await publishing


async def test_links_are_current_and_say_what_is_not_stored_any_more(router, client, effects):
    await client.flows.apply([flow("parent"), flow("child")])
    parent = await client.ingest("parent", {})
    children = [await effects.start(caller=parent, key=f"{parent}:{number}") for number in range(21)]
    links = await links_of(client, parent)
    assert [each.id for each in links.caused] == children[:0:-1]
    assert links.more_caused
    page = await client.executions.page(where=ExecutionFilter(caused_by=parent), page_size=20)
    rest = await client.executions.page(
        where=ExecutionFilter(caused_by=parent), page_size=20, page_token=page.next_page_token
    )
    assert [item.id for item in (*page.items, *rest.items)] == children[::-1]
    await client.executions.cancel(parent)
    assert (await links_of(client, children[0])).causes[0].status is Status.CANCELLED


async def test_what_an_unknown_execution_caused_is_not_found_and_what_is_no_id_is_refused(client):
    unknown = ids.mint(1)
    for call in (client.executions.page, client.executions.count, client.executions.scan):
        with pytest.raises(NotFoundError, match=f"there is no execution {unknown}") as caught:
            await call(where=ExecutionFilter(caused_by=unknown))
        assert caught.value.reason == "EXECUTION_NOT_FOUND"
        with pytest.raises(InvalidError, match="evt_ and 26 characters") as refused:
            await call(where=ExecutionFilter(caused_by="evt_nope"))
        assert refused.value.reason == "FILTER_INVALID"
