"""Concurrency by key and priorities, from the flow file to the runner."""

from __future__ import annotations

from support.routers import flow, running_router
from support.runners import attached

from flowhook.model import ShapedBy

KEYED = b"execution: {concurrency: {limit: 2, key: '${ .account }'}}\n"


def ids_of(assignments):
    return [assignment.event[2:32].decode() for assignment in assignments]


async def test_of_each_key_only_so_many_run_also_after_a_restart(tmp_path):
    async with running_router(tmp_path) as router, router.client() as client:
        await client.flows.apply([flow("keyed", KEYED)])
        a1, a2, a3, a4 = [await client.ingest("keyed", {"account": "a"}) for _ in range(4)]
        b1 = await client.ingest("keyed", {"account": "b"})
        none = await client.ingest("keyed", {})
        async with attached(router, credit=10) as runner:
            assert sorted(ids_of(await runner.assignments(4))) == sorted([a1, a2, b1, none])
            turn = (await client.executions.get(a4)).execution.turn
            assert (turn.by, turn.position, turn.expect_time_ms) == (ShapedBy.CONCURRENCY, 2, None)
    async with running_router(tmp_path) as router, router.client() as client, attached(router, credit=10) as runner:
        again = await runner.assignments(4)
        assert sorted(ids_of(again)) == sorted([a1, a2, b1, none])
        by_id = dict(zip(ids_of(again), again, strict=True))
        await runner.complete(by_id[a2])
        assert ids_of(await runner.assignments(1)) == [a3]
        await runner.complete(by_id[a1])
        assert ids_of(await runner.assignments(1)) == [a4]


async def test_a_replay_has_the_key_and_the_priority_of_its_original(router, client):
    await client.flows.apply([flow("keyed", KEYED.replace(b"2", b"1"))])
    original = await client.ingest("keyed", {"account": "a"})
    async with attached(router, credit=10) as runner:
        (assignment,) = await runner.assignments(1)
        await runner.complete(assignment)
        running = await client.ingest("keyed", {"account": "a"})
        (assignment,) = await runner.assignments(1)
        assert ids_of([assignment]) == [running]
        replay = await client.executions.replay(original)
        assert (await client.executions.get(replay.id)).execution.turn.by is ShapedBy.CONCURRENCY
        await runner.complete(assignment)
        assert ids_of(await runner.assignments(1)) == [replay.id]


async def test_events_of_a_higher_priority_run_first_also_after_a_restart(tmp_path):
    async with running_router(tmp_path) as router, router.client() as client:
        await client.flows.apply([flow("urgent", b"execution: {priority: '${ .urgency }'}\n")])
        values = [None, 3, "high", 9, 100, 3]
        sent = [await client.ingest("urgent", {"urgency": value}) for value in values]
    async with running_router(tmp_path) as router, attached(router, credit=10) as runner:
        order = [sent.index(each) for each in ids_of(await runner.assignments(len(sent)))]
        assert order == [3, 4, 1, 5, 0, 2]
