"""Large payloads and bodies in an object store: there before a transaction names them, and as long as one does."""

import asyncio
import shutil
import threading

import apsw
import pytest
from support.body_seats import UploadedBytes, seat_of
from support.directory_objects import DirectoryObjects
from support.fake_log import FakeLog, Fault

from flowhook import limits
from flowhook.errors import UnavailableError
from flowhook.model import Status
from router.storage.limits import REPLICATED_LIMITS
from router.storage.model import Ended
from router.storage.replicated.recorder import LogRecorder
from router.storage.replicated.view import View
from router.storage.storage import open_storage

LARGE = b"x" * (limits.REPLICATED_INLINE_BODY_BYTES + 1)


class FailingCommit(LogRecorder):
    """Whose transaction's COMMIT finds the disk full, though the log has the transaction."""

    def append(self):
        super().append()
        raise apsw.FullError


class Owner:
    """Storage under a log, in a directory of its own, as of one router of several."""

    def __init__(self, directory, log, objects, recorder=LogRecorder):
        self.directory = directory
        directory.mkdir(exist_ok=True)
        self._log, self._objects, self._recorder = log, objects, recorder
        self.losses = []

    async def __aenter__(self):
        view = View(self.directory)
        position = view.position() or view.create(self._log.identity)
        self.recorder = self._recorder(self._log, position, lost=self.losses.append, now_ms=lambda: 0)
        self.storage = await open_storage(
            view.path,
            limits=REPLICATED_LIMITS,
            transaction_log=self.recorder,
            objects=self._objects,
            durable=False,
        )
        return self

    async def __aexit__(self, *_):
        await self.storage.close()

    @property
    def log(self):
        return self.storage.log

    @property
    def files(self):
        return sorted(file.name for file in self.directory.glob("blobs/*/*"))

    def wipe(self):
        shutil.rmtree(self.directory / "blobs")

    async def upload(self, content=b"body" * 1000):
        upload = await self.storage.bodies.begin("shop", len(content), seat_of(len(content)))
        await upload.write(content)
        return await upload.finish()

    async def read(self, body):
        reader = await self.storage.bodies.open(body.id)
        if reader is None:
            return None
        content = await reader.read(0, reader.size)
        reader.close()
        return content

    async def sweep(self):
        return await self.storage._sweep.sweep(age_seconds=0)


@pytest.fixture
def commit_log():
    return FakeLog()


@pytest.fixture
def objects(tmp_path):
    return DirectoryObjects(tmp_path / "objects")


@pytest.fixture
async def owner(tmp_path, commit_log, objects):
    async with Owner(tmp_path / "owner", commit_log, objects) as owner:
        yield owner


async def test_payloads_above_256_kib_are_objects_and_others_are_not(owner, objects, new_event):
    await owner.log.append([new_event(LARGE[:-1])])
    assert objects.names("") == []
    event = new_event(LARGE)
    await owner.log.append([event])
    [name] = objects.names("")
    assert name.startswith("blob/0/")
    assert event.event_id in name


async def test_a_record_of_the_log_never_contains_a_large_payload(owner, commit_log, new_event):
    await owner.log.append([new_event(LARGE * 10)])
    assert max(len(record.data) for record in commit_log.read(0)) < 4096


async def test_an_event_whose_payload_cannot_be_put_is_not_stored(owner, objects, commit_log, new_event):
    state = await owner.storage.own()
    before = commit_log.tail().position
    objects.away = True
    event = new_event(LARGE)
    with pytest.raises(UnavailableError) as raised:
        await owner.log.append([event])
    assert raised.value.reason == "LOG_UNAVAILABLE"
    assert owner.files == []
    assert commit_log.tail().position == before
    assert await state.find(event.event_id) is None


async def test_a_payload_is_read_after_its_file_was_lost_and_then_from_its_file(owner, objects, new_event):
    state = await owner.storage.own()
    await owner.log.append([new_event(LARGE)])
    owner.wipe()
    assert (await state.work([1]))[1].payload == LARGE
    assert len(owner.files) == 1
    objects.away = True
    assert (await state.content(1)).payload == LARGE


