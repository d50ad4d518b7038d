"""What happens when SQLite, the disk or a caller fails."""

import asyncio
import contextlib
import resource
import shutil
import subprocess
import sys

import apsw
import pytest
from support.patience import PATIENCE

from flowhook import limits
from flowhook.errors import FlowhookError, InternalError, UnavailableError
from flowhook.model import JournalEntry, Status
from flowhook.sharing.table import RouterLimits
from router.storage.event_log import AppendOperation, EventBatch
from router.storage.limits import StorageLimits
from router.storage.model import (
    Delivered,
    Ended,
    Journaled,
    LifecycleRecorded,
    NewInboundEvent,
    Parked,
    Replied,
    Resolved,
    Started,
)
from router.storage.readers import Readers
from router.storage.schema import PAGE_BYTES, connect_writer
from router.storage.shard_state import approximate_bytes
from router.storage.storage import open_storage
from router.storage.writer import TransactionLog

MAX_BYTES = 2 * limits.MIB
LARGE = b"x" * (limits.INLINE_BODY_BYTES + 1)


class CountingLog(TransactionLog):
    """Counts the transactions that begin."""

    begun = 0

    def begin(self, connection):
        super().begin(connection)
        self.begun += 1


async def fill(storage, new_event):
    """Append until refused; the numbers of what was accepted."""
    seqs = []
    while True:
        try:
            seqs += [appended.seq for appended in await storage.log.append([new_event(b"x" * 1000)])]
        except UnavailableError as error:
            if error.reason != "STORAGE_FULL":
                raise
            return seqs


@pytest.fixture
async def small(path):
    storage = await open_storage(path, max_bytes=MAX_BYTES)
    yield storage
    await storage.close()


async def test_a_full_storage_refuses_events_and_lets_those_it_has_be_finished(path, small, new_event):
    state = await small.own()
    seqs = await fill(small, new_event)
    assert len(seqs) > 500
    assert "FLOWHOOK_STORAGE_MAX_BYTES" in await small.lack()
    for seq in seqs:
        await state.write([Started(seq, 1), Journaled(seq, 0, JournalEntry("/do/0/post#0", b'{"id":"1234567890"}'))])
    for seq in seqs:
        await state.write([Ended(seq, Status.COMPLETED, 1, 1, b'{"ok":true,"id":"1234567890"}')])
    assert await state.unfinished() == []
    assert path.stat().st_size <= MAX_BYTES
    with pytest.raises(UnavailableError):
        await small.log.append([new_event(b"x" * 1000)])
    with pytest.raises(UnavailableError):
        await small.log.append_inbound([NewInboundEvent("evt_1", "shop", True, "approval", 1, b"{}", 2**45)])
    assert await state.inbound_events() == []


def test_it_is_full_although_a_smaller_event_of_the_same_commit_has_room(tmp_path, new_event):
    connection = connect_writer(tmp_path / "flowhook.db")
    append = AppendOperation(room=lambda _: 5_000)
    append.reload(connection)
    refused, stored = append.apply(
        connection, [EventBatch([new_event(b"x" * 6_000)], {}, 6_256), EventBatch([new_event()], {}, 300)]
    )
    connection.close()
    assert (refused.reason, [each.new for each in stored.appended]) == ("STORAGE_FULL", [True])
    assert append.full


@pytest.mark.parametrize(
    "change",
    [
        Ended(1, Status.COMPLETED, 1, 1, b"x" * 400, reply=b"x" * 300, history=b"x" * 250, runner="x" * 50),
        Journaled(1, 0, JournalEntry("/do/0/a#0", b"x" * 700), history=b"x" * 300),
        Parked(1, None, 1, history=b"x" * 1_000),
        Delivered(1, JournalEntry("/do/0/a#0", b"x" * 1_000), 0),
        LifecycleRecorded(1, "type", 1, data=b"x" * 1_000),
        Replied(1, b"x" * 1_000),
        Resolved(1, 1, "x" * 1_000),
    ],
    ids=lambda change: type(change).__name__,
)
def test_the_size_of_a_waiting_change_counts_all_that_it_holds(change):
    assert 1_000 < approximate_bytes(change) <= 1_128


async def test_a_full_storage_takes_events_again_after_expiry(small, new_event):
    state = await small.own()
    seqs = await fill(small, new_event)
    await state.write([Ended(seq, Status.COMPLETED, 1, 1) for seq in seqs])
    assert await state.expire(ended_before_ms=2, limit=len(seqs)) == len(seqs)
    assert not await small.lack()
    [appended] = await small.log.append([new_event(b"x" * 1000)])
    assert appended.seq == seqs[-1] + 1


