"""What heartbeats can do that no router sent, or did not send now: nothing."""

from __future__ import annotations

import asyncio

import nats
import pytest
from support.patience import PATIENCE

from router.cluster.records import MemberState, RouterRecord
from router.storage.commit_log.heartbeat_seals import HeartbeatSeals
from router.storage.commit_log.seals import ClusterKeys


class Stranger:
    """Anybody who may use the servers of the log: hears the heartbeats of routers, and sends some."""

    def __init__(self, client, subject):
        self._client = client
        self._subject = subject
        self.heard = {}

    async def listen(self):
        async def hear(message):
            self.heard.setdefault(message.subject.rpartition(".")[2], []).append(message.data)

        await self._client.subscribe(f"{self._subject}.*", cb=hear)
        return self

    async def send(self, router, data):
        await self._client.publish(f"{self._subject}.{router}", data)
        await self._client.flush()

    async def next_of(self, router, count=1):
        """Wait until a router has sent so many more."""
        known = len(self.heard.get(router, ()))
        async with asyncio.timeout(PATIENCE):
            while len(self.heard.get(router, ())) < known + count:
                await asyncio.sleep(0.01)


@pytest.fixture
async def stranger(server, url):
    prefix = url.partition("prefix=")[2].partition("&")[0].lower()
    client = await nats.connect(server.address, user="flowhook", password="secret")
    yield await Stranger(client, f"{prefix}.router").listen()
    await client.close()


def false_owner(router="stranger"):
    return RouterRecord(router, "127.0.0.1:1", "1", MemberState.SERVING, 2**62, 0, 0, candidate=False).encode()


@pytest.mark.parametrize("key", [None, b"another key of 32 bytes........."])
async def test_a_heartbeat_that_no_router_of_the_log_sent_is_refused_and_reported(routers, stranger, key):
    owner = routers.start("r1")
    await routers.owner()
    content = false_owner()
    if key is not None:
        content = HeartbeatSeals(ClusterKeys(key).derive("heartbeats", "any"), "stranger").seal(content)
    await stranger.send("stranger", content)
    await stranger.send("r1", content)
    await stranger.next_of("r1", 2)
    shard = await owner.shard()
    assert (shard.owner.router, shard.owner.epoch, shard.owner.serving) == ("r1", 1, True)
    assert [copy.router for copy in shard.copies] == ["r1"]


async def test_heartbeats_of_a_dead_owner_that_are_sent_again_do_not_keep_it_alive(routers, stranger):
    """They are what a router that is started after its death has never heard, and what the others have heard before."""
    owner = routers.start("r1")
    await routers.owner()
    standby = routers.start("r2")
    await routers.other(owner).until(lambda router: router.lifecycle.ready.is_set())
    await stranger.next_of("r1", 4)
    recorded = stranger.heard["r1"][:]
    await owner.stop()
    await routers.owner(but=owner)
    await standby.stop()
    recorded += stranger.heard["r1"][len(recorded) :]
    later = routers.start("r3")

    async def repeat():
        while True:
            for message in recorded:
                await stranger.send("r1", message)
                await asyncio.sleep(0.05)

    repeating = asyncio.create_task(repeat())
    try:
        async with asyncio.timeout(PATIENCE):
            assert await routers.owner(but=owner) is later
        assert [copy.router for copy in (await later.shard()).copies] == ["r3"]
    finally:
        repeating.cancel()
        await asyncio.wait({repeating})


async def test_the_own_heartbeats_of_an_earlier_process_do_not_keep_a_router_from_starting(routers, stranger):
    first = routers.start("r1")
    await routers.owner()
    await stranger.next_of("r1", 2)
    recorded = stranger.heard["r1"][:]
    await first.stop()
    again = routers.start("r1")
    while not again.lifecycle.ready.is_set():
        assert not again.task.done()
        for message in recorded:
            await stranger.send("r1", message)
        await asyncio.sleep(0.02)


async def test_a_flood_does_not_displace_what_a_router_sends(routers, stranger):
    routers.start("r1")
    owner = await routers.owner()
    standby = routers.start("r2")
    await standby.until(lambda router: router.lifecycle.ready.is_set())
    epoch = (await owner.shard()).owner.epoch
    for _ in range(40):
        for number in range(300):
            await stranger._client.publish(f"{stranger._subject}.n{number}", b"x")
        for name in ("r1", "r2"):
            await stranger.send(name, b"x" * 100)
        await asyncio.sleep(0.05)
    shard = await standby.shard()
    assert (shard.owner.router, shard.owner.epoch) == ("r1", epoch)
