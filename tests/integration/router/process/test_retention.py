"""What a router removes by itself: what is past retention, and the oldest of what is too much."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time

import apsw
import pytest
from support.disk_faults import failing_disk
from support.patience import PATIENCE
from support.routers import flow, running_router

from flowhook.errors import NotFoundError, UnavailableError
from flowhook.events import ids
from flowhook.limits import KIB, MIB
from flowhook.model import Flow, Status
from flowhook.process.settings import RouterSettings
from router.flows.event_triggers import parse_triggers
from router.process.retention import CONFIRM_MS, MAX_JUMP_MS, RetentionClock, RetentionKeeper
from router.storage.blobs import named_blobs
from router.storage.limits import RESERVE_BYTES, StorageLimits
from router.storage.model import Ended, NewEvent, TurnKept
from router.storage.registry import FlowDraft
from router.storage.schema import connect_reader
from router.storage.storage import open_storage

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
MINUTE_MS = 60_000


class Stored:
    """A storage with executions, and its retention, whose clock stands still."""

    def __init__(self, storage, state, **settings):
        self.storage, self.state, self.now_ms = storage, state, time.time_ns() // 1_000_000
        self._sweeps = 0
        self.retention = RetentionKeeper(
            settings=RouterSettings(**{"retention_min_seconds": 60, **settings}),
            state=state,
            bodies=self,
            registry=storage.registry,
            now_ms=lambda: self.now_ms,
            look_seconds=0.001,
            block=16,
        )

    @property
    def removed(self):
        return {reason: self.retention.removed[reason] for reason in ("age", "size")}

    def sweep(self, **_):
        self._sweeps += 1

    def keep(self, flow_id, **retention):
        found = Flow(flow_id, b"", b"", 1, False, True, 1, 1)
        self.retention.react(found, parse_triggers({"execution": {"retention": retention}}))

    async def accept(self, count, flow_id="hello", *, size=KIB, ago_ms=HOUR_MS, ends=True):
        """Accept executions, which ended so long ago unless they do not end; return their numbers."""
        time_ms = self.now_ms - ago_ms
        events = [NewEvent(ids.mint(ids.slot_of(flow_id)), flow_id, 1, time_ms, b"x" * size) for _ in range(count)]
        seqs = [each.seq for each in await self.storage.log.append(events)]
        if ends:
            await self.state.write([Ended(seq, Status.COMPLETED, time_ms, 1, b"{}") for seq in seqs])
        return seqs

    async def fill(self, count):
        while True:
            await self.accept(count)

    async def left(self, seqs):
        return sorted(await self.state.records(seqs))

    async def sweep_twice(self):
        """Let everything be removed that is to be removed: what a sweep that began after this call removes is gone."""
        running, before = asyncio.create_task(self.retention.run()), self._sweeps
        async with asyncio.timeout(PATIENCE):
            while self._sweeps < before + 2 and not running.done():
                await asyncio.sleep(0.001)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@contextlib.asynccontextmanager
async def stored_in(directory, *, max_bytes=0, limits=None, **settings):
    storage = await open_storage(
        directory / "flowhook.db", max_bytes=max_bytes, **({} if limits is None else {"limits": limits})
    )
    yield Stored(storage, await storage.own(), **settings)
    await storage.close()


async def until(happened):
    async with asyncio.timeout(PATIENCE):
        while not await happened():
            await asyncio.sleep(0.01)


async def is_writable(storage):
    return not await storage.lack()


def disk_free(monkeypatch, size):
    """Let the disk have so much room; return a function that changes that."""

    def set_(size):
        monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result((1, 1, 1 << 40, 1 << 40, size, 0, 0, 0, 0, 255)))

    set_(size)
    return set_


async def test_former_revisions_go_when_they_are_past_and_no_execution_is_of_them(tmp_path):
    async with stored_in(tmp_path, limits=StorageLimits(revisions=2), retention_seconds=0.001) as stored:
        registry = stored.storage.registry
        for revision in range(1, 6):
            await registry.apply_flows([FlowDraft("hello", b"%d" % revision, b"{}", has_webhook=True)], now_ms=revision)
        await stored.accept(1, ends=False)
        await stored.sweep_twice()
        assert [number for number in range(1, 6) if await registry.get_flow("hello", revision=number)] == [1, 4, 5]


async def test_a_revision_that_is_gone_is_not_found(tmp_path):
    async with running_router(tmp_path / "data") as router, router.client() as client:
        await client.flows.apply([flow("hello")])
        with pytest.raises(NotFoundError, match="flow hello has no revision 2"):
            await client.flows.get("hello", revision=2)


async def test_the_executions_that_ended_first_go_until_the_data_is_small_enough(tmp_path):
    async with stored_in(tmp_path, retention_bytes=2 * MIB) as stored:
        seqs = [
            seq for age in range(40) for seq in await stored.accept(100, f"flow-{age % 3}", ago_ms=10 * DAY_MS - age)
        ]
        assert await stored.state.stored_bytes() > 5 * MIB
        await stored.sweep_twice()
        assert 1.8 * MIB < await stored.state.stored_bytes() <= 2 * MIB
        left = await stored.left(seqs)
        assert left == seqs[-len(left) :]
        assert stored.removed == {"age": 0, "size": len(seqs) - len(left)}


async def test_large_bodies_count_and_no_more_of_them_goes_than_has_to(tmp_path):
    async with stored_in(tmp_path, retention_bytes=10 * MIB) as stored:
        seqs = await stored.accept(8, size=2 * MIB)
        await stored.sweep_twice()
        assert await stored.left(seqs) == seqs[-4:]  # the tables take some, too
        assert sum(path.stat().st_size for path in tmp_path.glob("blobs/*/*")) == 8 * MIB


async def test_what_has_not_ended_or_keeps_its_turn_or_is_young_stays_however_much_it_is(tmp_path):
    async with stored_in(tmp_path, retention_bytes=1) as stored:
        stored.keep("hello", size="1MiB")
        unended = await stored.accept(200, size=8 * KIB, ends=False)
        turns = await stored.accept(200, size=8 * KIB)
        await stored.state.write([TurnKept(seq) for seq in turns])
        old = await stored.accept(200, size=8 * KIB)
        young = await stored.accept(200, size=8 * KIB, ago_ms=MINUTE_MS // 2)
        await stored.sweep_twice()
        assert await stored.left(unended + turns + old + young) == unended + turns + young
        assert stored.removed == {"age": 0, "size": len(old)}


async def test_a_flow_has_a_size_and_those_that_were_accepted_first_go(tmp_path):
    async with stored_in(tmp_path) as stored:
        stored.keep("hello", size="1MiB")
        seqs, others = [], []
        for _ in range(20):
            seqs += await stored.accept(100)
            others += await stored.accept(50, "other")
        await stored.sweep_twice()
        left = await stored.left(seqs)
        assert left == seqs[-len(left) :]
        assert 0.95 * MIB < len(left) * (KIB + 400) <= 1 * MIB
        assert await stored.left(others) == others
        assert stored.removed == {"age": 0, "size": len(seqs) - len(left)}


async def test_what_was_deleted_otherwise_does_not_count_any_more(tmp_path):
    """Else the oldest would go in place of those that are not there."""
    async with stored_in(tmp_path) as stored:
        stored.keep("hello", size="1MiB")
        seqs = await stored.accept(600)
        await stored.sweep_twice()
        for start in range(300, 600, 100):
            await stored.state.delete(seqs[start : start + 100])
        later = await stored.accept(300)
        await stored.sweep_twice()
        assert await stored.left(seqs + later) == seqs[:300] + later


async def test_executions_that_end_later_count_once_they_have_ended(tmp_path):
    async with stored_in(tmp_path) as stored:
        stored.keep("hello", size="1MiB")
        seqs = await stored.accept(1200, ends=False)
        await stored.sweep_twice()
        assert await stored.left(seqs) == seqs
        end_ms = stored.now_ms - 2 * MINUTE_MS
        for start in range(0, 1200, 100):
            ended = seqs[start : start + 100]
            await stored.state.write([Ended(seq, Status.COMPLETED, end_ms, 1, b"{}") for seq in ended])
        await stored.sweep_twice()
        left = await stored.left(seqs)
        assert left == seqs[-len(left) :]
        assert 0.95 * MIB < len(left) * (KIB + 400) <= 1 * MIB


async def test_a_flow_has_an_age_that_is_less_or_more_than_that_of_others(tmp_path):
    async with stored_in(tmp_path, retention_seconds=10 * 86_400) as stored:
        stored.keep("brief", age="P1D")
        stored.keep("long", age="P20D")
        kept, gone = [], []
        for flow_id, days in (("brief", 1), ("other", 10), ("long", 20)):
            gone += await stored.accept(150, flow_id, ago_ms=days * DAY_MS + HOUR_MS)
        for flow_id, days in (("brief", 1), ("other", 10), ("long", 20)):
            kept += await stored.accept(150, flow_id, ago_ms=days * DAY_MS - HOUR_MS)
        await stored.sweep_twice()
        assert await stored.left(gone + kept) == kept
        assert stored.removed == {"age": len(gone), "size": 0}
        stored.retention.remove("long")
        await stored.sweep_twice()
        assert await stored.left(kept) == kept[:300]  # it is as others are


async def test_an_execution_that_took_long_or_whose_sender_has_a_wrong_clock_delays_no_other(tmp_path):
    async with stored_in(tmp_path) as stored:
        stored.keep("hello", age="P1D")
        long = await stored.accept(1, ago_ms=3 * DAY_MS, ends=False)
        await stored.state.write([Ended(long[0], Status.COMPLETED, stored.now_ms - HOUR_MS, 1, b"{}")])
        wrong = [
            each.seq
            for each in await stored.storage.log.append(
                [NewEvent(ids.mint(ids.slot_of("hello")), "hello", 1, stored.now_ms + 300 * DAY_MS, b"x")]
            )
        ]
        gone = await stored.accept(300, ago_ms=2 * DAY_MS)
        await stored.sweep_twice()
        assert await stored.left(long + wrong + gone) == long + wrong


async def test_a_full_storage_takes_events_again_once_the_oldest_have_gone(tmp_path):
    async with stored_in(tmp_path, max_bytes=4 * MIB, retention_bytes=2 * MIB) as stored:
        with pytest.raises(UnavailableError, match="full"):
            await stored.fill(50)
        await stored.sweep_twice()
        assert not await stored.storage.lack()
        assert len(await stored.accept(50)) == 50


async def test_a_full_disk_refuses_events_while_there_is_room_to_remove_what_is_too_much(tmp_path, monkeypatch):
    free = disk_free(monkeypatch, 1 << 30)
    with failing_disk() as disk:
        async with stored_in(tmp_path, retention_bytes=2 * MIB) as stored:
            await stored.accept(4000)
            disk.fill(32 * MIB)
            free(RESERVE_BYTES - 1)
            with pytest.raises(UnavailableError, match="full"):
                await stored.fill(20)
            assert await stored.storage.lack()
            await stored.sweep_twice()
            assert stored.removed["size"] > 1000
            free(RESERVE_BYTES + 10 * MIB)
            await until(lambda: is_writable(stored.storage))
            for _ in range(100):  # in the space that is free now
                await stored.accept(10)
        assert disk.failures == 0


async def test_a_clock_that_was_set_forward_removes_nothing_before_it_was_so_for_a_day(tmp_path):
    async with stored_in(tmp_path, retention_seconds=30 * 86_400) as stored:
        seqs = await stored.accept(10)
        await stored.sweep_twice()
        stored.now_ms += 365 * DAY_MS
        await stored.sweep_twice()
        assert await stored.left(seqs) == seqs
        again = Stored(stored.storage, stored.state, retention_seconds=30 * 86_400)
        again.now_ms += 365 * DAY_MS
        await again.sweep_twice()  # a restart does not make it believed
        assert await stored.left(seqs) == seqs


def test_a_clock_is_believed_within_a_day_or_after_a_day_and_at_once_when_it_is_behind():
    now, year = 1_800_000_000_000, 365 * DAY_MS
    clock = RetentionClock()
    assert clock.advance(now, 0) == now
    assert clock.advance(now + MAX_JUMP_MS, 0) == now + MAX_JUMP_MS
    assert clock.advance(now, MINUTE_MS) == now
    for minutes in range(1, CONFIRM_MS // MINUTE_MS):
        assert clock.advance(now + year + minutes * MINUTE_MS, MINUTE_MS) == now + minutes * MINUTE_MS
    assert clock.advance(now + year + CONFIRM_MS, MINUTE_MS) == now + year + CONFIRM_MS
    assert clock.waited_ms == 0


def test_a_clock_that_is_set_right_in_time_is_believed_and_the_next_jump_waits_for_a_day_again():
    now, year = 1_800_000_000_000, 365 * DAY_MS
    clock = RetentionClock(now)
    assert clock.advance(now + year, CONFIRM_MS - 1) == now + CONFIRM_MS - 1
    assert clock.advance(now + CONFIRM_MS, 1) == now + CONFIRM_MS
    assert clock.advance(now + year, 1) == now + CONFIRM_MS + 1


WORK = """
import asyncio, os, pathlib, sys, time
from flowhook import limits
from flowhook.events import ids
from flowhook.model import Flow, Status
from flowhook.process.settings import RouterSettings
from router.flows.event_triggers import parse_triggers
from router.process.retention import RetentionKeeper
from router.storage.model import Ended, NewEvent
from router.storage import vacuum
from router.storage.storage import open_storage