async def test_nothing_of_a_refused_append_is_there(small, new_event):
    state = await small.own()
    seqs = await fill(small, new_event)
    reported = []
    state.follow(reported.extend)
    refused = [new_event(b"x" * 1000) for _ in range(3)]
    with pytest.raises(UnavailableError):
        await small.log.append(refused)
    assert reported == []
    assert [await state.find(event.event_id) for event in refused] == [None] * 3
    assert len(await state.unfinished(limit=10_000)) == len(seqs)


async def test_the_file_of_a_refused_append_is_removed(path, small, new_event):
    await fill(small, new_event)
    with pytest.raises(UnavailableError):
        await small.log.append([new_event(LARGE), new_event(b"x" * 1000)])
    assert list((path.parent / "blobs").glob("*/*")) == []


async def test_work_is_finished_even_when_new_events_fill_the_last_page_in_the_same_commit(path, new_event, stall):
    # events are not refused before SQLite refuses them
    log = CountingLog()
    storage = await open_storage(path, max_bytes=MAX_BYTES, limits=StorageLimits(append_share=100), transaction_log=log)
    state = await storage.own()
    seqs = [appended.seq for appended in await storage.log.append([new_event() for _ in range(10)])]
    begun = log.begun
    with stall():
        # the writer takes what waits as soon as it gets to run: it shall have something else, and wait for the lock
        first = asyncio.ensure_future(state.write([Started(seqs[0], 1)]))
        await asyncio.sleep(0)
        while log.begun == begun:
            await asyncio.sleep(0)
        too_much = [asyncio.ensure_future(storage.log.append([new_event(b"x" * 500_000)])) for _ in range(6)]
        ends = asyncio.ensure_future(state.write([Ended(seq, Status.COMPLETED, 1, 1) for seq in seqs]))
        await asyncio.sleep(0)
    await first
    await ends
    results = await asyncio.gather(*too_much, return_exceptions=True)
    assert {getattr(result, "reason", "stored") for result in results} == {"STORAGE_FULL"}
    assert await state.unfinished() == []
    [appended] = await storage.log.append([new_event()])
    assert appended.seq == seqs[-1] + 1
    await storage.close()


@contextlib.contextmanager
def no_file_grows_beyond(size):
    """Have the system fail writes beyond an offset, as a failing disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_an_input_output_error_fails_what_was_under_way_and_the_next_call_succeeds(storage, new_event):
    state = await storage.own()
    await storage.log.append([new_event()])
    events = [new_event(b"x" * 1000, flow_id=f"flow-{number}") for number in range(100)]
    with no_file_grows_beyond(PAGE_BYTES):
        results = await asyncio.gather(
            *(storage.log.append([event]) for event in events), state.write([Started(1, 1)]), return_exceptions=True
        )
        assert {type(result).__mro__[1] for result in results} == {UnavailableError}
        assert {result.reason for result in results} == {"STORAGE_UNAVAILABLE"}
        assert "IOERR" in str(results[0])
        assert "IOERR" in await storage.lack()
    assert not await storage.lack()
    assert await state.find(events[0].event_id) is None
    stored = await storage.log.append(events)
    assert [appended.seq for appended in stored] == list(range(2, 102))
    assert [record.flow_id for record in (await state.records(range(2, 102))).values()] == [
        event.flow_id for event in events
    ]


async def test_a_large_payload_that_cannot_be_written_leaves_no_file(path, storage, new_event):
    with no_file_grows_beyond(PAGE_BYTES), pytest.raises(UnavailableError, match="EFBIG"):
        await storage.log.append([new_event(LARGE)])
    assert list((path.parent / "blobs").glob("*/*")) == []


FULL_DISK = """
import asyncio, pathlib, time
from flowhook.events import ids
from flowhook.errors import UnavailableError
from flowhook.model import Status
from router.storage.limits import StorageLimits
from router.storage.model import Ended, NewEvent
from router.storage.storage import open_storage
from router.storage.writer import TransactionLog

def event():
    return NewEvent(ids.mint(1), "shop", 1, 1, b"x" * 1000)

async def main():
    directory = pathlib.Path("{directory}")
    ballast = directory / "ballast"
    ballast.write_bytes(b"x" * 300_000)
    # without a reserve, so that the disk is really full
    storage = await open_storage(directory / "flowhook.db", limits=StorageLimits(reserve_bytes=-(1 << 30)))
    state = await storage.own()
    seqs = []
    try:
        while True:
            seqs += [appended.seq for appended in await storage.log.append([event() for _ in range(10)])]
    except UnavailableError as error:
        print(error.reason)
    ballast.unlink()
    again = await storage.log.append([event()])
    print(again[0].seq - seqs[-1], len(await state.unfinished(limit=10_000)) - len(seqs))
    await storage.close()

