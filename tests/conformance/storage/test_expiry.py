"""Removing what is past retention."""

import time

from flowhook import limits
from flowhook.events.keys import ShapingKeys
from flowhook.model import JournalEntry, Status
from router.storage.expiry import FIRST, STEP
from router.storage.limits import StorageLimits
from router.storage.model import Appended, Ended, GroupLeft, Journaled, Scheduled

LARGE = b"x" * (limits.INLINE_BODY_BYTES + 1)
LATER = 2**46
"""A time in Unix milliseconds when everything here is past."""


async def test_what_ended_before_is_removed_and_nothing_else(cluster, new_event):
    events = [new_event() for _ in range(4)]
    await cluster.append(*events)
    await cluster.end(1, 3, end_time_ms=2_000)
    await cluster.end(2, end_time_ms=3_000)
    assert await cluster.state.expire(ended_before_ms=3_000) == 2
    assert sorted(await cluster.state.records([1, 2, 3, 4])) == [2, 4]
    assert await cluster.state.content(1) is None
    assert await cluster.state.find(events[0].event_id) is None
    assert [unfinished.seq for unfinished in await cluster.state.unfinished()] == [4]
    assert await cluster.state.expire(ended_before_ms=3_000) == 0


async def test_a_limit_bounds_what_one_call_removes(cluster, new_event):
    seqs = await cluster.append(*(new_event() for _ in range(300)))
    await cluster.end(*seqs)
    assert await cluster.state.expire(ended_before_ms=9_000, limit=250) == 250
    assert await cluster.state.expire(ended_before_ms=9_000, limit=250) == 50


async def test_a_large_payload_a_journal_and_an_outcome_go_too(cluster, new_event):
    [seq] = await cluster.append(new_event(payload=LARGE))
    await cluster.state.write(
        [Journaled(seq, 0, JournalEntry("k", b"1")), Ended(seq, Status.COMPLETED, 2_000, 1, b"1", None, b"r")]
    )
    assert (await cluster.state.content(seq)).payload == LARGE
    assert await cluster.state.expire(ended_before_ms=9_000) == 1
    assert await cluster.state.content(seq) is None


async def test_a_sequence_number_is_never_used_again(cluster, new_event):
    for seq in (1, 2, 3):
        assert await cluster.append(new_event()) == [seq]
        await cluster.end(seq)
        assert await cluster.state.expire(ended_before_ms=9_000) == 1
        await cluster.restart()


async def test_the_id_of_a_removed_execution_is_free_again(cluster, new_event):
    event = new_event()
    await cluster.append(event)
    await cluster.end(1)
    await cluster.state.expire(ended_before_ms=9_000)
    assert await cluster.log.append([event]) == [Appended(2)]


async def test_a_dedupe_key_outlives_its_execution_until_its_window_is_past(cluster, new_event):
    now_ms = time.time_ns() // 1_000_000
    kept = new_event(dedupe_key="kept", receive_time_ms=now_ms, dedupe_until_ms=now_ms + 3_600_000)
    past = new_event(dedupe_key="past", receive_time_ms=now_ms - 2, dedupe_until_ms=now_ms - 1)
    await cluster.append(kept, past)
    await cluster.end(1, 2)
    assert await cluster.state.expire(ended_before_ms=9_000) == 2
    again = [new_event(dedupe_key=key, receive_time_ms=now_ms - 2, dedupe_until_ms=now_ms) for key in ("kept", "past")]
    assert await cluster.log.append(again) == [Appended(1, kept.event_id), Appended(3)]


async def test_a_deleted_flow_is_readable_until_it_and_its_last_execution_are_past(cluster, new_event, draft):
    await cluster.registry.apply_flows([draft("shop")], now_ms=1)
    await cluster.append(new_event("shop"), new_event("shop"))
    assert await cluster.registry.delete_flow("shop")
    await cluster.end(1)
    await cluster.state.expire(ended_before_ms=LATER)
    assert (await cluster.registry.get_flow("shop", revision=1)).document == b"do: []"
    await cluster.end(2)
    await cluster.state.expire(ended_before_ms=9_000)
    assert (await cluster.registry.get_flow("shop", revision=1)).document == b"do: []"
    await cluster.state.expire(ended_before_ms=LATER)
    assert await cluster.registry.get_flow("shop", revision=1) is None


async def test_a_flow_that_was_not_deleted_stays_without_executions(cluster, new_event, draft):
    await cluster.registry.apply_flows([draft("shop")], now_ms=1)
    await cluster.append(new_event("shop"))
    await cluster.end(1)
    await cluster.state.expire(ended_before_ms=9_000)
    assert (await cluster.registry.get_flow("shop", revision=1)).revision == 1


async def test_the_schedule_of_a_deleted_flow_goes_when_the_deletion_is_past(cluster, draft):
    await cluster.registry.apply_flows([draft("shop"), draft("bank")], now_ms=1)
    await cluster.state.write([Scheduled("shop", 5), Scheduled("bank", 6)])
    await cluster.registry.delete_flow("shop")
    await cluster.state.expire(ended_before_ms=9_000)
    assert await cluster.state.schedules() == [Scheduled("bank", 6), Scheduled("shop", 5)]
    await cluster.state.expire(ended_before_ms=LATER)
    assert await cluster.state.schedules() == [Scheduled("bank", 6)]


