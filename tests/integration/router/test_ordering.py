"""Order keys: executions of one flow and one key run one after another."""

from __future__ import annotations

import time

import pytest
from support.routers import flow, running_router
from support.runners import attached

from flowhook.client import channel
from flowhook.errors import InvalidError
from flowhook.events import ids
from flowhook.model import Status
from flowhook.v1 import envelope_pb2, ingest_service_pb2, ingest_service_pb2_grpc
from flowhook.wire.status import failure_from_proto

ORDERED = b"execution: {order_by: '${ .account }'}\n"


@pytest.fixture
async def ordered(client):
    await client.flows.apply([flow("ordered", ORDERED)])


def ids_of(assignments):
    return [assignment.event[2:32].decode() for assignment in assignments]


async def ingest(client, *accounts):
    return [await client.ingest("ordered", {"account": account}) for account in accounts]


async def test_events_of_one_key_run_one_after_another_and_others_beside_them(router, client, ordered):
    a1, a2, b1, a3, none1, none2 = await ingest(client, "a", "a", "b", "a", None, None)
    async with attached(router, credit=10) as runner:
        first = await runner.assignments(4)
        assert sorted(ids_of(first)) == sorted([a1, b1, none1, none2])
        by_id = dict(zip(ids_of(first), first, strict=True))
        for earlier, later in ((a1, a2), (a2, a3)):
            await runner.complete(by_id[earlier])
            (assignment,) = await runner.assignments(1)
            assert ids_of([assignment]) == [later]
            by_id[later] = assignment


async def test_a_parked_execution_keeps_its_key_also_over_a_restart(tmp_path):
    async with running_router(tmp_path) as router, router.client() as client:
        await client.flows.apply([flow("ordered", ORDERED)])
        a1, a2, a3 = await ingest(client, 7, 7, 7)
        async with attached(router, credit=10) as runner:
            (assignment,) = await runner.assignments(1)
            await runner.park(assignment, time.time() + 3600)
    async with running_router(tmp_path) as router, router.client() as client:
        (b1,) = await ingest(client, 8)
        async with attached(router, credit=10) as runner:
            assert ids_of(await runner.assignments(1)) == [b1]
            await client.executions.cancel(a2)
            await client.executions.cancel(a1)
            assert ids_of(await runner.assignments(1)) == [a3]


async def test_a_suspended_execution_keeps_its_key(router, client, ordered):
    a1, a2, a3 = await ingest(client, "a", "a", "a")
    await client.executions.suspend(a1)
    await client.executions.suspend(a2)
    (b1,) = await ingest(client, "b")
    async with attached(router, credit=10) as runner:
        assert ids_of(await runner.assignments(1)) == [b1]
        await client.executions.resume(a2)
        assert (await client.executions.get(a2)).execution.status is Status.PENDING
        await client.executions.resume(a1)
        for expected in (a1, a2, a3):
            (assignment,) = await runner.assignments(1)
            assert ids_of([assignment]) == [expected]
            await runner.complete(assignment)


async def test_a_replay_runs_behind_what_has_its_key_now(router, client, ordered):
    (a1,) = await ingest(client, "a")
    async with attached(router, credit=10) as runner:
        (assignment,) = await runner.assignments(1)
        await runner.complete(assignment)
        (a2,) = await ingest(client, "a")
        (assignment,) = await runner.assignments(1)
        replay = await client.executions.replay(a1)
        await runner.complete(assignment)
        (assignment,) = await runner.assignments(1)
        assert ids_of([assignment]) == [replay.id]
        assert a2 != replay.id


async def test_a_key_that_arrived_with_the_event_counts_also_without_order_by(router, client):
    await client.flows.apply([flow("plain")])
    async with attached(router, credit=10) as runner:
        for key in ("k", "k", ""):
            await send(router, client, key)
        assert len(await runner.assignments(2)) == 2
        assert len([item async for item in client.executions.list(statuses=[Status.PENDING])]) == 1


async def test_a_key_that_is_too_long_is_refused(router, client):
    await client.flows.apply([flow("plain")])
    with pytest.raises(InvalidError):
        await send(router, client, "é" * 129)


async def test_a_key_that_an_edge_made_by_another_revision_of_the_flow_is_made_anew(router, client, ordered):
    async with attached(router, credit=10) as runner:
        for revision in (1, 1, 7, 7):  # the latest one is 1; of 7 the edge has another idea
            await send(router, client, "", flow_id="ordered", body=b'{"account": "a"}', flow_revision=revision)
        assert len(await runner.assignments(3)) == 3
        assert len([item async for item in client.executions.list(statuses=[Status.PENDING])]) == 1


async def send(router, client, key, flow_id="plain", **fields):
    event = envelope_pb2.Event(id=ids.mint(ids.slot_of(flow_id)), flow_id=flow_id, order_key=key, **fields)
    connection = channel.connect(router.target, router.token("edge"))
    stub = ingest_service_pb2_grpc.IngestServiceStub(connection)
    response = await stub.IngestEvents(ingest_service_pb2.IngestEventsRequest(events=[event]))
    await connection.close(None)
    (result,) = response.results
    if result.WhichOneof("outcome") == "rejected":
        raise failure_from_proto(result.rejected)
