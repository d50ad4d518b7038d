"""What is stored of executions that are shaped: their keys, reserved rates, and who absorbed whom."""

from __future__ import annotations

from flowhook import limits
from flowhook.events.keys import ShapingKeys
from flowhook.model import Status
from flowhook.model.executions import LinkedExecution, LinkKind
from router.storage.model import Ended, GroupLeft, RateReserved

NOW = 1_700_000_000_000
KEYS = ShapingKeys("rate", "place", 7, "debounce")


async def test_keys_are_read_after_a_restart_and_with_the_execution(cluster, new_event):
    events = [new_event(shaping=KEYS), new_event()]
    await cluster.append(*events)
    await cluster.restart()
    found = await cluster.state.unfinished()
    assert [each.shaping for each in found] == [KEYS, None]
    assert [each.receive_time_ms for each in found] == [each.receive_time_ms for each in events]
    assert (await cluster.state.find(events[0].event_id)).shaping == KEYS


async def test_a_reserved_time_holds_over_a_restart_and_never_goes_back(cluster):
    one, other = b"1" * 16, b"2" * 16
    await cluster.state.write([RateReserved(one, NOW + 2000), RateReserved(other, NOW + 10)])
    await cluster.state.write([RateReserved(one, NOW + 1000)])
    await cluster.restart()
    assert await cluster.state.rate_lines(now_ms=NOW) == {one: NOW + 2000, other: NOW + 10}
    assert await cluster.state.rate_lines(now_ms=NOW + 1000) == {one: NOW + 2000}
    await cluster.state.expire(ended_before_ms=0)  # these times are long past
    assert await cluster.state.rate_lines(now_ms=NOW) == {}


async def causes_of(cluster, event):
    return {(each.id, each.kinds) for each in (await cluster.state.links(event.event_id, limit=9)).causes}


async def test_one_that_absorbs_others_is_linked_with_them_and_has_no_key_to_debounce_it_by(cluster, new_event):
    events = [new_event(shaping=KEYS) for _ in range(3)]
    first, second, last = await cluster.append(*events)
    ends = [Ended(seq, Status.COMPLETED, NOW, 0, output=b"null") for seq in (first, second)]
    await cluster.state.write([GroupLeft(last, (first, second)), *ends])
    await cluster.restart()
    (left,) = await cluster.state.unfinished()
    assert (left.seq, left.shaping) == (last, ShapingKeys("rate", "place", 7))
    absorb = (LinkKind.ABSORB,)
    causes = {(each.event_id, absorb) for each in events[:2]}
    assert await causes_of(cluster, events[2]) == causes
    for event in events[:2]:
        assert (await cluster.state.links(event.event_id, limit=9)).caused == (
            LinkedExecution(events[2].event_id, absorb),
        )
        record = await cluster.state.find(event.event_id)
        assert (record.status, record.attempts) == (Status.COMPLETED, 0)


async def test_one_that_was_cancelled_while_its_group_was_being_stored_stands_for_the_others(cluster, new_event):
    events = [new_event(shaping=KEYS) for _ in range(2)]
    first, last = await cluster.append(*events)
    await cluster.end(last)
    await cluster.state.write([GroupLeft(last, (first,)), Ended(first, Status.COMPLETED, NOW, 0, output=b"null")])
    absorbed = LinkedExecution(events[1].event_id, (LinkKind.ABSORB,))
    assert (await cluster.state.links(events[0].event_id, limit=9)).caused == (absorbed,)
    assert (await cluster.state.find(events[1].event_id)).shaping == ShapingKeys("rate", "place", 7)


async def batched(cluster, new_event, count):
    """Store a batch, and return its events and their numbers; the first one's execution has not ended."""
    events = [new_event(shaping=KEYS._replace(size=10)) for _ in range(count)]
    seqs = await cluster.append(*events)
    ends = [Ended(seq, Status.COMPLETED, NOW, 0, output=b"null") for seq in seqs[1:]]
    await cluster.state.write([GroupLeft(seqs[0], tuple(seqs[1:]), batches=True), *ends])
    return events, seqs


