"""Databases of earlier formats are brought up to date when they are opened."""

import sqlite3
from pathlib import Path

import pytest

from flowhook.errors import InternalError
from flowhook.model import JournalEntry, Status, Subscription
from router.storage.inbound_events import InboundEventAppended, NewInboundEvent
from router.storage.model import Ended, FlowDraft, Journaled, Parked, Resumption, Scheduled, UnfinishedExecution
from router.storage.sqlite import open_sqlite
from router.storage.sqlite.schema import FORMAT_VERSION

FORMAT_1 = (Path(__file__).parent / "format_1.sql").read_text()


@pytest.fixture
def old_path(path):
    path.parent.mkdir(mode=0o700)
    connection = sqlite3.connect(path)
    connection.executescript(FORMAT_1)
    connection.close()
    return path


def schema(path):
    connection = sqlite3.connect(path)
    tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").fetchall()
    columns = {name: connection.execute(f"PRAGMA table_info({name})").fetchall() for (name,) in tables}
    indexes = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'index' ORDER BY name").fetchall()
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    connection.close()
    return version, columns, indexes


async def test_what_a_database_of_format_1_holds_is_kept(old_path):
    storage = await open_sqlite(old_path)
    state = await storage.own(0)
    assert state.epoch == 4
    assert await state.unfinished() == [
        UnfinishedExecution(2, "evt_running", "shop", 1, 2, 0, Status.RUNNING),
        UnfinishedExecution(3, "evt_pending", "shop", 2, 0),
    ]
    work = await state.work([2, 3])
    assert (work[2].payload, work[2].journal_start, work[2].effect_scope) == (b"\x02", 0, "")
    assert work[2].journal == (JournalEntry("/do/0/a#0", b"1"), JournalEntry("/do/1/b#0", b"2"))
    ended = await state.find("evt_ended")
    assert (ended.status, ended.end_time_ms, ended.effect_scope) == (Status.COMPLETED, 2000, "")
    assert (await state.content(1)).output == b"{}"
    assert [flow.id for flow in await storage.registry.list_flows()] == ["shop"]
    assert await storage.registry.list_flows(reacting=True) == []
    await storage.close()


async def test_a_migrated_database_does_all_that_a_new_one_does(old_path, new_event):
    storage = await open_sqlite(old_path)
    state = await storage.own(0)
    await storage.registry.apply_flows([FlowDraft("shop", b"2", b"{}", True, reacts=True)], now_ms=9)
    assert [flow.revision for flow in await storage.registry.list_flows(reacting=True)] == [2]
    resumed = new_event(order_key="k", resumes=Resumption("evt_ended", (JournalEntry("@", b"0"),), 4))
    assert [each.seq for each in await storage.log(0).append([resumed])] == [4]
    arrival = NewInboundEvent("evt_1", "shop", True, "approval", 1000, b"{}", 2**45)
    assert await storage.log(0).append_arrivals([arrival]) == [InboundEventAppended(1)]
    await state.write(
        [
            Parked(2, 99, 2, (Subscription("/do/2/run#0", execution_id="evt_child"),)),
            Journaled(2, 2, JournalEntry("@", b"3"), compacts=True),
            Ended(3, Status.FAULTED, 5, 1),
            Scheduled("shop", 77, 7),
        ]
    )
    await storage.close()
    storage = await open_sqlite(old_path)
    state = await storage.own(0)
    assert [(each.seq, each.status, each.wake_at_ms, each.order_key) for each in await state.unfinished()] == [
        (2, Status.WAITING, 99, ""),
        (4, Status.PENDING, None, "k"),
    ]
    assert (await state.work([2]))[2].journal_start == 2
    assert await state.schedules() == [Scheduled("shop", 77, 7)]
    assert [len(each.subscriptions) for each in await state.unfinished()] == [1, 0]
    assert [arrival.number for arrival in await state.arrivals()] == [1]
    await storage.close()


async def test_a_migrated_database_has_the_schema_of_a_new_one(old_path, tmp_path):
    await (await open_sqlite(old_path)).close()
    new = tmp_path / "new" / "flowhook.db"
    await (await open_sqlite(new)).close()
    assert schema(old_path) == schema(new)
    assert schema(new)[0] == FORMAT_VERSION


async def test_a_migration_that_fails_leaves_the_database_as_it_was(old_path):
    connection = sqlite3.connect(old_path)
    connection.execute("ALTER TABLE execution ADD COLUMN order_key TEXT")  # in the way of the migration's own
    connection.close()
    before = schema(old_path)
    with pytest.raises(InternalError, match="SQLITE_ERROR"):
        await open_sqlite(old_path)
    assert schema(old_path) == before


async def test_replays_of_an_earlier_format_stand_for_what_they_replay(old_path):
    connection = sqlite3.connect(old_path)
    rows = [
        (10, "evt_a", "evt_gone", 7),
        (11, "evt_b", "evt_a", 7),
        (12, "evt_c", "evt_b", 8),
        (13, "evt_d", "evt_e", 7),
    ]
    connection.executemany(
        "INSERT INTO execution (seq, event_id, flow, flow_revision, receive_time_ms, replay_of, status, attempts,"
        " end_time_ms) VALUES (?, ?, 1, 1, 0, ?, ?, 1, 5)",
        rows,
    )
    connection.commit()
    connection.close()
    storage = await open_sqlite(old_path)
    state = await storage.own(0)
    found = await state.find_by_ids(["evt_a", "evt_b", "evt_c", "evt_d"])
    assert {key: (each.replayed_by, each.replayed) for key, each in found.items()} == {
        "evt_a": ("evt_c", True),
        "evt_b": ("evt_c", True),
        "evt_c": ("", False),
        "evt_d": ("", False),
    }
    await storage.close()
