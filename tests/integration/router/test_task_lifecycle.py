"""What runners say of tasks is told to the flows that want to know, once, in order, whatever dies."""

from __future__ import annotations

import time

import orjson
from support.routers import flow, running_router
from support.runners import attached
from support.started_flows import next_assignment, starting_events

from flowhook.attach.messages import Completed, SubscriptionUpdate
from flowhook.events.lifecycle import CorrelationEventType, TaskEventType, WorkflowEventType
from flowhook.events.workflow_input import rfc3339
from flowhook.model import EventFilter, Subscription
from flowhook.v1 import runner_service_pb2 as pb
from flowhook.wire import convert

NOW = round(time.time() * 1000)


def wants(name, *types, rest=b""):
    filters = ", ".join(f"{{with: {{type: {type_}}}}}" for type_ in types)
    return flow(name, b"schedule: {read: envelope, on: {any: [%b]}}\n%b" % (filters.encode(), rest))


def happened(kind, key="1", **data):
    data = orjson.dumps({"task": "/do/0/keep", **data})
    return pb.LifecycleEvent(type=kind, key=key, time=convert.timestamp(NOW), data=data)


async def say(runner, assignment, index, *events, number=1):
    """Say what happened before an entry that is yet to come, and wait until that is durable."""
    bare = pb.Checkpoint(lease=assignment.lease, index=index, events=events, number=number)
    await runner.send(checkpoints=pb.CheckpointBatch(checkpoints=[bare]))
    [durable] = (await runner.next("checkpointed")).checkpoints
    assert (durable.lease, durable.index, durable.number) == (assignment.lease, index - 1, number)


async def lifecycle_filter(runner):
    return list((await runner.next("lifecycle_filter")).event_types)


def types(events):
    return [event["type"] for event in events]


async def test_runners_hear_what_is_wanted_and_when_that_changes(router, client):
    async with attached(router, "early") as early:
        await client.flows.apply([wants("log", TaskEventType.FAULTED, WorkflowEventType.FAULTED)])
        assert await lifecycle_filter(early) == [TaskEventType.FAULTED]
        async with attached(router, "late") as late:
            assert await lifecycle_filter(late) == [TaskEventType.FAULTED]
            await client.flows.apply([wants("more", CorrelationEventType.STARTED)])
            for runner in (early, late):
                assert await lifecycle_filter(runner) == [TaskEventType.FAULTED, CorrelationEventType.STARTED]
            await client.flows.delete("log")
            assert await lifecycle_filter(late) == [CorrelationEventType.STARTED]


async def test_what_only_a_cancelled_execution_waited_for_is_wanted_no_more(shard, runner):
    waits = Subscription("/do/0/wait#0", (EventFilter(False, TaskEventType.FAULTED),))
    delivery = await shard.work_on(runner)
    seq = shard.core.leases.seq_of(delivery.lease)
    await shard.park(runner, delivery, waits)
    shard.host._dispatcher.assign()
    assert runner.wanted == [{TaskEventType.FAULTED}]
    await shard.host.commands.cancel((await shard.record(seq)).id)
    assert runner.wanted == [{TaskEventType.FAULTED}, set()]


async def test_what_only_an_execution_that_ends_listened_to_is_wanted_no_more(shard, runner):
    listens = Subscription("/do/0/wait#0", (EventFilter(False, TaskEventType.FAULTED),))
    delivery = await shard.work_on(runner)
    shard.host.listen(runner, SubscriptionUpdate(delivery.lease, 1, (listens,)))
    assert runner.wanted == [{TaskEventType.FAULTED}]
    await shard.settle(runner, delivery, Completed(b"1"))
    assert runner.wanted == [{TaskEventType.FAULTED}, set()]


async def test_an_execution_that_waits_for_such_an_event_is_counted_while_it_does(router, client):
    await client.flows.apply([flow("waits"), flow("work")])
    await client.ingest("waits", b"{}")
    filters = pb.EventFilters(filters=[pb.EventFilter(type=TaskEventType.FAULTED)])
    async with attached(router) as runner:
        await runner.park(
            await next_assignment(runner, "waits"), subscriptions=[pb.Subscription(key="l", events=filters)]
        )
        assert await lifecycle_filter(runner) == [TaskEventType.FAULTED]
        await client.ingest("work", b"{}")
        work = await next_assignment(runner, "work")
        await say(runner, work, 0, happened(TaskEventType.FAULTED))
        waiting = await next_assignment(runner, "waits")
        assert await lifecycle_filter(runner) == []
    [entry] = waiting.journal
    assert orjson.loads(entry.output)["data"]["task"] == "/do/0/keep"


