"""After a power loss at any moment the embedded storage holds all that it acknowledged, and each change whole.

So it does if the disk failed before, at writes and at syncs.

`make test` cuts the power a hundred times, `make test-release` 400 times, and `FLOWHOOK_POWER_LOSSES=20000` that often.
"""

import asyncio
import os
import random
from typing import NamedTuple

import pytest
from support.disk_faults import SYNC, WRITE, failing_disk
from support.power_loss import Disk, FailedSync, recording

from flowhook.errors import UnavailableError
from flowhook.events import ids
from flowhook.model import JournalEntry, Status
from router.storage.changes import StateChangeOperation
from router.storage.event_log import AppendOperation, EventBatch
from router.storage.model import Ended, Journaled, NewEvent, Started
from router.storage.schema import CODES, connect_writer
from router.storage.writer import TransactionLog, Writer

LOSSES = int(os.environ.get("FLOWHOOK_POWER_LOSSES", "400"))
ROUNDS = 60
CAMPAIGNS = pytest.mark.parametrize("losses", [100, pytest.param(LOSSES, marks=pytest.mark.release)])
CHECKPOINT_PAGES = 25
"""A checkpoint every few commits, so that the power is often lost within one."""


class Stored(NamedTuple):
    """Entry of the log: these events were acknowledged."""

    seqs: tuple


class Finished(NamedTuple):
    """Entry of the log: the ends of these executions were acknowledged."""

    outputs: dict


async def work(path, log, seed, synchronous, disk=None):
    """Append batches and end what they started, several at a time, and note in the log what is acknowledged.

    A `disk` fails now and then.
    """
    chance = random.Random(seed)
    connection = connect_writer(path)
    connection.pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
    if synchronous:
        connection.pragma("synchronous", synchronous)
    append, change = AppendOperation(lambda _: 1 << 40), StateChangeOperation()
    writer = Writer(connection, [append, change], TransactionLog())
    writer.start()
    batches = []

    async def accept_and_finish(number):
        events = [
            NewEvent(ids.mint(7), "shop", 1, 1_000, chance.randbytes(chance.choice((10, 900, 9_000))))
            for _ in range(chance.randint(1, 3))
        ]
        batches.append({event.event_id for event in events})
        result = await writer.call(append, EventBatch(events, {}, 0))
        seqs = tuple(appended.seq for appended in result.appended)
        log.append(Stored(seqs))
        entry = JournalEntry("/do/0/a#0", b"%d" % number)
        await writer.call(change, [each for seq in seqs for each in (Started(seq, 1), Journaled(seq, 0, entry))])
        outputs = {seq: chance.randbytes(chance.choice((2, 3_000))) for seq in seqs}
        await writer.call(change, [Ended(seq, Status.COMPLETED, 2_000, 1, out) for seq, out in outputs.items()])
        log.append(Finished(outputs))

    first = 0
    # how much of it a failing disk lets through is up to chance: until it is enough
    while first < ROUNDS or sum(isinstance(entry, Stored | Finished) for entry in log) <= ROUNDS // 2:
        if disk is not None:
            disk.heal()
            disk.fail(chance.choice((WRITE, SYNC)), chance.randint(1, 12), lasting=chance.random() < 0.3)
        outcomes = await asyncio.gather(*(accept_and_finish(first + each) for each in range(3)), return_exceptions=True)
        failed = [outcome for outcome in outcomes if outcome is not None]
        assert disk is not None or not failed
        assert all(isinstance(outcome, UnavailableError) for outcome in failed), failed
        first += 3
    await writer.close()
    connection.close()
    return batches


def check(path, batches, acknowledged):
    connection = connect_writer(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    event_ids = dict(connection.execute("SELECT seq, event_id FROM execution"))
    status = dict(connection.execute("SELECT seq, status FROM execution"))
    outputs = dict(connection.execute("SELECT seq, output FROM outcome"))
    payloads = {seq for (seq,) in connection.execute("SELECT seq FROM event")}
    connection.close()
    for entry in acknowledged:
        if isinstance(entry, Stored):
            assert set(entry.seqs) <= status.keys(), "an acknowledged event is lost"
        else:
            assert entry.outputs.items() <= outputs.items(), "an acknowledged end is lost"
    assert payloads == status.keys()
    assert outputs.keys() == {seq for seq, code in status.items() if code == CODES[Status.COMPLETED]}
    for stored in (set(event_ids.values()), {event_ids[seq] for seq in outputs}):
        assert all(len(batch & stored) in (0, len(batch)) for batch in batches), "half of a call is there"


async def lose_power(tmp_path, losses, synchronous="", *, failing=False):
    """Record some work, and check what is left of it after power losses at random moments."""
    seed = random.randrange(2**32)
    with recording() as vfs, failing_disk() as faulty:
        faulty.on_failed_sync = lambda name: vfs.log.append(FailedSync(name))
        batches = await work(tmp_path / "flowhook.db", vfs.log, seed, synchronous, faulty if failing else None)
    chance = random.Random(seed)
    cuts = sorted(chance.choices(range(len(vfs.log) + 1), k=losses))
    disk, acknowledged, position = Disk(chance), [], 0
    for number, cut in enumerate(cuts):
        for entry in vfs.log[position:cut]:
            if isinstance(entry, Stored | Finished):
                acknowledged.append(entry)
            else:
                disk.apply(entry)
        position = cut
        image = tmp_path / str(number)
        image.mkdir()
        disk.lose_power(image)
        try:
            check(image / "flowhook.db", batches, acknowledged)
        except Exception as error:
            raise AssertionError(f"seed {seed}: cut {cut} of {len(vfs.log)}, image in {image}") from error
        for file in image.iterdir():
            file.unlink()
    assert len(acknowledged) > (ROUNDS // 3 if failing else ROUNDS)
    assert bool(faulty.failures) == failing


@CAMPAIGNS
async def test_all_that_was_acknowledged_survives_a_power_loss_at_any_moment(tmp_path, losses):
    await lose_power(tmp_path, losses)


@CAMPAIGNS
async def test_all_that_was_acknowledged_survives_a_power_loss_after_failures_of_the_disk(tmp_path, losses):
    await lose_power(tmp_path, losses, failing=True)


async def test_the_check_finds_what_a_database_that_syncs_less_often_loses(tmp_path):
    with pytest.raises(AssertionError, match="seed") as raised:
        await lose_power(tmp_path, 400, synchronous="NORMAL")
    assert "an acknowledged" in str(raised.value.__cause__)
