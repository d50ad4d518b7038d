"""Batches, from the flow file to the runner: all events are acknowledged and kept, one execution runs for them."""

from __future__ import annotations

import asyncio
import time

import orjson
import pytest
from support.effects import CALLER, effects_of
from support.jobs import ended
from support.patience import PATIENCE
from support.routers import flow, running_router
from support.runners import attached
from support.shards import Clock

from flowhook import limits
from flowhook.errors import ConflictError, InvalidError, NotFoundError
from flowhook.model import ShapedBy, Status
from flowhook.model.execution_filter import ExecutionFilter
from flowhook.model.executions import LinkKind
from flowhook.model.jobs import JobAction, JobSpec
from flowhook.model.replays import ReplayOptions
from flowhook.wire import convert
from router.process import serving

FULL = b"execution: {batch: {size: 3, period: PT1H}}\n"
KEYED = b"execution: {batch: {size: 100, period: PT1H, key: '${ .account }'}}\n"
BATCH = (LinkKind.BATCH,)
HOUR = 3600.0


@pytest.fixture
def clock(monkeypatch):
    """The wall clock of a router that starts afterwards."""
    clock = Clock(time.time)
    monkeypatch.setattr(serving, "_now_ms", lambda: int(clock() * 1000))
    return clock


async def until_ended(client, execution_id):
    async with asyncio.timeout(PATIENCE):
        while not (found := await client.executions.get(execution_id)).execution.status.ended:
            await asyncio.sleep(0.02)
    return found


def numbers_of(assignment):
    event = convert.event_from_bytes(assignment.event)
    return [orjson.loads(each.body)["n"] for each in (event, *event.batch)]


async def send(client, count, **more):
    return [await client.ingest("entries", {"n": n, **more}) for n in range(count)]


async def run_batch(router, client, count=3, settings=FULL):
    """Let a batch run and complete, and return the IDs of its events."""
    await client.flows.apply([flow("entries", settings)])
    sent = await send(client, count)
    async with attached(router, credit=10) as runner:
        (assignment,) = await runner.assignments(1)
        await runner.complete(assignment)
        await until_ended(client, sent[0])
    return sent


async def test_one_execution_runs_for_all_events_of_a_full_batch_and_they_name_it(router, client):
    await client.flows.apply([flow("entries", FULL)])
    sent = await send(client, 4)
    async with attached(router, credit=10) as runner:
        (assignment,) = await runner.assignments(1)
        assert numbers_of(assignment) == [0, 1, 2]
        for execution_id in sent[1:3]:
            found = await until_ended(client, execution_id)
            assert (found.execution.status, found.output, found.execution.attempts) == (Status.COMPLETED, b"null", 0)
            assert (found.execution.batch, found.execution.batch_events) == (sent[0], 3)
            ((link,), ()) = (found.links.caused, found.links.causes)
            assert (link.id, link.kinds) == (sent[0], BATCH)
            assert found.event.batch == ()
        found = await client.executions.get(sent[0])
        assert (found.execution.batch, found.execution.batch_events) == (sent[0], 3)
        assert {(each.id, each.kinds) for each in found.links.causes} == {(each, BATCH) for each in sent[1:3]}
        assert [each.id for each in found.event.batch] == sent[1:3]
        turn = (await client.executions.get(sent[3])).execution.turn
        assert (turn.by, turn.events, turn.size) == (ShapedBy.BATCH, 1, 3)
        await runner.complete(assignment)
        assert (await until_ended(client, sent[0])).execution.status is Status.COMPLETED


async def test_a_batch_that_is_not_full_runs_after_its_period_and_events_without_its_key_at_once(clock, router, client):
    await client.flows.apply([flow("entries", KEYED)])
    await send(client, 2, account="a")
    await send(client, 1, account="b")
    await client.ingest("entries", {"n": 7})
    async with attached(router, credit=10) as runner:
        assert list(map(numbers_of, await runner.assignments(1))) == [[7]]
        clock.ahead = HOUR
        assert sorted(map(numbers_of, await runner.assignments(2))) == [[0], [0, 1]]


async def test_it_waits_over_restarts_and_has_the_same_events_at_each_attempt(tmp_path):
    async with running_router(tmp_path) as router, router.client() as client:
        await client.flows.apply([flow("entries", FULL.replace(b"3", b"5"))])
        sent = await send(client, 3)
        await client.executions.cancel(sent[1])
        await client.executions.suspend(sent[2])
        await client.executions.resume(sent[2])
    async with running_router(tmp_path) as router, router.client() as client:
        turn = (await client.executions.get(sent[0])).execution.turn
        assert (turn.by, turn.events, turn.size) == (ShapedBy.BATCH, 1, 5)
        async with attached(router, credit=10) as runner:
            assert numbers_of((await runner.assignments(1))[0]) == [2], "once resumed, it runs by itself"
            sent += await send(client, 4)
            (batch,) = await runner.assignments(1)
            assert (batch.attempt, numbers_of(batch)) == (1, [0, 0, 1, 2, 3])
    async with running_router(tmp_path) as router, router.client() as client, attached(router, credit=10) as runner:
        again = {numbers_of(each)[0]: numbers_of(each) for each in await runner.assignments(2)}
        assert again == {0: [0, 0, 1, 2, 3], 2: [2]}
        found = (await client.executions.get(sent[4])).execution
        assert (found.status, found.batch, found.batch_events) == (Status.COMPLETED, sent[0], 5)


