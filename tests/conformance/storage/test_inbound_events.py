"""Arrivals, what executions wait for, and what is delivered to them."""

import asyncio
import time
from dataclasses import replace

import pytest

from flowhook import limits
from flowhook.errors import ConflictError
from flowhook.model import Correlation, EventFilter, JournalEntry, Retry, Status, Subscription, WorkflowError
from router.storage.model import (
    Consumed,
    Delivered,
    Ended,
    InboundEventAppended,
    Journaled,
    JournalSize,
    NewInboundEvent,
    Parked,
    Requeued,
    Started,
    StoredInboundEvent,
)

ERROR = WorkflowError(type="https://example.org/e", status=503, title="Away", instance="/do/0/a", detail="no")
SUBSCRIPTIONS = (
    Subscription(
        "/do/0/listen#0",
        (
            EventFilter(True, "approval", (), (Correlation(".data.body.order", b'"\xc3\xa9 7"'),)),
            EventFilter(False, "", (("source", "/a"), ("subject", "é"))),
        ),
    ),
    Subscription("/do/1/run#0", execution_id="evt_child"),
)


async def numbers(cluster):
    return [arrival.number for arrival in await cluster.state.inbound_events()]


# --- what executions wait for ---------------------------------------------------------------------------------------


async def test_what_a_parked_execution_waits_for_is_found_after_a_restart_until_it_waits_no_more(cluster, new_event):
    listening, other = await cluster.append(new_event(), new_event())
    await cluster.state.write([Parked(listening, 9, 1, SUBSCRIPTIONS), Parked(other, None, 1)])
    await cluster.restart()
    assert [row.subscriptions for row in await cluster.state.unfinished()] == [SUBSCRIPTIONS, ()]
    await cluster.state.write([Started(listening, 1)])
    assert [row.subscriptions for row in await cluster.state.unfinished()] == [(), ()]


@pytest.mark.parametrize("together", [True, False], ids=["in one write", "in several writes"])
async def test_what_it_waits_for_last_replaces_what_it_waited_for_before(cluster, new_event, together):
    seqs = await cluster.append(new_event(), new_event(), new_event())
    steps = [
        [Parked(seq, None, 1, SUBSCRIPTIONS) for seq in seqs],
        [Requeued(seqs[0], 0), Delivered(seqs[1], JournalEntry("k", b"1"), 0)],
        [Parked(seq, None, 1, each) for seq, each in zip(seqs, [(), (), SUBSCRIPTIONS[1:]], strict=True)],
    ]
    for changes in [[change for step in steps for change in step]] if together else steps:
        await cluster.state.write(changes)
    assert [row.subscriptions for row in await cluster.state.unfinished()] == [(), (), SUBSCRIPTIONS[1:]]


# --- appending ------------------------------------------------------------------------------------------------------


async def test_arrivals_are_numbered_in_order_and_found_after_a_restart_until_they_are_consumed(cluster, new_arrival):
    events = [new_arrival(payload=b"1"), new_arrival("bank", callback=False, type="paid", expire_at_ms=2**44)]
    assert await cluster.log.append_inbound(events) == [InboundEventAppended(1), InboundEventAppended(2)]
    await cluster.restart()
    assert await cluster.state.inbound_events() == [
        StoredInboundEvent(1, NewInboundEvent("", "shop", True, "approval", 0, b"", 2**45)),
        StoredInboundEvent(2, NewInboundEvent("", "bank", False, "paid", 0, b"", 2**44)),
    ]
    assert [arrival.number for arrival in await cluster.state.inbound_events(limit=1)] == [1]
    assert [arrival.number for arrival in await cluster.state.inbound_events(after_number=1)] == [2]
    assert await cluster.state.inbound_payloads([1, 2, 3]) == {1: b"1", 2: b"{}"}
    await cluster.state.write([Consumed(2), Consumed(1), Consumed(7)])
    assert await numbers(cluster) == []
    assert await cluster.state.inbound_payloads([1]) == {}


async def test_a_number_is_not_used_again(cluster, new_arrival):
    for number in (1, 2, 3):
        assert await cluster.log.append_inbound([new_arrival()]) == [InboundEventAppended(number)]
        await cluster.state.write([Consumed(number)])
        await cluster.restart()


