"""Backups of both storages: complete, made beside what writes, restored as they were, and named if damaged."""

import asyncio
import errno
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tracemalloc
from contextlib import closing
from types import SimpleNamespace

import apsw
import orjson
import pytest
import zstandard
from support.cluster_keys import KEY
from support.directory_objects import DirectoryObjects
from support.earlier_formats import EARLIER, make_earlier
from support.fake_log import FakeLog
from support.replica import tables
from support.stored_executions import LARGE, populate

from flowhook.errors import ConflictError, FlowhookError, InvalidError, OutOfRangeError, UnavailableError
from flowhook.events import ids
from flowhook.model import Status
from router.scheduling.leases import LeaseTable
from router.storage.backups import archive
from router.storage.backups.archive import BackupDamagedError, read_archive
from router.storage.backups.making import BackupMaker, BackupPace
from router.storage.backups.restoring import Restoring, UntilPoint, check_schema
from router.storage.backups.targets import file_name
from router.storage.encryption import key_fingerprint
from router.storage.formats import migrate_view
from router.storage.limits import REPLICATED_LIMITS
from router.storage.model import Ended, NewEvent
from router.storage.replicated.migration import Migration
from router.storage.replicated.recorder import LogRecorder
from router.storage.replicated.snapshots import SnapshotStore
from router.storage.replicated.view import View
from router.storage.schema import FORMAT_VERSION, connect_writer
from router.storage.storage import open_storage

COUNT = 90
STATUSES = {
    "pending": 16,
    "running": 10,
    "waiting": 20,
    "suspended": 10,
    "cancelled": 10,
    "faulted": 10,
    "completed": 20,
}


@pytest.fixture
async def storage(tmp_path):
    """A storage in use."""
    storage = await open_storage(tmp_path / "data" / "flowhook.db")
    await populate(storage, COUNT)
    (tmp_path / "data" / "tokens.json").write_bytes(b"{}")
    yield storage
    await storage.close()


@pytest.fixture
def database(storage, tmp_path):
    return tmp_path / "data" / "flowhook.db"


@pytest.fixture
def target(tmp_path):
    return tmp_path / "backups" / "one.tar.zst"


@pytest.fixture
def maker(tmp_path):
    return BackupMaker(tokens=tmp_path / "data" / "tokens.json", key=KEY, report=str, share=1.0)


@pytest.fixture
def empty(tmp_path):
    """Where a restored database is to be."""
    return tmp_path / "restored" / "flowhook.db"


def restore(path, database, *, key=KEY, force=False, **more):
    tokens = database.with_name("tokens.json")
    return Restoring(archive=path, key=key, tokens=tokens, report=str, **more).to_database(database, force=force)


