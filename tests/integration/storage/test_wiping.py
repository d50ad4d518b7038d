"""Wiping the unused parts of a database file: what is in use stays as it is, whoever reads and writes beside it."""

from __future__ import annotations

import asyncio
import contextlib
import random

import apsw
import pytest

from router.storage import erasure, schema
from router.storage import erasure as wiping
from router.storage.erasure import Step, overwrite, read_tree_page, wipe_step

MARK = b"jane.doe@example.com"
ERASE = "INSERT INTO erasure (execution_id, root, flow_id, time_ms) SELECT hex(randomblob(8)), 'r', 'f', 1"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "flowhook.db"


@pytest.fixture
def writer(path):
    with contextlib.closing(schema.connect_writer(path, durable=False)) as connection:
        yield connection


def fill(connection, choose, rows=1500):
    """Insert rows in random order and of all sizes, with an index over long values, and delete half of them."""
    connection.execute(
        "CREATE TABLE a (k INTEGER PRIMARY KEY, v BLOB); CREATE TABLE b (k BLOB PRIMARY KEY, v BLOB) WITHOUT ROWID;"
        "CREATE INDEX a_by_v ON a (v)"
    )
    keys = list(range(rows))
    choose.shuffle(keys)
    for key in keys:
        value = MARK * choose.choice([0, 1, 3, 20, 50, 100, 300, 1500])
        with connection:
            connection.execute("INSERT INTO a VALUES (?, ?)", (key, value + b"%d" % key))
            connection.execute("INSERT INTO b VALUES (?, ?)", (b"%d" % key + value[: choose.randint(0, 9000)], value))
            if key % 2:
                deleted = choose.choice(keys)
                connection.execute("DELETE FROM a WHERE k = ?", (deleted,))
                connection.execute("DELETE FROM b WHERE k >= ? AND k < ?", (b"%d" % deleted, b"%d." % deleted))


def wipe(path):
    while (step := wipe_step(path)) is Step.MORE:
        pass
    return step


def contents(connection):
    return [connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall() for table in ("a", "b")]


@pytest.mark.parametrize("seed", range(3))
def test_rows_and_indexes_are_intact_and_nothing_else_is_left(path, writer, seed):
    fill(writer, random.Random(seed))
    writer.execute(ERASE)
    before = contents(writer)
    assert wipe(path) is Step.DONE
    assert writer.execute("PRAGMA integrity_check").get == "ok"
    assert contents(writer) == before
    writer.execute("DELETE FROM a; DELETE FROM b")
    writer.execute(ERASE)
    assert wipe(path) is Step.DONE
    assert MARK not in path.read_bytes()
    assert MARK not in path.with_name(f"{path.name}-wal").read_bytes()


def test_a_reader_keeps_what_it_sees_and_delays_a_step_only_while_it_needs_the_log(path, writer):
    fill(writer, random.Random(1), rows=300)
    with contextlib.closing(schema.connect_reader(path)) as reader:
        reader.execute("BEGIN")
        before = contents(reader)
        writer.execute("DELETE FROM a")
        writer.execute(ERASE)
        assert wipe_step(path) is Step.BUSY
        assert contents(reader) == before
        reader.execute("COMMIT")
        reader.execute("BEGIN")
        before = contents(reader)
        assert wipe(path) is Step.BUSY  # its first step succeeded, and wrote to the log
        reader.execute("COMMIT")
        assert before == contents(reader)
        assert wipe(path) is Step.DONE


def test_nothing_is_done_unless_something_was_erased(path, writer):
    fill(writer, random.Random(1), rows=100)
    writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    before = path.read_bytes()
    assert wipe_step(path) is Step.DONE
    assert path.read_bytes() == before


def test_a_pass_goes_on_where_it_was_and_begins_again_for_a_later_erasure(path, writer):
    fill(writer, random.Random(1), rows=300)
    writer.execute(ERASE)
    assert wipe_step(path, pages=8, seconds=60) is Step.MORE
    assert writer.execute("SELECT done, target, page FROM wipe").fetchall() == [(0, 1, 9)]
    writer.execute(ERASE)
    assert wipe_step(path, pages=8, seconds=60) is Step.MORE
    assert writer.execute("SELECT done, target, page FROM wipe").fetchall() == [(0, 1, 17)]
    assert wipe(path) is Step.DONE
    assert writer.execute("SELECT done, target, page FROM wipe").fetchall() == [(2, 2, 0)]
    assert erasure.last_erasure(writer) == 2


async def test_rows_written_between_steps_are_intact(path, writer):
    """Each step works on the file as it is then: pages may have become free, or be used again, since the last one."""
    choose = random.Random(7)
    fill(writer, choose, rows=600)
    expected = dict(writer.execute("SELECT k, v FROM a"))
    writer.execute(ERASE)
    work = wiping.Wiping(path, asyncio.to_thread, pages=16)
    finishing = asyncio.create_task(work.finish())
    for number in range(1000, 3000):
        if finishing.done():
            break
        value = MARK * choose.choice([1, 30, 900])
        writer.execute("INSERT INTO a VALUES (?, ?)", (number, value))
        expected[number] = value
        for deleted in choose.sample(sorted(expected), 1):
            writer.execute("DELETE FROM a WHERE k = ?", (deleted,))
            del expected[deleted]
        await asyncio.sleep(0)
    await finishing
    assert writer.execute("PRAGMA integrity_check").get == "ok"
    assert dict(writer.execute("SELECT k, v FROM a")) == expected


def test_a_damaged_page_is_left_alone(path, writer):
    fill(writer, random.Random(3), rows=300)
    writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    size = schema.PAGE_BYTES
    data = path.read_bytes()
    pages = [data[start : start + size] for start in range(size, len(data), size)]
    page = next(each for each in pages if read_tree_page(each, size).unused)
    beyond = page[:5] + b"\xff\xff" + page[7:]  # the cells would begin behind the end
    overlapping = page[:3] + b"\x0f\xff" + page[5:]  # more cells than there is room for
    assert [read_tree_page(each, size).unused for each in (beyond, overlapping)] == [[], []]


def test_a_damaged_list_of_free_pages_stops_a_step(path, writer):
    writer.execute("CREATE TABLE a (v BLOB)")
    writer.execute("INSERT INTO a VALUES (zeroblob(100000)); DELETE FROM a; PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    (trunk,) = (int.from_bytes(path.read_bytes()[32:36], "big"),)
    with path.open("r+b") as file:
        file.seek((trunk - 1) * schema.PAGE_BYTES + 4)
        file.write(b"\xff\xff\xff\xff")
    writer.execute("BEGIN IMMEDIATE")
    with pytest.raises(apsw.CorruptError):
        overwrite(path, writer, 1, pages=1000, seconds=10)
    writer.execute("ROLLBACK")
