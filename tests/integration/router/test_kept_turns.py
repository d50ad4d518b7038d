"""Order keys whose turn an execution keeps when it faults: `order_by.on_fault: hold`."""

from __future__ import annotations

import pytest
from support.routers import flow, running_router
from support.runners import attached
from support.shards import running_host

from flowhook.attach.messages import Completed, Faulted
from flowhook.errors import ConflictError
from flowhook.model import Status, WorkflowError
from router.scheduling.queues import FlowPolicy

HOLD = b"execution: {order_by: {key: '${ .account }', on_fault: hold}}\n"


def ids_of(assignments):
    return [assignment.event[2:32].decode() for assignment in assignments]


async def given(client, count=3, document=HOLD):
    await client.flows.apply([flow("ordered", document)])
    return [await client.ingest("ordered", {"account": 7}) for _ in range(count)]


async def next_of(runner):
    (assignment,) = await runner.assignments(1)
    return assignment


async def shown(client, execution_id):
    return (await client.executions.get(execution_id)).execution


async def ready(client):
    [numbers] = (await client.flows.statistics("ordered")).items
    return numbers.oldest_pending_at is not None


@pytest.mark.parametrize(
    "document", [b"execution: {order_by: '${ .account }'}\n", HOLD.replace(b"hold", b"continue")], ids=["path", "key"]
)
async def test_the_next_one_runs_after_a_fault_unless_the_flow_says_otherwise(router, client, document):
    first, second, third = await given(client, document=document)
    async with attached(router, credit=9) as runner:
        running = await next_of(runner)
        blocked = await shown(client, third)
        assert (blocked.blocked_by.execution_id, blocked.blocked_by.faulted_at) == (first, None)
        await runner.fault(running)
        assert ids_of([await next_of(runner)]) == [second]
        assert (await shown(client, second)).blocked_by is None
        assert not (await shown(client, first)).keeps_turn


async def test_nothing_runs_behind_a_fault_until_it_is_resolved(router, client):
    first, second, third = await given(client)
    other = await client.ingest("ordered", {"account": 8})
    async with attached(router, credit=9) as runner:
        assignments = await runner.assignments(2)
        assert sorted(ids_of(assignments)) == sorted([first, other])
        for each in assignments:
            if ids_of([each]) == [first]:
                await runner.fault(each)
        faulted = await shown(client, first)
        assert (faulted.status, faulted.keeps_turn) == (Status.FAULTED, True)
        listed = {each.id: each async for each in client.executions.list(flow_id="ordered")}
        for each in (second, third):
            assert (listed[each].status, listed[each].blocked_by.execution_id) == (Status.PENDING, first)
            assert listed[each].blocked_by.faulted_at == faulted.ended_at
        assert not await ready(client)
        with pytest.raises(ConflictError) as refused:
            await client.executions.delete(first)
        assert refused.value.reason == "EXECUTION_KEEPS_TURN"
        resolved = await client.executions.resolve(first, "paid by hand")
        assert not resolved.keeps_turn
        assert ids_of([await next_of(runner)]) == [second]
        assert (await shown(client, third)).blocked_by.execution_id == second
        await client.executions.delete(first)


async def test_a_replay_runs_before_those_that_are_blocked_and_frees_them_when_it_completes(router, client):
    first, second, _ = await given(client)
    async with attached(router, credit=9) as runner:
        await runner.fault(await next_of(runner))
        replay = (await client.executions.replay(first)).id
        running = await next_of(runner)
        assert ids_of([running]) == [replay]
        assert (await shown(client, second)).blocked_by.execution_id == replay
        await runner.fault(running)  # now it keeps the turn
        assert [(await shown(client, each)).keeps_turn for each in (first, replay)] == [False, True]
        again = (await client.executions.replay(replay)).id
        running = await next_of(runner)
        assert ids_of([running]) == [again]
        await runner.complete(running)
        assert ids_of([await next_of(runner)]) == [second]


