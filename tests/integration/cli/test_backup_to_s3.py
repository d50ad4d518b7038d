"""Backups in a bucket, of a server that speaks S3: moto's."""

import asyncio
import re
import subprocess
import urllib.request

import pytest
from support.cluster_keys import KEY_SETTING
from support.commands import flowhook
from support.stored_executions import populate
from support.tools import BIN

from flowhook.process.settings import RouterSettings
from router.process.backup_schedule import run_program
from router.storage.backups.targets import file_name
from router.storage.storage import open_storage

pytestmark = pytest.mark.release
OLD = [file_name(day * 86_400) for day in range(3)]


@pytest.fixture(scope="module")
def endpoint():
    if not (BIN / "moto_server").exists():
        pytest.skip("no tools: make test-release installs them")
    server = subprocess.Popen(
        [BIN / "moto_server", "-H", "127.0.0.1", "-p", "0"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    try:
        for line in server.stderr:
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                break
        else:
            pytest.fail("the server did not start")
        urllib.request.urlopen(urllib.request.Request(f"{found[0]}/bucket", method="PUT")).close()
        yield found[0]
    finally:
        server.kill()
        server.wait()
        server.stderr.close()


@pytest.fixture
def environment(endpoint, monkeypatch):
    found = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "eu-central-1",
        "FLOWHOOK_BACKUP_KEEP_LAST": "2",
        "FLOWHOOK_BACKUP_KEEP_DAILY": "0",
        "FLOWHOOK_BACKUP_KEEP_WEEKLY": "0",
    }
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("router.process.backups.lower_priority", lambda: None)
    return found


@pytest.fixture
def data(tmp_path):
    async def fill():
        storage = await open_storage(tmp_path / "data" / "flowhook.db")
        await populate(storage, 900, payload_bytes=20_000)  # more than one part of an upload
        await storage.close()

    asyncio.run(fill())
    return tmp_path / "data"


def put(environment, name):
    request = urllib.request.Request(f"{environment['AWS_ENDPOINT_URL']}/bucket/{name}", data=b"x", method="PUT")
    urllib.request.urlopen(request).close()


def listed(environment):
    with urllib.request.urlopen(f"{environment['AWS_ENDPOINT_URL']}/bucket?list-type=2") as answer:
        return re.findall(r"<Key>([^<]+)</Key>", answer.read().decode())


def test_a_backup_is_uploaded_older_ones_are_removed_and_it_is_restored(environment, data, tmp_path):
    for name in (*OLD, "notes.txt"):
        put(environment, f"here/{name}")
    put(environment, f"elsewhere/{OLD[0]}")
    [made] = flowhook(
        "backup", "s3://bucket/here", "--data-dir", data, "--prune", "--json", **environment, **KEY_SETTING
    ).rows
    assert made["removed"] == OLD[:2]
    name = made["file"].rpartition("/")[2]
    assert sorted(listed(environment)) == sorted(
        [f"elsewhere/{OLD[0]}", f"here/{OLD[2]}", f"here/{name}", "here/notes.txt"]
    )
    assert made["file"] == f"s3://bucket/here/{name}"
    target = tmp_path / "restored"
    restored = flowhook("restore", made["file"], "--data-dir", target, "--json", **environment, **KEY_SETTING)
    assert [row["executions"] for row in restored.rows] == [made["executions"]]
    assert not list(target.glob(".s3.backup/*"))
    absent = flowhook(
        "restore", "s3://bucket/here/none.tar.zst", "--data-dir", tmp_path / "other", **environment, **KEY_SETTING
    )
    assert absent.code == 1
    assert absent.err.count("\n") == 1


async def test_a_scheduled_backup_finds_credentials_in_the_routers_environment(environment, tmp_path):
    storage = await open_storage(tmp_path / "data" / "flowhook.db")
    await populate(storage, 9)
    settings = RouterSettings(data_dir=tmp_path / "data", backup_target="s3://bucket/scheduled")
    made = await run_program(settings, "make")
    assert (made.error, (await run_program(settings, "look")).newest) == ("", made.newest)
    assert f"scheduled/{file_name(made.newest)}" in listed(environment)
    wrong = await run_program(settings.model_copy(update={"backup_target": "s3://nowhere/x"}), "make")
    assert "NoSuchBucket" in wrong.error or "404" in wrong.error
    await storage.close()
