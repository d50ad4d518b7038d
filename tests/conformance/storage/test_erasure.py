"""Erasing an event: nothing of it is left in any file, and everything else is as it was."""

from __future__ import annotations

import itertools
import random

import pytest
from support.body_seats import seat_of

from flowhook.errors import ConflictError, NotFoundError
from flowhook.events.keys import ShapingKeys, rate_fingerprint
from flowhook.events.lifecycle import WorkflowEventType
from flowhook.limits import INLINE_BODY_BYTES
from flowhook.model import JournalEntry, Status, WorkflowError
from flowhook.model.audit import AuditEntry
from flowhook.model.jobs import ItemOutcome, JobItem, JobState
from router.storage.audit import AuditFilter
from router.storage.jobs import NewJob
from router.storage.limits import StorageLimits
from router.storage.model import (
    Appended,
    Delivered,
    Ended,
    Journaled,
    LifecycleRecorded,
    Parked,
    RateReserved,
    Replied,
    TurnKept,
    TurnReleased,
)
from router.storage.rejections import StoredRejection

MARK = b"jane.doe@example.com"
TEXT = MARK.decode()
NOW_MS = 5_000


@pytest.fixture
def left(tmp_path):
    """Return the files that have the mark, or another text."""

    def search(mark=MARK):
        files = [path for path in tmp_path.rglob("*") if path.is_file() and "follower" not in path.parts]
        return sorted(str(path.relative_to(tmp_path)) for path in files if mark in path.read_bytes())

    return search


@pytest.fixture
def replay(new_event):
    """Make the event of a replay."""

    def make(original, **fields):
        return new_event(replay_of=original.event_id, **fields)

    return make


async def erase(cluster, event, **options):
    return await cluster.state.erase(event.event_id, **({"rejections": (), "now_ms": NOW_MS} | options))


async def test_all_parts_of_an_execution_go(cluster, new_event, new_arrival, left):
    event = new_event(payload=MARK * 400, order_key=TEXT, attributes=(("customer", TEXT),), dedupe_key=TEXT)
    event = event._replace(dedupe_until_ms=2**45, shaping=ShapingKeys(TEXT, TEXT, 5, TEXT))
    (seq,) = await cluster.append(event)
    error = WorkflowError(f"https://example.com/{TEXT}", 500, TEXT, "/do/0", TEXT)
    await cluster.state.write([Journaled(seq, 0, JournalEntry("/do/0", MARK * 900), history=MARK)])
    await cluster.state.write([Journaled(seq, 1, JournalEntry("/do/1", MARK), compacts=True, history=MARK * 900)])
    await cluster.state.write([LifecycleRecorded(seq, WorkflowEventType.STARTED, 1, key="k", data=MARK)])
    await cluster.state.write([Parked(seq, 9_000, 1, history=MARK)])
    arrival = new_arrival(payload=MARK * 900, execution_id=event.event_id)
    (arrived,) = await cluster.log.append_inbound([arrival])
    await cluster.state.write([Delivered(seq, JournalEntry("/do/2", MARK * 900), 1)])
    await cluster.log.append_inbound([new_arrival(callback=False, payload=MARK * 2, emitter=event.event_id)])
    await cluster.state.write([Replied(seq, MARK)])
    line, others = (rate_fingerprint("shop", key) for key in (TEXT, ""))
    await cluster.state.write([RateReserved(line, 2**45), RateReserved(others, 2**45)])
    await cluster.state.write([Ended(seq, Status.FAULTED, 2_000, 1, MARK, error, MARK, MARK)])
    assert left(line)
    assert arrived.number
    assert left()

    erasure = await erase(cluster, event)
    assert erasure.execution_ids == (event.event_id,)
    assert left() == left(line) == []
    assert await cluster.state.rate_lines(now_ms=NOW_MS) == {others: 2**45}
    assert await cluster.state.find(event.event_id) is None
    assert await cluster.state.deduplicated("shop", TEXT, now_ms=NOW_MS) is None
    assert await cluster.state.occurrences() == []
    assert await cluster.state.inbound_events() == []


