"""The shard is lost, or the log is away, at the worst moments: the router goes on, or ends in time."""

import asyncio
import os
import signal
import threading

import pytest
from support.cluster_keys import keys_of
from support.nats_servers import nats_server
from support.patience import PATIENCE
from support.replicated_routers import replicated_routers
from support.routers import flow

from router.cluster import member
from router.process import serving
from router.storage.commit_log.interface import FencedError
from router.storage.commit_log.jetstream.opening import connect
from router.storage.errors import storage_full
from router.storage.replicated.batch import BatchPart, BatchWriter, decode, encode, record_hash
from router.storage.replicated.recorder import LogRecorder
from router.storage.schema import FORMAT_VERSION


async def overtake(url, directory):
    """Append what another router would, though it changes nothing."""
    thief = await asyncio.to_thread(connect, url, keys_of(directory), router="thief")
    try:
        end = await asyncio.to_thread(thief.log.tail)
        epoch = decode(end.data).ownership.epoch + 1
        part = BatchPart(
            BatchWriter(0, epoch, os.urandom(16), FORMAT_VERSION), 1, 0, 0, 2, record_hash(end.data), False, b"void"
        )
        await asyncio.to_thread(thief.log.append, end.position, part.batch_id, encode(part))
    finally:
        await asyncio.to_thread(thief.close)


def fail_once(monkeypatch, failure):
    """Let the first recovery fail."""
    settle, failures = serving.ShardRuntime.settle, [failure]

    async def failing(host, incidents):
        if failures:
            await failures.pop()()
        await settle(host, incidents)

    monkeypatch.setattr(serving.ShardRuntime, "settle", failing)


def noted(monkeypatch):
    """Return an event that is set when an append begins."""
    append, began = LogRecorder.append, threading.Event()

    def noting(recorder):
        began.set()
        append(recorder)

    monkeypatch.setattr(LogRecorder, "append", noting)
    return began


async def test_a_router_that_loses_the_shard_while_it_recovers_follows_and_takes_over_again(routers, url, monkeypatch):
    async def lose():
        await overtake(url, routers.directory)
        raise FencedError("another router appended")

    fail_once(monkeypatch, lose)
    router = routers.start("r1")
    await router.until(lambda router: router.lifecycle.ready.is_set())
    assert (await router.shard()).owner.epoch == 3


async def test_a_router_that_cannot_store_what_it_recovered_gives_up_the_shard_and_tries_again(routers, monkeypatch):
    async def fail():
        raise storage_full()

    fail_once(monkeypatch, fail)
    router = routers.start("r1")
    await router.until(lambda router: router.lifecycle.ready.is_set())
    assert (await router.shard()).owner.epoch == 2


async def test_an_owner_without_a_quorum_stops_in_time(tmp_path, monkeypatch):
    monkeypatch.setattr(member, "STORE_SECONDS", 0.5)
    with nats_server(tmp_path / "nats") as server:
        async with replicated_routers(tmp_path / "data", server.url(prefix="T")) as routers:
            router = routers.start("r1")
            await routers.owner()
            async with router.client() as client:
                await client.flows.apply([flow("demo")])
                server.process.send_signal(signal.SIGSTOP)
                appending = noted(monkeypatch)
                try:
                    sending = asyncio.create_task(client.ingest("demo", b"{}"))
                    await asyncio.to_thread(appending.wait, PATIENCE)
                    async with asyncio.timeout(PATIENCE):
                        await router.stop()
                finally:
                    server.process.send_signal(signal.SIGCONT)
                    sending.cancel()
                    await asyncio.gather(sending, return_exceptions=True)


async def test_a_router_that_can_not_watch_the_others_any_more_ends(routers, monkeypatch):
    router = routers.start("r1")
    await routers.owner()
    defect = ValueError("a defect")

    def fail(_ownership, _now):
        raise defect

    monkeypatch.setattr(member.Ownership, "due_successor", fail)
    with pytest.raises(ValueError, match="a defect"):
        await router.task
