"""State of executions, and who may write it."""

import asyncio
from dataclasses import replace

import pytest

from flowhook import limits
from flowhook.errors import ConflictError
from flowhook.model import JournalEntry, Status, WorkflowError
from flowhook.model.execution_filter import ExecutionFilter
from router.storage.model import (
    Appended,
    Ended,
    Journaled,
    Parked,
    Replied,
    Requeued,
    Resumption,
    Scheduled,
    Started,
    Suspended,
    UnfinishedExecution,
)

ERROR = WorkflowError(type="https://example.org/e", status=503, title="Away", instance="/do/0/a", detail="é \x00 ok")


def unfinished(event, seq, attempts, **more):
    return UnfinishedExecution(
        seq, event.event_id, event.flow_id, 1, attempts, receive_time_ms=event.receive_time_ms, **more
    )


async def test_an_event_is_pending_until_it_is_started(cluster, new_event):
    event = new_event(flow_revision=7, replay_of="evt_earlier")
    [seq] = await cluster.append(event)
    pending = await cluster.state.find(event.event_id)
    assert (pending.seq, pending.id, pending.flow_id, pending.flow_revision) == (seq, event.event_id, "shop", 7)
    assert (pending.status, pending.attempts, pending.end_time_ms, pending.error) == (Status.PENDING, 0, None, None)
    assert (pending.receive_time_ms, pending.replay_of) == (event.receive_time_ms, "evt_earlier")
    await cluster.state.write([Started(seq, 1)])
    running = await cluster.state.find(event.event_id)
    assert running == replace(pending, status=Status.RUNNING, attempts=1)


async def test_a_requeued_execution_is_pending_with_its_attempts_also_after_a_restart(cluster, new_event):
    event = new_event()
    [seq] = await cluster.append(event)
    await cluster.state.write([Started(seq, 1), Requeued(seq, 1, 1), Started(seq, 2), Requeued(seq, 2, 2)])
    await cluster.restart()
    await cluster.state.write([Started(seq, 3)])
    assert await cluster.state.unfinished() == [unfinished(event, seq, 3, term=2, status=Status.RUNNING)]
    await cluster.state.write([Requeued(seq, 2)])
    assert (await cluster.state.find(event.event_id)).status == Status.PENDING


async def test_an_execution_that_lost_no_lease_is_of_the_first_term(cluster, new_event):
    event = new_event()
    [seq] = await cluster.append(event)
    await cluster.state.write([Started(seq, 1)])
    await cluster.restart()
    assert await cluster.state.unfinished() == [unfinished(event, seq, 1, term=0, status=Status.RUNNING)]


@pytest.mark.parametrize("together", [True, False], ids=["in one write", "in two writes"])
async def test_the_term_of_an_execution_never_goes_down(cluster, new_event, together):
    [seq] = await cluster.append(new_event())
    changes = [Requeued(seq, 1, 3), Started(seq, 2), Suspended(seq, 2), Started(seq, 2, 2)]
    for each in [changes] if together else [[change] for change in changes]:
        await cluster.state.write(each)
    [found] = await cluster.state.unfinished()
    assert (found.attempts, found.term) == (2, 3)


@pytest.mark.parametrize(
    "change", [Started(1, 1, 7), Requeued(1, 1, 7), Parked(1, None, 1, (), 7), Suspended(1, 1, 7)], ids=str
)
async def test_a_change_that_voids_leases_says_up_to_which_term(cluster, new_event, change):
    await cluster.append(new_event())
    await cluster.state.write([change])
    await cluster.restart()
    [found] = await cluster.state.unfinished()
    assert found.term == 7