vacuum.KEPT_PAGES, vacuum.LOOK_SECONDS = 8, 0.01

def now_ms():
    return time.time_ns() // 1_000_000

async def main():
    storage = await open_storage(pathlib.Path(sys.argv[1]))
    state = await storage.own()
    settings = RouterSettings(retention_bytes=4 << 20, retention_min_seconds=0)
    retention = RetentionKeeper(
        settings=settings, state=state, bodies=storage.bodies, registry=storage.registry, now_ms=now_ms,
        look_seconds=0.001, block=16,
    )
    triggers = parse_triggers({"execution": {"retention": {"size": "1MiB"}}})
    retention.react(Flow("small", b"", b"", 1, False, True, 1, 1), triggers)
    running = asyncio.create_task(retention.run())
    while True:
        for flow_id in ("small", "other"):
            sizes = [1000] * 20 + [limits.INLINE_BODY_BYTES + 1]
            events = [NewEvent(ids.mint(1), flow_id, 1, now_ms(), os.urandom(size)) for size in sizes]
            seqs = [each.seq for each in await storage.log.append(events)]
            await state.write([Ended(seq, Status.COMPLETED, now_ms(), 1, b"1") for seq in seqs[:-2] + seqs[-1:]])
            os.write(2, b"%d\\n" % seqs[-2])  # it has not ended

