"""Free space of a database is given back to the disk, in steps, and not while it is still to be wiped."""

from __future__ import annotations

import asyncio
import contextlib

import apsw
import pytest
from support.patience import PATIENCE

from flowhook.model import Status
from router.storage import vacuum
from router.storage.erasure import Step, overwrite, wipe_step
from router.storage.model import Ended
from router.storage.replicated.snapshots import vacuum_into
from router.storage.schema import PAGE_BYTES, connect_writer
from router.storage.storage import open_storage

ROW = PAGE_BYTES // 2
ERASE = "INSERT INTO erasure (execution_id, root, flow_id, time_ms) SELECT hex(randomblob(8)), 'r', 'f', 1"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "flowhook.db"


@pytest.fixture
def writer(path):
    with contextlib.closing(connect_writer(path, durable=False)) as connection:
        yield connection


def fill(connection, rows):
    with connection:
        connection.executemany(
            "INSERT INTO event VALUES (?, randomblob(?))", [(seq, ROW) for seq in range(1, rows + 1)]
        )


def size(connection, path):
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return path.stat().st_size


def test_a_file_with_many_free_pages_shrinks_to_a_share_of_them_and_is_intact(path, writer, monkeypatch):
    monkeypatch.setattr(vacuum, "KEPT_PAGES", 8)
    fill(writer, 4000)
    before = size(writer, path)
    writer.execute("DELETE FROM event WHERE seq % 8")
    writer.execute("DELETE FROM event WHERE seq < 3000")
    kept = writer.execute("SELECT seq, payload FROM event ORDER BY seq").fetchall()
    steps, left = 1, vacuum.give_back(writer, seconds=0)
    while left:
        steps, left = steps + 1, vacuum.give_back(writer, begin=False, seconds=0)
    assert size(writer, path) < before / 2
    assert steps > 100  # each moved one page: between them, others write
    assert writer.execute("PRAGMA integrity_check").get == "ok"
    assert writer.execute("SELECT seq, payload FROM event ORDER BY seq").fetchall() == kept
    assert writer.execute("PRAGMA freelist_count").get >= writer.execute("PRAGMA page_count").get // 8 - 1


def test_it_begins_with_a_quarter_of_the_file_only(path, writer, monkeypatch):
    monkeypatch.setattr(vacuum, "KEPT_PAGES", 8)
    fill(writer, 1000)
    writer.execute("DELETE FROM event WHERE seq <= 180")
    before = size(writer, path)
    assert vacuum.give_back(writer) == 0
    assert size(writer, path) == before
    assert vacuum.give_back(writer, begin=False, seconds=0) > 0


def test_nothing_is_moved_before_what_was_erased_is_wiped(path, writer, monkeypatch):
    monkeypatch.setattr(vacuum, "KEPT_PAGES", 8)
    fill(writer, 1000)
    writer.execute(f"DELETE FROM event; {ERASE}")
    assert vacuum.give_back(writer) == 0
    while wipe_step(path) is not Step.DONE:
        pass
    assert vacuum.give_back(writer, seconds=0) > 0


def test_a_file_of_an_earlier_format_stays_as_large_as_it_is_until_it_is_written_anew(path, monkeypatch):
    monkeypatch.setattr(vacuum, "KEPT_PAGES", 8)
    with contextlib.closing(apsw.Connection(str(path))) as earlier:
        earlier.execute(f"PRAGMA page_size = {PAGE_BYTES}; CREATE TABLE a (v); DROP TABLE a")
    with contextlib.closing(connect_writer(path)) as writer:
        fill(writer, 1000)
        writer.execute("DELETE FROM event")
        assert vacuum.give_back(writer) == 0
    vacuum_into(path, path.with_name("backup.db"))
    with contextlib.closing(apsw.Connection(str(path))) as earlier:
        earlier.execute("PRAGMA auto_vacuum = INCREMENTAL; VACUUM").fetchall()  # as docs/operations.md says
    for anew in (path, path.with_name("backup.db")):
        with contextlib.closing(connect_writer(anew)) as writer:
            fill(writer, 1000)
            writer.execute("DELETE FROM event")
            assert vacuum.give_back(writer, seconds=0) > 0


def test_a_page_that_lists_pages_is_not_taken_for_one_of_a_b_tree(path, writer):
    fill(writer, 10)
    writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    looks_empty = b"\x05\0\0\0\0" + b"\x05\0\0\0\1" * 20  # a page of a b-tree without cells would begin like that
    with path.open("r+b") as file:
        file.seek(PAGE_BYTES)
        file.write(looks_empty)
    writer.execute("BEGIN IMMEDIATE")
    overwrite(path, writer, 1, pages=100, seconds=60)
    writer.execute("ROLLBACK")
    assert path.read_bytes()[PAGE_BYTES:].startswith(looks_empty)


async def test_an_open_storage_gives_back_what_was_removed(path, new_event, monkeypatch):
    monkeypatch.setattr(vacuum, "KEPT_PAGES", 8)
    monkeypatch.setattr(vacuum, "LOOK_SECONDS", 0.01)
    storage = await open_storage(path)
    state = await storage.own()
    appended = await storage.log.append([new_event(payload=b"x" * ROW) for _ in range(1000)])
    before = 1000 * ROW
    await state.write([Ended(each.seq, Status.COMPLETED, 2_000, 1, b"{}") for each in appended])
    assert await state.expire(ended_before_ms=3_000) == 1000
    async with asyncio.timeout(PATIENCE):
        while (await storage.usage()).database_bytes > before / 2:
            await storage.log.append([new_event()])  # a log that nobody writes to is not copied again
    await storage.close()