def content(path):
    """Return all rows of all tables, but for what a restore changes: its epoch, and the fence of leases."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        connection.execute("BEGIN")
        connection.execute("DELETE FROM counter WHERE name IN ('epoch', 'fence')")
        connection.execute("DELETE FROM registry_change")
        return tables(connection)
    finally:
        connection.close()


def blobs(path):
    files = [file for file in (path.parent / "blobs").glob("*/*") if file.is_file()]
    return {f"{file.parent.name}/{file.name}": file.read_bytes() for file in files}


def names(directory):
    return sorted(path.name for path in directory.iterdir())


async def test_a_storage_in_use_is_backed_up_and_restored_row_by_row(storage, database, maker, target, empty):
    before, files = content(database), blobs(database)
    made = maker.of_database(database, target)
    await storage.log.append([NewEvent(ids.mint(1), "shop", 1, 1_800_000_000_000, b"after the backup")])
    assert made.manifest.executions == STATUSES
    assert (made.manifest.blobs, made.manifest.missing, made.manifest.position) == (4, 0, COUNT + 6)
    restored = restore(target, empty)
    assert (restored.executions, restored.missing, restored.aside) == (STATUSES, 0, None)
    assert content(empty) == before
    assert blobs(empty) == files
    assert names(empty.parent) == ["blobs", "flowhook.db", "flowhook.db.lock", "tokens.json"]
    assert names(target.parent) == ["one.tar.zst"]
    assert names(database.parent) == ["blobs", "flowhook.db", "flowhook.db-shm", "flowhook.db-wal", "flowhook.db.lock",
                                      "tokens.json"]  # fmt: skip


async def test_only_the_owner_can_read_what_is_written(database, maker, target, empty):
    maker.of_database(database, target)
    restore(target, empty)
    paths = [target, *(path for path in empty.parent.rglob("*"))]
    assert {path.stat().st_mode & 0o077 for path in paths} == {0}


async def test_a_restored_storage_works_and_no_lease_of_before_is_good_in_it(storage, database, maker, target, empty):
    state = storage._owner
    maker.of_database(database, target)
    restore(target, empty)
    reopened = await open_storage(empty)
    try:
        owned = await reopened.own()
        assert owned.epoch > state.epoch + 1_000_000
        leases, unfenced = LeaseTable(owned.epoch, owned.fence), LeaseTable(owned.epoch)
        unfinished = [each async for each in unfinished_of(owned)]
        assert len(unfinished) == 56
        for each in unfinished:
            leases.recover(each.seq, each.term)
            unfenced.recover(each.seq, each.term)
        for epoch in (state.epoch, state.epoch + 1):
            for each in unfinished:
                former = LeaseTable(epoch)
                if each.term:
                    former.recover(each.seq, each.term - 1)
                token = former.grant(each.seq, None, SimpleNamespace(leases={}), 1).token
                assert unfenced.claimable_by(token) == each.seq
                assert leases.claimable_by(token) is None
        [appended] = await reopened.log.append([NewEvent(ids.mint(1), "shop", 1, 1_800_000_000_000, LARGE)])
        assert (await owned.work([appended.seq]))[appended.seq].payload == LARGE
    finally:
        await reopened.close()


async def test_who_watched_the_registry_before_a_restore_begins_anew(storage, database, maker, target, empty):
    await storage.registry.set_secret("one", b"sealed", now_ms=1)
    maker.of_database(database, target)
    restore(target, empty)
    restored = await open_storage(empty)
    for number in range(9):  # as many as edges have seen of what is lost
        await restored.registry.set_secret(f"new-{number}", b"sealed", now_ms=1)
    latest = await restored.registry.revision()
    for seen in range(1, 10):
        with pytest.raises(OutOfRangeError) as raised:
            await restored.registry.changes(after_revision=seen)
        assert raised.value.reason == "REVISION_COMPACTED"
    assert [each.secret_name for each in await restored.registry.changes(after_revision=latest - 1)] == ["new-8"]
    await restored.close()


async def unfinished_of(state):
    after = 0
    while page := await state.unfinished(after_seq=after, limit=50):
        for each in page:
            yield each
        after = page[-1].seq


async def test_two_restores_of_one_backup_share_no_lease(database, maker, target, tmp_path, monkeypatch):
    maker.of_database(database, target)
    owners = []
    for number, now in enumerate((2_000_000_000, 2_000_000_007)):
        monkeypatch.setattr("router.storage.backups.restoring.time.time", lambda now=now: now)
        path = tmp_path / f"{number}" / "flowhook.db"
        restore(target, path)
        restored = await open_storage(path)
        owners.append(await restored.own())
        await restored.close()
    earlier, later = (LeaseTable(each.epoch, each.fence) for each in owners)
    later.recover(1, 0)
    assert later.claimable_by(earlier.grant(1, None, SimpleNamespace(leases={}), 1).token) is None


async def test_a_restore_over_a_storage_in_use_is_refused(database, maker, target):
    maker.of_database(database, target)
    before = content(database)
    with pytest.raises(ConflictError, match=f"in use by process {os.getpid()}") as raised:
        restore(target, database, force=True)
    assert raised.value.reason == "DATA_DIR_IN_USE"
    assert content(database) == before


async def test_a_database_is_replaced_only_by_force_and_moved_aside(storage, database, maker, target):
    maker.of_database(database, target)
    await storage.log.append([NewEvent(ids.mint(1), "shop", 1, 1_800_000_000_000, LARGE)])
    await storage.close()
    later, files = content(database), blobs(database)
    with pytest.raises(ConflictError, match="--force") as raised:
        restore(target, database)
    assert raised.value.reason == "DATABASE_EXISTS"
    restored = restore(target, database, force=True)
    assert restored.aside is not None
    assert content(restored.aside / "flowhook.db") == later
    assert blobs(restored.aside / "flowhook.db") == files
    assert restored.executions == STATUSES
    assert len(blobs(database)) == 4


async def test_the_tokens_that_are_there_are_kept(database, maker, target, empty):
    maker.of_database(database, target)
    empty.parent.mkdir()
    empty.with_name("tokens.json").write_bytes(b"newer")
    restore(target, empty)
    assert empty.with_name("tokens.json").read_bytes() == b"newer"


async def test_who_only_looks_at_a_backup_gets_no_tokens(database, maker, target, empty, tmp_path):
    maker.of_database(database, target)
    restoring = Restoring(archive=target, key=KEY, tokens=tmp_path / "none" / "tokens.json", report=str)
    assert restoring.to_database(empty).executions == STATUSES
    assert names(empty.parent) == ["blobs", "flowhook.db", "flowhook.db.lock"]
    assert not (tmp_path / "none").exists()


async def test_another_key_of_secrets_is_refused(database, maker, target, empty):
    assert maker.of_database(database, target).manifest.secrets_key == key_fingerprint(KEY)
    with pytest.raises(ConflictError, match=key_fingerprint(KEY)) as raised:
        restore(target, empty, key=b"o" * 32)
    assert raised.value.reason == "SECRETS_KEY_DIFFERS"
    assert not empty.exists()


async def test_what_the_key_of_the_data_did_not_authenticate_is_restored_only_on_trust_and_without_its_tokens(
    storage, database, maker, target, empty
):
    await storage.registry.set_fingerprint("secrets_key", "0123456789abcdef")
    made = maker.of_database(database, target)
    assert (made.is_authenticated, made.manifest.secrets_key) == (False, "0123456789abcdef")
    for key, reason in ((None, "BACKUP_NOT_AUTHENTIC"), (KEY, "SECRETS_KEY_DIFFERS")):
        with pytest.raises(ConflictError) as raised:
            restore(target, empty, key=key)
        assert raised.value.reason == reason
    restored = restore(target, empty, key=None, trusted=True)
    assert (restored.executions, restored.tokens) == (STATUSES, ())
    assert names(empty.parent) == ["blobs", "flowhook.db", "flowhook.db.lock"]


TOKEN = {
    "name": "mallory", "scopes": ["admin"], "sha256": "5a" * 32, "created": 0, "flows": [], "expires": None,
    "earlier": [],
}  # fmt: skip


def changed(target, tmp_path, change, **options):
    """Unpack a backup, change its parts, and pack them again, with right digests and sizes."""
    parts = tmp_path / "parts"
    parts.mkdir()
    read_archive(target, parts)
    change(parts)
    manifest = orjson.loads((parts / "backup.json").read_bytes())
    others = sorted(path for path in parts.rglob("*") if path.is_file() and path.name != "backup.json")
    manifest["size"] = sum(path.stat().st_size for path in others)
    target.unlink()
    with archive.ArchiveWriter(target, compressed=False, pause=str, **options) as writer:
        writer.add_content("backup.json", orjson.dumps(manifest))
        for path in others:
            writer.add(str(path.relative_to(parts)), path)


def add_token(parts):
    (parts / "tokens.json").write_bytes(orjson.dumps([TOKEN]))


async def test_who_can_write_where_backups_lie_can_add_no_token(database, maker, target, empty, tmp_path):
    maker.of_database(database, target)
    changed(target, tmp_path, add_token)
    for key in (KEY, None):
        with pytest.raises(ConflictError) as raised:
            restore(target, empty, key=key)
        assert raised.value.reason == "BACKUP_NOT_AUTHENTIC"
    assert restore(target, empty, key=None, trusted=True).tokens == ()
    assert not empty.with_name("tokens.json").exists()


async def test_a_code_of_another_backup_authenticates_nothing(storage, database, maker, target, empty):
    other, codes = target.with_name("two.tar"), []
    maker.of_database(database, target)
    await storage.log.append([NewEvent(ids.mint(1), "shop", 1, 1_800_000_000_000, b"later")])
    maker.of_database(database, other)
    for path in (target, other):
        with tarfile.open(fileobj=io.BytesIO(unpacked(path))) as tar:
            codes.append(tar.extractfile("SHA256SUMS.hmac").read())
    other.write_bytes(other.read_bytes().replace(codes[1], codes[0]))
    with pytest.raises(ConflictError, match="was changed") as raised:
        restore(other, empty)
    assert raised.value.reason == "BACKUP_NOT_AUTHENTIC"


def unpacked(path):
    content = path.read_bytes()
    return zstandard.ZstdDecompressor().decompressobj().decompress(content) if path.suffix == ".zst" else content


async def test_the_tokens_of_a_backup_are_told_and_damaged_ones_refused(database, maker, target, empty, tmp_path):
    database.with_name("tokens.json").write_bytes(orjson.dumps([TOKEN]))
    maker.of_database(database, target)
    empty.parent.mkdir()
    assert [each.name for each in restore(target, empty).tokens] == ["mallory"]
    database.with_name("tokens.json").write_bytes(orjson.dumps([{**TOKEN, "sha256": ""}]))
    maker.of_database(database, target)
    with pytest.raises(BackupDamagedError, match=r"tokens\.json"):
        restore(target, tmp_path / "other" / "flowhook.db")


HOSTILE_SCHEMAS = {
    "a trigger": "CREATE TRIGGER t AFTER INSERT ON execution BEGIN DELETE FROM secret; END",
    "a view": "CREATE VIEW v AS SELECT * FROM secret",
    "another table": "CREATE TABLE other (a)",
    "a virtual table": "CREATE VIRTUAL TABLE f USING fts5(a)",
    "another column": "ALTER TABLE secret ADD COLUMN more TEXT",
    "a generated column": "ALTER TABLE secret ADD COLUMN more TEXT AS (upper(name))",
    "another index": "CREATE INDEX i ON secret (sealed)",
    "no table": "DROP TABLE silence",
}


@pytest.mark.parametrize("statement", HOSTILE_SCHEMAS.values(), ids=HOSTILE_SCHEMAS)
async def test_a_database_with_another_schema_is_refused_even_on_trust(maker, target, empty, tmp_path, statement):
    def change(parts):
        with closing(apsw.Connection(str(parts / "flowhook.db"))) as connection:
            connection.execute(statement)

    database = tmp_path / "flowhook.db"
    connect_writer(database).close()
    maker.of_database(database, target)
    changed(target, tmp_path, change)
    with pytest.raises(BackupDamagedError, match="other tables than its format"):
        restore(target, empty, key=None, trusted=True)
    assert not empty.exists()


@pytest.mark.parametrize("version", EARLIER)
def test_the_schema_of_a_database_that_was_migrated_is_that_of_its_format(tmp_path, version):
    path = tmp_path / "flowhook.db"
    make_earlier(path, version)
    migrate_view(path)
    check_schema(path)


def test_the_schema_of_a_file_calls_no_function_that_is_not_harmless(tmp_path):
    path = tmp_path / "flowhook.db"
    with closing(connect_writer(path)) as connection:
        connection.create_scalar_function("reach", lambda: 1)
        connection.execute("CREATE VIEW v AS SELECT reach()")
        with pytest.raises(apsw.SQLError, match="unsafe use of reach"):
            connection.execute("SELECT * FROM v").fetchall()


async def test_blobs_that_retention_removes_meanwhile_are_in_the_backup(database, tmp_path, target, empty):
    files = blobs(database)

    def remove(line):
        if line == "checking the copy":
            shutil.rmtree(database.parent / "blobs")

    made = BackupMaker(tokens=tmp_path / "none", key=KEY, report=remove, share=1.0).of_database(database, target)
    assert (made.manifest.blobs, made.manifest.missing) == (4, 0)
    restore(target, empty)
    assert blobs(empty) == files


async def test_blobs_that_are_lost_are_counted_and_do_not_keep_the_rest_from_being_saved(
    database, maker, target, empty
):
    shutil.rmtree(database.parent / "blobs")
    made = maker.of_database(database, target)
    assert (made.manifest.blobs, made.manifest.missing) == (0, 4)
    assert restore(target, empty).missing == 4


CRASHING = """
import os, signal, sys
from pathlib import Path
from router.storage.backups.making import BackupMaker

