"""Watchers of changes: told in order, and bounded."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from flowhook.errors import ExhaustedError, UnavailableError
from flowhook.model import Status
from flowhook.sharing import Principal, current_principal
from flowhook.sharing.table import RouterLimits
from router.dispatch import observers
from router.dispatch.observers import ExecutionWatchers
from router.storage.model import ExecutionRecord


def record(seq, status=Status.PENDING, flow_id="a"):
    return ExecutionRecord(f"evt_{seq}", flow_id, 1, status, 0, 1, seq=seq)


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
    watchers = ExecutionWatchers(records, RouterLimits().execution_watches)
    telling = asyncio.create_task(watchers.run())
    yield watchers
    telling.cancel()


async def test_a_watcher_gets_its_flow_only(watchers, records):
    records.now = {1: record(1, flow_id="a"), 2: record(2, flow_id="b")}
    with watchers.watch("b") as one, watchers.watch("") as every:
        watchers.changed([1, 2])
        assert (await one.next()).record.seq == 2
        assert [(await every.next()).record.seq for _ in range(2)] == [1, 2]


async def test_the_last_state_reported_is_the_last_state_there_was_however_slow_reading_is(watchers, records):
    with watchers.watch("") as watcher:
        records.gate.clear()
        records.now[1] = record(1, Status.PENDING)
        watchers.changed([1])
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        records.now[1] = record(1, Status.COMPLETED)
        watchers.changed([1])
        records.gate.set()
        reported = [(await watcher.next()).record.status for _ in range(2)]
    assert reported == [Status.PENDING, Status.COMPLETED]


async def test_changes_faster_than_reading_are_one(watchers, records):
    with watchers.watch("") as watcher:
        for _ in range(5):
            watchers.changed([1])
        await watcher.next()
        assert records.reads == [[1]]


async def test_a_watcher_that_lags_misses_changes_and_learns_how_many(watchers, monkeypatch):
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


async def test_a_caller_has_a_share_of_the_watchers(records):
    watchers = ExecutionWatchers(records, replace(RouterLimits().execution_watches, total=4))
    current_principal.set(Principal("token", "a"))
    with watchers.watch(""):
        with pytest.raises(ExhaustedError) as caught, watchers.watch(""):
            pass
        assert caught.value.reason == "TOO_MANY_WATCHERS"
        current_principal.set(Principal("token", "b"))
        with watchers.watch(""):
            pass


async def test_without_watchers_nothing_is_read(watchers, records):
    watchers.changed([1])
    await asyncio.sleep(0)
    assert records.reads == []
