"""Backups of a cluster under load, kills of what makes them, and a cluster that continues from one."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sys
from contextlib import asynccontextmanager

import aiohttp
import pytest
from support.commands import clean_environment
from support.outside import outside_world
from support.patience import PATIENCE

from flowhook.model import Status
from harness.cluster import running_cluster
from router.storage.backups.archive import read_archive

pytestmark = [pytest.mark.e2e, pytest.mark.release]

SENDERS = 4
EMBEDDED = ()
REPLICATED = ("--routers", "2", "--storage", "nats:")
CREDENTIALS = ("secrets.key", "*.token", "tokens.json")  # what operators keep beside their backups

FLOW = """
document: {{dsl: 1.0.3, namespace: default, name: backed-up, version: 1.0.0}}
webhook: {{auth: none}}
do:
  - first: {{call: http, with: {{method: post, endpoint: "{url}/1", body: {{n: "${{ .body.number }}"}}}}}}
  - second: {{call: http, with: {{method: post, endpoint: "{url}/2", body: {{previous: "${{ . }}"}}}}}}
  - done: {{set: {{done: true}}}}
"""
STEPS = 2
GROUPED = """
document: {{dsl: 1.0.3, namespace: default, name: {name}, version: 1.0.0}}
webhook: {{auth: none}}
execution: {execution}
do:
  - tell: {{call: http, with: {{method: post, endpoint: "{url}/{name}", body: {{batch: "${{ length }}"}}}}}}