async def test_the_events_of_a_batch_are_read_in_order_and_name_the_execution_that_runs(cluster, new_event):
    events, seqs = await batched(cluster, new_event, 5)
    await cluster.restart()
    assert await cluster.state.batched([seqs[0]]) == {seqs[0]: [each.payload for each in events[1:]]}
    (left,) = await cluster.state.unfinished()
    assert (left.shaping.events, left.shaping.batch, left.shaping.group) == (5, events[0].event_id, "")
    for each in events:
        record = await cluster.state.find(each.event_id)
        assert (record.batch, record.batch_events) == (events[0].event_id, 5)
    causes = {(each.event_id, (LinkKind.BATCH,)) for each in events[1:]}
    assert await causes_of(cluster, events[0]) == causes


async def test_a_replay_of_a_batch_reads_the_same_events(cluster, new_event):
    events, seqs = await batched(cluster, new_event, 3)
    await cluster.end(seqs[0])
    record = await cluster.state.find(events[0].event_id)
    replay = new_event(shaping=record.shaping, replay_of=events[0].event_id, replay_root=events[0].event_id)
    (seq,) = await cluster.append(replay)
    assert await cluster.state.batched([seq]) == {seq: [each.payload for each in events[1:]]}


async def stored(cluster, events):
    return [await cluster.state.find(each.event_id) is not None for each in events]


async def test_retention_keeps_the_events_of_a_batch_while_an_execution_that_runs_for_it_is_kept(cluster, new_event):
    events, seqs = await batched(cluster, new_event, 4)
    other = new_event()
    await cluster.end(*await cluster.append(other), end_time_ms=NOW)
    assert await cluster.state.expire(ended_before_ms=NOW + 1) == 1, "the batch has not ended"
    assert (await stored(cluster, events), await stored(cluster, [other])) == ([True] * 4, [False])
    await cluster.end(seqs[0], end_time_ms=NOW + 10)
    assert await cluster.state.expire(ended_before_ms=NOW + 10) == 0
    record = await cluster.state.find(events[0].event_id)
    replay = new_event(shaping=record.shaping, replay_of=record.id, replay_root=record.id)
    (seq,) = await cluster.append(replay)
    assert await cluster.state.expire(ended_before_ms=NOW + 11) == 0, "its replay has not ended"
    assert len((await cluster.state.batched([seq]))[seq]) == 3
    await cluster.end(seq, end_time_ms=NOW + 20)
    assert await cluster.state.expire(ended_before_ms=NOW + 20) == 0
    assert await cluster.state.expire(ended_before_ms=NOW + 21) == 5
    assert await stored(cluster, [*events, replay]) == [False] * 5


async def test_large_events_of_a_batch_are_read_from_their_files(cluster, new_event):
    large = b"x" * (limits.INLINE_BODY_BYTES + 1)
    events = [new_event(shaping=KEYS._replace(size=10), payload=payload) for payload in (b"1", large, b"3")]
    seqs = await cluster.append(*events)
    ends = [Ended(seq, Status.COMPLETED, NOW, 0, output=b"null") for seq in seqs[1:]]
    await cluster.state.write([GroupLeft(seqs[0], tuple(seqs[1:]), batches=True), *ends])
    assert await cluster.state.batched([seqs[0]]) == {seqs[0]: [large, b"3"]}


async def test_keys_as_they_were_stored_before_there_were_batches_are_read(cluster, new_event):
    assert ShapingKeys.unpack('["rate", "place", 7, "key"]') == KEYS._replace(group="key")
    events = [new_event(shaping=KEYS) for _ in range(2)]
    first, last = await cluster.append(*events)
    await cluster.state.write([GroupLeft(last, (first,)), Ended(first, Status.COMPLETED, NOW, 0, output=b"null")])
    for event in events:  # those that were debounced run for themselves in a replay
        assert (await cluster.state.find(event.event_id)).batch == ""
