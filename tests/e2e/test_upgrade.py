"""Data of earlier versions, as a crash left them, are taken over, and everything in them goes on.

`recorded/record.py` has made the data directories by running those versions: commit adbaf7f5 (format 3), and the last
one of format 6.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import tarfile
import threading
import time
from pathlib import Path

import apsw
import pytest
from support.patience import PATIENCE
from support.systems import running_system, until

from flowhook.model import Status
from flowhook.model.error_types import spellings
from flowhook.model.execution_filter import ExecutionFilter

RECORDED = Path(__file__).parent / "recorded"
WORLD = ("127.77.3.7", 18077)
"""Address that the recorded flows call."""

pytestmark = [pytest.mark.e2e, pytest.mark.release]


class World(http.server.BaseHTTPRequestHandler):
    """What recorded flows call: all of it answers now."""

    protocol_version = "HTTP/1.1"
    received: list = []  # noqa: RUF012 - of a test

    def do_GET(self):
        self.received.append((self.path, dict(self.headers)))
        body = json.dumps({"path": self.path}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.do_GET()

    def log_message(self, *arguments):
        pass


def listen():
    """Listen where recorded flows call, once no other test does."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return http.server.ThreadingHTTPServer(WORLD, World)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


@pytest.fixture
def world():
    World.received.clear()
    server = listen()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield World.received
    server.shutdown()
    server.server_close()
    thread.join()


def unpack(name, directory):
    """Unpack a recorded data directory, and return what was recorded about it."""
    with tarfile.open(RECORDED / f"{name}.tar.xz") as packed:
        packed.extractall(directory, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))  # from 3.11.4
    directory.chmod(0o700)
    return json.loads((directory / "recorded.json").read_text())


def make_recent(database):
    """Shift all times so that it was recorded three minutes ago: else what is kept for a time would be gone."""
    with contextlib.closing(apsw.Connection(str(database))) as connection:
        last = connection.execute("SELECT max(receive_time_ms) FROM execution").get
        shift = time.time_ns() // 1_000_000 - last - 180_000
        columns = connection.execute(
            "SELECT t.name, c.name FROM sqlite_schema t, pragma_table_info(t.name) c"
            " WHERE t.type = 'table' AND c.name GLOB '*_ms'"
        ).fetchall()
        for table, column in columns:
            connection.execute(
                f"UPDATE {table} SET {column} = {column} + ? WHERE {column} BETWEEN 1 AND 99999999999999", (shift,)
            )


async def assert_goes_on(system, recorded, world):
    """Check that all executions that were recorded are there, and that those that had not ended come to their end."""
    key = {"headers": {"X-Api-Key": "s3cr3t"}}
    assert await system.completed(recorded["waiting"]) == {"second": 1}
    assert await system.completed(recorded["retrying"]) == {"path": "/down"}
    assert await system.completed(recorded["parent"]) == {"child": {"number": 7}}
    assert await system.completed(recorded["large"]) == {"size": 2 << 20}
    assert await system.completed(recorded["upload"]) == {"size": 2 << 20}

    ended = [await system.ended(each) for each in recorded["ordered"]]
    assert [json.loads(each.output) for each in ended] == [{"number": 0}, {"number": 1}, {"number": 2}]
    ends = [each.execution.end_time_ms for each in ended]
    assert ends == sorted(ends)

    # its runner was killed in the second call; the first one is in the journal
    assert await system.completed(recorded["running"]) == {"path": "/second"}
    calls = dict(world)
    assert "/first" not in calls
    assert calls["/second"]["X-Token"] == "t0ken"
    assert calls["/second"]["Idempotency-Key"]

    suspended = await system.client.executions.get(recorded["suspended"])
    assert suspended.execution.status is Status.SUSPENDED
    await system.client.executions.resume(recorded["suspended"])
    assert await system.completed(recorded["suspended"]) == {"second": 2}
    cancelled = await system.client.executions.get(recorded["cancelled"])
    assert cancelled.execution.status is Status.CANCELLED

    answer = await system.request("POST", f"/{recorded['decision_url']}", json={"approved": True})
    assert answer.status < 300, answer
    answer = await system.request("POST", "/hook/approval/decision", json={"order": "PO-2", "approved": False}, **key)
    assert answer.status < 300, answer
    approvals = [each.id for each in await system.executions("approval")]
    assert len(approvals) == 2
    assert {(await system.completed(each))["approved"] for each in approvals} == {True, False}
    assert await system.completed(recorded["early"]) == {"order": "N-1", "text": "kept"}
    await until(lambda: reply_of(system, recorded), "the reply that a sender was promised")

    faulted = [await system.client.executions.get(each) for each in recorded["faulted"]]
    assert {each.execution.status for each in faulted} == {Status.FAULTED}
    assert faulted[0].execution.resolution.reason == "known"
    for type_ in spellings(faulted[0].execution.error.type):  # it was stored by its name of that time
        assert set(recorded["faulted"]) <= await failed_with(system, type_)
    job = await job_of(system, recorded)
    assert (job["state"], job["done"], job["skipped"]) == ("completed", 5, 1)
    replays = [each for each in await system.executions("faults") if each.replay_of]
    assert len(replays) == 5
    for each in replays:
        await system.ended(each.id)
    ended = [await system.client.executions.get(each.id) for each in replays]
    assert any(each.execution.status is Status.COMPLETED for each in ended), "what the job replays now succeeds"

    found = await system.flowhook("executions", "list", "--flow", "hello", "--attribute", "order:A-1", "--json")
    assert recorded["completed"] in [json.loads(line)["id"] for line in found.out.splitlines()], found
    twice = await system.send("hello", {"name": "Ann", "order": "A-1", "delivery": "d1"})
    assert twice.id == recorded["completed"]


async def failed_with(system, type_):
    return {each.id async for each in system.client.executions.list(where=ExecutionFilter(error_type=type_))}


async def reply_of(system, recorded):
    answer = await system.request("GET", f"/{recorded['reply_url']}")
    assert answer.status in (200, 202), answer
    return answer.status == 200 and answer.json == {"late": True}


async def job_of(system, recorded):
    while True:
        done = await system.flowhook("jobs", "get", recorded["job"]["id"], "--json")
        job = json.loads(done.out.splitlines()[0])
        if job["state"] != "running":
            return job


@pytest.mark.parametrize("version", [3, 6])
async def test_a_database_of_an_earlier_format_is_migrated_and_everything_goes_on(tmp_path, world, version):
    directory = tmp_path / "data"
    recorded = unpack(f"format-{version}", directory)
    make_recent(directory / "flowhook.db")
    async with running_system(data_dir=directory, allow_private_addresses="true") as system:
        said = [line for line in system.cluster.output if "migrated the database" in line]
        assert len(said) == 1, system.cluster.output
        assert f"from format {version} to" in said[0]
        assert f"flowhook.db.format-{version}" in said[0]
        await assert_goes_on(system, recorded, world)
        rejected = await system.flowhook("rejections", "list", "--json")
        assert [json.loads(line)["id"] for line in rejected.out.splitlines()] == recorded["rejections"]
        audit = await system.flowhook("audit", "list", "--json")
        assert len(audit.out.splitlines()) >= recorded["audit"]
