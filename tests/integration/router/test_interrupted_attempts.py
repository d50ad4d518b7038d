"""Interrupted attempts are stored with their reasons, the last one with the end of its execution."""

from __future__ import annotations

import asyncio

import pytest
from support.patience import PATIENCE
from support.routers import flow
from support.runners import attached, runner_stub
from support.shards import running_host

from flowhook.attach.messages import Completed, Faulted, Released
from flowhook.model import Status, WorkflowError
from flowhook.model.executions import AttemptEnd
from flowhook.v1 import runner_service_pb2 as pb
from router.storage.model import Ended

PARTING = 0.05
"""Seconds until a runner that has gone is lost."""


async def interrupted(shard, seq, *, charged=None):
    """Wait until an attempt at an execution is stored, with that charge if one is given; returns the last one."""
    async with asyncio.timeout(PATIENCE):
        while not (found := (await shard.state.attempts(seq)).attempts) or charged not in (None, found[-1].charged):
            await asyncio.sleep(0.01)
    return found[-1]


def summary(attempt):
    return (attempt.number, attempt.runner, attempt.end, attempt.charged)


async def test_an_attempt_whose_runner_goes_away_is_stored_and_refunded_if_the_runner_explains_it(tmp_path):
    async with running_host(tmp_path, reattach_seconds=PARTING) as shard:
        link = shard.attach("r1")
        before = shard.now_ms()
        (seq,) = await shard.append()
        await link.next()
        shard.host.detach(link)
        attempt = await interrupted(shard, seq)
        assert summary(attempt) == (1, "r1", AttemptEnd.RUNNER_LOST, True)
        assert before <= attempt.assign_time_ms < attempt.end_time_ms <= shard.now_ms()
        other = shard.attach("r2")
        (again,) = await other.next()
        assert again.attempt == 2
        shard.attach("r1", credit=0)
        assert summary(await interrupted(shard, seq, charged=False)) == (1, "r1", AttemptEnd.RUNNER_LOST, False)


async def test_an_attempt_is_refunded_also_if_its_loss_could_not_be_stored_before(tmp_path):
    async with running_host(tmp_path, reattach_seconds=PARTING) as shard:
        link = shard.attach("r1")
        (seq,) = await shard.append()
        await link.next()
        shard.state.away = True
        shard.host.detach(link)
        async with asyncio.timeout(PATIENCE):
            await shard.state.refused.wait()
        shard.attach("r1", credit=0)
        await asyncio.sleep(0)  # storage is asked at once
        shard.state.away = False
        assert summary(await interrupted(shard, seq, charged=False)) == (1, "r1", AttemptEnd.RUNNER_LOST, False)


async def test_an_attempt_whose_lease_expires_is_stored_with_the_end_of_its_execution(tmp_path):
    async with running_host(tmp_path, lease_seconds=60.0, max_attempts=1) as shard:
        (seq,) = await shard.append()
        for number in range(1, 5):
            await shard.attach(f"r{number}").next()
            shard.clock.ahead += 61.0
        shard.attach("r5", credit=0)  # with each attachment the deadlines of the others are looked at
        async with asyncio.timeout(PATIENCE):
            while (await shard.record(seq)).status is not Status.FAULTED:
                await asyncio.sleep(0.01)
        history = await shard.state.attempts(seq)
    expected = [(number, f"r{number}", AttemptEnd.LEASE_EXPIRED, True) for number in range(1, 5)]
    assert [summary(each) for each in history.attempts] == expected


async def test_an_attempt_that_its_runner_gives_back_is_stored_with_the_reason_of_the_runner(tmp_path):
    async with running_host(tmp_path) as shard:
        link = shard.attach()
        (seq,) = await shard.append()
        (delivery,) = await link.next()
        await shard.settle(link, delivery, Released("DRAINING" + "!" * 100, charged=False))
        attempt = await interrupted(shard, seq)
    assert summary(attempt) == (1, "r1", AttemptEnd.RELEASED, False)
    assert attempt.detail == "DRAINING" + "!" * 56


async def test_an_attempt_at_an_execution_that_is_suspended_is_stored(tmp_path):
    async with running_host(tmp_path) as shard:
        link = shard.attach()
        (seq,) = await shard.append()
        await link.next()
        await shard.host.commands.suspend((await shard.record(seq)).id)
        assert summary(await interrupted(shard, seq)) == (1, "r1", AttemptEnd.SUSPENDED, False)


