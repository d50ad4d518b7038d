"""How many executions flows accepted and ended recently, and when."""

from flowhook.events import ids
from flowhook.model import Status
from flowhook.model.executions import LinkKind
from router.storage.activity import MinuteCount
from router.storage.model import Cause

MINUTE = 60_000
NOON = 1_000_000 * MINUTE


async def test_executions_are_counted_by_flow_minute_and_status(cluster, new_event):
    shop = await cluster.append(*(new_event("shop", receive_time_ms=NOON + 30_000 * number) for number in range(4)))
    [bank] = await cluster.append(new_event("bank", receive_time_ms=NOON))
    await cluster.end(*shop[:2], end_time_ms=NOON + MINUTE)
    await cluster.end(shop[2], status=Status.FAULTED, end_time_ms=NOON + MINUTE)
    await cluster.end(bank, status=Status.CANCELLED, end_time_ms=NOON + 2 * MINUTE)
    assert await cluster.state.last_seq() == bank
    recent = await cluster.state.recent_activity(since_ms=NOON, until_seq=bank, ended_before_ms=NOON * 2, limit=100)
    noon = NOON // MINUTE
    assert recent.since_ms == NOON
    assert sorted(recent.counts, key=str) == sorted(
        [
            MinuteCount("shop", noon, None, 2),
            MinuteCount("shop", noon + 1, None, 2),
            MinuteCount("bank", noon, None, 1),
            MinuteCount("shop", noon + 1, Status.COMPLETED, 2),
            MinuteCount("shop", noon + 1, Status.FAULTED, 1),
            MinuteCount("bank", noon + 2, Status.CANCELLED, 1),
        ],
        key=str,
    )


async def test_what_lies_before_or_after_the_wanted_time_is_not_counted(cluster, new_event):
    seqs = await cluster.append(*(new_event(receive_time_ms=NOON + number * MINUTE) for number in range(4)))
    for number, seq in enumerate(seqs):
        await cluster.end(seq, end_time_ms=NOON + number * MINUTE)
    recent = await cluster.state.recent_activity(
        since_ms=NOON + MINUTE, until_seq=seqs[2], ended_before_ms=NOON + 2 * MINUTE, limit=100
    )
    noon = NOON // MINUTE
    assert [(count.minute, count.status, count.number) for count in recent.counts] == [
        (noon + 1, None, 1),
        (noon + 2, None, 1),
        (noon + 1, Status.COMPLETED, 1),
    ]


async def test_beyond_the_limit_the_time_is_shorter_and_complete(cluster, new_event):
    seqs = await cluster.append(*(new_event(receive_time_ms=NOON + number * MINUTE) for number in range(6)))
    recent = await cluster.state.recent_activity(since_ms=NOON, until_seq=seqs[-1], ended_before_ms=NOON * 2, limit=2)
    assert recent.since_ms == NOON + 4 * MINUTE
    assert sum(count.number for count in recent.counts) == 2
    await cluster.end(*seqs, end_time_ms=NOON + 10 * MINUTE)
    recent = await cluster.state.recent_activity(since_ms=NOON, until_seq=seqs[-1], ended_before_ms=NOON * 2, limit=2)
    assert recent == (NOON + 10 * MINUTE + 1, ())


async def test_without_executions_nothing_is_counted(cluster):
    assert await cluster.state.last_seq() == 0
    recent = await cluster.state.recent_activity(since_ms=NOON, until_seq=0, ended_before_ms=NOON * 2, limit=100)
    assert recent == (NOON, ())


async def test_the_times_of_executions_and_of_the_latest_of_flows_are_found(cluster, new_event):
    times = [NOON + 5, NOON + 1, NOON + 9]
    seqs = await cluster.append(*(new_event("shop", receive_time_ms=time) for time in times))
    assert await cluster.state.receive_times([*seqs, 999]) == dict(zip(seqs, times, strict=True))
    assert await cluster.state.latest_receive_times(["shop", "bank"]) == {"shop": NOON + 9}


async def test_the_latest_request_is_the_latest_of_the_newest_ones_that_nothing_else_started(cluster, new_event):
    sent = [new_event(receive_time_ms=NOON + each) for each in (5, 9, 7)]
    await cluster.append(*sent, new_event("bank", receive_time_ms=NOON))
    later = NOON + MINUTE
    others = [
        new_event(receive_time_ms=later, replay_of=sent[0].event_id, replay_root=sent[0].event_id),
        new_event(receive_time_ms=later, quiet=True),
        new_event(receive_time_ms=later, causes=(Cause(sent[0].event_id, LinkKind.RUN),)),
        new_event(receive_time_ms=later, event_id=ids.of_schedule("shop", later)),
    ]
    await cluster.append(*others)
    found = await cluster.state.latest_requests(["shop", "bank", "none"])
    assert found == {"shop": NOON + 9, "bank": NOON}
    assert await cluster.state.caused([1, 2, 5, 6, 7, 8]) == {7}
    await cluster.append(new_event(receive_time_ms=later, causes=(Cause(sent[0].event_id, LinkKind.LISTEN),)))
    assert (await cluster.state.latest_requests(["shop"])) == {"shop": later}
