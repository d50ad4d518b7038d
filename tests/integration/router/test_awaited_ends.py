"""Executions that wait for the ends of others: told in the write that stores the end, or what is stored of it."""

from __future__ import annotations

import asyncio

import pytest
from support.shards import running_host

from flowhook.attach.messages import Completed, Faulted
from flowhook.model import JournalEntry, Status, Subscription, WorkflowError

KEY = "/do/0/run#0"
ERROR = WorkflowError(type="https://example.org/e", status=418, title="Teapot", instance="/do/0/a", detail="short")


async def child_of(shard, runner):
    """Start an execution that others may wait for: what its runner has, and its ID."""
    delivery = await shard.work_on(runner, "child")
    return delivery, (await shard.record(shard.core.leases.seq_of(delivery.lease))).id


async def parent_of(shard, runner, *execution_ids, entries=()):
    """Have an execution wait for ends of others, and return its sequence number."""
    delivery = await shard.work_on(runner)
    seq = shard.core.leases.seq_of(delivery.lease)
    subscriptions = [Subscription(KEY, execution_id=execution_id) for execution_id in execution_ids]
    await shard.park(runner, delivery, *subscriptions, entries=entries)
    return seq


def reported(delivery):
    return [(entry.key, entry.output, entry.error) for entry in delivery.journal]


async def test_the_output_of_an_execution_goes_to_all_who_wait_for_its_end(shard, runner):
    child, child_id = await child_of(shard, runner)
    parents = [await parent_of(shard, runner, child_id) for _ in range(2)]
    await shard.settle(runner, child, Completed(b'{"n":7}'))
    found = await runner.next(2)
    assert sorted(shard.core.leases.seq_of(each.lease) for each in found) == parents
    assert [reported(each) for each in found] == [[(KEY, b'{"n":7}', None)]] * 2
    assert [each.attempt for each in found] == [1, 1]


async def test_the_error_of_an_execution_goes_to_who_waits_for_its_end_as_it_is(shard, runner):
    child, child_id = await child_of(shard, runner)
    await parent_of(shard, runner, child_id)
    await shard.settle(runner, child, Faulted(ERROR))
    [again] = await runner.next()
    assert reported(again) == [(KEY, None, ERROR)]


async def test_that_an_execution_was_cancelled_is_an_error_for_who_waits_for_its_end(shard, runner):
    _, child_id = await child_of(shard, runner)
    await parent_of(shard, runner, child_id)
    await shard.host.commands.cancel(child_id)
    [again] = await runner.next()
    [(_, output, error)] = reported(again)
    assert (output, error.title, "was cancelled" in error.detail) == (None, "Runtime error", True)


@pytest.mark.parametrize(("result", "expected"), [(Completed(b"7"), (b"7", None)), (Faulted(ERROR), (None, ERROR))])
async def test_who_waits_after_the_end_gets_it_at_once(shard, runner, result, expected):
    child, child_id = await child_of(shard, runner)
    await shard.settle(runner, child, result)
    await parent_of(shard, runner, child_id)
    [again] = await runner.next()
    assert reported(again) == [(KEY, *expected)]


async def test_who_waits_for_an_execution_that_is_unknown_learns_so(shard, runner):
    await parent_of(shard, runner, "evt_unknown")
    [again] = await runner.next()
    [(_, _, error)] = reported(again)
    assert "evt_unknown is unknown, or past retention" in error.detail


async def test_an_end_while_it_is_looked_for_is_not_missed(shard, runner):
    child, child_id = await child_of(shard, runner)
    gate = shard.state.delay("find_by_ids")
    await parent_of(shard, runner, child_id)
    await shard.state.reading.wait()  # it was found unfinished
    await shard.settle(runner, child, Completed(b"7"))
    gate.set()
    [again] = await runner.next()
    assert reported(again) == [(KEY, b"7", None)]