async def test_what_a_runner_says_becomes_events_in_order_and_that_it_began_comes_first(router, client):
    kinds = [TaskEventType.CREATED, TaskEventType.COMPLETED, WorkflowEventType.STARTED, WorkflowEventType.COMPLETED]
    await client.flows.apply([flow("work"), wants("log", *kinds, rest=b"execution: {concurrency: 1}\n")])
    execution_id = await client.ingest("work", b"{}")
    async with attached(router) as runner:
        work = await next_assignment(runner, "work")
        await say(runner, work, 0, happened(TaskEventType.CREATED))
        await runner.checkpoint(work, 0, "k", b"1", events=[happened(TaskEventType.COMPLETED, output=7)])
        await runner.complete(work, events=[happened(TaskEventType.COMPLETED, "2")])
        events = await starting_events(client, "log", 5)
    assert types(events) == [
        WorkflowEventType.STARTED,
        TaskEventType.CREATED,
        TaskEventType.COMPLETED,
        TaskEventType.COMPLETED,
        WorkflowEventType.COMPLETED,
    ]
    assert len({event["id"] for event in events}) == 5
    assert {event["subject"] for event in events} == {execution_id}
    assert events[2]["data"] == {
        "workflow": f"work-{execution_id}.default",
        "definition": {"namespace": "default", "name": "work", "version": "1.0.0"},
        "completedAt": rfc3339(NOW),
        "task": "/do/0/keep",
        "output": 7,
        "outputUri": f"/api/executions/{execution_id}/trace",
    }


async def test_what_is_said_again_by_another_attempt_is_reported_once(router, client):
    await client.flows.apply([flow("work"), wants("log", TaskEventType.STARTED, TaskEventType.RETRIED)])
    await client.ingest("work", b"{}")
    async with attached(router) as runner:
        await say(runner, await next_assignment(runner, "work"), 0, happened(TaskEventType.STARTED))
        await starting_events(client, "log", 1)
    async with attached(router, "other") as runner:
        work = await next_assignment(runner, "work")
        await say(runner, work, 0, happened(TaskEventType.STARTED), happened(TaskEventType.RETRIED))
        await runner.complete(work, events=[happened(TaskEventType.STARTED)])
        assert types(await starting_events(client, "log", 2)) == [TaskEventType.STARTED, TaskEventType.RETRIED]


async def test_nothing_is_reported_of_what_such_an_event_started_and_of_what_nobody_wants(router, client):
    await client.flows.apply([flow("work"), wants("log", TaskEventType.COMPLETED)])
    await client.ingest("work", b"{}")
    message = [happened(TaskEventType.COMPLETED), happened(TaskEventType.STARTED), happened(WorkflowEventType.FAULTED)]
    async with attached(router) as runner:
        await runner.complete(await next_assignment(runner, "work"), events=message)
        await runner.complete(await next_assignment(runner, "log"), events=message)
        await client.ingest("work", b"{}")
        await runner.complete(await next_assignment(runner, "work"), events=message)
        await starting_events(client, "log", 2)


async def test_what_is_said_under_a_lease_that_is_lost_is_not_reported(router, client):
    await client.flows.apply([flow("work"), wants("log", TaskEventType.STARTED, TaskEventType.FAULTED)])
    execution_id = await client.ingest("work", b"{}")
    async with attached(router) as runner:
        work = await next_assignment(runner, "work")
        await client.executions.suspend(execution_id)
        bare = pb.Checkpoint(lease=work.lease, events=[happened(TaskEventType.FAULTED)], number=1)
        await runner.send(checkpoints=pb.CheckpointBatch(checkpoints=[bare]))
        await runner.next("revocation")
        await client.executions.resume(execution_id)
        await runner.complete(await next_assignment(runner, "work"), events=[happened(TaskEventType.STARTED)])
        assert types(await starting_events(client, "log", 1)) == [TaskEventType.STARTED]


async def test_what_was_said_is_reported_after_the_router_died(tmp_path):
    async with running_router(tmp_path) as router, router.client() as client:
        await client.flows.apply(
            [flow("work"), wants("full", TaskEventType.STARTED, rest=b"execution: {max_backlog: 1}\n")]
        )
        await client.ingest("work", b"{}")
        async with attached(router) as runner:
            work = await next_assignment(runner, "work")
            await say(runner, work, 0, happened(TaskEventType.STARTED))
            await starting_events(client, "full", 1)
            await say(runner, work, 0, happened(TaskEventType.STARTED, "2"), number=2)
    async with running_router(tmp_path) as router, router.client() as client, attached(router) as runner:
        assert await lifecycle_filter(runner) == [TaskEventType.STARTED]
        await runner.complete(await next_assignment(runner, "full"))
        assert len({event["id"] for event in await starting_events(client, "full", 2)}) == 2