async def revise(cluster, draft, times):
    """Apply a flow so often, a second apart; its documents are of the versions 1 and up."""
    for time_s in range(1, times + 1):
        definition = b'{"document":{"version":"%d"}}' % time_s
        await cluster.registry.apply_flows([draft("shop", definition=definition)], now_ms=time_s * 1_000)


async def kept(cluster, times):
    revisions = [await cluster.registry.get_flow("shop", revision=each) for each in range(1, times + 1)]
    return [flow.revision for flow in revisions if flow]


async def test_former_revisions_are_removed_but_for_the_last_ones_and_those_that_executions_are_of(
    cluster, draft, new_event
):
    await cluster.restart(StorageLimits(revisions=3))
    await revise(cluster, draft, 9)
    await cluster.append(new_event("shop", flow_revision=2), new_event("shop", flow_revision=9), new_event("bank"))
    assert await cluster.registry.forget_revisions(superseded_before_ms=LATER) == 5
    assert await kept(cluster, 9) == [2, 7, 8, 9]
    await cluster.end(1)
    await cluster.state.expire(ended_before_ms=LATER)
    assert await cluster.registry.forget_revisions(superseded_before_ms=LATER) == 1
    assert await kept(cluster, 9) == [7, 8, 9]
    assert (await cluster.registry.get_flow("shop")).revision == 9
    await revise(cluster, draft, 1)
    assert (await cluster.registry.get_flow("shop")).revision == 10


async def test_a_former_revision_stays_until_it_was_superseded_long_enough_ago(cluster, draft):
    await cluster.restart(StorageLimits(revisions=1))
    await revise(cluster, draft, 4)
    assert await cluster.registry.forget_revisions(superseded_before_ms=3_001) == 2
    assert await kept(cluster, 4) == [3, 4]


async def test_many_former_revisions_are_removed_in_one_go(cluster, draft):
    await cluster.restart(StorageLimits(revisions=1))
    await revise(cluster, draft, 100)
    assert await cluster.registry.forget_revisions(superseded_before_ms=LATER) == 99
    assert await kept(cluster, 100) == [100]


async def test_a_version_is_not_found_any_more_among_revisions_that_may_be_removed(cluster, draft):
    """Or an execution of one that is about to go could begin."""
    await cluster.restart(StorageLimits(revisions=2))
    await revise(cluster, draft, 4)
    find = cluster.registry.find_revision
    assert [await find("shop", version=version) for version in "1234"] == [None, None, 3, 4]


async def test_ended_executions_are_deleted_and_others_left_alone(cluster, new_event):
    event = new_event(payload=LARGE, dedupe_key="k", dedupe_until_ms=LATER)
    ended, running = await cluster.append(event, new_event())
    await cluster.state.write([Journaled(ended, 0, JournalEntry("k", b"1"))])
    await cluster.end(ended)
    assert await cluster.state.delete([ended, running, 99]) == 1
    assert await cluster.state.content(ended) is None
    assert sorted(await cluster.state.records([ended, running])) == [running]
    assert await cluster.state.delete([ended]) == 0
    again = new_event(dedupe_key="k", dedupe_until_ms=LATER)
    assert await cluster.log.append([again]) == [Appended(ended, event.event_id)]


async def test_the_sequence_number_of_a_deleted_execution_is_never_used_again(cluster, new_event):
    [seq] = await cluster.append(new_event())
    await cluster.end(seq)
    assert await cluster.state.delete([seq]) == 1
    await cluster.restart()
    assert await cluster.append(new_event()) == [seq + 1]


async def test_a_step_looks_at_so_many_executions_also_if_they_are_kept(cluster, new_event):
    keys = ShapingKeys(group="k", size=1)
    events = [new_event(shaping=keys) for _ in range(2 * STEP)]
    seqs = await cluster.append(*events)
    first = seqs[0]
    ends = [Ended(seq, Status.COMPLETED, 2_000, 0) for seq in seqs[1:]]
    await cluster.state.write([GroupLeft(first, tuple(seqs[1:]), batches=True), *ends])
    others = await cluster.append(*(new_event() for _ in range(STEP)))
    await cluster.end(*others, end_time_ms=3_000)
    assert await cluster.state.expire(ended_before_ms=4_000, limit=STEP) == STEP
    assert await cluster.state.expire(ended_before_ms=4_000) == 0
    await cluster.end(first, end_time_ms=5_000)
    assert await cluster.state.expire(ended_before_ms=5_001, limit=10 * STEP) == len(seqs)