async def test_an_end_that_is_being_stored_while_it_is_looked_for_is_not_missed(shard, runner, monkeypatch):
    monkeypatch.setattr("router.dispatch.state_writer.RETRY_SECONDS", 0.01)
    child, child_id = await child_of(shard, runner)
    gate = shard.state.delay("find_by_ids")
    await parent_of(shard, runner, child_id)
    await shard.state.reading.wait()
    shard.state.away = True
    settling = asyncio.create_task(shard.settle(runner, child, Completed(b"7")))
    await shard.state.refused.wait()
    gate.set()
    shard.state.away = False
    await settling
    [again] = await runner.next()
    assert reported(again) == [(KEY, b"7", None)]


async def test_of_several_ends_each_is_reported_once(shard, runner):
    children = [await child_of(shard, runner) for _ in range(2)]
    await parent_of(shard, runner, *(child_id for _, child_id in children))
    await shard.settle(runner, children[1][0], Completed(b"2"))
    [again] = await runner.next()
    assert reported(again) == [(KEY, b"2", None)]
    await shard.settle(runner, children[0][0], Completed(b"1"))
    await shard.park(runner, again, Subscription(KEY, execution_id=children[0][1]))
    [again] = await runner.next()
    assert reported(again) == [(KEY, b"2", None), (KEY, b"1", None)]


async def test_who_does_not_wait_any_more_gets_nothing(shard, runner):
    child, child_id = await child_of(shard, runner)
    seq = await parent_of(shard, runner, child_id)
    await shard.host.commands.suspend((await shard.record(seq)).id)
    await shard.settle(runner, child, Completed(b"7"))
    await shard.host.commands.resume((await shard.record(seq)).id)
    [again] = await runner.next()
    assert reported(again) == []
    await shard.park(runner, again, Subscription(KEY, execution_id=child_id))
    [again] = await runner.next()
    assert reported(again) == [(KEY, b"7", None)]


async def test_who_has_no_room_for_an_event_is_faulted_and_those_who_wait_for_it_learn_that(shard, runner, monkeypatch):
    monkeypatch.setattr("flowhook.limits.MAX_JOURNAL_ENTRIES", 2)
    child, child_id = await child_of(shard, runner)
    full = await parent_of(shard, runner, child_id, entries=[JournalEntry("a", b"1"), JournalEntry("b", b"1")])
    await parent_of(shard, runner, (await shard.record(full)).id)
    await shard.settle(runner, child, Completed(b"7"))
    [again] = await runner.next()
    [(_, _, error)] = reported(again)
    record = await shard.record(full)
    assert (record.status, record.error) == (Status.FAULTED, error)
    assert "its journal is full" in error.detail


async def test_an_end_after_a_restart_is_reported_to_those_who_wait_since_before(tmp_path):
    async with running_host(tmp_path) as shard:
        runner = shard.attach(credit=100)
        child, child_id = await child_of(shard, runner)
        parent = await parent_of(shard, runner, child_id)
    async with running_host(tmp_path) as shard:
        runner = shard.attach(credit=100, held=[child.lease])
        assert runner.kept == [child.lease]
        await shard.settle(runner, child, Completed(b"7"))
        [again] = await runner.next()
        assert (shard.core.leases.seq_of(again.lease), reported(again)) == (parent, [(KEY, b"7", None)])


async def test_an_end_that_a_dead_router_did_not_report_is_reported_at_the_next_start(tmp_path):
    async with running_host(tmp_path) as shard:
        runner = shard.attach(credit=100)
        child, child_id = await child_of(shard, runner)
        await shard.settle(runner, child, Completed(b"7"))
        shard.state.delay("find_by_ids")
        await parent_of(shard, runner, child_id)
        await shard.state.reading.wait()
        await shard.die()
    async with running_host(tmp_path) as shard:
        [again] = await shard.attach(credit=100).next()
        assert reported(again) == [(KEY, b"7", None)]
