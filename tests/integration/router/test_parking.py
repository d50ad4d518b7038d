"""Executions that wait: parked, woken on time, compacted, suspended and resumed, over restarts too."""

from __future__ import annotations

import time

import pytest
from support.patience import turns
from support.routers import flow, running_router
from support.runners import attached

from flowhook.errors import ConflictError
from flowhook.model import Status
from flowhook.v1 import runner_service_pb2 as pb
from router.executions import reading

PROMPT = 1.0
"""Seconds within which a wait has to end, by the turns of the loop that the router is in."""


@pytest.fixture
async def hello(client):
    await client.flows.apply([flow("hello")])


def entry(assignment, index, key, output, **fields):
    journal_entry = pb.JournalEntry(key=key, output=output)
    return pb.Checkpoint(lease=assignment.lease, index=index, entry=journal_entry, **fields)


async def status_of(client, execution_id):
    found = (await client.executions.get(execution_id)).execution
    return found.status, found.attempts


async def test_a_parked_execution_waits_and_goes_on_at_its_time_with_its_journal(router, client, hello):
    execution_id = await client.ingest("hello", {})
    async with attached(router, credit=2) as runner:
        (assignment,) = await runner.assignments(1)
        wake_at = time.time() + 2
        async with turns() as passed:
            await runner.park(assignment, wake_at, checkpoints=[entry(assignment, 0, "/do/0/wait#0", b"1")])
            assert await status_of(client, execution_id) == (Status.WAITING, 1)
            assert [item.id async for item in client.executions.list(statuses=[Status.WAITING])] == [execution_id]
            (again,) = await runner.assignments(1)
        assert wake_at <= time.time()
        assert passed.seconds < 2 + PROMPT
        assert (again.attempt, again.event, again.lease != assignment.lease) == (1, assignment.event, True)
        assert [(item.key, item.output) for item in again.journal] == [("/do/0/wait#0", b"1")]
        assert await status_of(client, execution_id) == (Status.RUNNING, 1)
        await runner.complete(again)
    assert await status_of(client, execution_id) == (Status.COMPLETED, 1)


@pytest.mark.parametrize("read", [reading.MAX_PAGE, 1])
async def test_executions_are_listed_by_what_they_do_now(router, client, hello, monkeypatch, read):
    monkeypatch.setattr(reading, "MAX_PAGE", read)
    ids = [await client.ingest("hello", {"n": number}) for number in range(3)]

    async def listed(*statuses, limit=None):
        return [item.id async for item in client.executions.list(statuses=statuses, limit=limit)]

    async with attached(router, credit=3) as runner:
        for assignment in await runner.assignments(3):
            await runner.park(assignment, time.time())
        await runner.credit(2)
        assigned = b"".join(assignment.event for assignment in await runner.assignments(2))
        running = [execution_id for execution_id in ids[::-1] if execution_id.encode() in assigned]
        while await listed(Status.WAITING):
            pass
        assert await listed(Status.RUNNING) == running
        assert await listed(Status.RUNNING, limit=1) == running[:1]
        assert await listed(Status.PENDING) == [execution_id for execution_id in ids if execution_id not in running]
        assert await listed(Status.PENDING, Status.RUNNING, Status.COMPLETED) == ids[::-1]


async def test_a_wait_ends_on_time_although_the_router_was_restarted_meanwhile(tmp_path):
    late_after = 3.0
    async with running_router(tmp_path) as router, router.client() as client:
        await client.flows.apply([flow("hello")])
        ids = [await client.ingest("hello", {"n": number}) for number in range(3)]
        async with attached(router, credit=3) as runner:
            early, late, later = await runner.assignments(3)
            now = time.time()
            await runner.park(early, now + 0.2)
            await runner.park(late, now + late_after)
            await runner.park(later, now + 3600)
    async with running_router(tmp_path) as router, router.client() as client:
        left = now + late_after - time.time()
        async with attached(router, credit=5) as runner:
            async with turns() as passed:
                first, second = await runner.assignments(2)
            assert now + late_after <= time.time()
            assert passed.seconds < max(0, left) + PROMPT
            assert ids[0].encode() in first.event
            assert ids[1].encode() in second.event
            await runner.complete(first)
            await runner.complete(second)
        assert await status_of(client, ids[2]) == (Status.WAITING, 1)


async def test_one_without_a_time_waits_until_it_is_cancelled(router, client, hello):
    execution_id = await client.ingest("hello", {})
    async with attached(router, credit=1) as runner:
        (assignment,) = await runner.assignments(1)
        await runner.park(assignment)
    assert (await client.executions.cancel(execution_id)).status is Status.CANCELLED


async def test_a_time_that_is_past_means_soon_and_not_at_once(router, client, hello):
    await client.ingest("hello", {})
    async with attached(router, credit=100) as runner:
        began, rounds = time.monotonic(), 5
        async with turns() as passed:
            for _ in range(rounds):
                (assignment,) = await runner.assignments(1)
                await runner.park(assignment, time.time() - 60)
            (assignment,) = await runner.assignments(1)
        assert rounds * 0.05 <= time.monotonic() - began
        assert passed.seconds < rounds * 0.05 + PROMPT
        await runner.complete(assignment)