async def test_an_attempt_that_no_runner_continues_after_a_restart_is_stored_without_its_runner(tmp_path, monkeypatch):
    monkeypatch.setattr("router.dispatch.state_writer.STARTED_DELAY", 0.01)
    async with running_host(tmp_path) as shard:
        link = shard.attach()
        (seq,) = await shard.append()
        await link.next()
        async with asyncio.timeout(PATIENCE):
            while (await shard.record(seq)).status is not Status.RUNNING:
                await asyncio.sleep(0.01)
        await shard.die()
    async with running_host(tmp_path, reattach_seconds=PARTING) as shard:
        attempt = await interrupted(shard, seq)
        await shard.die()
    assert summary(attempt) == (1, "", AttemptEnd.ROUTER_RESTARTED, True)
    assert attempt.assign_time_ms is None
    async with running_host(tmp_path, reattach_seconds=PARTING) as shard:  # no runner has had it since
        (again,) = await shard.attach("r2").next()
        assert again.attempt == 2
        await shard.host.commands.suspend((await shard.record(seq)).id)
        _, *later = (await shard.state.attempts(seq)).attempts
    assert [summary(each) for each in later] == [(2, "r2", AttemptEnd.SUSPENDED, False)]


async def test_an_execution_that_succeeds_at_its_first_attempt_stores_it_with_its_end_alone(tmp_path, monkeypatch):
    async with running_host(tmp_path) as shard:
        written, write = [], shard.state.write

        async def recording(changes, **options):
            written.extend(changes)
            await write(changes, **options)

        monkeypatch.setattr(shard.state, "write", recording)
        link = shard.attach()
        before = shard.now_ms()
        (seq,) = await shard.append()
        (delivery,) = await link.next()
        assigned = shard.now_ms()
        shard.wall.ahead += 60.0
        await shard.settle(link, delivery, Completed(b"{}"))
        (attempt,) = (await shard.state.attempts(seq)).attempts
    assert [type(change) for change in written] == [Ended]
    assert summary(attempt) == (1, "r1", AttemptEnd.EXECUTION_ENDED, True)
    assert before <= attempt.assign_time_ms <= assigned < assigned + 60_000 <= attempt.end_time_ms


async def test_the_attempt_in_which_an_execution_faults_or_is_cancelled_is_stored_with_its_end(tmp_path):
    async with running_host(tmp_path) as shard:
        link = shard.attach(credit=2)
        faulted, cancelled = await shard.append(), await shard.append()
        deliveries = await link.next(2)
        await shard.settle(link, deliveries[0], Faulted(WorkflowError("about:blank", 500, "it failed")))
        await shard.host.commands.cancel((await shard.record(cancelled[0])).id)
        for (seq,) in (faulted, cancelled):
            (attempt,) = (await shard.state.attempts(seq)).attempts
            assert summary(attempt) == (1, "r1", AttemptEnd.EXECUTION_ENDED, True)
            assert attempt.assign_time_ms <= attempt.end_time_ms == (await shard.record(seq)).end_time_ms


async def test_an_execution_that_is_cancelled_in_the_queue_has_no_attempt(tmp_path):
    async with running_host(tmp_path) as shard:
        (seq,) = await shard.append()
        await shard.host.commands.cancel((await shard.record(seq)).id)
        assert (await shard.state.attempts(seq)).attempts == ()


async def test_clients_see_interrupted_attempts_and_the_one_under_way_which_ends_the_execution(router, client):
    await client.flows.apply([flow("hello")])
    execution_id = await client.ingest("hello", {})
    async with runner_stub(router) as guard:
        async with attached(router, credit=1) as runner:
            (assignment,) = await runner.assignments(1)
            (first,) = (await client.executions.get(execution_id)).attempts
        evaluated = pb.Outcome(lease=assignment.lease, released=pb.Released(reason="RUNNER_DIED", charged=True))
        await guard.ReportExit(pb.ReportExitRequest(runner_id="r1", losses_explained=True, evaluated=evaluated))
    async with attached(router, "r2", credit=1) as runner:
        (again,) = await runner.assignments(1)
        detail = await client.executions.get(execution_id)
        await runner.complete(again)
    ended, present = detail.attempts
    assert (first.number, first.runner, first.end_time_ms, first.end) == (1, "r1", None, None)
    assert ended == first._replace(
        end_time_ms=ended.end_time_ms, end=AttemptEnd.PROCESS_ENDED, detail="RUNNER_DIED", charged=True
    )
    assert first.assign_time_ms <= ended.end_time_ms <= present.assign_time_ms
    assert (present.number, present.runner, present.end_time_ms, present.reason) == (2, "r2", None, "under way")
    detail = await client.executions.get(execution_id)
    last = present._replace(end_time_ms=detail.execution.end_time_ms, end=AttemptEnd.EXECUTION_ENDED, charged=True)
    assert (detail.attempts, detail.attempts_left_out) == ((ended, last), 0)


@pytest.mark.parametrize(("explained", "charged"), [(True, False), (False, True)])
async def test_an_attempt_that_its_runner_comes_back_without_is_stored(tmp_path, explained, charged):
    async with running_host(tmp_path) as shard:
        (seq,) = await shard.append()
        await shard.attach("r1").next()
        shard.attach("r1", credit=0, explained=explained)
        assert summary(await interrupted(shard, seq)) == (1, "r1", AttemptEnd.NOT_HELD, charged)
