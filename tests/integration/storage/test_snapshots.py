"""Snapshots of a view in an object store: made, restored, and used after whatever happened to the newest one."""

import hashlib
import os
import shutil
import signal
import stat
import subprocess
import sys

import apsw
import pytest
import zstandard
from support.directory_objects import DIGEST_BYTES, DirectoryObjects

from flowhook.errors import UnavailableError
from router.storage.replicated.snapshots import SnapshotDamagedError, SnapshotStore
from router.storage.replicated.view import View
from router.storage.schema import connect_writer

KILLED = """
import os, pathlib, signal, sys
sys.path.insert(0, "tests")
from support.directory_objects import DirectoryObjects
from router.storage.replicated.snapshots import SnapshotStore
class Killed(DirectoryObjects):
    def put(self, name, path):
        os.kill(os.getpid(), signal.SIGKILL)
view, directory, objects = map(pathlib.Path, sys.argv[1:])
SnapshotStore(Killed(objects), directory).make(view)
"""


class WrittenView:
    """A view to which the test itself writes, at growing positions."""

    def __init__(self, path):
        path.parent.mkdir()
        self.path = path
        View(path.parent).create("log-1")
        self.connection = connect_writer(path)

    def write(self, position, content=b"x" * 1000):
        self.connection.execute(
            "BEGIN; INSERT INTO event (seq, payload) VALUES (?1, ?2); UPDATE applied SET position = ?1; COMMIT",
            {"1": position, "2": content},
        )


def rows(path, query="SELECT seq FROM event ORDER BY seq"):
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        return [value for (value,) in connection.execute(query)]
    finally:
        connection.close()


@pytest.fixture
def view(tmp_path):
    view = WrittenView(tmp_path / "view" / "view.db")
    yield view
    view.connection.close()


@pytest.fixture
def objects(tmp_path):
    return DirectoryObjects(tmp_path / "objects")


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "view" / "snapshots"


@pytest.fixture
def store(objects, directory):
    return SnapshotStore(objects, directory)


@pytest.fixture
def made(view, store):
    """Make snapshots at positions."""

    def make(*positions):
        result = None
        for position in positions:
            view.write(position)
            result = store.make(view.path)
        return result

    return make


def replace_content(objects, name, content):
    objects.path(name).write_bytes(hashlib.sha256(content).digest() + content)


def replaced_database(objects, tmp_path, name, statement):
    """Change a stored snapshot's database by a statement."""
    packed = objects.path(name).read_bytes()[DIGEST_BYTES:]
    file = tmp_path / "changed.db"
    file.write_bytes(zstandard.ZstdDecompressor().decompress(packed))
    connection = apsw.Connection(str(file))
    connection.execute(statement)
    connection.close()
    replace_content(objects, name, zstandard.ZstdCompressor(write_checksum=True).compress(file.read_bytes()))


def test_a_snapshot_has_what_was_committed_and_its_position(view, store, objects, tmp_path):
    view.write(7)
    assert store.make(view.path) == (7, None)
    assert objects.names("") == ["snap/0/00000000000000000007.zst"]
    view.write(8)
    restored = tmp_path / "other" / "view.db"
    assert store.restore(restored) == 7
    assert rows(restored) == [7]
    connect_writer(restored).close()  # a router can open it


def test_without_a_snapshot_nothing_is_restored_and_the_view_stays(view, store):
    view.write(1)
    assert store.restore(view.path) is None
    assert rows(view.path) == [1]


def test_two_are_retained_and_the_log_is_purged_through_the_older_one(made, store):
    assert made(10) == (10, None)
    assert made(20) == (20, 10)
    assert made(30) == (30, 20)
    assert store.positions() == [20, 30]


def test_a_snapshot_at_the_same_position_replaces_the_first_one(view, store, made):
    made(10)
    assert store.make(view.path) == (10, None)


def test_a_later_snapshot_of_another_router_stays_and_does_not_move_the_purge(view, made, store, objects):
    made(10, 20)
    replace_content(objects, store.name(99), b"not ours to judge")
    assert made(30) == (30, 20)
    assert store.positions() == [20, 30, 99]


