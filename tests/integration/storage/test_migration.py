"""Migration between a database and a replicated log: complete, verified, repeatable, and refused where it may harm."""

import shutil
import time
from types import SimpleNamespace

import apsw
import pytest
from support.directory_objects import DirectoryObjects
from support.fake_log import FakeLog
from support.replica import tables
from support.stored_executions import LARGE, populate

from flowhook.errors import ConflictError, NotFoundError, UnavailableError
from flowhook.events import ids
from flowhook.model import Status
from router.storage.limits import REPLICATED_LIMITS
from router.storage.model import Ended, NewEvent
from router.storage.replicated.follower import Follower, ViewDivergedError
from router.storage.replicated.migration import MigratedData, Migration, check_migrated
from router.storage.replicated.recorder import LogRecorder
from router.storage.replicated.snapshots import SnapshotStore
from router.storage.replicated.view import View
from router.storage.storage import open_storage

COUNT = 90


class QuietHeartbeats:
    def __init__(self):
        self.routers = {}

    def seen(self):
        return dict.fromkeys(self.routers, time.monotonic())


@pytest.fixture
def replicated(tmp_path):
    return SimpleNamespace(log=FakeLog(), objects=DirectoryObjects(tmp_path / "objects"), heartbeats=QuietHeartbeats())


@pytest.fixture
def lines():
    return []


@pytest.fixture
def migration(replicated, lines):
    return Migration(replicated, report=lines.append, heartbeat_seconds=0)


@pytest.fixture
async def database(tmp_path):
    """A database that a router has closed."""
    path = tmp_path / "data" / "flowhook.db"
    storage = await open_storage(path)
    await populate(storage, COUNT)
    await storage.close()
    return path


@pytest.fixture
def target(tmp_path):
    return tmp_path / "back" / "flowhook.db"


