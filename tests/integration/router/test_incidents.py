"""Incidents: what is told of destinations that are down, what operators do about them, and what flows hear of them."""

from __future__ import annotations

import asyncio

import pytest
from support.patience import PATIENCE
from support.routers import flow, running_router
from support.runners import attached

from flowhook.errors import ConflictError, NotFoundError, PermissionDeniedError
from flowhook.model import Status
from flowhook.v1 import runner_service_pb2 as pb
from router.scheduling import outages

ORIGIN = "https://api.example"
ALERT = b"""
document: {dsl: 1.0.3, namespace: default, name: alert, version: 1.0.0}
schedule: {on: {one: {with: {type: flowhook.incident.opened}}}}
do:
  - keep: {set: {seen: "${ . }"}}
"""


@pytest.fixture(autouse=True)
async def hello(client):
    await client.flows.apply([flow("hello")])


async def fail(runner, times=5, cause="it answers 503"):
    report = pb.CallReport(flow_id="hello", origin=ORIGIN, failures=times, cause=cause)
    await runner.send(call_reports=pb.CallReports(reports=[report]))


async def eventually(read):
    async with asyncio.timeout(PATIENCE):
        while not (found := await read()):
            await asyncio.sleep(0.01)
    return found


async def listed(client, **conditions):
    return [each async for each in client.incidents.list(**conditions)]


async def test_it_says_what_is_down_why_for_whom_and_what_waits(router, client):
    async with attached(router, credit=4) as runner:
        first, second = [await client.ingest("hello", {}) for _ in range(2)]
        one, two = await runner.assignments(2)
        await fail(runner)
        [incident] = await eventually(lambda: listed(client, open_only=True))
        assert (incident.destination, incident.cause, incident.flows) == (ORIGIN, "it answers 503", ("hello",))
        assert (incident.failures, incident.waiting, incident.draining, incident.close_time_ms) == (5, 0, False, None)
        assert 0 < incident.next_probe_time_ms - incident.open_time_ms <= 10_000
        for each in (one, two):
            await runner.park(each, destinations=[ORIGIN])

        async def both_wait():
            return (await client.incidents.get(incident.id)).waiting == 2

        await eventually(both_wait)
        assert (await client.executions.get(first)).execution.status is Status.WAITING
        assert (await client.executions.get(first)).execution.destinations == (ORIGIN,)
        assert {each.destinations async for each in client.executions.list()} == {(ORIGIN,)}
        await client.incidents.probe(incident.id)
        (probe,) = await runner.assignments(1)
        assert (probe.destination, probe.destination_failure, probe.attempt) == (ORIGIN, "", 1)
        assert [each.destinations async for each in client.executions.list(statuses=[Status.RUNNING])] == [()]
        assert await client.incidents.let_fail(incident.id) == 1
        (failing,) = await runner.assignments(1)
        assert (failing.destination, failing.destination_failure) == (ORIGIN, "it answers 503")
        found = await client.incidents.get(incident.id)
        assert [note.text for note in found.history] == [
            "down for hello: it answers 503",
            "an operator asked for a probe",
            "calls of 1 executions that waited fail",
        ]
        assert (await client.executions.get(second)).execution.attempts <= 1


async def test_it_is_over_once_it_was_up_for_a_while(router, client, monkeypatch):
    async with attached(router, credit=1) as runner:
        await client.ingest("hello", {})
        (assignment,) = await runner.assignments(1)
        await fail(runner)
        [before] = await eventually(lambda: listed(client, open_only=True))
        await runner.park(assignment, destinations=[ORIGIN])
    monkeypatch.setattr(outages, "CALM_MS", 0)
    async with attached(router, "runner-2", credit=1) as runner:
        await client.incidents.probe(before.id)
        (again,) = await runner.assignments(1)
        report = pb.CallReport(flow_id="hello", origin=ORIGIN, successes=1)
        await runner.send(call_reports=pb.CallReports(reports=[report]))
        await runner.complete(again)

        async def is_over():
            return (await client.incidents.get(before.id)).close_time_ms

        await eventually(is_over)
        with pytest.raises(ConflictError) as refused:
            await client.incidents.probe(before.id)
        assert refused.value.reason == "INCIDENT_CLOSED"
        assert await listed(client, open_only=True) == []
        [over] = await listed(client)
        assert (over.id, over.history) == (before.id, ())


async def test_a_router_that_starts_knows_what_was_down(tmp_path):
    async with running_router(tmp_path) as first, first.client() as client:
        await client.flows.apply([flow("hello")])
        async with attached(first, credit=1) as runner:
            await client.ingest("hello", {})
            (assignment,) = await runner.assignments(1)
            await fail(runner)
            [before] = await eventually(lambda: listed(client, open_only=True))
            await runner.park(assignment, destinations=[ORIGIN])

            async def waits():
                return (await client.incidents.get(before.id)).waiting

            await eventually(waits)

            async def is_stored():
                return [each for each in await listed(client) if each.id == before.id]

            await eventually(is_stored)
    async with running_router(tmp_path) as second, second.client() as client:
        [after] = await listed(client, open_only=True)
        assert (after.id, after.open_time_ms, after.cause) == (before.id, before.open_time_ms, before.cause)
        assert after.failures >= before.failures
        async with attached(second, credit=1) as runner:
            update = (await runner.next("destinations")).updates[0]
            assert (update.flow_id, update.origin, update.state) == ("hello", ORIGIN, pb.DESTINATION_STATE_PARKS)
            (probe,) = await runner.assignments(1)
            assert probe.destination == ORIGIN


async def test_a_flow_hears_of_it_once(router, client):
    await client.flows.apply([ALERT])
    async with attached(router, credit=1) as runner:
        await fail(runner)
        (assignment,) = await runner.assignments(1)
        assert ORIGIN.encode() in assignment.event
        await runner.complete(assignment)


async def test_what_is_asked_of_it_is_checked(router, client):
    with pytest.raises(NotFoundError) as unknown:
        await client.incidents.get("inc_none")
    assert unknown.value.reason == "INCIDENT_NOT_FOUND"
    async with attached(router) as runner:
        await fail(runner)
        [incident] = await eventually(lambda: listed(client, open_only=True))
    async with router.client("runner") as stranger:
        with pytest.raises(PermissionDeniedError):
            await stranger.incidents.get(incident.id)