def test_the_view_is_replaced_with_the_files_beside_it(view, made, store):
    made(5)
    view.write(6)
    assert view.path.with_name("view.db-wal").stat().st_size
    shutil.copy(view.path.with_name("view.db-wal"), view.path.with_name("stale"))
    view.connection.close()
    view.path.with_name("stale").rename(view.path.with_name("view.db-wal"))
    assert store.restore(view.path) == 5
    assert rows(view.path) == [5]


def test_temporary_files_are_private_and_removed(view, store, objects, directory):
    modes = {}

    class Looking(DirectoryObjects):
        def put(self, name, path):
            for file in (path.parent, *path.parent.iterdir()):
                modes[file.name] = stat.S_IMODE(file.stat().st_mode)
            super().put(name, path)

    view.write(1)
    SnapshotStore(Looking(objects.path("")), directory).make(view.path)
    assert modes == {"snapshots": 0o700, "copy.zst": 0o600}  # the copy of the database is gone already
    assert not directory.exists()
    store.restore(view.path)
    assert not directory.exists()
    assert stat.S_IMODE(view.path.stat().st_mode) == 0o600


def test_rejections_are_in_no_snapshot_and_leave_no_pages(view, store, made, tmp_path):
    made(1)
    view.connection.execute(
        "INSERT INTO rejection (id, flow_id, time_ms, reason, content) VALUES ('r', 'shop', 1, '', ?)",
        (b"private" * 100_000,),
    )
    made(2)
    restored = tmp_path / "restored.db"
    assert store.restore(restored) == 2
    assert rows(restored, "SELECT count(*) FROM rejection") == [0]
    assert rows(restored, "PRAGMA freelist_count") == [0]
    assert b"private" not in restored.read_bytes()
    assert rows(view.path, "SELECT count(*) FROM rejection") == [1]


def unpacked(content):
    return zstandard.ZstdDecompressor().decompress(content)


