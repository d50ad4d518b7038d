"""`flowhook backup` and `flowhook restore` of a database and of a log on a NATS server."""

import asyncio
import base64
import itertools
import os
from contextlib import closing

import apsw
import pytest
from support.cluster_keys import KEY, KEY_SETTING, KEYS
from support.commands import flowhook
from support.nats_servers import nats_server
from support.replica import tables
from support.stored_executions import populate

from cli.supervisor.rundir import DEV_DATA_DIR, ClusterAddresses, RunDir, read_cluster
from router.storage.commit_log import jetstream
from router.storage.encryption import key_fingerprint
from router.storage.storage import open_storage

NUMBERS = itertools.count()
COUNT = 90
LOGIN = "://flowhook:secret@"
STATUSES = {
    "pending": 16,
    "running": 10,
    "waiting": 20,
    "suspended": 10,
    "cancelled": 10,
    "faulted": 10,
    "completed": 20,
}


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr("cli.commands.backup.HEARTBEAT_SECONDS", 0.1)
    monkeypatch.setattr("router.process.backups.lower_priority", lambda: None)  # it is for the whole of this process


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with nats_server(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
def url(server):
    """A log of the test's own."""
    return server.url(prefix=f"LOG{next(NUMBERS)}", max_bytes="64M")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The data directory of a router that was stopped."""
    directory = tmp_path_factory.mktemp("data") / "data"

    async def fill():
        storage = await open_storage(directory / "flowhook.db")
        await populate(storage, COUNT)
        await storage.registry.set_fingerprint("secrets_key", key_fingerprint(KEY))
        await storage.close()

    asyncio.run(fill())
    return directory


def rows(path):
    """Return all rows that a restore does not change; rejections are local to each router."""
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)) as connection:
        connection.execute("BEGIN")
        connection.execute("DELETE FROM counter WHERE name IN ('epoch', 'fence')")
        found = tables(connection)
    del found["rejection"], found["registry_change"]
    return found


def test_a_database_is_backed_up_into_a_directory_and_restored(data, tmp_path):
    (tmp_path / "backups").mkdir()
    made = flowhook("backup", tmp_path / "backups", "--data-dir", data, **KEY_SETTING)
    assert made.code == 0
    [path] = (tmp_path / "backups").iterdir()
    *progress, summary, about_key = made.out.splitlines()
    assert progress == [
        f"backing up sqlite:{data}/flowhook.db",
        "checking the copy",
        "packing 96 executions and 4 large payloads and bodies",
        "checking the backup",
    ]
    assert summary.startswith(f"{path}: 96 executions, 0 MiB, up to position 96, ")
    assert about_key == f"its 1 secrets need secrets.key, whose fingerprint is {key_fingerprint(KEY)}: keep it"
    target = tmp_path / "restored"
    restored = flowhook("restore", path, "--data-dir", target, **KEY_SETTING)
    assert restored.code == 0
    assert "96 executions restored, up to position 96" in restored.out
    assert rows(target / "flowhook.db") == rows(data / "flowhook.db")
    again = flowhook("restore", path, "--data-dir", target, **KEY_SETTING)
    assert (again.code, again.out) == (1, f"restoring into sqlite:{target}/flowhook.db\n")
    assert "--force, which moves what is there aside" in again.err
    forced = flowhook("restore", path, "--data-dir", target, "--force", **KEY_SETTING)
    assert forced.code == 0
    assert f"what was there before is in {target}/before-restore-" in forced.out


def test_another_key_than_that_of_the_backup_is_refused(data, tmp_path):
    path, target = tmp_path / "one.tar", tmp_path / "restored"
    flowhook("backup", path, "--data-dir", data, **KEY_SETTING)
    other = base64.b64encode(b"o" * 32).decode()
    refused = flowhook("restore", path, "--data-dir", target, FLOWHOOK_SECRETS_KEY=other)
    assert refused.code == 1
    assert f"whose fingerprint is {key_fingerprint(KEY)}" in refused.err
    assert flowhook("restore", path, "--data-dir", target, **KEY_SETTING).code == 0


def test_without_the_key_a_backup_is_restored_only_by_the_option_that_says_so(data, tmp_path):
    path, target = tmp_path / "one.tar", tmp_path / "restored"
    made = flowhook("backup", path, "--data-dir", data)
    assert made.code == 0
    assert "the backup is not authenticated" in made.out
    refused = flowhook("restore", path, "--data-dir", target)
    assert refused.code == 1
    assert f"{target}/secrets.key is missing" in refused.err
    changed = flowhook("restore", path, "--data-dir", target, **KEY_SETTING)
    assert changed.code == 1
    assert f"{path} was changed, or was not made with this key" in changed.err
    restored = flowhook("restore", path, "--data-dir", target, "--trust-unauthenticated")
    assert restored.code == 0
    assert f"put secrets.key, whose fingerprint is {key_fingerprint(KEY)}, into {target}" in restored.out


def test_a_damaged_backup_is_named_and_changes_nothing(data, tmp_path):
    path, target = tmp_path / "one.tar.zst", tmp_path / "restored"
    flowhook("backup", path, "--data-dir", data, **KEY_SETTING)
    path.write_bytes(path.read_bytes()[:-3000])
    refused = flowhook("restore", path, "--data-dir", target, **KEY_SETTING)
    assert refused.code == 1
    assert f"{path} is truncated" in refused.err
    assert [each.name for each in target.iterdir()] == ["flowhook.db.lock"]


def test_a_log_is_backed_up_while_routers_run_and_restored_into_either_storage(data, url, server, tmp_path):
    database, path = data / "flowhook.db", tmp_path / "log.tar.zst"
    flowhook("migrate", "--from", f"sqlite:{database}", FLOWHOOK_STORAGE=url, **KEY_SETTING)
    router = jetstream.connect(url, KEYS, router="router-7")
    router.heartbeats.publish(b"alive")
    [made] = flowhook("backup", path, "--json", FLOWHOOK_STORAGE=url, **KEY_SETTING).rows
    identity = router.log.identity
    router.close()
    assert (made["executions"], made["blobs"], made["missing_blobs"]) == (STATUSES, 4, 0)
    assert (made["position"], made["log"], made["secrets_key"]) == (0, identity, key_fingerprint(KEY))
    log = {"FLOWHOOK_STORAGE": url, **KEY_SETTING}
    at = flowhook("restore", path, "--data-dir", tmp_path / "a", "--at", "1h", **log)
    assert (at.code, at.err.partition(":")[2].partition(":")[2][:29]) == (2, " --at needs --storage sqlite:")
    then = f"sqlite:{tmp_path}/then/flowhook.db"
    [restored] = flowhook("restore", path, "--storage", then, "--at", "0s", "--json", **log).rows
    assert restored["executions"] == STATUSES
    assert rows(tmp_path / "then" / "flowhook.db") == rows(database)
    other = server.url(prefix=f"LOG{next(NUMBERS)}", max_bytes="64M")
    work = {"FLOWHOOK_DATA_DIR": tmp_path / "work", **KEY_SETTING}
    into = flowhook("restore", path, FLOWHOOK_STORAGE=other, **work)
    assert (into.code, into.out.splitlines()[-1].partition(",")[0]) == (0, "96 executions restored")
    refused = flowhook("restore", path, FLOWHOOK_STORAGE=other, **work)
    assert refused.code == 0  # nothing was written to it since
    back = tmp_path / "back" / "flowhook.db"
    assert flowhook("migrate", "--to", f"sqlite:{back}", FLOWHOOK_STORAGE=other, **KEY_SETTING).code == 0
    assert rows(back) == rows(database)


def test_the_cluster_that_runs_on_the_data_directory_says_which_storage_it_has(data, server, tmp_path, monkeypatch):
    url = server.url(prefix=f"LOG{next(NUMBERS)}", max_bytes="64M")
    flowhook("migrate", "--from", f"sqlite:{data}/flowhook.db", FLOWHOOK_STORAGE=url, **KEY_SETTING)
    monkeypatch.chdir(tmp_path)
    with closing(RunDir(DEV_DATA_DIR)) as run_dir:
        run_dir.write_cluster(ClusterAddresses(os.getpid(), "", "", "", 0, 0, 0, storage=url))
        [made] = flowhook("backup", "log.tar", "--json", **KEY_SETTING).rows
        assert (made["storage"], made["executions"]) == (url.replace(LOGIN, "://"), STATUSES)
        shown = flowhook("backup", "log.tar", **KEY_SETTING)
        assert shown.out.splitlines()[0] == f"backing up {made['storage']}"
        assert LOGIN in url
        assert LOGIN not in repr(read_cluster(DEV_DATA_DIR))
        database = f"sqlite:{data}/flowhook.db"
        run_dir.write_cluster(ClusterAddresses(os.getpid(), "", "", "", 0, 0, 0, storage=database))
        [made] = flowhook("backup", "database.tar", "--json", **KEY_SETTING).rows
        assert (made["storage"], made["log"]) == (database, "")


def test_a_log_is_backed_up_without_monitoring_of_its_servers(data, server, tmp_path):
    prefix = f"LOG{next(NUMBERS)}"
    url = server.url(prefix=prefix, max_bytes="64M")
    flowhook("migrate", "--from", f"sqlite:{data}/flowhook.db", FLOWHOOK_STORAGE=url, **KEY_SETTING)
    unmonitored = server.url(prefix=prefix, monitor="127.0.0.1:1")
    [made] = flowhook("backup", tmp_path / "log.tar", "--json", FLOWHOOK_STORAGE=unmonitored, **KEY_SETTING).rows
    assert made["executions"] == STATUSES


def test_a_directory_with_both_storages_asks_which_is_meant(tmp_path):
    (tmp_path / "flowhook.db").touch()
    (tmp_path / "nats.json").touch()
    made = flowhook("backup", tmp_path / "x.tar", "--data-dir", tmp_path, **KEY_SETTING)
    meant = f"name the one that is meant, --storage sqlite:{tmp_path}/flowhook.db or --storage nats:"
    assert (made.code, made.err) == (1, f"flowhook: {tmp_path} has a database and a replicated log: {meant}\n")


def test_what_is_not_there_is_said(url, tmp_path):
    nothing = flowhook("backup", tmp_path / "x.tar", "--data-dir", tmp_path / "none")
    assert (nothing.code, nothing.err) == (1, f"flowhook: there is no database at {tmp_path}/none/flowhook.db\n")
    wrong = flowhook("backup", tmp_path / "x.tar", "--storage", "redis:x")
    assert (wrong.code, wrong.err.partition(";")[0]) == (1, "flowhook: storage 'redis' is not supported")
    assert flowhook("restore", tmp_path / "none.tar", "--data-dir", tmp_path / "d").code == 1
