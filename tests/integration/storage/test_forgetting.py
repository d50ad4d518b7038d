"""What is left of erased events is removed also when nobody asks again: after a restart, and by routers that follow."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from support.patience import PATIENCE

from router.storage import schema, vacuum
from router.storage.erasure import is_pending
from router.storage.replicated.view import CHECK_SECONDS, Forgetting, View, read_last_erasure
from router.storage.storage import open_storage

MARK = b"jane.doe@example.com"


def left(directory):
    return sorted(path.name for path in directory.rglob("*") if path.is_file() and MARK in path.read_bytes())


def erase_rows(path, flow_id="demo"):
    """Leave a database as an owner does that ends after it has deleted the rows of an event."""
    with contextlib.closing(schema.connect_writer(path, durable=False)) as connection:
        connection.execute("INSERT INTO event (seq, payload) VALUES (1, ?), (2, x'00')", (MARK * 2000,))
        connection.execute("INSERT INTO rejection (id, flow_id, time_ms, reason, content) VALUES"
                           " ('r1', 'demo', 1, 'X', ?1), ('r2', 'other', 1, 'X', x'00')", (MARK,))  # fmt: skip
        connection.execute("DELETE FROM event WHERE seq = 1")
        erased = "INSERT INTO erasure (execution_id, root, flow_id, time_ms) VALUES ('evt_1', 'evt_1', ?, 1)"
        connection.execute(erased, (flow_id,))


async def test_an_owner_that_ended_in_between_goes_on_when_it_starts(tmp_path):
    path = tmp_path / "flowhook.db"
    erase_rows(path)
    with contextlib.closing(schema.connect_writer(path)) as connection:
        connection.execute("DELETE FROM rejection")  # an owner knows which are of the event
    assert left(tmp_path)
    storage = await open_storage(path)
    try:
        async with asyncio.timeout(PATIENCE):
            while left(tmp_path):
                await asyncio.sleep(0.01)
    finally:
        await storage.close()
    assert left(tmp_path) == []


@pytest.fixture
def view(tmp_path):
    view = View(tmp_path / "r1")
    view.path.parent.mkdir()
    view.create("log-1")
    return view


def test_a_router_that_follows_wipes_its_view_its_blobs_and_rejections_of_the_flow(view):
    assert read_last_erasure(view) == 0
    erase_rows(view.path)
    blobs = view.path.parent / "blobs" / "ab"
    blobs.mkdir(parents=True)
    (blobs / "erased.blob").write_bytes(MARK)
    (blobs / "kept.blob").write_bytes(b"kept")
    forgetting = Forgetting(view)
    with view.connected() as connection:
        connection.execute("INSERT INTO blob (seq, name, bytes) VALUES (2, 'ab/kept.blob', 4)")
        assert is_pending(connection)
        while forgetting.step(connection) != CHECK_SECONDS:
            pass
        assert not is_pending(connection)
        assert connection.execute("SELECT id FROM rejection").fetchall() == [("r2",)]
        assert connection.execute("SELECT seq FROM event").fetchall() == [(2,)]
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    assert left(view.path.parent) == []
    assert (blobs / "kept.blob").exists()
    assert read_last_erasure(view) == 1


def test_a_router_without_a_view_knows_of_no_erasure(tmp_path):
    assert read_last_erasure(View(tmp_path)) == 0


def test_a_router_that_follows_gives_back_what_became_free_in_its_view(view, monkeypatch):
    monkeypatch.setattr(vacuum, "KEPT_PAGES", 8)
    forgetting = Forgetting(view)
    with view.connected() as connection:
        connection.executemany("INSERT INTO event VALUES (?, randomblob(4000))", [(seq,) for seq in range(1000)])
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        before = view.path.stat().st_size
        connection.execute("DELETE FROM event")
        while forgetting.step(connection) != CHECK_SECONDS:
            pass
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    assert view.path.stat().st_size < before / 4