def report(line):
    if line.startswith(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

BackupMaker(tokens=Path("none"), key=None, report=report, share=1.0).of_database(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.parametrize("line", ["checking the copy", "packing", "checking the backup"])
async def test_a_backup_that_is_killed_leaves_the_earlier_one_and_the_next_one_succeeds(
    storage, database, maker, target, line
):
    maker.of_database(database, target)
    earlier = target.read_bytes()
    killed = await asyncio.create_subprocess_exec(sys.executable, "-P", "-c", CRASHING, database, target, line)
    assert await killed.wait() == -signal.SIGKILL
    assert target.read_bytes() == earlier
    await storage.log.append([NewEvent(ids.mint(1), "shop", 1, 1_800_000_000_000, b"later")])
    maker.of_database(database, target)
    assert names(target.parent) == ["one.tar.zst"]
    assert not [name for name in names(database.parent) if name.startswith(".")]
    restored = restore(target, target.parent.with_name("restored") / "flowhook.db")
    assert restored.executions["pending"] == STATUSES["pending"] + 1


async def test_what_a_scheduled_backup_that_was_killed_left_is_removed_by_the_next_one(database, maker, target):
    killed, other = target.with_name(file_name(0)), target.with_name(".notes.partial")
    process = await asyncio.create_subprocess_exec(sys.executable, "-P", "-c", CRASHING, database, killed, "packing")
    assert await process.wait() == -signal.SIGKILL
    assert names(target.parent) == [f".{killed.name}.partial"]
    other.mkdir()
    maker.of_database(database, target.with_name(file_name(86_400)))
    assert names(target.parent) == [other.name, file_name(86_400)]


@pytest.mark.parametrize("name", ["flowhook.db", "notes.txt", "backup.json"])
async def test_a_file_that_may_be_something_else_is_not_replaced(storage, database, maker, name):
    path = database.with_name(name)
    path.touch()
    before = path.read_bytes()
    with pytest.raises(InvalidError) as raised:
        maker.of_database(database, path)
    assert raised.value.reason == "BACKUP_NAME_INVALID"
    assert path.read_bytes() == before


async def test_a_log_that_is_left_of_another_database_is_not_applied_to_the_restored_one(
    storage, database, maker, target, empty
):
    maker.of_database(database, target)
    await storage.log.append([NewEvent(ids.mint(1), "shop", 1, 1_800_000_000_000, b"later")])
    empty.parent.mkdir()
    log = empty.with_name("flowhook.db-wal")
    log.write_bytes(database.with_name(log.name).read_bytes())  # as a restore leaves it that was killed
    later = log.read_bytes()
    with pytest.raises(ConflictError, match="--force"):
        restore(target, empty)
    restored = restore(target, empty, force=True)
    assert restored.aside is not None
    assert (restored.aside / log.name).read_bytes() == later
    reopened = await open_storage(empty)
    await reopened.close()
    with closing(apsw.Connection(str(empty))) as connection:
        assert connection.execute("SELECT max(seq) FROM execution").get == COUNT + 6


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
async def test_a_disk_that_fails_in_the_middle_leaves_the_earlier_backup(database, maker, target, monkeypatch, code):
    maker.of_database(database, target)
    earlier = target.read_bytes()

    def fail(self, data):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(archive._PacedFile, "_write", fail)
    with pytest.raises(UnavailableError) as raised:
        maker.of_database(database, target)
    assert raised.value.reason == ("STORAGE_FULL" if code == errno.ENOSPC else "STORAGE_UNAVAILABLE")
    assert target.read_bytes() == earlier
    assert names(target.parent) == ["one.tar.zst"]


async def test_a_disk_without_room_is_noticed_before_anything_is_copied(database, maker, target, monkeypatch):
    monkeypatch.setattr("router.storage.blobs.RESERVE_BYTES", 1 << 60)
    with pytest.raises(UnavailableError) as raised:
        maker.of_database(database, target)
    assert raised.value.reason == "STORAGE_FULL"
    assert names(target.parent) == []


@pytest.mark.parametrize("line", ["copying", "packing"])
async def test_a_disk_that_fills_up_meanwhile_is_left_to_what_is_served_from_it(
    database, maker, target, monkeypatch, line
):
    monkeypatch.setattr("router.storage.backups.archive.WRITEBACK_BYTES", 1)
    monkeypatch.setattr("router.storage.backups.making.SLICE_SECONDS", 0)
    found = os.statvfs(target.parent.parent)
    full = SimpleNamespace(f_bavail=1, f_frsize=found.f_frsize)

    def report(said):
        if said.startswith(line):
            monkeypatch.setattr("router.storage.blobs.os.statvfs", lambda _: full)

    maker.report = report
    if line == "copying":
        monkeypatch.setattr("router.storage.replicated.snapshots.check_room", lambda *_: report("copying"))
    with pytest.raises(UnavailableError) as raised:
        maker.of_database(database, target)
    assert raised.value.reason == "STORAGE_FULL"
    assert names(target.parent) == []


@pytest.mark.parametrize("place", ["backups", "elsewhere"])
async def test_one_backup_at_a_time_is_made_in_a_directory_and_of_a_database(database, target, tmp_path, place):
    refused, another = [], tmp_path / place / "two.tar"

    def report(line):
        if line == "packing":
            return
        with pytest.raises(ConflictError) as raised:
            BackupMaker(tokens=tmp_path, key=KEY, report=str).of_database(database, another)
        refused.append(raised.value.reason)

    BackupMaker(tokens=tmp_path / "none", key=KEY, report=report, share=1.0).of_database(database, target)
    assert set(refused) == {"BACKUP_RUNNING"}


@pytest.mark.parametrize("name", ["one.tar.zst", "one.tar"])
async def test_a_truncated_backup_is_named_wherever_it_ends(database, maker, target, name):
    path = target.with_name(name)
    whole = maker.of_database(database, path).path.read_bytes()
    cut, said = target.with_name("cut"), set()
    for size in [*range(0, len(whole) - 20_000, len(whole) // 60), 1, 3, 511, 512]:
        cut.write_bytes(whole[:size])
        with pytest.raises(BackupDamagedError, match="truncated") as raised:
            read_archive(cut)
        said.add(raised.value.message.split(" is ")[1])
    if name == "one.tar":
        assert any("within flowhook.db" in each for each in said), said
        assert any("within blobs/" in each for each in said), said


@pytest.mark.parametrize("name", ["one.tar.zst", "one.tar"])
async def test_a_flipped_bit_is_found_or_changes_nothing(database, maker, target, name, tmp_path):
    path = target.with_name(name)
    made = maker.of_database(database, path)
    whole, damaged, found = path.read_bytes(), tmp_path / "damaged", 0
    step = max(1, len(whole) // 150)
    for at in [*range(0, len(whole), step), *range(60)]:
        damaged.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        try:
            assert read_archive(damaged) == made.manifest
        except BackupDamagedError:
            found += 1
    assert found > 100
    if name == "one.tar":
        at = whole.index(LARGE[:1000]) + 500_000
        damaged.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(BackupDamagedError, match=r"blobs/.* is not what SHA256SUMS says"):
            read_archive(damaged, tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"hello " * 10_000, b"\x28\xb5\x2f\xfd" * 100, bytes(20_000)])
def test_what_is_no_backup_is_refused(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(BackupDamagedError):
        read_archive(path)


def repacked(path, *, key=KEY, **changes):
    """Write an archive with other parts, whose digests are right."""
    path.unlink(missing_ok=True)
    with archive.ArchiveWriter(path, compressed=False, pause=str, key=key) as writer:
        for name, data in changes.items():
            writer.add_content(name.replace("__", "/").replace("_DOT_", "."), data)


def tarred(*entries):
    """Return an archive of entries, each a header with its size as it says, and the data that follows."""
    return b"".join(
        entry.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512) for entry, data in entries
    ) + bytes(10_240)


def entry(name, size, kind=tarfile.REGTYPE):
    found = tarfile.TarInfo(name)
    found.size, found.type = size, kind
    return found


def described(**sizes):
    manifest = archive.Manifest(
        time_ms=1, storage="sqlite", position=1, database_format=8, executions={}, secrets=0, **sizes
    ).to_json()
    return entry("backup.json", len(manifest)), manifest


BOMB = 256 << 20
BOMBS = {
    "a PAX header": [(entry("x", BOMB, tarfile.XHDTYPE), b"")],
    "a global PAX header": [(entry("x", BOMB, tarfile.XGLTYPE), b"")],
    "a long name": [(entry("x", BOMB, tarfile.GNUTYPE_LONGNAME), b"")],
    "a long link": [(entry("x", BOMB, tarfile.GNUTYPE_LONGLINK), b"")],
    "a sparse file": [(entry("backup.json", BOMB, tarfile.GNUTYPE_SPARSE), b"")],
    "a symbolic link": [(entry("backup.json", 0, tarfile.SYMTYPE), b"")],
    "a directory": [(entry("blobs/", 0, tarfile.DIRTYPE), b"")],
    "a large manifest": [(entry("backup.json", BOMB), b"")],
    "no manifest": [(entry("flowhook.db", BOMB), b"")],
    "a large database": [described(size=100, blobs=0), (entry("flowhook.db", BOMB), b"")],
    "large digests": [described(size=BOMB, blobs=1), (entry("SHA256SUMS", BOMB), b"")],
    "a large code": [described(size=BOMB, blobs=1), (entry("SHA256SUMS.hmac", BOMB), b"")],
    "more blobs": [described(size=BOMB, blobs=1)] + [(entry(f"blobs/ab/{each}", 0), b"") for each in range(9)],
    "sizes that are none": [described(size=-1, blobs="9")],
}


@pytest.mark.parametrize("entries", BOMBS.values(), ids=BOMBS)
def test_a_small_file_that_becomes_large_is_refused_before_it_is_unpacked(tmp_path, entries):
    path = tmp_path / "file.tar.zst"
    compressor = zstandard.ZstdCompressor(level=3).compressobj()
    with path.open("wb") as file:
        file.write(compressor.compress(tarred(*entries)[:-10_240]))
        for _ in range(BOMB >> 24):
            file.write(compressor.compress(bytes(1 << 24)))
        file.write(compressor.flush())
    (tmp_path / "out").mkdir()
    tracemalloc.start()
    try:
        with pytest.raises(BackupDamagedError):
            read_archive(path, tmp_path / "out")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < BOMB >> 2
    assert sum(each.stat().st_size for each in (tmp_path / "out").rglob("*")) < 1 << 20


def test_a_file_that_goes_on_behind_its_end_is_refused(tmp_path):
    path = tmp_path / "file.tar"
    repacked(path, backup_DOT_json=described(size=0, blobs=0)[1], flowhook_DOT_db=b"")
    assert read_archive(path, key=KEY).blobs == 0
    with path.open("ab") as file:
        file.write(bytes(3 << 20))
    with pytest.raises(BackupDamagedError, match="behind its end"):
        read_archive(path)


@pytest.mark.parametrize("name", ["../escaped", "/etc/passwd", "blobs/../../x", "blobs/ab/..", "other"])
def test_parts_with_other_names_are_refused_and_written_nowhere(tmp_path, name):
    path = tmp_path / "file.tar"
    with archive.ArchiveWriter(path, compressed=False, pause=str) as writer:
        writer.add_content(name, b"x")
    (tmp_path / "out").mkdir()
    with pytest.raises(BackupDamagedError, match="has a part"):
        read_archive(path, tmp_path / "out")
    assert names(tmp_path) == ["file.tar", "out"]


def test_a_backup_of_a_later_format_says_which_version_reads_it(tmp_path):
    path = tmp_path / "file.tar"
    repacked(path, backup_DOT_json=b'{"format": 3, "version": "9.9"}', flowhook_DOT_db=b"")
    with pytest.raises(ConflictError, match=r"format 3.*9\.9") as raised:
        read_archive(path)
    assert raised.value.reason == "BACKUP_FORMAT_UNSUPPORTED"


async def test_a_database_of_a_later_format_is_refused(database, maker, target, empty, tmp_path):
    def change(parts):
        manifest = (parts / "backup.json").read_bytes()
        (parts / "backup.json").write_bytes(manifest.replace(b'"database_format": 8', b'"database_format": 88'))

    maker.of_database(database, target)
    changed(target, tmp_path, change, key=KEY)
    with pytest.raises(ConflictError, match="format 88") as raised:
        restore(target, empty)
    assert raised.value.reason == "BACKUP_FORMAT_UNSUPPORTED"
    assert not empty.exists()


async def test_a_backup_whose_database_is_another_one_is_refused(database, maker, target, empty, tmp_path):
    def change(parts):
        with closing(apsw.Connection(str(parts / "flowhook.db"))) as connection:
            connection.execute("DELETE FROM execution WHERE seq = 7")

    maker.of_database(database, target)
    changed(target, tmp_path, change, key=KEY)
    with pytest.raises(BackupDamagedError, match="other executions or blobs"):
        restore(target, empty)


async def test_an_interrupted_restore_is_repeated(database, maker, target, empty, monkeypatch):
    maker.of_database(database, target)

    def fail(source, into):
        raise OSError(errno.EIO, "no")

    with monkeypatch.context() as patched:
        patched.setattr("router.storage.backups.restoring._move", fail)
        with pytest.raises(FlowhookError):
            restore(target, empty)
    assert names(empty.parent) == ["flowhook.db.lock"]
    assert restore(target, empty).executions == STATUSES


# a replicated log


class QuietHeartbeats:
    def seen(self):
        return {}


@pytest.fixture
def replicated(tmp_path):
    return SimpleNamespace(log=FakeLog(), objects=DirectoryObjects(tmp_path / "objects"), heartbeats=QuietHeartbeats())


@pytest.fixture
async def owner(replicated, database, storage, tmp_path):
    """A router's storage on a log, whose records it writes at times that the test sets."""
    await storage.close()
    Migration(replicated, report=str, heartbeat_seconds=0).to_log(database)
    view = View(tmp_path / "view")
    position = SnapshotStore(replicated.objects, tmp_path / "snapshots").restore_view(view, replicated.log.identity)
    clock = SimpleNamespace(now_ms=1_000)
    recorder = LogRecorder(replicated.log, position, lost=print, now_ms=lambda: clock.now_ms)
    opened = await open_storage(
        view.path, limits=REPLICATED_LIMITS, transaction_log=recorder, objects=replicated.objects, durable=False
    )
    yield SimpleNamespace(storage=opened, state=await opened.own(), view=view, clock=clock, database=database)
    await opened.close()


def rows(path):
    found = content(path)
    for name in ("applied", "rejection"):
        found.pop(name, None)
    return found


async def test_a_log_is_backed_up_while_its_owner_writes_and_becomes_a_database(
    owner, replicated, maker, target, empty
):
    await owner.state.write([Ended(1, Status.COMPLETED, 1_700_000_000_500, 1, output=b'"late"')])
    await owner.storage.log.append([NewEvent(ids.mint(1), "shop", 1, 1_800_000_000_000, LARGE)])
    made = maker.of_log(replicated, target)
    expected = rows(owner.view.path)
    await owner.storage.log.append([NewEvent(ids.mint(1), "shop", 1, 1_800_000_000_000, b"after")])
    assert (made.manifest.storage, made.manifest.log) == ("nats", replicated.log.identity)
    assert made.manifest.position == replicated.log.tail().position - 1
    assert (made.manifest.blobs, made.manifest.missing) == (5, 0)
    restored = restore(target, empty)
    assert restored.position == made.manifest.position
    assert rows(empty) == expected
    assert len(blobs(empty)) == 5


async def test_a_backup_of_either_storage_fills_an_empty_log(owner, replicated, maker, target, tmp_path):
    maker.of_log(replicated, target)
    other = SimpleNamespace(log=FakeLog("fake-2"), objects=DirectoryObjects(tmp_path / "other"))
    other.heartbeats = QuietHeartbeats()
    restoring = Restoring(archive=target, key=KEY, tokens=tmp_path / "work" / "tokens.json", report=str)
    restored = restoring.to_log(other, tmp_path / "work", heartbeat_seconds=0)
    assert restored.executions == STATUSES
    assert names(tmp_path / "work") == ["flowhook.db.lock", "tokens.json"]
    again = target.with_name("two.tar")
    maker.of_log(other, again)
    path = tmp_path / "restored" / "flowhook.db"
    restore(again, path)
    assert rows(path) == rows(owner.view.path)
    with pytest.raises(ConflictError) as raised:
        restoring.to_log(replicated, tmp_path / "work", heartbeat_seconds=0)
    assert raised.value.reason == "LOG_NOT_EMPTY"


@pytest.mark.parametrize("version", EARLIER)
def test_a_backup_of_an_earlier_format_fills_an_empty_log(tmp_path, maker, target, version):
    path = tmp_path / "earlier.db"
    make_earlier(path, version)
    assert maker.of_database(path, target).manifest.database_format == version
    log = SimpleNamespace(log=FakeLog("fake"), objects=DirectoryObjects(tmp_path / "objects"))
    log.heartbeats = QuietHeartbeats()
    restoring = Restoring(archive=target, key=KEY, tokens=tmp_path / "tokens.json", report=str)
    restoring.to_log(log, tmp_path / "work", heartbeat_seconds=0)
    view = View(tmp_path / "view")
    assert SnapshotStore(log.objects, tmp_path / "snapshots").restore_view(view, log.log.identity)
    with view.connected() as connection:
        assert connection.execute("PRAGMA user_version").get == FORMAT_VERSION


async def write_at(owner, time_ms, payload):
    owner.clock.now_ms = time_ms
    await owner.storage.log.append([NewEvent(ids.mint(1), "shop", 1, time_ms, payload)])


async def test_records_after_the_backup_are_applied_up_to_a_time_or_a_position(
    owner, replicated, maker, target, tmp_path
):
    position = maker.of_log(replicated, target).manifest.position
    views = {}
    for time_ms in (2_000, 3_000, 4_000):
        await write_at(owner, time_ms, LARGE)
        views[time_ms] = rows(owner.view.path)
    points = {
        UntilPoint(time_ms=2_999): 2_000,
        UntilPoint(time_ms=3_000): 3_000,
        UntilPoint(position=position + 2): 3_000,
        UntilPoint(time_ms=9_000): 4_000,
        UntilPoint(): 4_000,
    }
    for number, (until, expected) in enumerate(points.items()):
        path = tmp_path / f"restored-{number}" / "flowhook.db"
        restored = restore(target, path, since=replicated, until=until)
        assert rows(path) == views[expected], until
        assert restored.position == position + (expected - 1_000) // 1_000
        assert len(blobs(path)) == 4 + (expected - 1_000) // 1_000
    early = tmp_path / "early" / "flowhook.db"
    restore(target, early, since=replicated, until=UntilPoint(time_ms=1))
    assert len(blobs(early)) == 4


async def test_a_log_that_does_not_continue_a_backup_is_refused(owner, replicated, maker, target, empty):
    position = maker.of_log(replicated, target).manifest.position
    for wrong in (position - 1, position + 5):
        with pytest.raises(InvalidError) as raised:
            restore(target, empty, since=replicated, until=UntilPoint(position=wrong))
        assert raised.value.reason == "POSITION_OUT_OF_RANGE"
    other = SimpleNamespace(log=FakeLog("fake-2"), objects=replicated.objects)
    with pytest.raises(ConflictError) as raised:
        restore(target, empty, since=other)
    assert raised.value.reason == "LOG_DIFFERS"
    for time_ms in (2_000, 3_000):
        await write_at(owner, time_ms, b"x")
    replicated.log.purge(position + 1)
    with pytest.raises(ConflictError, match=f"begins at position {position + 2}") as raised:
        restore(target, empty, since=replicated)
    assert raised.value.reason == "LOG_INCOMPLETE"
    assert not empty.exists()
    embedded = target.with_name("two.tar")
    maker.of_database(owner.database, embedded)
    with pytest.raises(ConflictError) as raised:
        restore(embedded, empty, since=replicated)
    assert raised.value.reason == "LOG_DIFFERS"


@pytest.mark.release
async def test_of_a_hundred_thousand_executions_a_backup_has_exactly_those_up_to_its_position(tmp_path, target, empty):
    storage = await open_storage(tmp_path / "data" / "flowhook.db")
    before = len(await populate(storage, 100_000))
    maker = BackupMaker(tokens=tmp_path / "none", key=KEY, report=str)
    making = asyncio.create_task(asyncio.to_thread(maker.of_database, tmp_path / "data" / "flowhook.db", target))
    accepted = before
    while not making.done():
        new = [NewEvent(ids.mint(1), "shop", 1, 1_800_000_000_000, b"x" * 500) for _ in range(50)]
        accepted = (await storage.log.append(new))[-1].seq
    made = await making
    await storage.close()
    position = made.manifest.position
    assert before <= position < accepted
    restored = restore(target, empty)
    assert sum(restored.executions.values()) == sum(made.manifest.executions.values()) == position
    connection = apsw.Connection(str(empty), flags=apsw.SQLITE_OPEN_READWRITE)
    assert connection.execute("SELECT min(seq), max(seq), count(*) FROM execution").fetchone() == (
        1,
        position,
        position,
    )
    connection.close()


def test_operators_can_read_a_backup_with_their_own_tools(tmp_path):
    if not all(map(shutil.which, ("tar", "sha256sum"))):
        pytest.skip("there is no tar or sha256sum")
    path = tmp_path / "file.tar"
    repacked(path, backup_DOT_json=b"{}", flowhook_DOT_db=b"x", blobs__ab__c=b"y")
    subprocess.run(["tar", "-xf", path, "-C", tmp_path], check=True)
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=tmp_path, check=True)


def test_three_quarters_of_the_time_are_slept():
    now, slept, lines = [0.0], [], []
    pace = BackupPace(lines.append, clock=lambda: now[0], sleep=lambda seconds: slept.append(round(seconds, 6)))
    pace.describe = lambda: "half"
    for worked in (0.002, 0.002, 0.03, 3.0):
        now[0] += worked
        pace.pause()
    assert slept == [0.012, 0.09, 0.5]
    assert lines == ["half"]