async def test_a_large_payload_and_an_uploaded_body_go(cluster, new_event, left):
    large = new_event(payload=MARK * (INLINE_BODY_BYTES // len(MARK) + 1))
    upload = await cluster.storage.bodies.begin("shop", None, seat_of(None))
    await upload.write(MARK * 100)
    named = new_event(body=(await upload.finish()).id)
    await cluster.append(large, named)
    await cluster.end(1, 2)
    assert len(left()) >= 2
    await erase(cluster, large)
    await erase(cluster, named)
    assert left() == []


async def test_replays_of_the_same_event_go_with_it(cluster, new_event, replay, left):
    original, other = new_event(payload=MARK), new_event(payload=b"other")
    first = replay(original, payload=MARK)
    second = replay(first, payload=MARK)
    await cluster.append(original, other)
    await cluster.end(1, status=Status.FAULTED)
    await cluster.append(first)
    await cluster.append(second)
    await cluster.end(3, 4)
    erasure = await erase(cluster, first)
    assert erasure.execution_ids == (original.event_id, first.event_id, second.event_id)
    assert left() == []
    assert (await cluster.state.content(2)).payload == b"other"


async def test_what_refers_to_it_keeps_no_words_about_it(cluster, new_event, left):
    event, other = new_event(), new_event()
    await cluster.append(event, other)
    await cluster.end(1, 2)
    for target in (f"{event.event_id} as {other.event_id}", other.event_id):
        entry = AuditEntry(0, 1, "admin", "ExecutionService/ReplayExecution", target, f"asked by {TEXT}", "")
        await cluster.storage.audit.add(entry)
    job = await cluster.storage.jobs.create(NewJob("job_1", b"spec", 1_000))
    await cluster.storage.jobs.change_state(job.id, JobState.RUNNING, now_ms=1)
    items = await cluster.storage.jobs.claim(job.number, [(1, event.event_id)], cursor=2, now_ms=1)
    done = [JobItem(each.number, each.execution_id, ItemOutcome.FAILED, "X", TEXT, "", 1) for each in items]
    await cluster.storage.jobs.settle(job.number, done)
    await cluster.storage.rejections.add(
        [StoredRejection(0, f"rej_{name}", "shop", 1, MARK, "X", MARK) for name in ("accepted", "same", "other")]
    )
    await cluster.storage.rejections.accepted("rej_accepted", event.event_id, by="admin", now_ms=1)

    await erase(cluster, event, rejections=["rej_same"])
    entries, _ = await cluster.storage.audit.page(AuditFilter())
    assert [(each.target, each.reason) for each in entries] == [
        (other.event_id, f"asked by {TEXT}"),
        (f"{event.event_id} as {other.event_id}", ""),
    ]
    (item,) = await cluster.storage.jobs.items(job.number)
    assert (item.reason, item.message) == ("X", "")
    assert [each.id for each in await cluster.storage.rejections.page()] == ["rej_other"]


async def test_what_is_reported_of_a_request_once_its_execution_is_erased_is_not_stored(cluster, new_event, left):
    event, other = new_event(), new_event()
    await cluster.append(event, other)
    await cluster.end(1, 2)
    await erase(cluster, event)
    await cluster.storage.rejections.add(
        [
            StoredRejection(0, f"rej_{name}", "shop", 1, content, "DUPLICATE", None, of, outcome="duplicate")
            for name, content, of in (("late", MARK, event.event_id), ("other", b"", other.event_id))
        ]
    )
    assert [each.id for each in await cluster.storage.rejections.page(outcome="")] == ["rej_other"]
    assert left() == []


async def test_it_is_erased_once_and_that_stays_known(cluster, new_event):
    event = new_event(payload=MARK)
    await cluster.append(event)
    await cluster.end(1)
    erasure = await erase(cluster, event)
    assert await erase(cluster, event, now_ms=NOW_MS + 1) == erasure
    assert await cluster.state.erased(event.event_id) == erasure
    await cluster.restart()
    assert await erase(cluster, event) == erasure
    assert erasure.time_ms == NOW_MS


async def test_what_has_not_ended_or_is_unknown_is_refused(cluster, new_event, replay):
    event = new_event(payload=MARK)
    await cluster.append(event)
    with pytest.raises(ConflictError, match=f"{event.event_id} has not ended"):
        await erase(cluster, event)
    await cluster.end(1, status=Status.FAULTED)
    again = replay(event)
    await cluster.append(again)
    with pytest.raises(ConflictError, match=f"{again.event_id} has not ended"):
        await erase(cluster, event)
    assert (await cluster.state.content(1)).payload == MARK
    with pytest.raises(NotFoundError):
        await erase(cluster, new_event())
    assert await cluster.state.erased(event.event_id) is None


async def test_what_keeps_a_turn_stays_until_the_turn_is_released(cluster, new_event, replay):
    """Who waits behind it would be blocked by something that nobody can resolve any more."""
    event = new_event(order_key=TEXT)
    await cluster.append(event)
    await cluster.state.write([Ended(1, Status.FAULTED, 2_000, 1), TurnKept(1)])
    again = replay(event)
    await cluster.append(again)
    await cluster.end(2, end_time_ms=3_000)
    for _ in range(2):
        for each in (event, again):
            with pytest.raises(ConflictError) as refused:
                await erase(cluster, each)
            assert refused.value.reason == "EXECUTION_KEEPS_TURN"
        await cluster.state.delete([1])
        assert await cluster.state.expire(ended_before_ms=2_001) == 0
        assert [each.seq for each in await cluster.state.kept_turns()] == [1]
        assert await cluster.state.find(event.event_id) is not None
        await cluster.restart()
    await cluster.state.write([TurnReleased(1)])
    assert await cluster.state.kept_turns() == []
    assert (await erase(cluster, event)).execution_ids == (event.event_id, again.event_id)


async def test_a_repeated_event_is_a_new_one_after_its_erasure(cluster, new_event):
    event = new_event(dedupe_key="k", dedupe_until_ms=2**45)
    await cluster.append(event)
    await cluster.end(1)
    await erase(cluster, event)
    assert await cluster.log.append([event]) == [Appended(2)]


@pytest.mark.parametrize("seed", range(3))
async def test_nothing_is_left_whatever_was_written_before_it_and_beside_it(cluster, new_event, left, seed):
    """Rows that come into the middle of full pages split these, and pages become free and are used again."""
    choose = random.Random(seed)
    await cluster.restart(StorageLimits())
    events, indexes, kept = {}, {}, {}
    marks = {}
    for _ in range(40):
        event = new_event()
        mark = b"<%s>" % event.event_id.encode()
        event = event._replace(
            payload=mark * choose.randint(1, 900), attributes=(("c", mark.decode() * choose.randint(1, 5)),)
        )
        (seq,) = await cluster.append(event)
        events[seq], indexes[seq], marks[seq] = event, itertools.count(), mark
    unended = set(events)
    while unended:
        seq = choose.choice(sorted(unended))
        output = marks[seq] * choose.choice([1, 5, 60, 300, 2000])
        index = next(indexes[seq])
        compacts = choose.random() < 0.2
        entry = JournalEntry(f"/do/{index}", output)
        await cluster.state.write([Journaled(seq, index, entry, compacts=compacts, history=output[:700])])
        if index > choose.randint(2, 9):
            unended.remove(seq)
            await cluster.state.write([Ended(seq, Status.COMPLETED, 2_000, 1, output)])
    erased = set(choose.sample(sorted(events), 20))
    for seq in events.keys() - erased:
        kept[seq] = await cluster.state.content(seq)
    for seq in erased:
        await erase(cluster, events[seq])
    assert [seq for seq in erased if left(b"<%s" % events[seq].event_id.encode())] == []
    assert {seq: await cluster.state.content(seq) for seq in kept} == kept