pack = zstandard.ZstdCompressor().compress
DAMAGES = {
    "no zstd": lambda content: b"no zstd",
    "cut": lambda content: content[: len(content) // 2],
    "unsized": lambda content: zstandard.ZstdCompressor(write_content_size=False).compress(unpacked(content)),
    "no database": lambda content: pack(b"SELECT" * 10_000),
    "torn": lambda content: pack(unpacked(content)[:8192] + bytes(8192) + unpacked(content)[16384:]),
}
CHANGES = {
    "another application": "PRAGMA application_id = 1",
    "another format": "PRAGMA user_version = 999",
    "another position": "UPDATE applied SET position = 19",
    "no position": "DELETE FROM applied",
    "no table": "DROP TABLE applied",
}


@pytest.fixture
def older_is_restored(made, store, tmp_path, directory):
    """Check that the older of two snapshots is restored, after the newest one was damaged by a function."""

    def check(damage):
        made(10, 20)
        damage(store.name(20))
        restored = tmp_path / "restored.db"
        assert store.restore(restored) == 10
        assert rows(restored) == [10]
        assert not directory.exists()

    return check


def test_an_object_that_fails_its_checksum_is_passed_over(objects, older_is_restored):
    older_is_restored(lambda name: objects.path(name).write_bytes(bytes(DIGEST_BYTES) + b"anything"))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_snapshot_is_passed_over(objects, older_is_restored, damage):
    def replace(name):
        replace_content(objects, name, DAMAGES[damage](objects.path(name).read_bytes()[DIGEST_BYTES:]))

    older_is_restored(replace)


@pytest.mark.parametrize("change", CHANGES)
def test_a_snapshot_that_is_not_what_its_name_says_is_passed_over(objects, older_is_restored, tmp_path, change):
    older_is_restored(lambda name: replaced_database(objects, tmp_path, name, CHANGES[change]))


def test_when_no_snapshot_can_be_used_there_is_none_and_the_view_stays(view, made, store, objects):
    made(10, 20)
    for position in (10, 20):
        objects.path(store.name(position)).write_bytes(b"?" * 100)
    assert store.restore(view.path) is None
    assert rows(view.path) == [10, 20]


def test_a_snapshot_of_another_log_is_passed_over(made, store, tmp_path):
    made(10)
    assert store.restore(tmp_path / "restored.db", log_identity="log-2") is None
    assert store.restore(tmp_path / "restored.db", log_identity="log-1") == 10


def test_a_snapshot_that_is_superseded_while_it_is_fetched_gives_way_to_the_new_one(view, objects, made, tmp_path):
    made(10, 20)

    class Superseded(DirectoryObjects):
        def get(self, name, path):
            if not self.names("snap/0/00000000000000000040"):
                made(30, 40)
            return super().get(name, path)

    late = SnapshotStore(Superseded(objects.path("")), tmp_path / "late")
    assert late.restore(tmp_path / "restored.db") == 40


def test_an_object_store_without_quorum_changes_nothing(view, made, store, objects, directory):
    made(10)
    view.write(11)
    objects.away = True
    with pytest.raises(UnavailableError):
        store.make(view.path)
    with pytest.raises(UnavailableError):
        store.restore(view.path)
    assert not directory.exists()
    assert rows(view.path) == [10, 11]
    objects.away = False
    assert store.positions() == [10]


def test_a_damaged_view_is_not_stored(view, store, objects):
    for position in range(1, 40):
        view.write(position, b"y" * 5000)
    view.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    view.connection.execute("DELETE FROM applied")
    with pytest.raises(SnapshotDamagedError):
        store.make(view.path)
    assert objects.names("") == []


def test_a_full_disk_is_reported_and_leaves_nothing(view, store, objects, directory, monkeypatch):
    view.write(1)
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result((4096, 4096, 10, 1, 1, 0, 0, 0, 0, 255)))
    with pytest.raises(UnavailableError) as raised:
        store.make(view.path)
    assert raised.value.reason == "STORAGE_FULL"
    assert not directory.exists()
    assert objects.names("") == []


def test_a_process_that_is_killed_halfway_leaves_the_older_snapshots_and_its_files_are_removed(
    view, made, objects, directory
):
    store = SnapshotStore(objects, directory)
    made(10, 20)
    view.write(30)
    command = [sys.executable, "-c", KILLED, str(view.path), str(directory), str(objects.path(""))]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert list(directory.iterdir())
    assert store.positions() == [10, 20]
    assert store.restore(view.path.with_name("restored.db")) == 20
    assert not directory.exists()
    assert store.make(view.path) == (30, 20)


def test_a_wiped_disk_is_restored(made, store, tmp_path, view):
    made(10, 20)
    view.connection.close()
    shutil.rmtree(view.path.parent)
    assert store.restore(view.path) == 20
    assert rows(view.path) == [10, 20]
    assert stat.S_IMODE(view.path.parent.stat().st_mode) == 0o700


def test_one_that_is_to_be_the_only_one_replaces_all_earlier_ones_once_it_is_sound(view, store, objects):
    for position in (3, 5, 9):
        view.write(position)
        made = store.make(view.path, alone=position == 9)
    assert (made.position, made.purge_through) == (9, 8)
    assert store.positions() == [9]


def test_one_that_is_to_be_the_only_one_removes_nothing_if_it_was_not_stored_well(view, directory, tmp_path):
    class Lossy(DirectoryObjects):
        def put(self, name, path):
            super().put(name, path)
            if self.damaging:
                path.write_bytes(b"damaged")
                super().put(name, path)

    lossy = Lossy(tmp_path / "lossy")
    lossy.damaging = False
    store = SnapshotStore(lossy, directory)
    view.write(3)
    store.make(view.path)
    view.write(5)
    lossy.damaging = True
    with pytest.raises(SnapshotDamagedError):
        store.make(view.path, alone=True)
    assert store.positions() == [3, 5]