async def test_another_router_reads_what_the_first_one_stored(owner, objects, commit_log, new_event, tmp_path):
    body = await owner.upload()
    await owner.log.append([new_event(LARGE), new_event(body=body.id)])
    await owner.storage.close()
    (tmp_path / "other").mkdir()
    shutil.copy(owner.directory / "view.db", tmp_path / "other" / "view.db")
    async with Owner(tmp_path / "other", commit_log, objects) as other:
        state = await other.storage.own()
        assert (await state.work([1]))[1].payload == LARGE
        assert await other.read(body) == b"body" * 1000


async def test_a_body_is_stored_before_an_event_can_name_it_and_read_after_its_file_was_lost(owner, objects, new_event):
    body = await owner.upload()
    assert objects.names("") == [f"body/0/{body.id}"]
    await owner.log.append([new_event(body=body.id)])
    owner.wipe()
    assert await owner.read(body) == b"body" * 1000


async def test_a_body_that_cannot_be_put_is_not_waiting(owner, objects):
    objects.away = True
    upload = await owner.storage.bodies.begin("shop", 3, (taken := UploadedBytes()).seat(3))
    await upload.write(b"abc")
    with pytest.raises(UnavailableError) as raised:
        await upload.finish()
    assert raised.value.reason == "LOG_UNAVAILABLE"
    upload.discard()
    assert taken.used == 0
    objects.away = False
    await owner.storage.close()
    assert (owner.files, objects.names("")) == ([], [])


async def test_a_damaged_object_is_reported_and_not_cached(owner, objects, new_event):
    state = await owner.storage.own()
    await owner.log.append([new_event(LARGE), new_event(LARGE)])
    owner.wipe()
    [first, _] = objects.names("")
    stored = objects.path(first).read_bytes()
    objects.path(first).write_bytes(stored[:-1])
    results = await asyncio.gather(state.work([1]), state.work([2]), return_exceptions=True)
    assert sorted(getattr(result, "reason", "read") for result in results) == ["OBJECT_DAMAGED", "read"]
    assert len(owner.files) == 1
    objects.path(first).write_bytes(stored)
    assert len(await state.work([1, 2])) == 2


async def test_the_object_of_a_removed_execution_is_removed_with_its_file(owner, objects, new_event):
    body = await owner.upload()
    await owner.log.append([new_event(LARGE), new_event(body=body.id), new_event(LARGE)])
    state = await owner.storage.own()
    await state.write([Ended(seq, Status.COMPLETED, 1, 1) for seq in (1, 2)])
    await state.expire(ended_before_ms=2)
    assert len(objects.names("")) == len(owner.files) == 1


async def test_the_object_of_a_repeated_delivery_is_removed(owner, objects, new_event):
    event = new_event(LARGE)
    await owner.log.append([event])
    await owner.log.append([event])
    assert len(objects.names("")) == len(owner.files) == 1


async def test_the_object_of_an_event_for_which_there_is_no_room_is_removed(owner, objects, commit_log, new_event):
    await owner.storage.own()
    commit_log.max_bytes = 1
    with pytest.raises(UnavailableError) as raised:
        await owner.log.append([new_event(LARGE)])
    assert raised.value.reason == "STORAGE_FULL"
    assert (objects.names(""), owner.files) == ([], [])


async def test_only_files_are_removed_when_storage_is_opened(owner, objects, commit_log, new_event):
    await owner.log.append([new_event(LARGE)])
    await owner.upload()
    await owner.storage.close()
    orphan = owner.directory / "blobs" / "aa" / "evt_orphan.1234"
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"x")
    stored = objects.names("")
    async with Owner(owner.directory, commit_log, objects) as reopened:
        assert len(reopened.files) == 1
    assert objects.names("") == stored


async def test_what_a_transaction_in_the_log_names_stays_though_its_commit_failed(
    tmp_path, commit_log, objects, new_event
):
    async with Owner(tmp_path / "owner", commit_log, objects) as owner:
        body = await owner.upload()
    async with Owner(tmp_path / "owner", commit_log, objects, FailingCommit) as owner:
        body = await owner.upload()
        with pytest.raises(UnavailableError) as raised:
            await owner.log.append([new_event(LARGE), new_event(body=body.id)])
        assert raised.value.reason == "SHARD_LOST"
        assert len(owner.losses) == 1
        assert len(objects.names("blob/")) == 1
        assert f"body/0/{body.id}" in objects.names("body/")
        with pytest.raises(UnavailableError):  # it is not the owner any more
            await owner.sweep()
    assert len(objects.names("blob/")) == 1