async def test_a_parked_execution_holds_no_place_of_its_flow(router, client):
    await client.flows.apply([flow("narrow", b"execution: {concurrency: 1}\n")])
    await client.ingest("narrow", {})
    await client.ingest("narrow", {})
    async with attached(router, credit=2) as runner:
        (first,) = await runner.assignments(1)
        await runner.park(first, time.time() + 3600)
        (second,) = await runner.assignments(1)
        assert second.event != first.event
        await runner.complete(second)


async def test_a_lease_from_before_a_wait_is_not_good_after_it_and_a_restart(tmp_path):
    async with running_router(tmp_path) as router, router.client() as client:
        await client.flows.apply([flow("hello")])
        execution_id = await client.ingest("hello", {})
        async with attached(router, "r1", credit=1) as runner, attached(router, "r2") as other:
            (assignment,) = await runner.assignments(1)
            await runner.park(assignment, time.time())
            await other.credit(1)
            (again,) = await other.assignments(1)
            await other.checkpoint(again, 0, "/do/0/a#0", b"1")
            await other.next("checkpointed")
    async with running_router(tmp_path) as router, router.client() as client:
        async with attached(router, "r1", held=[assignment.lease], credit=1) as runner:
            assert list(runner.welcome.retained_leases) == []
            (last,) = await runner.assignments(1)
            assert [item.key for item in last.journal] == ["/do/0/a#0"]
            await runner.complete(last)
        assert (await client.executions.get(execution_id)).execution.status is Status.COMPLETED


async def test_a_compacted_journal_starts_with_its_last_snapshot_and_goes_on_counting(router, client, hello):
    await client.ingest("hello", {})
    async with attached(router, credit=2) as runner:
        (assignment,) = await runner.assignments(1)
        for index in range(3):
            await runner.checkpoint(assignment, index, f"/do/0/a#{index}", b"1")
        await runner.checkpoint(assignment, 3, "@", b'{"data":1}', compacts=True)
        await runner.park(assignment, time.time(), checkpoints=[entry(assignment, 4, "/do/1/b#0", b"2")])
        (again,) = await runner.assignments(1)
        assert again.journal_start == 3
        assert [(item.key, item.output) for item in again.journal] == [("@", b'{"data":1}'), ("/do/1/b#0", b"2")]
        await runner.complete(again)


async def test_a_suspended_execution_is_taken_from_its_runner_and_goes_on_when_resumed(router, client, hello):
    execution_id = await client.ingest("hello", {})
    async with attached(router, credit=2) as runner:
        (assignment,) = await runner.assignments(1)
        await runner.checkpoint(assignment, 0, "/do/0/a#0", b"1")
        await runner.next("checkpointed")
        assert (await client.executions.suspend(execution_id)).status is Status.SUSPENDED
        revocation = await runner.next("revocation")
        assert (list(revocation.leases), revocation.reason) == ([assignment.lease], "EXECUTION_SUSPENDED")
        assert (await client.executions.suspend(execution_id)).status is Status.SUSPENDED
        assert (await client.executions.resume(execution_id)).status in (Status.PENDING, Status.RUNNING)
        (again,) = await runner.assignments(1)
        assert (again.attempt, [item.key for item in again.journal]) == (1, ["/do/0/a#0"])
        with pytest.raises(ConflictError) as caught:
            await client.executions.resume(execution_id)
        assert caught.value.reason == "EXECUTION_NOT_SUSPENDED"
        await runner.complete(again)
    with pytest.raises(ConflictError) as caught:
        await client.executions.suspend(execution_id)
    assert caught.value.reason == "EXECUTION_ENDED"


async def test_what_is_suspended_while_it_waits_does_not_wake_and_stays_so_over_a_restart(tmp_path):
    async with running_router(tmp_path) as router, router.client() as client:
        await client.flows.apply([flow("hello")])
        waiting, pending = await client.ingest("hello", {}), ""
        async with attached(router, credit=1) as runner:
            (assignment,) = await runner.assignments(1)
            await runner.park(assignment, time.time() + 0.3)
            await client.executions.suspend(waiting)
        pending = await client.ingest("hello", {})
        await client.executions.suspend(pending)
    async with running_router(tmp_path) as router, router.client() as client:
        other = await client.ingest("hello", {})
        async with attached(router, credit=9) as runner:
            (assignment,) = await runner.assignments(1)
            assert other.encode() in assignment.event
            await runner.complete(assignment)
            for execution_id in (waiting, pending):
                await client.executions.resume(execution_id)
                (assignment,) = await runner.assignments(1)
                assert execution_id.encode() in assignment.event
                await runner.complete(assignment)
                assert await status_of(client, execution_id) == (Status.COMPLETED, 1)
