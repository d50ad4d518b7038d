"""A disk that fails or fills loses nothing that the embedded storage acknowledged, and stores nothing that it refused.

Random work meets a fault at a random operation of the disk; then the disk works again, and so must the storage. The
suite does that some dozen times; `FLOWHOOK_DISK_FAULTS=20000` does it that often.
"""

import asyncio
import os
import random
import shutil
from contextlib import asynccontextmanager

import pytest
from support.disk_faults import OPEN, SYNC, WRITE, failing_disk
from support.patience import PATIENCE

from flowhook import limits
from flowhook.errors import UnavailableError
from flowhook.events import ids
from flowhook.model import JournalEntry, Status
from router.storage.model import Ended, Journaled, NewEvent, NewInboundEvent, Started
from router.storage.registry import FlowDraft
from router.storage.storage import open_storage

FAULTS = int(os.environ.get("FLOWHOOK_DISK_FAULTS", "28"))
CALLERS = 3
CHECKPOINT_PAGES = 40
"""A checkpoint every few commits, so that faults often occur within one."""
REASONS = {WRITE: "STORAGE_UNAVAILABLE", SYNC: "STORAGE_UNAVAILABLE", OPEN: "STORAGE_UNAVAILABLE", "": "STORAGE_FULL"}


@asynccontextmanager
async def closing(storage):
    try:
        yield storage
    finally:
        await storage.close()


class Work:
    """What callers asked of a storage, and whether it was acknowledged or refused."""

    def __init__(self, chance):
        self._chance = chance
        self._number = 0
        self.events = {}
        self.ends = {}
        self.arrivals = {}
        self.flows = {}
        self.refused = 0
        self.uncertain = set()
        self.reasons = set()

    async def do(self, storage, state, steps):
        """Make calls of all kinds, some at a time."""
        for _ in range(steps):
            await asyncio.gather(*(self._step(storage, state) for _ in range(CALLERS)))

    async def finish(self, state):
        """End all that was accepted, which has to succeed."""
        open_ = {seq for seqs in self.events.values() if seqs for seq in seqs if not self.ends.get(seq)}
        await state.write([Ended(seq, Status.COMPLETED, 2_000, 1, b"%d" % seq) for seq in open_])
        self.ends.update(dict.fromkeys(open_, True))

    async def _step(self, storage, state):
        self._number += 1
        number, chance = self._number, self._chance
        kind = chance.choice(("accept", "accept", "arrive", "apply", "read"))
        if kind == "arrive":
            arrival = NewInboundEvent(f"evt_{number}", "shop", True, f"evt_{number}", 1, chance.randbytes(900), 2**45)
            await self._call(storage.log.append_inbound([arrival]), self.arrivals, f"evt_{number}")
        elif kind == "apply":
            draft = FlowDraft(f"flow-{number}", chance.randbytes(5_000), b"{}", has_webhook=True)
            await self._call(storage.registry.apply_flows([draft], now_ms=1), self.flows, draft.id)
        elif kind == "read":
            await self._call(state.unfinished(), {}, number)
        else:
            await self._accept_and_end(storage, state)

    async def _accept_and_end(self, storage, state):
        sizes = self._chance.choices((10, 900, 9_000, limits.INLINE_BODY_BYTES + 1), (8, 8, 8, 1), k=3)
        flow_id = f"shop-{self._chance.randrange(50)}"
        events = [NewEvent(ids.mint(7), flow_id, 1, 1_000, self._chance.randbytes(size)) for size in sizes]
        key = tuple(event.event_id for event in events)
        appended = await self._call(storage.log.append(events), self.events, key)
        if appended is None:
            return
        seqs = self.events[key] = tuple(each.seq for each in appended)
        entry = JournalEntry("/do/0/a#0", b"1")
        await self._call(
            state.write([each for seq in seqs for each in (Started(seq, 1), Journaled(seq, 0, entry))]), {}, key
        )
        ended = await self._call(
            state.write([Ended(seq, Status.COMPLETED, 2_000, 1, b"%d" % seq) for seq in seqs]), {}, key
        )
        self.ends.update(dict.fromkeys(seqs, ended is not None))

    async def _call(self, call, outcomes, key):
        """Note the outcome under `key`: a true value if it was acknowledged, else false. Return the result."""
        try:
            async with asyncio.timeout(PATIENCE):
                result = await call
        except UnavailableError as error:
            self.refused += 1
            self.reasons.add(error.reason)
            if error.reason != "STORAGE_FULL":
                self.uncertain.add(key)
            outcomes[key] = ()
            return None
        outcomes[key] = True
        return True if result is None else result