@pytest.mark.parametrize("fault", [Fault.NO_QUORUM, Fault.NO_QUORUM_BUT_IN])
async def test_the_object_of_an_event_whose_outcome_is_unknown_stays(owner, objects, commit_log, new_event, fault):
    await owner.storage.own()
    commit_log.faults = [fault]
    appending = asyncio.create_task(owner.log.append([new_event(LARGE)]))
    while not objects.names("blob/"):
        await asyncio.sleep(0.001)
    owner.recorder.abandon()
    with pytest.raises(UnavailableError) as raised:
        await appending
    assert raised.value.reason == "APPEND_ABANDONED"
    assert len(objects.names("blob/")) == 1


async def test_the_sweep_removes_what_no_row_names_and_nothing_else(owner, objects, tmp_path, new_event):
    named, waiting = await owner.upload(), await owner.upload()
    await owner.log.append([new_event(LARGE), new_event(body=named.id)])
    stored = objects.names("")
    assert await owner.sweep() == 0
    (tmp_path / "orphan").write_bytes(b"x")
    for name in ("blob/0/ab/evt_orphan.1234", f"body/0/{'c' * 32}"):
        objects.put(name, tmp_path / "orphan")
    assert await owner.sweep() == 2
    assert objects.names("") == stored
    assert await owner.read(waiting) == b"body" * 1000
    owner.storage.bodies.discard(waiting.id, "shop")


async def test_what_could_not_be_removed_is_swept(owner, objects, new_event):
    await owner.log.append([new_event(LARGE)])
    state = await owner.storage.own()
    await state.write([Ended(1, Status.COMPLETED, 1, 1)])
    objects.away = True
    assert await state.expire(ended_before_ms=2) == 1
    objects.away = False
    assert len(objects.names("")) == 1
    assert await owner.sweep() == 1
    assert objects.names("") == []


async def test_bodies_of_an_earlier_owner_that_no_event_named_are_swept(owner, objects, commit_log):
    await owner.upload()
    await owner.storage.close()
    async with Owner(owner.directory, commit_log, objects) as next_owner:
        assert await next_owner.sweep() == 1
    assert objects.names("") == []


async def test_a_blob_that_is_put_and_not_named_yet_is_not_swept(tmp_path, commit_log, new_event):
    put, proceed = threading.Event(), threading.Event()

    class Slow(DirectoryObjects):
        def put(self, name, path):
            super().put(name, path)
            put.set()
            assert proceed.wait(30)

    objects = Slow(tmp_path / "objects")
    async with Owner(tmp_path / "owner", commit_log, objects) as owner:
        appending = asyncio.create_task(owner.log.append([new_event(LARGE)]))
        await asyncio.to_thread(put.wait, 30)
        assert await owner.sweep() == 0
        proceed.set()
        await appending
        assert await owner.sweep() == 0
        state = await owner.storage.own()
        owner.wipe()
        assert (await state.work([1]))[1].payload == LARGE


async def test_a_router_that_is_not_the_owner_any_more_sweeps_nothing(owner, objects, commit_log, tmp_path, new_event):
    await owner.storage.own()
    async with Owner(tmp_path / "other", commit_log, objects) as other:
        other.recorder._applied = owner.recorder._applied  # as after following the log
        await other.log.append([new_event(LARGE)])
        with pytest.raises(UnavailableError) as raised:
            await owner.sweep()
        assert raised.value.reason == "SHARD_LOST"
        assert len(objects.names("blob/")) == 1


async def test_without_an_object_store_nothing_is_swept_and_payloads_up_to_1_mib_are_inline(path, storage, new_event):
    await storage.log.append([new_event(LARGE)])
    assert list(path.parent.glob("blobs/*/*")) == []
    assert storage._sweep is None