async def test_a_replay_that_is_cancelled_gives_the_turn_back(router, client):
    first, second, _ = await given(client)
    async with attached(router, credit=9) as runner:
        await runner.fault(await next_of(runner))
        replay = (await client.executions.replay(first)).id
        await next_of(runner)
        await client.executions.cancel(replay)
        assert (await shown(client, first)).keeps_turn
        assert (await shown(client, second)).blocked_by.execution_id == first
        await client.executions.resolve(first, "")
        assert ids_of([await next_of(runner)]) == [second]


async def test_what_is_resolved_while_its_replay_runs_keeps_no_turn_after_it(router, client):
    first, second, _ = await given(client)
    async with attached(router, credit=9) as runner:
        await runner.fault(await next_of(runner))
        replay = (await client.executions.replay(first)).id
        running = await next_of(runner)
        await client.executions.resolve(first, "")
        assert (await shown(client, second)).blocked_by.execution_id == replay
        await runner.complete(running)
        assert ids_of([await next_of(runner)]) == [second]


async def test_one_that_waits_can_be_erased_and_frees_nobody(router, client):
    first, second, third = await given(client)
    async with attached(router, credit=9) as runner:
        await runner.fault(await next_of(runner))
        await client.executions.delete(second, erase=True, cancel=True)
        with pytest.raises(ConflictError) as refused:
            await client.executions.delete(first, erase=True, cancel=True)
        assert refused.value.reason == "EXECUTION_KEEPS_TURN"
        assert (await shown(client, third)).blocked_by.execution_id == first
        await client.executions.resolve(first, "")
        assert ids_of([await next_of(runner)]) == [third]
        await client.executions.delete(first, erase=True)


async def test_who_is_blocked_stays_so_when_the_router_is_killed(tmp_path):
    policy = FlowPolicy(keeps_turns=True)
    async with running_host(tmp_path) as shard:
        shard.host.set_policy("a", policy)
        first, second, third = await shard.append("a", b"1", b"2", b"3", order_key="k")
        link = shard.attach()
        [running] = await link.next()
        await shard.settle(link, running, Faulted(WorkflowError("about:blank", 400, "No")))
        await shard.die()
    for _ in range(2):
        async with running_host(tmp_path) as shard:
            shard.host.set_policy("a", policy)
            assert (await shard.host.executions.find((await shard.record(first)).id)).keeps_turn
            other = (await shard.append("a", b"4", order_key="other"))[0]
            link = shard.attach()
            assert [each.event for each in await link.next()] == [b"4"]
            assert [shard.core.order_keys.blocker(seq).seq for seq in (second, third)] == [first, first]
            await shard.settle(link, link.deliveries[0], Completed(b"{}"))
            assert (await shard.record(other)).status is Status.COMPLETED
            await shard.die()
    async with running_host(tmp_path) as shard:
        shard.host.set_policy("a", policy)
        await shard.host.commands.resolve((await shard.record(first)).id, "seen to")
        await shard.die()  # before anything ran
    async with running_host(tmp_path) as shard:
        shard.host.set_policy("a", policy)
        assert [each.event for each in await shard.attach().next()] == [b"2"]
        assert shard.core.order_keys.blocker(third).seq == second


async def test_a_turn_is_kept_over_restarts_also_while_a_replay_has_it(tmp_path):
    async with running_router(tmp_path) as router, router.client() as client:
        first, second, _ = await given(client)
        async with attached(router, credit=1) as runner:
            await runner.fault(await next_of(runner))
    async with running_router(tmp_path) as router, router.client() as client:
        assert (await shown(client, first)).keeps_turn
        assert (await shown(client, second)).blocked_by.execution_id == first
        assert not await ready(client)
        replay = (await client.executions.replay(first)).id
    async with running_router(tmp_path) as router, router.client() as client:
        assert (await shown(client, second)).blocked_by.execution_id == replay
        async with attached(router, credit=1) as runner:
            running = await next_of(runner)
            assert ids_of([running]) == [replay]
            await runner.complete(running)
    async with running_router(tmp_path) as router, router.client() as client:
        assert not (await shown(client, first)).keeps_turn
        async with attached(router, credit=1) as runner:
            assert ids_of([await next_of(runner)]) == [second]