async def check(storage, state, work, *, crashed=False):
    """Compare what is stored with what was answered. After a crash, a call that failed at the disk may be stored."""
    present = {}
    for key, seqs in work.events.items():
        found = await state.find_by_ids(key)
        assert len(found) in (0, len(key)), "half of a call is there"
        present[key] = bool(found)
        if seqs:
            assert {each.seq for each in found.values()} == set(seqs)
            assert None not in [await state.content(seq) for seq in seqs]
    arrivals = {each.event.type for each in await state.inbound_events()}
    present |= {key: key in arrivals for key in work.arrivals}
    present |= {key: await storage.registry.get_flow(key) is not None for key in work.flows}
    for key, acknowledged in (work.events | work.arrivals | work.flows).items():
        if acknowledged:
            assert present[key], "an acknowledged call is lost"
        elif not (crashed and key in work.uncertain):
            assert not present[key], "a refused call is there"
    records = await state.records(work.ends)
    for seq, ended in work.ends.items():
        if ended or not crashed:
            assert (records[seq].status is Status.COMPLETED) == ended
    assert not await storage.lack()


async def meet(directory, operation, seed):
    """Have one storage meet one fault; return the number of calls that it refused."""
    chance = random.Random(seed)
    path = directory / "flowhook.db"
    work = Work(chance)
    with failing_disk() as disk:
        storage = await open_storage(path)
        storage._connection.pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
        state = await storage.own()
        if operation == OPEN:  # what reads opens its own connection, at its first call
            disk.fail(OPEN, chance.randint(1, 4), lasting=chance.random() < 0.5)
        else:
            await work.do(storage, state, 2)
        if operation in (WRITE, SYNC):
            disk.fail(operation, chance.randint(1, 30), lasting=chance.random() < 0.5, torn=chance.random())
        elif not operation:
            disk.fill(chance.choice((0, 8_192, 30_000, 100_000)))
        await work.do(storage, state, 6)
        crash = directory / "crashed"
        crash.mkdir()
        for name in ("flowhook.db", "flowhook.db-wal"):  # as they are now, so that a kill leaves them
            shutil.copy(directory / name, crash)
        if (directory / "blobs").exists():
            shutil.copytree(directory / "blobs", crash / "blobs")
        disk.heal()
        assert work.reasons <= {REASONS[operation]}
        await check(storage, state, work)
        crashed = await open_storage(crash / "flowhook.db")
        await check(crashed, await crashed.own(), work, crashed=True)
        await crashed.close()
        refused = work.refused
        await work.do(storage, state, 2)
        assert work.refused == refused, "it still refuses calls although the disk works again"
        await work.finish(state)
        await storage.close()
    storage = await open_storage(path)
    await check(storage, await storage.own(), work)
    assert await (await storage.own()).unfinished() == []
    await storage.close()
    return refused


@pytest.mark.parametrize("operation", [WRITE, SYNC, OPEN, ""], ids=["write", "sync", "open", "full"])
async def test_a_disk_that_fails_or_fills_loses_nothing_and_the_storage_recovers(tmp_path, operation):
    refused = 0
    for _ in range(FAULTS // 4):
        seed = random.randrange(2**32)
        directory = tmp_path / str(seed)
        directory.mkdir()
        try:
            refused += await meet(directory, operation, seed)
        except Exception as error:
            raise AssertionError(f"seed {seed}, data in {directory}") from error
        shutil.rmtree(directory)
    assert refused


@pytest.mark.parametrize("operation", [WRITE, SYNC, OPEN, ""], ids=["write", "sync", "open", "full"])
async def test_a_storage_that_cannot_be_opened_says_why_and_can_be_opened_later(tmp_path, operation):
    reasons = []
    for number in range(1, 9):
        path = tmp_path / str(number) / "flowhook.db"
        with failing_disk() as disk:
            if operation:
                disk.fail(operation, number, lasting=True)
            else:
                disk.fill(number * 4_096)
            try:
                async with closing(await open_storage(path)) as storage:
                    await storage.own()
            except UnavailableError as error:
                reasons.append(error.reason)
        storage = await open_storage(path)
        [appended] = await storage.log.append([NewEvent(ids.mint(7), "shop", 1, 1_000, b"x")])
        assert appended.seq == 1
        await storage.close()
    assert set(reasons) == {REASONS[operation]}