async def test_appending_no_arrivals_answers_nothing(cluster):
    assert await cluster.log.append_inbound([]) == []


async def test_an_event_arrives_once_at_a_flow_also_when_it_was_consumed(cluster, new_arrival):
    event = new_arrival()
    twice = await asyncio.gather(*(cluster.log.append_inbound([event, event]) for _ in range(3)))
    assert sorted(each for call in twice for each in call) == [InboundEventAppended(1)] + 5 * [
        InboundEventAppended(1, event.event_id)
    ]
    assert await cluster.log.append_inbound([event._replace(flow_id="bank")]) == [InboundEventAppended(2)]
    await cluster.state.write([Consumed(1)])
    await cluster.restart()
    assert await cluster.log.append_inbound([event]) == [InboundEventAppended(1, event.event_id)]
    later = event._replace(receive_time_ms=event.expire_at_ms)
    assert await cluster.log.append_inbound([later]) == [InboundEventAppended(3)]


async def test_a_dedupe_key_is_taken_once_within_its_window_by_each_callback(cluster, new_arrival, new_event):
    keyed = {"dedupe_key": "delivery-1", "dedupe_until_ms": 5_000}
    await cluster.append(new_event(**keyed))
    first, second = (new_arrival(**keyed, receive_time_ms=1_000) for _ in range(2))
    others = [new_arrival("bank", **keyed), new_arrival(type="refusal", **keyed)]
    assert await cluster.log.append_inbound([first, second, *others]) == [
        InboundEventAppended(1),
        InboundEventAppended(1, first.event_id),
        InboundEventAppended(2),
        InboundEventAppended(3),
    ]
    late = new_arrival(**keyed | {"receive_time_ms": 5_000, "dedupe_until_ms": 9_000})
    assert await cluster.log.append_inbound([late]) == [InboundEventAppended(4)]


@pytest.mark.parametrize("together", [True, False], ids=["in one call", "in two calls"])
async def test_a_token_is_good_for_one_arrival_which_may_be_sent_again(cluster, new_event, new_arrival, together):
    event = new_event()
    [seq] = await cluster.append(event)
    marked = {"execution_id": event.event_id, "token": "t", "token_until_ms": 2**45}
    first, second = new_arrival(**marked), new_arrival(**marked)
    calls = [[first, second, first]] if together else [[first], [second], [first]]
    results = [result for arrivals in calls for result in await cluster.log.append_inbound(arrivals)]
    assert results == [
        InboundEventAppended(1),
        InboundEventAppended(0, gone=True),
        InboundEventAppended(1, first.event_id),
    ]
    assert await cluster.state.inbound_events() == [
        StoredInboundEvent(1, NewInboundEvent("", "shop", True, "approval", 0, b"", 2**45), seq)
    ]


async def test_nothing_is_stored_for_an_execution_that_has_ended_or_is_unknown(cluster, new_event, new_arrival):
    event = new_event()
    [seq] = await cluster.append(event)
    early, late = (new_arrival(execution_id=event.event_id) for _ in range(2))
    assert await cluster.log.append_inbound([early]) == [InboundEventAppended(1)]
    await cluster.end(seq)
    unknown = new_arrival(execution_id="evt_unknown", dedupe_key="k", dedupe_until_ms=2**45)
    assert await cluster.log.append_inbound([late, unknown, early]) == [
        InboundEventAppended(0, gone=True),
        InboundEventAppended(0, gone=True),
        InboundEventAppended(1, early.event_id),
    ]
    assert await cluster.log.append_inbound([unknown._replace(execution_id="")]) == [InboundEventAppended(2)]
    assert await numbers(cluster) == [2]


async def test_followers_are_told_of_new_arrivals_with_the_execution_they_are_for(cluster, new_event, new_arrival):
    event = new_event()
    [seq] = await cluster.append(event)
    told = []
    cluster.state.follow_inbound(told.extend)
    plain, addressed = new_arrival(), new_arrival(execution_id=event.event_id)
    await cluster.log.append_inbound([plain, addressed, plain])
    assert told == [StoredInboundEvent(1, plain), StoredInboundEvent(2, addressed, seq)]
    owner = await cluster.storage.own()
    cluster.state.follow_inbound(told.extend)
    await cluster.log.append_inbound([new_arrival()])
    assert len(told) == 2
    assert await owner.inbound_payloads([3]) == {3: b"{}"}


