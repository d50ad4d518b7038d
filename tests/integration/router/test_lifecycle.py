"""What happens to executions is told to the flows that want to know, once, whatever dies."""

from __future__ import annotations

import time

import orjson
import pytest
from support.effects import effects_of
from support.routers import flow, running_router
from support.runners import attached
from support.started_flows import next_assignment, starting_events
from support.triggers import triggers

from flowhook.attach.messages import Faulted
from flowhook.errors import UnavailableError
from flowhook.events.lifecycle import WorkflowEventType
from flowhook.events.workflow_input import rfc3339
from flowhook.model import Status, WorkflowError
from flowhook.model.error_types import ERROR_TYPE_BASE, spellings
from flowhook.v1 import runner_service_pb2 as pb
from flowhook.wire import convert
from router.storage.model import Started
from router.storage.storage import open_storage
from router.triggers.lifecycle_publisher import LifecyclePublisher

BASE = "io.serverlessworkflow.workflow."
ERROR = WorkflowError(type="about:blank", status=500, title="no")


def reported(name, *kinds, rest=b""):
    filters = ", ".join(f"{{with: {{type: {BASE}{kind}.v1}}}}" for kind in kinds)
    return flow(name, b"schedule: {read: envelope, on: {any: [%b]}}\n%b" % (filters.encode(), rest))


def kinds(events):
    return [event["type"].removeprefix(BASE).removesuffix(".v1") for event in events]


async def test_a_fault_is_reported_with_its_error(router, client):
    await client.flows.apply([flow("work"), reported("alerts", "faulted")])
    execution_id = await client.ingest("work", b"{}")
    async with attached(router) as runner:
        await runner.fault(await next_assignment(runner, "work"), "/do/0/keep")
    [event] = await starting_events(client, "alerts", 1)
    assert (event["source"], event["subject"]) == ("/flows/work", execution_id)
    assert event["data"]["name"] == f"work-{execution_id}.default"
    assert event["data"]["definition"] == {"namespace": "default", "name": "work", "version": "1.0.0"}
    assert event["data"]["error"] == {"type": "about:blank", "status": 500, "title": "no", "instance": "/do/0/keep"}


async def test_a_whole_life_is_reported_in_order(router, client):
    await client.flows.apply(
        [
            flow("work"),
            reported("log", "started", "suspended", "resumed", "completed", rest=b"execution: {concurrency: 1}"),
        ]
    )
    execution_id = await client.ingest("work", b"{}")
    async with attached(router) as runner:
        await next_assignment(runner, "work")
        await client.executions.suspend(execution_id)
        await client.executions.resume(execution_id)
        await runner.complete(await next_assignment(runner, "work"), b'{"n": 1}')
    events = await starting_events(client, "log", 4)
    assert kinds(events) == ["started", "suspended", "resumed", "completed"]
    assert events[-1]["data"]["output"] == {"n": 1}
    assert len({event["id"] for event in events}) == 4


async def test_what_no_runner_had_was_cancelled_without_having_started(client):
    await client.flows.apply([flow("work"), reported("log", "started", "cancelled")])
    await client.executions.cancel(await client.ingest("work", b"{}"))
    assert kinds(await starting_events(client, "log", 1)) == ["cancelled"]


async def test_one_that_waits_has_started_once(router, client):
    await client.flows.apply([flow("work"), reported("log", "started", "completed")])
    await client.ingest("work", b"{}")
    async with attached(router) as runner:
        await runner.park(await next_assignment(runner, "work"), 1.0)
        await runner.park(await next_assignment(runner, "work"), 1.0)
        await runner.complete(await next_assignment(runner, "work"))
    assert kinds(await starting_events(client, "log", 2)) == ["started", "completed"]


