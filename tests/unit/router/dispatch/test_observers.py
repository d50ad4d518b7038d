"""Who waits for ends and who watches changes: told in order, and bounded."""

from __future__ import annotations

import asyncio

import pytest

from flowhook.errors import ExhaustedError, UnavailableError
from flowhook.model import Status
from router.dispatch import observers
from router.dispatch.observers import EndFeed, ExecutionWatchers, ReplyWaiters
from router.storage.model import Ended, ExecutionRecord


def end(seq):
    return Ended(seq, Status.COMPLETED, 1, 1)


def record(seq, status=Status.PENDING, flow_id="a"):
    return ExecutionRecord(seq, f"evt_{seq}", flow_id, 1, status, 0, 1, None, None, "")


class Records:
    """What watchers read: one read at a time is let through."""

    def __init__(self):
        self.now = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.error = None
        self.reads = []

    async def __call__(self, seqs):
        self.reads.append(seqs)
        found = {seq: self.now.get(seq, record(seq)) for seq in seqs}
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return found


@pytest.fixture
async def records():
    return Records()


@pytest.fixture
async def watchers(records):
    watchers = ExecutionWatchers(records)
    telling = asyncio.create_task(watchers.run())
    yield watchers
    telling.cancel()


async def test_all_who_wait_for_an_execution_learn_of_its_end_and_nobody_else():
    waiters = ReplyWaiters()
    with waiters.place() as first, waiters.place() as second, waiters.place() as other:
        futures = [first.wait_for(1), second.wait_for(1), other.wait_for(2)]
        waiters.ended(end(1))
        assert [future.done() for future in futures] == [True, True, False]
        assert futures[0].result() == end(1)


async def test_a_place_is_free_again_and_nothing_is_kept_when_a_caller_left():
    waiters = ReplyWaiters(limit=1)
    for _ in range(3):
        with waiters.place() as place:
            place.wait_for(1)
            with pytest.raises(ExhaustedError) as caught, waiters.place():
                pass
            assert caught.value.reason == "TOO_MANY_WAITERS"
    assert waiters._waiters == {}


async def test_callers_wait_with_as_many_bytes_as_there_may_be():
    waiters = ReplyWaiters(max_bytes=10)
    with waiters.place(6):
        with pytest.raises(ExhaustedError) as caught, waiters.place(5):
            pass
        assert caught.value.reason == "TOO_MANY_WAITERS"
        with waiters.place(4):
            pass
    with waiters.place(10):
        pass


async def test_one_who_left_does_not_keep_others_from_learning():
    waiters = ReplyWaiters()
    with waiters.place() as stays:
        future = stays.wait_for(1)
        with waiters.place() as leaves:
            leaves.wait_for(1)
        waiters.ended(end(1))
        assert future.done()


async def test_a_watcher_is_told_of_its_flow_only(watchers, records):
    records.now = {1: record(1, flow_id="a"), 2: record(2, flow_id="b")}
    with watchers.watch("b") as one, watchers.watch("") as every:
        watchers.changed([1, 2])
        assert (await one.next()).record.seq == 2
        assert [(await every.next()).record.seq for _ in range(2)] == [1, 2]


async def test_the_last_state_told_is_the_last_state_there_was_however_slow_reading_is(watchers, records):
    with watchers.watch("") as watcher:
        records.gate.clear()
        records.now[1] = record(1, Status.PENDING)
        watchers.changed([1])
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        records.now[1] = record(1, Status.COMPLETED)
        watchers.changed([1])
        records.gate.set()
        told = [(await watcher.next()).record.status for _ in range(2)]
    assert told == [Status.PENDING, Status.COMPLETED]


async def test_changes_faster_than_reading_are_one(watchers, records):
    with watchers.watch("") as watcher:
        for _ in range(5):
            watchers.changed([1])
        await watcher.next()
        assert records.reads == [[1]]


async def test_a_watcher_that_lags_misses_changes_and_is_told_how_many(watchers, monkeypatch):
    monkeypatch.setattr(observers, "WATCH_QUEUE", 2)
    with watchers.watch("") as slow, watchers.watch("") as quick:
        for seq in range(5):
            watchers.changed([seq])
            await quick.next()
        assert [(await slow.next()).missed for _ in range(2)] == [0, 0]
        watchers.changed([9])
        change = await slow.next()
        assert (change.record.seq, change.missed) == (9, 3)


async def test_changes_that_can_not_be_read_are_missed_not_forgotten(watchers, records):
    with watchers.watch("") as watcher:
        records.error = UnavailableError("away")
        watchers.changed([1, 2])
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        records.error = None
        watchers.changed([3])
        change = await watcher.next()
        assert (change.record.seq, change.missed) == (3, 2)


async def test_what_waits_to_be_read_is_bounded(watchers, records, monkeypatch):
    monkeypatch.setattr(observers, "MAX_CHANGED", 10)
    with watchers.watch("") as watcher:
        watchers.changed(range(15))
        changes = [await watcher.next() for _ in range(10)]
        assert [change.record.seq for change in changes] == list(range(10))
        assert changes[0].missed == 5


async def test_there_are_so_many_watchers_and_no_more(watchers, monkeypatch):
    monkeypatch.setattr(observers, "MAX_WATCHERS", 1)
    with watchers.watch(""):
        with pytest.raises(ExhaustedError) as caught, watchers.watch(""):
            pass
        assert caught.value.reason == "TOO_MANY_WATCHERS"
    with watchers.watch(""):
        pass


async def test_without_watchers_nothing_is_read(watchers, records):
    watchers.changed([1])
    await asyncio.sleep(0)
    assert records.reads == []


async def test_a_reader_takes_the_ends_that_it_awaits_each_once():
    feed, changed = EndFeed(), asyncio.Event()
    reader = feed.reader(changed)
    for seq in (1, 2, 3):
        reader.await_end(seq)
    reader.forget(3)
    feed.publish([end(2), end(3), end(4)])
    assert changed.is_set()
    assert reader.take() == [end(2)]
    feed.publish([end(2)])
    assert reader.take() == []
    feed.publish([end(1)])
    assert reader.take() == [end(1)]


async def test_a_reader_is_not_woken_by_ends_of_others():
    feed, changed = EndFeed(), asyncio.Event()
    feed.reader(changed).await_end(1)
    feed.publish([end(2)])
    assert not changed.is_set()