async def test_executions_go_until_so_many_bytes_are_free_those_that_ended_first(cluster, new_event):
    seqs = await cluster.append(*(new_event(payload=b"x" * 10_000) for _ in range(5)))
    for seq, end_ms in zip(seqs, (5_000, 4_000, 3_000, 2_000, 9_000), strict=True):
        await cluster.end(seq, end_time_ms=end_ms)
    step = await cluster.state.remove_bytes(11_000, ended_before_ms=6_000, after=FIRST)
    assert (step.removed, step.more, step.last) == ([seqs[3], seqs[2]], True, (3_000, seqs[2]))
    step = await cluster.state.remove_bytes(1 << 30, ended_before_ms=6_000, after=step.last)
    assert (step.removed, step.more) == ([seqs[1], seqs[0]], False)
    assert sorted(await cluster.state.records(seqs)) == seqs[4:]


async def test_what_a_flow_takes_is_measured_with_large_payloads_journals_and_outcomes(cluster, new_event):
    seqs = await cluster.append(new_event("shop"), new_event("bank"), new_event("shop", payload=LARGE))
    none = await cluster.state.measure_flow("shop", 0, LATER, 10)
    assert none == (seqs[2], 2, 0, 0)
    output = b"1" * 3_000
    await cluster.state.write(
        [
            Journaled(seqs[0], 0, JournalEntry("k", output), history=b"h" * 2_000),
            Ended(seqs[0], Status.COMPLETED, 2_000, 1, output, None, b"r" * 1_000),
        ]
    )
    small = await cluster.state.measure_flow("shop", 0, LATER, 10)
    assert (small.executions, small.ended) == (2, 1)
    assert 9_000 < small.bytes < 10_000
    await cluster.end(seqs[1], seqs[2])
    both = await cluster.state.measure_flow("shop", 0, LATER, 10)
    assert both.bytes - small.bytes - len(LARGE) < 1_000
    assert await cluster.state.measure_flow("shop", seqs[0], LATER, 10) == (seqs[2], 1, 1, both.bytes - small.bytes)
    assert (await cluster.state.measure_flow("shop", 0, LATER, 1)).last == seqs[0]
    assert await cluster.state.stored_bytes() > len(LARGE)


async def test_executions_of_a_flow_go_in_the_order_of_their_acceptance(cluster, new_event):
    seqs = await cluster.append(*(new_event("shop", receive_time_ms=1_000) for _ in range(4)), new_event("bank"))
    await cluster.end(*seqs, end_time_ms=2_000)
    remove = cluster.state.remove_past_of_flow
    step = await remove("shop", ended_before_ms=3_000, after=0, most_bytes=1)
    assert step.removed == seqs[:1]
    step = await remove("shop", ended_before_ms=3_000, after=seqs[1], through=seqs[2])
    assert step.removed == seqs[2:3]
    step = await remove("shop", ended_before_ms=900, after=0)
    assert (step.removed, step.young, step.more) == ([], True, False)
    step = await remove("shop", ended_before_ms=3_000, after=0)
    assert (step.removed, step.young, step.more) == ([seqs[1], seqs[3]], False, False)
    assert sorted(await cluster.state.records(seqs)) == seqs[4:]


async def test_flows_may_be_excepted_and_are_not_looked_at_again_before_the_next_pass(cluster, new_event):
    shop = await cluster.append(*(new_event("shop") for _ in range(STEP)))
    bank = await cluster.append(*(new_event("bank") for _ in range(STEP)))
    await cluster.end(*shop, *bank)
    expire = cluster.state.expire
    assert await expire(ended_before_ms=9_000, excepting=["shop"]) == STEP
    assert sorted(await cluster.state.records(shop + bank)) == shop
    assert await expire(ended_before_ms=9_000) == 0
    assert await expire(ended_before_ms=9_000, anew=True) == STEP


async def test_the_events_of_a_batch_stay_as_long_as_what_runs_for_them_and_go_with_it(cluster, new_event):
    keys = ShapingKeys(group="k", size=1)
    seqs = await cluster.append(*(new_event("shop", shaping=keys, receive_time_ms=1_000) for _ in range(3)))
    ends = [Ended(seq, Status.COMPLETED, 2_000, 0) for seq in seqs[1:]]
    await cluster.state.write([GroupLeft(seqs[0], tuple(seqs[1:]), batches=True), *ends])
    remove = cluster.state.remove_past_of_flow
    assert (await remove("shop", ended_before_ms=9_000, after=0)).removed == []
    assert (await cluster.state.remove_bytes(1 << 30, ended_before_ms=9_000, after=FIRST)).removed == []
    await cluster.end(seqs[0], end_time_ms=8_000)
    assert (await remove("shop", ended_before_ms=9_000, after=0)).removed == seqs


async def test_a_removal_is_told_whoever_asked_for_it(cluster, new_event):
    told = []
    cluster.state.follow_removals(told.extend)
    events = [new_event("shop") for _ in range(4)]
    seqs = await cluster.append(*events)
    await cluster.end(*seqs)
    await cluster.state.delete(seqs[:1])
    await cluster.state.erase(events[1].event_id, rejections=(), now_ms=1)
    await cluster.state.remove_past_of_flow("shop", ended_before_ms=9_000, after=0, most_bytes=1)
    await cluster.state.expire(ended_before_ms=9_000)
    assert told == seqs
