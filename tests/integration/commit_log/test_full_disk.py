"""A server of the log whose disk was full turns its storage off until it is restarted: it is named."""

from __future__ import annotations

import asyncio
import subprocess

import nats
import nats.errors
import pytest
from support.nats_servers import nats_cluster

from router.storage.commit_log.jetstream.servers import STORE_OFF, monitored_servers
from router.storage.commit_log.jetstream.url import parse_url

NAME = "nats-2"


@pytest.fixture
def servers(tmp_path):
    """A cluster of three, of which one has a small disk of its own."""
    disk = tmp_path / NAME
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", disk]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a file system")
    try:
        with nats_cluster(tmp_path) as servers:
            yield servers
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


async def fill(servers, size):
    connection = await nats.connect([f"nats://flowhook:secret@{server.address}" for server in servers.servers])
    jetstream = connection.jetstream(timeout=5)
    await jetstream.add_stream(name="S", subjects=["s"], num_replicas=3)
    for _ in range(size // 200_000):
        try:
            await jetstream.publish("s", bytes(200_000))
        except nats.errors.Error:  # the server was the leader
            continue
    await connection.close()


def problems(url):
    return {name: server.problem for name, server in monitored_servers(url).items()}


async def test_it_is_named_when_its_disk_is_full_and_after_a_restart_without_room(servers):
    url = parse_url(servers.url())
    healthy = dict.fromkeys(("nats-1", "nats-2", "nats-3"), "")
    assert await asyncio.to_thread(problems, url) == healthy
    await fill(servers, 24_000_000)
    while await asyncio.to_thread(problems, url) != healthy | {NAME: STORE_OFF}:
        await asyncio.sleep(0.1)
    servers[NAME].stop()
    servers[NAME].start()
    while await asyncio.to_thread(problems, url) != healthy | {NAME: STORE_OFF}:
        await asyncio.sleep(0.1)
