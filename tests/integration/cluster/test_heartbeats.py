"""What heartbeats can do that no router sent: nothing."""

import asyncio

import pytest
from support.patience import PATIENCE

from router.cluster.heartbeats import HeartbeatSigner
from router.cluster.records import MemberState, RouterRecord
from router.encryption import load_secrets_key
from router.replicated_app import heartbeat_signer
from router.storage.commit_log.jetstream.opening import connect


@pytest.fixture
async def stranger(url):
    """Anybody who may use the servers of the log."""
    replicated = await asyncio.to_thread(connect, url, router="stranger")
    yield replicated
    await asyncio.to_thread(replicated.close)


def false_owner(router="stranger"):
    return RouterRecord(router, "127.0.0.1:1", "1", MemberState.SERVING, 2**62, 0, 0, candidate=False).encode()


async def send(stranger, content):
    """Send what every router hears and takes in, as the times of its own heartbeats show."""
    for _ in range(5):
        stranger.heartbeats.publish(content)
        heard = stranger.heartbeats.heard()["r1"]
        async with asyncio.timeout(PATIENCE):
            while stranger.heartbeats.heard()["r1"] == heard:
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("signer", [None, HeartbeatSigner(b"another key")])
async def test_a_heartbeat_without_the_signature_of_a_router_is_ignored(routers, stranger, signer):
    owner = routers.start("r1")
    await routers.owner()
    await send(stranger, false_owner() if signer is None else signer.sign(false_owner()))
    shard = await owner.shard()
    assert (shard.owner.router, shard.owner.epoch, shard.owner.serving) == ("r1", 1, True)
    assert [copy.router for copy in shard.copies] == ["r1"]


async def test_a_heartbeat_of_one_router_in_the_name_of_another_is_ignored(routers, stranger):
    owner = routers.start("r1")
    await routers.owner()
    signer = heartbeat_signer(load_secrets_key(routers.directory))
    await send(stranger, signer.sign(false_owner("r2")))
    assert [copy.router for copy in (await owner.shard()).copies] == ["r1"]