async def test_what_runs_by_itself_is_kept_by_its_runner_when_the_router_restarts(tmp_path):
    async with running_router(tmp_path) as router, router.client() as client:
        await client.flows.apply([flow("entries", FULL)])
        async with effects_of(router) as effects:
            await effects.start("entries", input=b"{}")
        async with attached(router, credit=1) as runner:
            (assignment,) = await runner.assignments(1)
    async with running_router(tmp_path) as router, attached(router, held=[assignment.lease], credit=1) as runner:
        assert list(runner.welcome.retained_leases) == [assignment.lease]


async def test_a_batch_has_events_of_one_revision_and_goes_on_where_there_are_none_any_more(clock, router, client):
    await client.flows.apply([flow("entries", FULL)])
    await send(client, 1)
    await client.flows.apply([flow("entries", FULL.replace(b"3", b"4"))])
    await send(client, 2)
    await client.flows.apply([flow("entries", b"")])
    await send(client, 1)
    clock.ahead = HOUR
    async with attached(router, credit=10) as runner:
        found = {each.flow_revision: numbers_of(each) for each in await runner.assignments(3)}
        assert found == {1: [0], 2: [0, 1], 3: [0]}


async def test_what_is_invoked_runs_by_itself(router, client):
    await client.flows.apply([flow("entries", FULL)])
    async with attached(router, credit=10) as runner:
        invoked = asyncio.create_task(client.invoke("entries", {"n": 5}, timeout=PATIENCE))
        (assignment,) = await runner.assignments(1)
        assert numbers_of(assignment) == [5]
        await runner.complete(assignment)
        await invoked


