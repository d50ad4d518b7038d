"""Rates, keyed limits, kept turns, debounced events and batches hold when another router takes the shard over."""

from __future__ import annotations

from support.routers import flow
from support.runners import attached

from flowhook.model import ShapedBy, Status
from flowhook.wire import convert

SLOW = b"execution: {rate: {limit: 1, per: P1D, key: '${ .account }'}}\n"
KEYED = b"execution: {concurrency: {limit: 1, key: '${ .account }'}}\n"
BATCHED = b"execution: {batch: {size: 3, period: PT1H}}\n"
HELD = b"execution: {order_by: {key: '${ .account }', on_fault: hold}}\n"
SAVED = b"execution: {debounce: {key: '${ .account }', period: PT1H}}\n"


def ids_of(assignments):
    return [assignment.event[2:32].decode() for assignment in assignments]


async def turn_of(client, execution_id):
    turn = (await client.executions.get(execution_id)).execution.turn
    return None if turn is None else turn.by


async def test_what_waits_goes_on_waiting_at_the_next_owner(routers):
    for name in ("r1", "r2"):
        routers.start(name)
    first = await routers.owner()
    async with first.client() as client:
        await client.flows.apply([flow("slow", SLOW), flow("keyed", KEYED), flow("saved", SAVED)])
        slow, keyed, saved = [
            [await client.ingest(name, {"account": 7}) for _ in range(2)] for name in ("slow", "keyed", "saved")
        ]
        async with attached(first, credit=10) as runner:
            assignments = await runner.assignments(2)
            assert sorted(ids_of(assignments)) == sorted([slow[0], keyed[0]])
            for assignment in assignments:
                if ids_of([assignment]) == [slow[0]]:
                    await runner.complete(assignment)
    await first.stop()
    second = await routers.owner(but=first)
    async with second.client() as client, attached(second, credit=10) as runner:
        assert [await turn_of(client, each) for each in saved] == [ShapedBy.DEBOUNCE] * 2
        other = await client.ingest("slow", {"account": 8})
        again = await runner.assignments(2)
        assert sorted(ids_of(again)) == sorted([other, keyed[0]])
        turns = [await turn_of(client, each) for each in (slow[1], keyed[1])]
        assert turns == [ShapedBy.RATE, ShapedBy.CONCURRENCY]
        await runner.complete(next(each for each in again if ids_of([each]) == [keyed[0]]))
        assert ids_of(await runner.assignments(1)) == [keyed[1]]
        assert await turn_of(client, slow[1]) is ShapedBy.RATE
    await routers.assert_views_equal()


async def test_a_batch_goes_on_at_the_next_owner_with_the_same_events(routers):
    for name in ("r1", "r2"):
        routers.start(name)
    first = await routers.owner()
    async with first.client() as client:
        await client.flows.apply([flow("entries", BATCHED)])
        sent = [await client.ingest("entries", {"n": n}) for n in range(5)]
        async with attached(first, credit=10) as runner:
            (assignment,) = await runner.assignments(1)
    await first.stop()
    second = await routers.owner(but=first)
    async with second.client() as client, attached(second, credit=10) as runner:
        (again,) = await runner.assignments(1)
        assert again.event == assignment.event
        assert [each.id for each in convert.event_from_bytes(again.event).batch] == sent[1:3]
        assert [await turn_of(client, each) for each in sent[3:]] == [ShapedBy.BATCH] * 2
        sent.append(await client.ingest("entries", {"n": 5}))
        (following,) = await runner.assignments(1)
        event = convert.event_from_bytes(following.event)
        assert [event.id, *(each.id for each in event.batch)] == sent[3:]
        for execution_id, batch in ((sent[1], sent[0]), (sent[5], sent[3])):
            ended = (await client.executions.get(execution_id)).execution
            assert (ended.status, ended.batch) == (Status.COMPLETED, batch)
    await routers.assert_views_equal()


async def test_what_faulted_keeps_the_turn_of_its_order_key_at_the_next_owner(routers):
    for name in ("r1", "r2"):
        routers.start(name)
    first = await routers.owner()
    async with first.client() as client:
        await client.flows.apply([flow("held", HELD)])
        faulted, blocked = [await client.ingest("held", {"account": 7}) for _ in range(2)]
        async with attached(first, credit=1) as runner:
            (assignment,) = await runner.assignments(1)
            await runner.fault(assignment)
    await first.stop()
    second = await routers.owner(but=first)
    async with second.client() as client, attached(second, credit=10) as runner:
        other = await client.ingest("held", {"account": 8})
        assert ids_of(await runner.assignments(1)) == [other]
        assert (await client.executions.get(faulted)).execution.keeps_turn
        assert (await client.executions.get(blocked)).execution.blocked_by.execution_id == faulted
        await client.executions.resolve(faulted, "paid by hand")
        assert ids_of(await runner.assignments(1)) == [blocked]
    await routers.assert_views_equal()