async def test_large_payloads_come_a_few_at_a_time(cluster, new_event):
    payload = b"x" * 9 * limits.MIB
    wanted = await cluster.append(*(new_event(payload=payload) for _ in range(3)))
    found = []
    while wanted:
        work = await cluster.state.work(wanted)
        found.append(len(work))
        assert work
        wanted = [seq for seq in wanted if seq not in work]
    assert len(found) > 1
    assert sum(found) == 3


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.FAULTED, Status.CANCELLED])
async def test_an_end_is_kept_with_all_it_has(cluster, new_event, status):
    event = new_event()
    [seq] = await cluster.append(event)
    await cluster.state.write([Ended(seq, status, 5_000, 3, b'{"ok":true}', ERROR, b"\x00reply")])
    await cluster.restart()
    record = await cluster.state.find(event.event_id)
    assert (record.status, record.end_time_ms, record.attempts, record.error) == (status, 5_000, 3, ERROR)
    content = await cluster.state.content(seq)
    assert (content.payload, content.output, content.reply) == (event.payload, b'{"ok":true}', b"\x00reply")
    assert await cluster.state.unfinished() == []


async def test_an_end_without_output_and_reply_has_none(cluster, new_event):
    [seq] = await cluster.append(new_event())
    await cluster.end(seq)
    content = await cluster.state.content(seq)
    assert (content.output, content.reply, content.journal) == (None, None, ())


@pytest.mark.parametrize("together", [True, False], ids=["in one write", "in two writes"])
async def test_the_first_end_wins_with_its_output_or_without(cluster, new_event, together):
    seqs = await cluster.append(new_event(), new_event())
    first = [Ended(seqs[0], Status.CANCELLED, 5_000, 1), Ended(seqs[1], Status.COMPLETED, 5_000, 1, b"1")]
    second = [Ended(seqs[0], Status.COMPLETED, 6_000, 2, b"2"), Ended(seqs[1], Status.FAULTED, 6_000, 2, b"2", ERROR)]
    for changes in [first + second] if together else [first, second]:
        await cluster.state.write(changes)
    records = await cluster.state.records(seqs)
    assert [(records[seq].status, records[seq].end_time_ms) for seq in seqs] == [
        (Status.CANCELLED, 5_000),
        (Status.COMPLETED, 5_000),
    ]
    assert [(await cluster.state.content(seq)).output for seq in seqs] == [None, b"1"]
    assert records[seqs[1]].error is None


@pytest.mark.parametrize("together", [True, False], ids=["in one write", "in two writes"])
async def test_progress_after_the_end_is_ignored(cluster, new_event, together):
    [seq] = await cluster.append(new_event())
    end, late = [Ended(seq, Status.COMPLETED, 5_000, 1)], [Started(seq, 9), Requeued(seq, 9)]
    for changes in [end + late] if together else [end, late]:
        await cluster.state.write(changes)
    record = (await cluster.state.records([seq]))[seq]
    assert (record.status, record.attempts) == (Status.COMPLETED, 1)


async def test_a_journal_is_kept_in_order_of_its_indexes(cluster, new_event):
    [seq] = await cluster.append(new_event())
    entries = [JournalEntry("/do/0/a#0", b"1"), JournalEntry("/do/1/b#0", None, ERROR), JournalEntry("/do/2/c#0", b"3")]
    await cluster.state.write([Journaled(seq, 2, entries[2]), Journaled(seq, 0, entries[0])])
    await cluster.state.write([Journaled(seq, 1, entries[1])])
    await cluster.restart()
    assert (await cluster.state.work([seq]))[seq].journal == tuple(entries)
    await cluster.end(seq)
    assert (await cluster.state.content(seq)).journal == tuple(entries)


async def test_a_journal_index_is_written_once(cluster, new_event):
    [seq] = await cluster.append(new_event())
    first, second = JournalEntry("/do/0/a#0", b"1"), JournalEntry("/do/0/a#0", b"2")
    await cluster.state.write([Journaled(seq, 0, first), Journaled(seq, 0, second)])
    await cluster.state.write([Journaled(seq, 0, second)])
    assert (await cluster.state.work([seq]))[seq].journal == (first,)