async def test_payloads_come_a_few_at_a_time(cluster, new_arrival):
    events = [new_arrival(payload=b"1" * limits.MAX_RESULT_BYTES) for _ in range(20)]
    wanted = [appended.number for appended in await cluster.log.append_inbound(events)]
    calls = 0
    while wanted:
        found = await cluster.state.inbound_payloads(wanted)
        assert found
        wanted = [number for number in wanted if number not in found]
        calls += 1
    assert calls > 1


# --- delivering -----------------------------------------------------------------------------------------------------


async def test_what_is_delivered_comes_after_all_that_was_journaled_and_requeues(cluster, new_event, new_arrival):
    fresh, journaled, compacted = await cluster.append(new_event(), new_event(), new_event())
    entries = [JournalEntry(f"k{number}", str(number).encode()) for number in range(4)]
    came, failed = JournalEntry("listen", b"{}"), JournalEntry("run", None, ERROR)
    await cluster.log.append_inbound([new_arrival()])
    await cluster.state.write(
        [
            *(Journaled(journaled, index, entries[index]) for index in range(2)),
            *(Journaled(compacted, index, entries[index], compacts=index == 2) for index in range(3)),
            *(Parked(seq, 9, 2, SUBSCRIPTIONS) for seq in (fresh, journaled, compacted)),
        ]
    )
    await cluster.state.write(
        [*(Delivered(seq, came, 1) for seq in (fresh, journaled, compacted)), Delivered(fresh, failed, 1), Consumed(1)]
    )
    await cluster.restart()
    found = [(row.status, row.attempts, row.term, row.subscriptions) for row in await cluster.state.unfinished()]
    assert found == [(Status.PENDING, 1, 1, ())] * 3
    work = await cluster.state.work([fresh, journaled, compacted])
    assert [(each.journal_start, each.journal) for each in map(work.get, (fresh, journaled, compacted))] == [
        (0, (came, failed)),
        (0, (*entries[:2], came)),
        (2, (entries[2], came)),
    ]
    assert await numbers(cluster) == []


async def test_in_one_write_what_is_delivered_stands_where_it_came(cluster, new_event):
    [seq] = await cluster.append(new_event())
    entries = [JournalEntry(f"k{number}", b"1") for number in range(3)]
    delivered = Delivered(seq, entries[1], 0)
    await cluster.state.write([Journaled(seq, 0, entries[0]), delivered, Journaled(seq, 2, entries[2])])
    assert (await cluster.state.work([seq]))[seq].journal == tuple(entries)


@pytest.mark.parametrize("together", [True, False], ids=["in one write", "in two writes"])
async def test_nothing_is_delivered_after_the_end(cluster, new_event, together):
    [seq] = await cluster.append(new_event())
    end, late = [Ended(seq, Status.CANCELLED, 5_000, 1)], [Delivered(seq, JournalEntry("k", b"1"), 0)]
    for changes in [end + late] if together else [end, late]:
        await cluster.state.write(changes)
    content = await cluster.state.content(seq)
    assert (content.journal, (await cluster.state.records([seq]))[seq].status) == ((), Status.CANCELLED)


async def test_an_end_is_written_together_with_what_it_means_to_who_awaits_it(cluster, new_event):
    parent, child = await cluster.append(new_event(), new_event())
    await cluster.state.write([Parked(parent, None, 1, SUBSCRIPTIONS)])
    await cluster.state.write(
        [Ended(child, Status.COMPLETED, 5_000, 1, b"7"), Delivered(parent, JournalEntry("/do/1/run#0", b"7"), 0)]
    )
    assert (await cluster.state.work([parent]))[parent].journal == (JournalEntry("/do/1/run#0", b"7"),)
    assert [row.seq for row in await cluster.state.unfinished()] == [parent]