asyncio.run(main())
"""


async def test_kill_9_in_the_middle_loses_nothing_that_stays_and_leaves_nothing_that_goes(tmp_path):
    path, unended = tmp_path / "flowhook.db", []
    for number in range(2):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", WORK, str(path), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
        unended += [int(await process.stderr.readline()) for _ in range(12 + 13 * number)]
        process.kill()
        unended += map(int, (await process.stderr.read()).split())
        await process.wait()
        with contextlib.closing(apsw.Connection(str(path))) as connection:
            assert connection.execute("PRAGMA integrity_check").get == "ok"
        async with stored_in(tmp_path) as stored:
            assert await stored.left(unended) == unended
            blobs = {f"{each.parent.name}/{each.name}" for each in tmp_path.glob("blobs/*/*")}
            with contextlib.closing(connect_reader(path)) as connection:
                assert blobs == named_blobs(connection)
    async with stored_in(tmp_path, retention_bytes=1, retention_min_seconds=0) as stored:
        stored.now_ms += MINUTE_MS
        await stored.sweep_twice()
        with contextlib.closing(connect_reader(path)) as connection:
            left = [seq for (seq,) in connection.execute("SELECT seq FROM execution ORDER BY seq")]
        assert left == unended
        assert list(tmp_path.glob("blobs/*/*")) == []
