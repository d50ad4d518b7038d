"""kill -9 at any moment leaves a database that opens and holds every acknowledged write."""

import asyncio
import sys

import pytest

from flowhook.model import Status
from router.storage.storage import open_storage

WRITE = """
import asyncio, itertools, os, pathlib, sys, time
from flowhook import limits
from flowhook.events import ids
from flowhook.model import JournalEntry, Status
from router.storage.model import Ended, Journaled, NewEvent, Started
from router.storage.storage import open_storage

def say(*words):
    os.write(1, (" ".join(words) + "\\n").encode())

async def work(log, state, worker):
    for number in itertools.count():
        size = limits.INLINE_BODY_BYTES + 1 if number % 20 == worker else 1000
        events = [NewEvent(ids.mint(1), "shop", 1, 1, os.urandom(size)) for _ in range(5)]
        appended = await log.append(events)
        for event, (seq, *_) in zip(events, appended):
            say("appended", event.event_id, str(seq))
        seqs = [seq for seq, *_ in appended]
        await state.write([Started(seq, 1) for seq in seqs])
        await state.write([Journaled(seq, 0, JournalEntry("k", b"1")) for seq in seqs])
        await state.write([Ended(seq, Status.COMPLETED, 5, 1, b"1") for seq in seqs[:3]])
        for event in events[:3]:
            say("ended", event.event_id)

async def main():
    storage = await open_storage(pathlib.Path(sys.argv[1]))
    state = await storage.own()
    await asyncio.gather(*(work(storage.log, state, worker) for worker in range(8)))

asyncio.run(main())
"""


@pytest.mark.parametrize("rounds", [2, pytest.param(5, marks=pytest.mark.release)])
async def test_every_acknowledged_write_survives_kill_9(path, rounds):
    appended: dict[str, int] = {}
    ended: set[str] = set()
    for round_number in range(rounds):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", WRITE, str(path), stdout=asyncio.subprocess.PIPE
        )
        # Killed after another number of acknowledgements each time, in the middle of whatever it does then.
        message = b"".join([await process.stdout.readline() for _ in range(200 + 157 * round_number)])
        process.kill()
        message += await process.stdout.read()
        assert await process.wait() == -9
        storage = await open_storage(path)
        state = await storage.own()
        for line in message.decode().splitlines():
            match line.split():
                case ["appended", event_id, seq]:
                    appended[event_id] = int(seq)
                case ["ended", event_id]:
                    ended.add(event_id)
        records = {event_id: await state.find(event_id) for event_id in appended}
        assert {event_id: record and record.seq for event_id, record in records.items()} == appended
        assert {records[event_id].status for event_id in ended} <= {Status.COMPLETED}
        unfinished = await state.unfinished(limit=1_000_000)
        missing = [execution.seq for execution in unfinished]
        while missing:
            work = await state.work(missing)
            assert work
            missing = [seq for seq in missing if seq not in work]
        await storage.close()
    assert len(ended) > 100