async def test_an_execution_starts_when_a_runner_gets_it_and_not_when_that_is_stored(router, client):
    await client.flows.apply([flow("work"), reported("log", "started")])
    await client.ingest("work", b"{}")
    async with attached(router) as runner:
        await next_assignment(runner, "work")
        got = rfc3339(time.time_ns() // 1_000_000)
        [event] = await starting_events(client, "log", 1)  # after `STARTED_DELAY`, or later on a busy machine
    assert event["time"] <= got


async def test_filters_look_into_what_is_reported(router, client):
    by_data = b"""schedule: {read: envelope, on: {one: {with: {type: io.serverlessworkflow.workflow.completed.v1},
        correlate: {flow: {from: .data.definition.name, expect: second}}}}}\n"""
    by_source = b"""schedule: {read: envelope, on: {one: {with: {type: io.serverlessworkflow.workflow.completed.v1,
        source: /flows/first}}}}\n"""
    await client.flows.apply([flow("first"), flow("second"), flow("by-data", by_data), flow("by-source", by_source)])
    async with attached(router) as runner:
        for name in ("first", "second"):
            await client.ingest(name, b"{}")
            await runner.complete(await next_assignment(runner, name))
    assert [each["source"] for each in await starting_events(client, "by-data", 1)] == ["/flows/second"]
    assert [each["source"] for each in await starting_events(client, "by-source", 1)] == ["/flows/first"]


async def test_a_flow_that_wants_every_end_gets_neither_its_own_nor_those_of_what_it_starts(router, client):
    await client.flows.apply([flow("work"), flow("child"), reported("log", "completed")])
    await client.ingest("work", b"{}")
    async with attached(router) as runner, effects_of(router) as effects:
        await runner.complete(await next_assignment(runner, "work"))
        log = convert.event_from_bytes((assignment := await next_assignment(runner, "log")).event)
        await effects.start("child", key=f"{log.id}:/do/0/run#0", caller=log.id)
        await runner.complete(assignment)
        await runner.complete(await next_assignment(runner, "child"))
        replayed = await client.executions.replay(log.id)
        await runner.complete(await next_assignment(runner, "log"))
        assert (await client.executions.get(replayed.id)).execution.status is Status.COMPLETED
        await client.ingest("work", b"{}")
        await runner.complete(await next_assignment(runner, "work"))
        await runner.complete(await next_assignment(runner, "log"))
    found = [item async for item in client.executions.list(flow_id="log")]
    assert len(found) == 3  # one for each end of `work`, and the replay


async def test_who_wants_every_event_gets_none_about_executions(router, client):
    await client.flows.apply([flow("work"), flow("any", b"schedule: {on: {any: []}}\n"), reported("log", "completed")])
    await client.ingest("work", b"{}")
    async with attached(router) as runner:
        await runner.complete(await next_assignment(runner, "work"))
    await starting_events(client, "log", 1)
    assert [item async for item in client.executions.list(flow_id="any")] == []


async def test_no_flow_can_say_that_an_execution_faulted(router, client):
    await client.flows.apply([reported("alerts", "faulted")])
    event = {"specversion": "1.0", "id": "1", "source": "/forged", "type": f"{BASE}faulted.v1"}
    async with effects_of(router) as effects:
        assert await effects.emit(event) == 0
    assert [item async for item in client.executions.list()] == []


async def test_an_execution_that_listens_is_reported_although_its_flow_is_gone(router, client):
    await client.flows.apply([flow("work"), flow("waits")])
    waiting = await client.ingest("waits", b"{}")
    filters = pb.EventFilters(filters=[pb.EventFilter(type=f"{BASE}faulted.v1")])
    subscription = pb.Subscription(key="/do/0/l#0", events=filters)
    async with attached(router) as runner:
        await runner.park(await next_assignment(runner, "waits"), subscriptions=[subscription])
        await client.flows.delete("waits")
        failed = await client.ingest("work", b"{}")
        await runner.fault(await next_assignment(runner, "work"))
        assignment = await next_assignment(runner, "waits")
    assert convert.event_from_bytes(assignment.event).id == waiting
    [entry] = assignment.journal
    assert orjson.loads(entry.output)["subject"] == failed


async def test_a_flow_without_room_is_notified_later(router, client):
    await client.flows.apply(
        [
            flow("work"),
            reported("full", "completed", rest=b"execution: {max_backlog: 1}\n"),
            reported("other", "completed"),
        ]
    )
    async with attached(router) as runner:
        for _ in range(2):
            await client.ingest("work", b"{}")
        await runner.credit(2)
        first, second = await runner.assignments(2)
        await runner.complete(first)
        await starting_events(client, "full", 1)
        await runner.complete(second)
        await starting_events(client, "other", 2)
        await starting_events(client, "full", 1)
        await runner.complete(await next_assignment(runner, "full"))
        await starting_events(client, "full", 2)


async def test_the_fault_of_what_is_found_to_kill_its_runners_at_the_start_is_reported(tmp_path):
    async with running_router(tmp_path) as router, router.client() as client:
        await client.flows.apply([flow("work"), reported("alerts", "faulted")])
        await client.ingest("work", b"{}")
    storage = await open_storage(tmp_path / "flowhook.db")
    await (await storage.own()).write([Started(1, 1000)])
    await storage.close()
    async with running_router(tmp_path) as router, router.client() as client:
        [event] = await starting_events(client, "alerts", 1)
    assert "given up after 1000 attempts" in event["data"]["error"]["detail"]


async def test_what_was_reported_when_everything_died_is_not_reported_again(tmp_path):
    async with triggers(tmp_path) as router:
        shard = router.shard
        await router.apply("work", "")
        await router.apply("alerts", f"{{on: {{one: {{with: {{type: {WorkflowEventType.FAULTED}}}}}}}}}")
        [seq] = await shard.append("work")
        link = shard.attach(credit=1)
        [delivery] = await link.next()
        await shard.settle(link, delivery, Faulted(ERROR))

        def lifecycle_publisher():
            return LifecyclePublisher(shard.host.parts, shard.storage.registry, router.publisher)

        shard.state.away = True
        with pytest.raises(UnavailableError):
            await lifecycle_publisher().turn()
        shard.state.away = False
        assert [each.seq for each in await shard.state.occurrences()] == [seq]
        assert [each.flow_id for each in await router.executions()] == ["alerts", "work"]
        await lifecycle_publisher().turn()
        assert await shard.state.occurrences() == []
        assert [each.flow_id for each in await router.executions()] == ["alerts", "work"]


@pytest.mark.parametrize("chosen", ["open-workflow", "serverless-workflow"])
async def test_an_error_type_is_awaited_by_any_of_its_names_and_told_by_the_one_that_the_flow_chose(
    router, client, chosen
):
    present, earlier, of_the_kit, _ = names = spellings(f"{ERROR_TYPE_BASE}timeout")
    waiting = [
        flow(
            f"on-{number}",
            b"schedule: {read: envelope, on: {one: {with: {type: %bfaulted.v1}, correlate: {t: {from: .data.error.type,"
            b" expect: '%b'}}}}}\n" % (BASE.encode(), name.encode()),
        )
        for number, name in enumerate((*names, present.replace("timeout", "runtime")))
    ]
    await client.flows.apply([flow("work", b"execution: {error_types: %b}\n" % chosen.encode()), *waiting])
    failed = await client.ingest("work", b"{}")
    async with attached(router) as runner:
        lease = (await next_assignment(runner, "work")).lease
        error = {"type": of_the_kit, "status": 408, "title": "Timeout"}
        await runner.settle(pb.Outcome(lease=lease, faulted=error))
    told = present if chosen == "open-workflow" else earlier
    for number in range(len(names)):
        [event] = await starting_events(client, f"on-{number}", 1)
        assert event["data"]["error"]["type"] == told
    assert [item async for item in client.executions.list(flow_id="on-4")] == []
    assert (await client.executions.get(failed)).execution.error.type == present


async def test_faults_are_batched_and_an_alert_that_faults_is_not_reported_to_itself(router, client):
    batch = b"execution: {batch: {size: 2, period: PT1H, key: '${ .[0].data.fingerprint }'}}\n"
    await client.flows.apply([flow("work"), reported("alerts", "faulted", rest=batch)])
    async with attached(router, credit=10) as runner:
        for _ in range(2):
            sent = {await client.ingest("work", b"{}") for _ in range(2)}
            for _ in sent:
                await runner.fault(await next_assignment(runner, "work"), "/do/0/keep")
            alert = await next_assignment(runner, "alerts")
            event = convert.event_from_bytes(alert.event)
            told = [orjson.loads(each.body)[0] for each in (event, *event.batch)]
            assert {each["subject"] for each in told} == sent
            assert len({each["data"]["fingerprint"] for each in told}) == 1
            await runner.fault(alert, "/do/0/keep")