async def test_a_reply_is_kept_from_before_the_end(cluster, new_event):
    [seq] = await cluster.append(new_event())
    assert await cluster.state.answer(seq) == (None, None)
    await cluster.state.write([Journaled(seq, 0, JournalEntry("/do/0/a#0", b"1")), Replied(seq, b"\x00reply")])
    await cluster.restart()
    assert await cluster.state.answer(seq) == (None, b"\x00reply")
    assert (await cluster.state.content(seq)).reply == b"\x00reply"
    await cluster.state.write([Ended(seq, Status.COMPLETED, 5_000, 1, b"1")])
    assert await cluster.state.answer(seq) == (b"1", b"\x00reply")
    assert (await cluster.state.content(seq)).reply == b"\x00reply"


@pytest.mark.parametrize("together", [True, False], ids=["in one write", "in two writes"])
async def test_the_first_reply_wins(cluster, new_event, together):
    [seq] = await cluster.append(new_event())
    changes = [[Replied(seq, b"1")], [Replied(seq, b"2"), Ended(seq, Status.COMPLETED, 5_000, 1, b"3", None, b"4")]]
    for each in [changes[0] + changes[1]] if together else changes:
        await cluster.state.write(each)
    assert await cluster.state.answer(seq) == (b"3", b"1")


@pytest.mark.parametrize("together", [True, False], ids=["in one write", "in two writes"])
async def test_a_reply_after_the_end_is_ignored(cluster, new_event, together):
    [seq] = await cluster.append(new_event())
    end, late = [Ended(seq, Status.FAULTED, 5_000, 1, None, ERROR)], [Replied(seq, b"late")]
    for changes in [end + late] if together else [end, late]:
        await cluster.state.write(changes)
    assert await cluster.state.answer(seq) == (None, None)


async def test_a_reply_goes_with_its_execution(cluster, new_event):
    [seq] = await cluster.append(new_event())
    await cluster.state.write([Replied(seq, b"1"), Ended(seq, Status.COMPLETED, 5_000, 1)])
    assert await cluster.state.expire(ended_before_ms=6_000) == 1
    assert await cluster.state.answer(seq) == (None, None)


async def test_changes_of_what_is_not_there_are_ignored(cluster, new_event):
    [seq] = await cluster.append(new_event())
    await cluster.state.write(
        [
            Started(99, 1),
            Journaled(99, 0, JournalEntry("k", b"1")),
            Replied(99, b"1"),
            Ended(99, Status.COMPLETED, 1, 1, b"1"),
        ]
    )
    assert await cluster.state.content(99) is None
    assert await cluster.state.answer(99) == (None, None)
    assert [unfinished.seq for unfinished in await cluster.state.unfinished()] == [seq]


async def test_writing_nothing_is_fine(cluster):
    await cluster.state.write([])


async def test_unfinished_executions_come_in_pages_by_ascending_number(cluster, new_event):
    await cluster.append(*(new_event() for _ in range(10)))
    await cluster.end(2, 5, 10)
    first = await cluster.state.unfinished(limit=4)
    assert [unfinished.seq for unfinished in first] == [1, 3, 4, 6]
    second = await cluster.state.unfinished(after_seq=6, limit=4)
    assert [unfinished.seq for unfinished in second] == [7, 8, 9]
    assert await cluster.state.unfinished(after_seq=9) == []


async def test_work_is_told_of_unfinished_executions_only(cluster, new_event):
    events = [new_event(payload=payload, flow_revision=3) for payload in (b"a", b"b", b"c")]
    await cluster.append(*events)
    await cluster.end(2)
    work = await cluster.state.work([1, 2, 3, 4])
    assert {seq: (each.seq, each.flow_revision, each.payload, each.journal) for seq, each in work.items()} == {
        1: (1, 3, b"a", ()),
        3: (3, 3, b"c", ()),
    }
    assert await cluster.state.work([]) == {}


async def test_writes_under_way_together_all_count(cluster, new_event):
    seqs = await cluster.append(*(new_event() for _ in range(50)))
    await asyncio.gather(*(cluster.state.write([Started(seq, 1)]) for seq in seqs))
    await asyncio.gather(*(cluster.end(seq) for seq in seqs), *(cluster.append(new_event()) for _ in range(5)))
    assert [unfinished.seq for unfinished in await cluster.state.unfinished()] == [51, 52, 53, 54, 55]