"""
BATCH = 4


@asynccontextmanager
async def senders(url):
    """Send without a pause; give what was acknowledged."""
    acknowledged = []

    async def send(session):
        while True:
            async with session.post(url, json={"number": len(acknowledged)}) as response:
                assert response.status == 202
                acknowledged.append((await response.json())["id"])

    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as tasks:
        sending = [tasks.create_task(send(session)) for _ in range(SENDERS)]
        try:
            yield acknowledged
        finally:
            for task in sending:
                task.cancel()


async def more(acknowledged, number):
    target = len(acknowledged) + number
    async with asyncio.timeout(PATIENCE):
        while len(acknowledged) < target:
            await asyncio.sleep(0.01)


async def start(*arguments, data_dir, storage):
    environment = clean_environment(FLOWHOOK_DATA_DIR=data_dir, FLOWHOOK_STORAGE=storage)
    return await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "cli", *map(str, arguments), env=environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip


async def run(*arguments, data_dir, storage):
    process = await start(*arguments, data_dir=data_dir, storage=storage)
    out, _ = await process.communicate()
    return process.returncode, out.decode()


async def all_completed(client, ids):
    async with asyncio.timeout(PATIENCE):
        while True:
            found = {each.id: each.status async for each in client.executions.list(flow_id="backed-up")}
            assert not ids - found.keys(), "lost"
            if all(status.ended for status in found.values()):
                break
            await asyncio.sleep(0.2)
    assert {found[each] for each in ids} == {Status.COMPLETED}
    return found


@pytest.mark.parametrize("options", [EMBEDDED, REPLICATED], ids=["embedded", "replicated"])
async def test_what_was_acknowledged_before_a_backup_under_load_completes_after_it_was_restored(options, tmp_path):
    data, target, restored = tmp_path / "data", tmp_path / "one.tar.zst", tmp_path / "restored"
    storage = "nats:" if options else ""
    async with outside_world() as outside:
        async with running_cluster("--allow-private-addresses", *options, data_dir=data) as cluster:
            await cluster.client.flows.apply([FLOW.format(url=outside.url).encode()])
            async with senders(f"{cluster.http}/hook/backed-up") as acknowledged:
                await more(acknowledged, 50)
                code, out = await run("backup", target, data_dir=data, storage=storage)
                assert code == 0, out
                earlier = target.read_bytes()
                killed = await start("backup", target, data_dir=data, storage=storage)
                assert await killed.stdout.readline()
                killed.kill()
                await killed.wait()
                assert target.read_bytes() == earlier or read_archive(target)
                await more(acknowledged, 50)
                before = set(acknowledged)
                code, out = await run("backup", target, data_dir=data, storage=storage)
                assert code == 0, out
                await more(acknowledged, 20)
            code, out = await run("restore", target, "--force", data_dir=data, storage=storage)
            assert code == 1, out  # the cluster runs
            assert re.search("is in use|is running", out)
            lost = set(acknowledged) - before
            for credential in (path for pattern in CREDENTIALS for path in data.glob(pattern)):
                restored.mkdir(mode=0o700, exist_ok=True)
                shutil.copy2(credential, restored)
            await cluster.kill()
        code, out = await run("restore", target, data_dir=restored, storage=storage)
        assert code == 0, out
        async with running_cluster("--allow-private-addresses", *options, data_dir=restored) as cluster:
            found = await all_completed(cluster.client, before)
            assert found.keys() - before <= lost  # accepted while the backup began
            async with senders(f"{cluster.http}/hook/backed-up") as acknowledged:
                await more(acknowledged, 10)
            await all_completed(cluster.client, before | set(acknowledged))
        keys = {each: set() for each in before}
        for request in outside.received:
            execution = re.search(r"evt_[0-9a-z]{26}", request.key)[0]
            if execution in before:
                keys[execution].add((request.path, request.key))
        # what was done after the backup is done again, with the same keys
        assert {len(each) for each in keys.values()} == {STEPS}


async def send(cluster, flow, number):
    async with aiohttp.ClientSession() as session:
        for each in range(number):
            async with session.post(f"{cluster.http}/hook/{flow}", json={"number": each}) as response:
                assert response.status == 202


async def until(condition):
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.1)


async def test_batched_and_debounced_events_that_wait_come_back_in_their_groups(tmp_path):
    data, target = tmp_path / "data", tmp_path / "one.tar.zst"
    policies = {
        "batched": f"{{batch: {{size: {BATCH}, period: PT1H}}}}",
        "debounced": "{debounce: {key: '${ .method }', period: PT1H}}",
    }
    async with outside_world() as outside:
        async with running_cluster("--allow-private-addresses", data_dir=data) as cluster:
            await cluster.client.flows.apply(
                [GROUPED.format(name=name, execution=each, url=outside.url).encode() for name, each in policies.items()]
            )
            await send(cluster, "batched", BATCH - 1)
            await send(cluster, "debounced", 5)
            code, out = await run("backup", target, data_dir=data, storage="")
            assert code == 0, out
            await send(cluster, "batched", 1)
            await until(lambda: outside.received)
            await cluster.kill()
        code, out = await run("restore", target, "--force", data_dir=data, storage="")
        assert code == 0, out
        async with running_cluster("--allow-private-addresses", data_dir=data) as cluster:
            found = [each async for each in cluster.client.executions.list()]
            assert {(each.flow_id, each.status, each.turn and each.turn.events) for each in found} == {
                ("batched", Status.PENDING, BATCH - 1),
                ("debounced", Status.PENDING, 5),
            }
            await send(cluster, "batched", 1)  # as the sender would, which had the last answer from the lost state
            await until(lambda: len(outside.received) > 1)
    assert [(each.path, json.loads(each.body)) for each in outside.received] == [("/batched", {"batch": BATCH})] * 2
    assert len({each.key for each in outside.received}) == 1


async def test_a_router_makes_backups_by_itself_and_says_when_it_can_not(tmp_path):
    target = tmp_path / "backups"
    settings = {"FLOWHOOK_BACKUP_TARGET": str(target), "FLOWHOOK_BACKUP_SCHEDULE": "* * * * * *"}  # each second
    async with running_cluster(environment=settings) as cluster, aiohttp.ClientSession() as session:

        async def ask(path):
            async with session.get(f"{cluster.admin}{path}") as response:
                return await response.text()

        async def until(path, pattern):
            async with asyncio.timeout(PATIENCE):
                while not re.search(pattern, text := await ask(path)):
                    await asyncio.sleep(0.1)
            return text

        await until("/metrics", r"flowhook_backup_last_success_timestamp_seconds\{[^}]*\} 1\.\d+e\+09")
        assert all(read_archive(path) for path in target.glob("flowhook-*.tar.zst"))
        target.rename(tmp_path / "away")
        target.write_bytes(b"")
        said = await until("/health", "no backup is made")
        assert "ENOTDIR" in said or "EEXIST" in said or "Not a directory" in said
        assert json.loads(said)["ready"]
        target.unlink()