async def test_the_size_of_a_journal_is_that_of_what_is_left_of_it(cluster, new_event):
    [seq, empty] = await cluster.append(new_event(), new_event())
    await cluster.state.write([Journaled(seq, 0, JournalEntry("k", b"1" * 1000))])
    await cluster.state.write([Journaled(seq, 1, JournalEntry("é", b"123"), compacts=True)])
    await cluster.state.write([Journaled(seq, 2, JournalEntry("k2", None, ERROR))])
    assert await cluster.state.journal_sizes([seq, empty, 99]) == {seq: JournalSize(2, 7)}


async def test_executions_are_identified_by_their_ids(cluster, new_event):
    events = [new_event(), new_event("bank"), new_event()]
    seqs = await cluster.append(*events)
    await cluster.end(seqs[1], status=Status.FAULTED)
    found = await cluster.state.find_by_ids([events[0].event_id, events[1].event_id, "evt_unknown"])
    assert {each.id: (each.seq, each.flow_id, each.status) for each in found.values()} == {
        events[0].event_id: (seqs[0], "shop", Status.PENDING),
        events[1].event_id: (seqs[1], "bank", Status.FAULTED),
    }


# --- expiry ---------------------------------------------------------------------------------------------------------


async def test_arrivals_that_are_past_are_removed_and_no_others(cluster, new_arrival):
    now_ms = time.time_ns() // 1_000_000
    past = [new_arrival(expire_at_ms=now_ms - 1) for _ in range(300)]
    await cluster.log.append_inbound([*past, new_arrival(expire_at_ms=now_ms + 3_600_000)])
    await cluster.state.expire(ended_before_ms=9_000)
    assert await numbers(cluster) == [301]


async def test_what_an_ended_execution_waited_for_goes_with_it(cluster, new_event):
    event = new_event()
    [seq] = await cluster.append(event)
    await cluster.state.write([Parked(seq, None, 1, SUBSCRIPTIONS), Ended(seq, Status.CANCELLED, 2_000, 1)])
    await cluster.state.expire(ended_before_ms=9_000)
    [again] = await cluster.append(event)
    await cluster.state.write([Parked(again, None, 1)])
    assert [row.subscriptions for row in await cluster.state.unfinished()] == [()]


async def test_a_former_owner_delivers_nothing(cluster, new_event):
    [seq] = await cluster.append(new_event())
    former = cluster.state
    await cluster.storage.own()
    with pytest.raises(ConflictError):
        await former.write([Delivered(seq, JournalEntry("k", b"1"), 0)])


async def test_what_is_tried_again_is_stored_while_the_execution_waits_for_it(cluster, new_event):
    [seq] = await cluster.append(new_event())
    error = replace(ERROR, destination="https://api.example", detail="\u00e9 \x00")
    retry = Retry(error, 2, 9_000, 1, ("/do/0/a#0:retry", "/do/1/b#0:retry"), follows=True)

    async def stored():
        return (await cluster.state.records([seq]))[seq].retry

    await cluster.state.write([Started(seq, 1), Parked(seq, 9_000, 1, SUBSCRIPTIONS, retry=retry)])
    assert await stored() == retry
    await cluster.restart()
    assert await stored() == retry
    [unfinished] = await cluster.state.unfinished()
    assert unfinished.subscriptions == SUBSCRIPTIONS
    assert (unfinished.retry_destination, unfinished.retry_key) == ("https://api.example", retry.keys[0])
    assert unfinished.retry_follows
    assert (await stored()).error.destination == "https://api.example"
    await cluster.state.write([Started(seq, 1)])
    assert await stored() is None
    [unfinished] = await cluster.state.unfinished()
    assert (unfinished.retry_destination, unfinished.retry_key, unfinished.retry_follows) == ("", "", 0)
    await cluster.state.write([Parked(seq, 9_000, 1, retry=retry)])
    assert await stored() == retry
    await cluster.state.write([Parked(seq, 9_000, 1, SUBSCRIPTIONS)])
    assert await stored() is None
    await cluster.state.write([Parked(seq, 9_000, 1, retry=retry)])
    over = [Delivered(seq, JournalEntry(key, b"1"), 0) for key in retry.keys]
    await cluster.state.write(over)
    assert await stored() is None
    assert [entry.key for entry in (await cluster.state.work([seq]))[seq].journal] == list(retry.keys)