async def test_a_former_owner_can_write_nothing(cluster, new_event):
    [seq] = await cluster.append(new_event())
    former = cluster.state
    owner = await cluster.storage.own()
    for write in (former.write([Started(seq, 1)]), former.expire(ended_before_ms=9_000)):
        with pytest.raises(ConflictError) as raised:
            await write
        assert raised.value.reason == "SHARD_LOST"
    await owner.write([Started(seq, 5)])
    assert (await owner.records([seq]))[seq].attempts == 5


async def test_a_former_owner_is_told_nothing_more(cluster, new_event):
    told = {"former": [], "owner": []}
    cluster.state.follow(told["former"].extend)
    owner = await cluster.storage.own()
    owner.follow(told["owner"].extend)
    cluster.state.follow(told["former"].extend)
    await cluster.append(new_event())
    assert [len(events) for events in told.values()] == [0, 1]


async def test_what_a_former_owner_wrote_before_is_what_the_next_one_finds(cluster, new_event):
    seqs = await cluster.append(*(new_event() for _ in range(20)))
    writes = [asyncio.ensure_future(cluster.end(seq)) for seq in seqs[:10]]
    await asyncio.sleep(0)
    owner = await cluster.storage.own()
    await asyncio.gather(*writes)
    assert [unfinished.seq for unfinished in await owner.unfinished()] == seqs[10:]


async def test_each_ownership_has_the_next_epoch_also_after_a_restart(cluster):
    first = cluster.state.epoch
    second = (await cluster.storage.own()).epoch
    await cluster.restart()
    assert (first, second, cluster.state.epoch) == (1, 2, 3)


async def test_a_parked_execution_is_found_waiting_with_its_wake_time_also_after_a_restart(cluster, new_event):
    events = [new_event(), new_event(order_key="account 7")]
    timed, untimed = await cluster.append(*events)
    await cluster.state.write([Started(timed, 1), Parked(timed, 1_700_000_000_123, 1), Parked(untimed, None, 2)])
    await cluster.restart()
    assert await cluster.state.unfinished() == [
        unfinished(events[0], timed, 1, term=1, status=Status.WAITING, wake_at_ms=1_700_000_000_123),
        unfinished(events[1], untimed, 2, term=1, status=Status.WAITING, order_key="account 7"),
    ]
    record = await cluster.state.find(events[0].event_id)
    assert (record.status, record.attempts, record.end_time_ms) == (Status.WAITING, 1, None)
    assert sorted(await cluster.state.work([timed, untimed])) == [timed, untimed]


@pytest.mark.parametrize("together", [True, False], ids=["in one write", "in several writes"])
async def test_the_last_of_parking_and_progress_counts(cluster, new_event, together):
    a, b, c = await cluster.append(new_event(), new_event(), new_event())
    steps = [
        [Started(a, 1), Parked(b, 5, 1), Parked(c, 6, 1)],
        [Parked(a, 7, 1), Started(b, 1), Suspended(c, 0)],
        [Parked(a, 8, 2), Requeued(c, 0)],
    ]
    for changes in [[change for step in steps for change in step]] if together else steps:
        await cluster.state.write(changes)
    found = [(each.status, each.attempts, each.wake_at_ms) for each in await cluster.state.unfinished()]
    assert found == [(Status.WAITING, 2, 8), (Status.RUNNING, 1, None), (Status.PENDING, 0, None)]


async def test_a_suspended_execution_is_found_suspended_until_it_is_requeued(cluster, new_event):
    event = new_event()
    [seq] = await cluster.append(event)
    await cluster.state.write([Parked(seq, 5, 1), Suspended(seq, 0)])
    await cluster.restart()
    assert await cluster.state.unfinished() == [unfinished(event, seq, 0, term=1, status=Status.SUSPENDED)]
    suspended = ExecutionFilter(statuses=(Status.SUSPENDED,))
    assert [record.id for record in (await cluster.state.list_executions(suspended)).records] == [event.event_id]
    await cluster.state.write([Requeued(seq, 0)])
    assert (await cluster.state.list_executions(suspended)).records == []