async def test_a_batch_is_over_before_its_events_are_too_large_together(router, client):
    await client.flows.apply([flow("entries", FULL)])
    text = "x" * (limits.MAX_BATCHED_BYTES * 2 // 5)
    await send(client, 3, text=text)
    async with attached(router, credit=10) as runner:
        (assignment,) = await runner.assignments(1)
        assert numbers_of(assignment) == [0, 1]


async def test_the_events_of_batches_that_are_assigned_together_are_read_in_portions(router, client):
    await client.flows.apply([flow("entries", FULL.replace(b"3", b"2"))])
    text = "x" * (limits.MAX_BATCHED_BYTES * 2 // 5)
    for n in range(6):
        await client.ingest("entries", {"n": n, "text": text})
    async with attached(router, credit=10) as runner:
        assert sorted(map(numbers_of, await runner.assignments(3))) == [[0, 1], [2, 3], [4, 5]]


async def test_a_replay_of_a_batch_has_all_its_events_and_one_of_an_event_only_that(router, client):
    sent = await run_batch(router, client)
    async with attached(router, credit=10) as runner:
        whole = await client.executions.replay(sent[0])
        assert (whole.batch, whole.batch_events) == (sent[0], 3)
        (assignment,) = await runner.assignments(1)
        assert numbers_of(assignment) == [0, 1, 2]
        await runner.complete(assignment)
        await until_ended(client, whole.id)
        again = await client.executions.replay(whole.id)
        assert numbers_of((await runner.assignments(1))[0]) == [0, 1, 2]
        assert [each.id for each in (await client.executions.get(again.id)).event.batch] == sent[1:]
        single = await client.executions.replay(sent[1])
        assert (single.batch, single.batch_events) == ("", 0)
        assert numbers_of((await runner.assignments(1))[0]) == [1]


async def test_a_replay_must_not_leave_out_events(router, client):
    sent = await run_batch(router, client)
    with pytest.raises(InvalidError) as caught:
        await client.executions.replay(sent[0], ReplayOptions(body=b"{}"))
    assert caught.value.reason == "EDIT_OF_BATCH"
    await client.flows.apply([flow("entries", b"")])
    with pytest.raises(ConflictError) as refused:
        await client.executions.replay(sent[0], ReplayOptions(latest=True))
    assert refused.value.reason == "NO_BATCH"


async def test_events_of_a_batch_are_deleted_after_the_execution_that_ran(router, client):
    sent = await run_batch(router, client)
    with pytest.raises(ConflictError) as caught:
        await client.executions.delete(sent[1])
    assert caught.value.reason == "BATCH_STORED"
    replay = await client.executions.replay(sent[0])
    with pytest.raises(ConflictError) as refused:
        await client.executions.delete(sent[0])
    assert (refused.value.reason, replay.id in str(refused.value)) == ("EXECUTION_NOT_ENDED", True)
    await client.executions.cancel(replay.id)
    await client.executions.delete(sent[0])
    assert (await client.executions.get(sent[1])).execution.batch == ""
    await client.executions.delete(sent[1])


async def test_to_erase_an_event_erases_what_ran_for_its_batch_and_leaves_the_other_events(router, client):
    sent = await run_batch(router, client)
    replay = await client.executions.replay(sent[0])
    with pytest.raises(ConflictError) as caught:
        await client.executions.delete(sent[1], erase=True)
    assert (caught.value.reason, replay.id in str(caught.value)) == ("EXECUTION_NOT_ENDED", True)
    erased = await client.executions.delete(sent[1], erase=True, cancel=True)
    assert set(erased.execution_ids) == {sent[0], sent[1], replay.id}
    for execution_id in erased.execution_ids:
        with pytest.raises(NotFoundError):
            await client.executions.get(execution_id)
    left = await client.executions.get(sent[2])
    assert (left.execution.batch, left.execution.batch_events, orjson.loads(left.event.body)["n"]) == ("", 0, 2)
    assert set((await client.executions.delete(sent[0], erase=True)).execution_ids) == set(erased.execution_ids)


async def test_what_ran_for_a_batch_is_erased_once_what_started_it_has_ended_and_is_not_named_as_left(router, client):
    listens = b"schedule: {on: {any: [{with: {type: entry.made}}]}}\nexecution: {batch: {size: 2, period: PT1H}}\n"
    await client.flows.apply([flow("entries", listens), flow("maker")])
    makers = [await client.ingest("maker", {}) for _ in range(2)]
    async with effects_of(router) as effects:
        for maker in makers:
            event = {"specversion": "1.0", "id": maker, "source": "/t", "type": "entry.made"}
            await effects.emit(event, key=f"{maker}:1", caller=maker)
    [first], [second] = [[each.id for each in (await client.executions.get(maker)).links.caused] for maker in makers]
    async with attached(router, credit=3) as runner:
        ids = {convert.event_from_bytes(each.event).id: each for each in await runner.assignments(3)}
        await runner.complete(ids[first])
        await until_ended(client, first)
    await client.executions.cancel(makers[1])
    with pytest.raises(ConflictError) as refused:
        await client.executions.delete(second, erase=True)
    assert (refused.value.reason, makers[0] in str(refused.value)) == ("PARENT_NOT_ENDED", True)
    await client.executions.cancel(makers[0])
    erased = await client.executions.delete(second, erase=True)
    assert set(erased.execution_ids) == {first, second}
    assert [each.id for each in (*erased.links.causes, *erased.links.caused)] == [makers[1]]


async def test_events_that_start_a_flow_are_batched_with_those_that_came_through_as_many_flows(router, client):
    listens = b"schedule: {read: envelope, on: {any: [{with: {type: entry.made}}]}}\n"
    batch = b"execution: {batch: {size: 2, period: PT1H, key: '${ .[0].data.account }'}}\n"
    await client.flows.apply([flow("entries", listens + batch)])
    async with effects_of(router) as effects:
        for number, (account, depth) in enumerate([("a", 0), ("b", 0), ("a", 1), ("a", 0), (None, 0)]):
            event = {"specversion": "1.0", "id": str(number), "source": "/t", "type": "entry.made"}
            await effects.emit(event | {"data": {"account": account}}, key=f"{CALLER}:{number}", depth=depth)
    async with attached(router, credit=10) as runner:
        found = []
        for assignment in await runner.assignments(2):
            event = convert.event_from_bytes(assignment.event)
            found.append([orjson.loads(each.body)[0]["id"] for each in (event, *event.batch)])
    assert sorted(found) == [["0", "3"], ["4"]]


async def test_a_bulk_replay_of_what_faulted_has_all_events_of_each_batch_and_goes_on_where_it_failed(router, client):
    await client.flows.apply([flow("entries", FULL)])
    sent = await send(client, 6)
    async with attached(router, credit=10) as runner:
        for assignment in await runner.assignments(2):
            await runner.checkpoint(assignment, 0, "/do/0/keep#0", b"1")
            await runner.fault(assignment, "/do/1/call")
        for execution_id in sent:
            await until_ended(client, execution_id)
        wanted = ExecutionFilter(flow_id="entries", statuses=(Status.FAULTED,))
        job = await client.jobs.create(JobSpec(JobAction.REPLAY, wanted, replay=ReplayOptions(from_failed=True)))
        again = await runner.assignments(2)
        assert [numbers_of(each) for each in again] == [[0, 1, 2], [3, 4, 5]]
        assert [[entry.key for entry in each.journal] for each in again] == [["/do/0/keep#0"]] * 2
        found = await ended(client, job)
        assert (found.done, found.skipped, found.failed) == (2, 0, 0)
