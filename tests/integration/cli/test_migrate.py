"""`flowhook migrate` between a database and a log on a NATS server."""

import asyncio
import itertools
from functools import partial

import apsw
import pytest
from support.cluster_keys import KEY_SETTING, KEYS
from support.commands import flowhook
from support.nats_servers import nats_server
from support.replica import tables
from support.stored_executions import populate

from router.storage.commit_log import jetstream
from router.storage.storage import open_storage

NUMBERS = itertools.count()
COUNT = 270
STATUSES = {
    "pending": 36,
    "running": 30,
    "waiting": 60,
    "suspended": 30,
    "cancelled": 30,
    "faulted": 30,
    "completed": 60,
}


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr("cli.commands.backup.HEARTBEAT_SECONDS", 0.3)


@pytest.fixture
def url(server):
    """A log of the test's own."""
    return server.url(prefix=f"LOG{next(NUMBERS)}", max_bytes="64M")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with nats_server(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """A database that a router has closed."""
    path = tmp_path_factory.mktemp("data") / "flowhook.db"

    async def fill():
        storage = await open_storage(path)
        await populate(storage, COUNT)
        await storage.close()

    asyncio.run(fill())
    return path


def rows(path):
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        found = tables(connection)
    finally:
        connection.close()
    del found["rejection"]  # local to each router
    return found


def blobs(path):
    return {file.name: file.read_bytes() for file in (path.parent / "blobs").glob("*/*")}


def test_executions_of_every_status_go_to_the_log_and_back(url, database, tmp_path):
    back = tmp_path / "back" / "flowhook.db"
    there = flowhook("migrate", "--from", f"sqlite:{database}", "--json", FLOWHOOK_STORAGE=url, **KEY_SETTING)
    assert (there.code, there.err.splitlines()[-1]) == (0, "comparing the snapshot with the database")
    [result] = there.rows
    assert result.pop("seconds") > 0
    assert result == {"position": 0, "executions": STATUSES, "compared": 276, "blobs": 4, "missing_blobs": 0}
    again = flowhook("migrate", "--to", f"sqlite:{back}", FLOWHOOK_STORAGE=url, **KEY_SETTING)
    assert again.code == 0
    assert "4 of 4 large payloads and bodies downloaded" in again.out
    assert "waiting: 60" in again.out
    assert "276 executions migrated in" in again.out
    assert rows(back) == rows(database)
    assert blobs(back) == blobs(database)


def test_a_router_that_is_heard_refuses_both_directions(url, database, tmp_path):
    other = jetstream.connect(url, KEYS, router="router-7")

    async def beat_while(run):
        running = asyncio.create_task(asyncio.to_thread(run))
        while not running.done():
            other.heartbeats.publish(b"alive")
            await asyncio.wait({running}, timeout=0.05)
        return await running

    try:
        for option, path in (("--from", database), ("--to", tmp_path / "flowhook.db")):
            command = partial(flowhook, "migrate", option, f"sqlite:{path}", FLOWHOOK_STORAGE=url, **KEY_SETTING)
            found = asyncio.run(beat_while(command))
            assert (found.code, found.err) == (1, "flowhook: router-7 runs on this log: stop all routers first\n")
    finally:
        other.close()


def test_a_log_that_is_in_use_is_not_overwritten(url, database):
    used = jetstream.connect(url, KEYS, router="router-7")
    used.log.append(0, "1:a:1:0", b"record")
    used.close()
    found = flowhook("migrate", "--from", f"sqlite:{database}", FLOWHOOK_STORAGE=url, **KEY_SETTING)
    assert found.code == 1
    assert "the log is not empty: it has been used up to position 1" in found.err


def test_a_log_that_does_not_exist_is_not_created_by_migrating_from_it(url, tmp_path):
    found = flowhook("migrate", "--to", f"sqlite:{tmp_path / 'flowhook.db'}", FLOWHOOK_STORAGE=url, **KEY_SETTING)
    assert found.code == 1
    assert not (tmp_path / "flowhook.db").exists()


@pytest.mark.parametrize(
    ("source", "target"),
    [("sqlite:a", "sqlite:b"), ("nats://a", "nats://b"), ("a.db", "nats://b"), ("nats://a", "postgres://b")],
)
def test_other_kinds_of_storage_are_wrong_usage(source, target):
    found = flowhook("migrate", "--from", source, "--to", target)
    assert found.code == 2
    assert "one of --from and --to is sqlite:PATH" in found.err


def test_a_password_in_an_argument_is_refused_and_a_file_with_the_url_is_read(url, database, tmp_path):
    found = flowhook("migrate", "--from", f"sqlite:{database}", "--to", url, **KEY_SETTING)
    assert found.code == 2
    assert "--to: everybody on this machine can see the password" in found.err
    assert "secret" not in found.err
    (tmp_path / "url").write_text(f"{url}\n")
    done = flowhook("migrate", "--from", f"sqlite:{database}", FLOWHOOK_STORAGE_FILE=tmp_path / "url", **KEY_SETTING)
    assert (done.code, done.err) == (0, "")
    neither = flowhook("migrate", **KEY_SETTING)
    assert neither.code == 2
    assert "give --from or --to" in neither.err
