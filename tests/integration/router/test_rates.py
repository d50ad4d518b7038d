"""Rates: how many executions of a flow, or of a key of it, are assigned within a time."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left

import pytest
from support.edge_heads import edge_head
from support.routers import flow, running_router
from support.runners import attached

from flowhook import limits
from flowhook.client import channel
from flowhook.errors import ExhaustedError
from flowhook.events import ids
from flowhook.model import ShapedBy
from flowhook.v1 import envelope_pb2, ingest_service_pb2, ingest_service_pb2_grpc
from router.scheduling.rates import LATENESS

RATE = 50
WINDOW_MS = 2000
TICK = 0.005
SLOW = b"execution: {rate: {limit: 1, per: P1D, key: '${ .account }'}}\n"


def ids_of(assignments):
    return [assignment.event[2:32].decode() for assignment in assignments]


class Stalls:
    """For how long the loop, which is the router's, too, could do nothing: its timers are late by so much."""

    def __init__(self):
        self._late = []

    async def watch(self):
        while True:
            due = time.time() + TICK
            await asyncio.sleep(TICK)
            self._late.append((due, max(0.0, time.time() - due)))

    def within(self, begin, end):
        return sum(late for due, late in self._late if begin <= due + late and due <= end)


async def test_executions_are_assigned_at_their_rate_however_many_wait(router, client):
    await client.flows.apply([flow("shaped", b"execution: {rate: {limit: %d, per: PT1S}}\n" % RATE)])
    sent = [await client.ingest("shaped", {"n": n}) for n in range(150)]
    stalls = Stalls()
    watching = asyncio.create_task(stalls.watch())
    async with attached(router, credit=200) as runner:
        assignments = await runner.assignments(len(sent))
        watching.cancel()
        assert ids_of(assignments) == sent
        for assignment in assignments:
            await runner.complete(assignment)
    times = sorted([(await client.executions.get(each)).attempts[-1].assign_time_ms for each in sent])
    in_a_second = max(bisect_left(times, at + 1000) - place for place, at in enumerate(times))
    assert in_a_second <= RATE * 1.05 + 2
    assert times[-1] - times[0] >= (len(sent) - 1 - RATE * 0.1) * 1000 / RATE
    windows = [(at, bisect_left(times, at + WINDOW_MS) - place) for place, at in enumerate(times)]
    for at, assigned in windows:
        assert assigned <= RATE * WINDOW_MS / 1000 * 1.05
        if at + WINDOW_MS <= times[-1]:  # and no fewer, except for what the machine did not let the router do
            stalled = stalls.within(at / 1000 - LATENESS, (at + WINDOW_MS) / 1000)
            assert assigned >= RATE * (WINDOW_MS / 1000 - stalled) * 0.95 - 1


async def test_a_pending_execution_says_what_it_waits_for_and_for_how_long(router, client):
    await client.flows.apply([flow("slow", SLOW)])
    first, second, third = [await client.ingest("slow", {"account": 7}) for _ in range(3)]
    async with attached(router, credit=10) as runner:
        assert ids_of(await runner.assignments(1)) == [first]
        turn = (await client.executions.get(third)).execution.turn
        assert (turn.by, turn.position) == (ShapedBy.RATE, 2)
        assert 1.9 * 86400 < turn.expect_time_ms / 1000 - time.time() < 2.1 * 86400
        listed = {each.id: each.turn async for each in client.executions.list(flow_id="slow")}
        assert listed[first] is None
        assert (listed[second].position, listed[third].position) == (1, 2)


@pytest.mark.parametrize("many", [1, 3])
async def test_a_slow_rate_holds_over_restarts(tmp_path, many):
    async with running_router(tmp_path) as router, router.client() as client:
        await client.flows.apply([flow("slow", SLOW)])
        first, *_ = [await client.ingest("slow", {"account": 7}) for _ in range(3)]
        async with attached(router, credit=10) as runner:
            (assignment,) = await runner.assignments(1)
            assert ids_of([assignment]) == [first]
            await runner.complete(assignment)
    for number in range(many):
        async with running_router(tmp_path) as router, router.client() as client:
            other = await client.ingest("slow", {"account": f"other {number}"})
            async with attached(router, credit=10) as runner:
                (assignment,) = await runner.assignments(1)
                assert ids_of([assignment]) == [other]
                await runner.complete(assignment)


async def test_a_flow_with_too_many_keys_refuses_further_ones_for_now(router, client, monkeypatch):
    monkeypatch.setattr(limits, "MAX_RATE_KEYS", 2)
    await client.flows.apply([flow("slow", SLOW)])
    sent = [await client.ingest("slow", {"account": account}) for account in "ab"]
    with pytest.raises(ExhaustedError) as caught:
        await client.ingest("slow", {"account": "c"})
    assert (caught.value.reason, caught.value.retry_after) == ("RATE_KEYS_FULL", 60)
    sent += [await client.ingest("slow", {"account": "a"}), await client.ingest("slow", {})]
    async with attached(router, credit=10) as runner:
        assert sorted(ids_of(await runner.assignments(3))) == sorted([*sent[:2], sent[3]])


async def test_once_the_keys_of_all_flows_are_many_each_flow_has_its_share(router, client, monkeypatch):
    monkeypatch.setattr(limits, "MAX_ALL_RATE_KEYS", 4)
    await client.flows.apply([flow("greedy", SLOW), flow("other", SLOW)])
    for account in "abcd":
        await client.ingest("greedy", {"account": account})
    with pytest.raises(ExhaustedError) as caught:
        await client.ingest("greedy", {"account": "e"})
    assert caught.value.reason == "RATE_KEYS_FULL"
    for account in "ab":
        await client.ingest("other", {"account": account})
    with pytest.raises(ExhaustedError):
        await client.ingest("other", {"account": "c"})


async def test_a_key_that_an_edge_made_counts_and_one_that_is_no_key_is_made_anew(router, client):
    (applied,) = await client.flows.apply([flow("slow", SLOW)])
    event = {"flow_id": "slow", "head": edge_head("/hook/slow"), "order_key": "", "body": b'{"account": "here"}'}
    made = {"rate": "made by the edge"}
    positions = []
    async with channel.connect(router.target, router.token("edge")) as opened:
        stub = ingest_service_pb2_grpc.IngestServiceStub(opened)
        for shaping in (made, {"rate": "x" * 300}, {**made, "priority": 10}, None, made):
            message = envelope_pb2.Event(id=ids.mint(ids.slot_of("slow")), flow_revision=applied.flow.revision, **event)
            message.receive_time.GetCurrentTime()
            if shaping is not None:
                message.shaping.CopyFrom(envelope_pb2.ShapingKeys(**shaping))
            response = await stub.IngestEvents(ingest_service_pb2.IngestEventsRequest(events=[message]))
            assert response.results[0].accepted.execution_id == message.id
            positions.append((await client.executions.get(message.id)).execution.turn.position)
    assert positions == [1, 1, 2, 3, 2]