asyncio.run(main())
"""


def test_a_disk_without_space_refuses_events_until_there_is_some(tmp_path):
    unshare = shutil.which("unshare")
    inside = [unshare or "", "--user", "--map-root-user", "--mount", "sh", "-c"]
    mount = f"mount -t tmpfs -o size=2m none {tmp_path}"
    if not unshare or subprocess.run([*inside, mount], capture_output=True, check=False).returncode:
        pytest.skip("no file system of limited size can be made here")
    script = f'{mount} && exec "$@"'
    done = subprocess.run(
        [*inside, script, "sh", sys.executable, "-c", FULL_DISK.format(directory=tmp_path)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert done.stdout.split() == ["STORAGE_FULL", "1", "1"]


@pytest.mark.parametrize(
    "fields",
    [{"payload": object()}, {"flow_revision": 1 << 70}, {"event_id": None}, {"dedupe_key": "\ud800"}],
    ids=["payload", "integer", "null", "text"],
)
async def test_a_faulty_call_fails_none_of_those_it_shares_a_commit_with(storage, new_event, stall, fields):
    state = await storage.own()
    faulty = new_event()._replace(**({"payload": b""} | fields))
    if not isinstance(faulty.payload, bytes):
        faulty = faulty._replace(payload=Sized())
    with stall():
        good = [asyncio.ensure_future(storage.log.append([new_event()])) for _ in range(3)]
        bad = asyncio.ensure_future(storage.log.append([new_event(), faulty]))
        good += [asyncio.ensure_future(storage.log.append([new_event()])) for _ in range(3)]
        await asyncio.sleep(0)
    with pytest.raises(InternalError) as raised:
        await bad
    assert raised.value.reason == "STORAGE_CALL_FAILED"
    assert [appended.seq for result in await asyncio.gather(*good) for appended in result] == list(range(1, 7))
    assert len(await state.unfinished()) == 6
    assert not await storage.lack()


class Sized:
    """Has a length, as a payload has, and is none."""

    def __len__(self):
        return 1


async def test_a_faulty_change_fails_its_own_write_whole(storage, new_event, stall):
    state = await storage.own()
    await storage.log.append([new_event(), new_event()])
    with stall():
        good = asyncio.ensure_future(state.write([Started(1, 1)]))
        bad = asyncio.ensure_future(state.write([Started(2, 1), Started(2, 1 << 70)]))
        await asyncio.sleep(0)
    await good
    with pytest.raises(FlowhookError):
        await bad
    records = await state.records([1, 2])
    assert [records[seq].status for seq in (1, 2)] == [Status.RUNNING, Status.PENDING]


async def test_too_many_waiting_appends_are_refused_while_work_can_be_finished(open_limited, new_event, stall):
    storage = await open_limited(waiting_calls=10)
    state = await storage.own()
    await storage.log.append([new_event()])
    with stall():
        appends = [asyncio.ensure_future(storage.log.append([new_event()])) for _ in range(50)]
        await asyncio.sleep(0)
        end = asyncio.ensure_future(state.write([Ended(1, Status.COMPLETED, 1, 1)]))
        await asyncio.sleep(0)
    results = await asyncio.gather(*appends, return_exceptions=True)
    await end
    refused = [result for result in results if isinstance(result, UnavailableError)]
    # The writer may have taken some before it came to wait for the database.
    assert 29 <= len(refused) <= 40
    assert {(error.reason, error.retry_after) for error in refused} == {("STORAGE_UNAVAILABLE", 1)}
    assert len(await state.unfinished()) == 50 - len(refused)


async def test_too_many_waiting_bytes_are_refused(open_limited, new_event, stall):
    storage = await open_limited(waiting_bytes=1_000_000)
    with stall():
        appends = [asyncio.ensure_future(storage.log.append([new_event(b"x" * 600_000)])) for _ in range(5)]
        await asyncio.sleep(0)
    results = await asyncio.gather(*appends, return_exceptions=True)
    assert 3 <= sum(isinstance(result, UnavailableError) for result in results) <= 4


async def test_calls_that_arrive_during_a_commit_share_the_next_one(path, new_event, stall):
    log = CountingLog()
    storage = await open_storage(path, transaction_log=log)
    before = log.begun
    with stall():
        appends = [asyncio.ensure_future(storage.log.append([new_event()])) for _ in range(100)]
        await asyncio.sleep(0)
    await asyncio.gather(*appends)
    await storage.close()
    assert 1 <= log.begun - before <= 3


async def test_a_read_that_the_database_rolled_back_is_reported_as_what_failed(path, storage):
    def fail(connection):
        connection.execute("ROLLBACK")  # as SQLite does after an I/O error
        raise apsw.IOError

    readers = Readers(path, RouterLimits().reads)
    with pytest.raises(UnavailableError, match="the database failed"):
        await readers.run(fail)
    assert await readers.run(lambda connection: connection.execute("SELECT 1").get) == 1
    await readers.close()
