"""What is on record of replays, and of failures that operators settled."""

import pytest

from flowhook.model import Resolution, Status
from flowhook.model.execution_filter import ExecutionFilter
from router.storage.model import Resolved


@pytest.fixture
def replay(cluster, new_event):
    """Append a replay of an execution; it ends as `status` says, or not at all. Its ID."""

    async def append(original, status=None):
        event = new_event("shop", replay_of=original)
        (seq,) = await cluster.append(event)
        if status is not None:
            await cluster.end(seq, status=status)
        return event.event_id

    return append


@pytest.fixture
async def failed(replay):
    """The ID of an execution that faulted and is the replay of nothing."""
    return await replay("", Status.FAULTED)


async def unresolved(cluster):
    found = await cluster.state.list_executions(ExecutionFilter(unresolved=True))
    return {record.id for record in found.records}


async def test_an_execution_without_a_replay_is_replayed_by_none(cluster, failed):
    record = await cluster.state.find(failed)
    assert (record.replayed_by, record.replayed, record.resolution) == ("", False, None)
    assert await unresolved(cluster) == {failed}


@pytest.mark.parametrize("status", [None, Status.COMPLETED])
async def test_a_replay_that_runs_or_completed_stands_for_what_it_replays(cluster, replay, failed, status):
    again = await replay(failed, status)
    record = await cluster.state.find(failed)
    assert (record.replayed_by, record.replayed) == (again, True)
    assert await unresolved(cluster) == set()


@pytest.mark.parametrize("status", [Status.FAULTED, Status.CANCELLED])
async def test_a_replay_that_failed_is_named_and_stands_for_nothing(cluster, replay, failed, status):
    again = await replay(failed, status)
    record = await cluster.state.find(failed)
    assert (record.replayed_by, record.replayed) == (again, False)
    assert await unresolved(cluster) == {again if status is Status.FAULTED else failed}


async def test_of_replays_of_one_event_that_all_faulted_the_last_one_is_unresolved(cluster, replay, failed):
    first = await replay(failed, Status.FAULTED)
    second = await replay(failed, Status.FAULTED)
    third = await replay(first, Status.FAULTED)
    await replay(second, Status.CANCELLED)
    assert await unresolved(cluster) == {third}


@pytest.mark.parametrize("which", range(3))
async def test_what_is_resolved_is_so_with_all_that_failed_of_its_event(cluster, replay, failed, which):
    other = await replay("", Status.FAULTED)
    line = [failed, await replay(failed, Status.FAULTED)]
    line.append(await replay(line[1], Status.CANCELLED))
    seq = (await cluster.state.find(line[which])).seq
    await cluster.state.write([Resolved(seq, 7, "by hand")])
    assert [(await cluster.state.find(each)).resolution for each in line] == [Resolution("by hand", 7)] * 3
    assert await unresolved(cluster) == {other}
    later = await replay(failed, Status.FAULTED)
    assert await unresolved(cluster) == {other, later}


async def test_a_replay_of_a_replay_stands_for_all_before_it_also_after_a_restart(cluster, replay, failed):
    second = await replay(failed, Status.FAULTED)
    third = await replay(second, Status.FAULTED)
    last = await replay(third, Status.COMPLETED)
    await cluster.restart()
    for execution_id in (failed, second, third):
        record = await cluster.state.find(execution_id)
        assert (record.replayed_by, record.replayed) == (last, True)
    assert await unresolved(cluster) == set()


async def test_a_later_replay_of_the_same_event_stands_for_one_that_failed_and_not_the_other_way(
    cluster, replay, failed
):
    first = await replay(failed, Status.FAULTED)
    second = await replay(failed, Status.COMPLETED)
    third = await replay(failed, Status.FAULTED)
    assert (await cluster.state.find(first)).replayed_by == second
    assert (await cluster.state.find(failed)).replayed_by == second
    assert await unresolved(cluster) == {third}


async def test_what_is_resolved_says_why_until_it_is_said_anew_and_is_gone_with_its_execution(cluster, failed):
    seq = (await cluster.state.find(failed)).seq
    await cluster.state.write([Resolved(seq, 7, "by hand"), Resolved(seq, 8, "refunded")])
    await cluster.restart()
    assert (await cluster.state.find(failed)).resolution == Resolution("refunded", 8)
    assert await unresolved(cluster) == set()
    await cluster.state.write([Resolved(seq, 9, "")])
    assert (await cluster.state.records([seq]))[seq].resolution == Resolution("", 9)
    assert await cluster.state.expire(ended_before_ms=2**45) == 1


async def test_only_what_failed_is_resolved(cluster, new_event):
    seqs = await cluster.append(new_event(), new_event())
    await cluster.end(seqs[0], status=Status.COMPLETED)
    await cluster.state.write([Resolved(seq, 7, "by hand") for seq in (*seqs, 99)])
    assert [record.resolution for record in (await cluster.state.records(seqs)).values()] == [None, None]


async def test_a_dedupe_key_is_found_while_it_lasts_also_after_a_restart(cluster, new_event):
    event = new_event("shop", dedupe_key="k", dedupe_until_ms=100)
    await cluster.append(event)
    await cluster.restart()
    assert await cluster.state.deduplicated("shop", "k", now_ms=99) == event.event_id
    assert await cluster.state.deduplicated("shop", "k", now_ms=100) is None
    assert await cluster.state.deduplicated("other", "k", now_ms=99) is None


async def test_what_became_of_an_event_before_and_after_an_execution_is_found(cluster, replay, failed):
    second = await replay(failed, Status.FAULTED)
    third = await replay(second, Status.COMPLETED)
    cancelled = await replay(failed, Status.CANCELLED)
    running = await replay(third)
    every = (failed, second, third, cancelled, running)
    seqs = {each: (await cluster.state.find(each)).seq for each in every}
    assert [await cluster.state.failed_before(seqs[each]) for each in every] == [None, failed, failed, failed, failed]
    assert {await cluster.state.superseded_by(seqs[each]) for each in every[:-1]} == {running}
    assert await cluster.state.superseded_by(seqs[running]) is None
    assert {await cluster.state.unended_run(each) for each in every} == {running}
    await cluster.state.delete([seqs[failed]])
    assert [await cluster.state.failed_before(seqs[each]) for each in (second, third)] == [None, second]
    assert await cluster.state.unended_run(failed) == running
    await cluster.end(seqs[running])
    assert await cluster.state.unended_run(failed) is None


async def test_of_an_unknown_execution_nothing_is_found(cluster):
    assert await cluster.state.failed_before(99) is None
    assert await cluster.state.superseded_by(99) is None
    assert await cluster.state.unended_run("evt_none") is None