def content(path):
    """Return all rows of all tables but the rejections."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        found = tables(connection)
    finally:
        connection.close()
    del found["rejection"]
    return found


def blobs(path):
    files = [file for file in (path.parent / "blobs").glob("*/*") if file.is_file()]
    return {f"{file.parent.name}/{file.name}": file.read_bytes() for file in files}


async def open_view(directory, replicated):
    """Open storage under the log, as a router does that has restored the newest snapshot."""
    view = View(directory)
    snapshots = SnapshotStore(replicated.objects, directory / "snapshots")
    position = snapshots.restore_view(view, replicated.log.identity)
    recorder = LogRecorder(replicated.log, position, lost=print, now_ms=lambda: 0)
    storage = await open_storage(
        view.path, limits=REPLICATED_LIMITS, transaction_log=recorder, objects=replicated.objects, durable=False
    )
    return view, storage


async def test_everything_is_migrated_to_the_log_and_back(database, migration, replicated, target, lines):
    result = migration.to_log(database)
    assert (result.position, result.blobs, result.missing) == (0, 4, 0)
    assert result.check.executions == {
        "pending": 16,
        "running": 10,
        "waiting": 20,
        "suspended": 10,
        "cancelled": 10,
        "faulted": 10,
        "completed": 20,
    }
    assert result.check.compared == COUNT + 6
    assert replicated.objects.names("snap/") == ["snap/0/00000000000000000000.zst"]
    back = migration.from_log(target)
    assert (back.position, back.blobs, back.missing, back.check) == (0, 4, 0, result.check)
    assert content(target) == content(database)
    assert blobs(target) == blobs(database)
    assert "4 of 4 large payloads and bodies uploaded" in lines
    assert sorted(file.name for file in target.parent.iterdir()) == ["blobs", "flowhook.db", "flowhook.db.lock"]


async def test_what_happened_on_the_log_since_is_migrated_back(database, migration, replicated, target, tmp_path):
    migration.to_log(database)
    view, storage = await open_view(tmp_path / "view", replicated)
    state = await storage.own()
    assert state.epoch == 2  # the first one was that of the embedded storage
    await state.write([Ended(1, Status.COMPLETED, 1_700_000_000_500, 1, output=b'"late"')])
    [late] = await storage.log.append([NewEvent(ids.mint(1), "shop", 1, 1_800_000_000_000, LARGE)])
    SnapshotStore(replicated.objects, tmp_path / "work").make(view.path)
    await storage.log.append([NewEvent(ids.mint(1), "shop", 1, 1_800_000_000_000, b"after the snapshot")])
    await storage.close()
    result = migration.from_log(target)
    assert result.position == replicated.log.tail().position > 3
    expected = content(view.path)
    del expected["applied"]
    assert content(target) == expected
    reopened = await open_storage(target)
    state = await reopened.own()
    assert (await state.answer(1)).output == b'"late"'
    assert (await state.work([late.seq]))[late.seq].payload == LARGE
    await reopened.close()


async def test_a_database_in_use_is_not_migrated(database, migration, replicated):
    storage = await open_storage(database)
    with pytest.raises(ConflictError) as raised:
        migration.to_log(database)
    assert raised.value.reason == "DATA_DIR_IN_USE"
    assert replicated.objects.names("") == []
    await storage.close()
    migration.to_log(database)


async def test_a_router_on_the_log_refuses_both_directions(database, migration, replicated, target):
    replicated.heartbeats.routers = {"router-1"}
    for migrate, path in ((migration.to_log, database), (migration.from_log, target)):
        with pytest.raises(ConflictError, match="router-1") as raised:
            migrate(path)
        assert raised.value.reason == "ROUTER_RUNNING"
    assert replicated.objects.names("") == []
    assert not target.exists()


async def test_a_log_with_records_is_not_overwritten(database, migration, replicated):
    replicated.log.append(0, "1:a:1:0", b"record")
    with pytest.raises(ConflictError, match="position 1") as raised:
        migration.to_log(database)
    assert raised.value.reason == "LOG_NOT_EMPTY"
    assert replicated.objects.names("") == []


async def test_snapshots_of_a_log_that_was_created_again_are_not_overwritten(database, migration, replicated, tmp_path):
    (tmp_path / "old").write_bytes(b"x")
    replicated.objects.put("snap/0/00000000000000000777.zst", tmp_path / "old")
    with pytest.raises(ConflictError, match="position 777") as raised:
        migration.to_log(database)
    assert raised.value.reason == "LOG_NOT_EMPTY"


def test_a_database_that_is_not_there_is_reported_and_not_created(tmp_path, migration):
    with pytest.raises(NotFoundError) as raised:
        migration.to_log(tmp_path / "none" / "flowhook.db")
    assert raised.value.reason == "DATABASE_NOT_FOUND"
    assert not (tmp_path / "none").exists()


def test_what_is_not_a_flowhook_database_is_left_alone(tmp_path, migration, replicated):
    (tmp_path / "notes.txt").write_bytes(b"hello " * 1000)
    with pytest.raises(ConflictError) as raised:
        migration.to_log(tmp_path / "notes.txt")
    assert raised.value.reason == "NOT_A_FLOWHOOK_DATABASE"
    assert replicated.objects.names("") == []


async def test_an_existing_database_is_not_overwritten(database, migration):
    migration.to_log(database)
    before = content(database)
    with pytest.raises(ConflictError) as raised:
        migration.from_log(database)
    assert raised.value.reason == "DATABASE_EXISTS"
    assert content(database) == before


def test_an_empty_log_makes_no_database(migration, target):
    with pytest.raises(NotFoundError) as raised:
        migration.from_log(target)
    assert raised.value.reason == "LOG_EMPTY"
    assert not target.exists()


async def test_a_log_whose_beginning_was_purged_needs_a_usable_snapshot(
    database, migration, replicated, target, tmp_path
):
    migration.to_log(database)
    _, storage = await open_view(tmp_path / "view", replicated)
    await (await storage.own()).write([Ended(1, Status.COMPLETED, 1_700_000_000_500, 1)])
    await storage.close()
    replicated.log.purge(1)
    with pytest.raises(ConflictError, match="begins at position 2") as raised:
        migration.from_log(target)
    assert raised.value.reason == "LOG_INCOMPLETE"
    assert not target.exists()


@pytest.mark.parametrize("calls", [1, 4, 5, 8])
async def test_an_interrupted_migration_to_the_log_is_repeated(database, migration, replicated, calls):
    objects = replicated.objects
    seen = len(objects.calls)

    def interrupt():
        objects.away = len(objects.calls) - seen > calls

    objects.before_call = interrupt
    with pytest.raises(UnavailableError):
        migration.to_log(database)
    objects.before_call, objects.away = None, False
    assert migration.to_log(database).blobs == 4
    assert [file.name for file in database.parent.iterdir() if file.name.startswith(".")] == []


async def test_an_interrupted_migration_back_is_repeated(database, migration, replicated, target):
    migration.to_log(database)
    objects = replicated.objects
    seen = len(objects.calls)

    def interrupt():
        objects.away = len(objects.calls) - seen > 4

    objects.before_call = interrupt
    with pytest.raises(UnavailableError):
        migration.from_log(target)
    assert not target.exists()
    objects.before_call, objects.away = None, False
    migration.from_log(target)
    assert blobs(target) == blobs(database)


@pytest.mark.parametrize(("changed", "column"), [("job_item", "time_ms"), ("dedupe", "until_ms")])
async def test_a_copy_that_differs_in_a_row_of_an_execution_is_refused(database, tmp_path, changed, column):
    copy = shutil.copy(database, tmp_path / "copy.db")
    connection = apsw.Connection(str(copy))
    connection.execute(f"UPDATE {changed} SET {column} = 7")
    connection.close()
    original, other = (MigratedData(path, lambda _name: b"") for path in (database, copy))
    assert check_migrated(original, original).compared == COUNT + 6
    with pytest.raises(ConflictError, match=f"differs from the original in {changed} of executions"):
        check_migrated(original, other)


async def test_a_copy_that_differs_is_refused_and_no_router_can_start_with_it(
    database, replicated, migration, monkeypatch
):
    blob = next(name for name in blobs(database) if not name.endswith(".body"))
    true_put = replicated.objects.put

    def put(name, path):
        if name == f"blob/0/{blob}":
            path = path.with_name("other")
            path.write_bytes(b"other")
        true_put(name, path)

    monkeypatch.setattr(replicated.objects, "put", put)
    with pytest.raises(ConflictError, match=blob) as raised:
        migration.to_log(database)
    assert raised.value.reason == "MIGRATION_DIFFERS"
    assert replicated.objects.names("snap/") == []


async def test_a_payload_that_was_lost_before_is_counted_and_not_fatal(database, migration):
    shutil.rmtree(database.parent / "blobs")
    result = migration.to_log(database)
    assert (result.blobs, result.missing) == (4, 4)


async def test_a_router_that_began_with_an_empty_view_cannot_follow_the_migrated_log(
    database, migration, replicated, tmp_path
):
    migration.to_log(database)
    _, storage = await open_view(tmp_path / "view", replicated)
    await storage.own()
    await storage.close()
    empty = View(tmp_path / "empty")
    empty.path.parent.mkdir()
    follower = Follower(replicated.log, empty, empty.create(replicated.log.identity))
    with pytest.raises(ViewDivergedError):
        follower.catch_up(1)