@pytest.mark.parametrize("together", [True, False], ids=["in one write", "in two writes"])
async def test_parking_after_the_end_is_ignored(cluster, new_event, together):
    [seq] = await cluster.append(new_event())
    end, late = [Ended(seq, Status.COMPLETED, 5_000, 1)], [Parked(seq, 9, 9), Suspended(seq, 9)]
    for changes in [end + late] if together else [end, late]:
        await cluster.state.write(changes)
    assert (await cluster.state.records([seq]))[seq].status == Status.COMPLETED


async def test_a_compacting_entry_removes_those_before_it_and_no_others(cluster, new_event):
    seq, other = await cluster.append(new_event(), new_event())
    entries = [JournalEntry(f"k{number}", str(number).encode()) for number in range(6)]
    await cluster.state.write([Journaled(each, index, entries[index]) for each in (seq, other) for index in range(3)])
    await cluster.state.write([Journaled(seq, 3, entries[3], compacts=True), Journaled(seq, 4, entries[4])])
    await cluster.restart()
    work = await cluster.state.work([seq, other])
    assert (work[seq].journal, work[seq].journal_start) == (tuple(entries[3:5]), 3)
    assert (work[other].journal, work[other].journal_start) == (tuple(entries[:3]), 0)
    await cluster.state.write([Journaled(seq, 5, entries[5], compacts=True)])
    await cluster.end(seq)
    content = await cluster.state.content(seq)
    assert (content.journal, content.journal_start) == ((entries[5],), 5)


async def test_the_last_of_several_compactions_in_one_write_counts(cluster, new_event):
    [seq] = await cluster.append(new_event())
    entries = [JournalEntry(f"k{number}", b"1") for number in range(4)]
    await cluster.state.write([Journaled(seq, index, entries[index], compacts=index > 0) for index in range(4)])
    work = (await cluster.state.work([seq]))[seq]
    assert (work.journal, work.journal_start) == ((entries[3],), 3)


async def test_a_finished_execution_is_not_compacted(cluster, new_event):
    [seq] = await cluster.append(new_event())
    entries = [JournalEntry("a", b"1"), JournalEntry("b", b"2")]
    await cluster.state.write([Journaled(seq, 0, entries[0])])
    await cluster.end(seq)
    await cluster.state.write([Journaled(seq, 1, entries[1], compacts=True)])
    assert (await cluster.state.content(seq)).journal == (entries[0],)


async def test_an_event_that_resumes_another_execution_is_stored_with_what_it_takes_over(cluster, new_event):
    entries = (JournalEntry("@", b"{}"), JournalEntry("/do/1/b#0", None, ERROR))
    plain, resumed = new_event(), new_event(replay_of="evt_1", resumes=Resumption("evt_0", entries, 17))
    seqs = await cluster.append(plain, resumed)
    assert await cluster.log.append([resumed]) == [Appended(seqs[1], resumed.event_id)]
    await cluster.restart()
    work = await cluster.state.work(seqs)
    assert [(each.journal, each.journal_start, each.effect_scope) for each in map(work.get, seqs)] == [
        ((), 0, ""),
        (entries, 17, "evt_0"),
    ]
    records = await cluster.state.records(seqs)
    assert [records[seq].effect_scope for seq in seqs] == ["", "evt_0"]


@pytest.mark.parametrize("together", [True, False], ids=["in one write", "in two writes"])
async def test_the_last_that_was_stored_of_a_schedule_counts_also_after_a_restart(cluster, together):
    changes = [[Scheduled("c", 5), Scheduled("a", 7, 6)], [Scheduled("a", None, 7), Scheduled("b", 9, 8)]]
    for each in [changes[0] + changes[1]] if together else changes:
        await cluster.state.write(each)
    await cluster.restart()
    first = await cluster.state.schedules(limit=2)
    second = await cluster.state.schedules(after_id="b", limit=2)
    assert (first, second) == ([Scheduled("a", None, 7), Scheduled("b", 9, 8)], [Scheduled("c", 5)])
