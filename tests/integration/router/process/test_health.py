"""Why a router can't store events is what its readiness says."""

from __future__ import annotations

import asyncio
import subprocess

import pytest
from support.patience import PATIENCE
from support.routers import flow, running_router

from flowhook.errors import UnavailableError
from router.process import serving
from router.storage.limits import RESERVE_BYTES

BODIES = (b'"%s"' % (b"x" * 100_000), b"1")


@pytest.fixture
def small_disk(tmp_path):
    """A file system with a bit more room than new events leave free."""
    directory = tmp_path / "disk"
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={RESERVE_BYTES * 5 // 4}", "tmpfs", directory]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a file system")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)


async def ingest_for_ever(client, body):
    while True:
        await client.ingest("demo", body)


async def fill(client):
    """Ingest large events, then small ones, until storage is full."""
    await client.flows.apply([flow("demo")])
    for body in BODIES:
        with pytest.raises(UnavailableError) as raised:
            await ingest_for_ever(client, body)
        assert raised.value.reason == "STORAGE_FULL"


async def until(condition):
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_full_disk_is_named_with_what_is_free(small_disk, monkeypatch):
    monkeypatch.setattr(serving, "HEALTH_SECONDS", 0.1)
    async with running_router(small_disk / "data") as router, router.client() as client:
        filler = small_disk / "filler"
        filler.write_bytes(bytes(RESERVE_BYTES // 4))
        await fill(client)
        await until(router.lifecycle.lack)
        assert router.lifecycle.lack().startswith(f"disk full: {small_disk / 'data'} has 6")
        assert router.lifecycle.lack().endswith(" MiB free: make room")
        filler.unlink()
        await until(lambda: not router.lifecycle.lack())


async def test_a_limit_that_is_reached_is_not_said_to_be_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(serving, "HEALTH_SECONDS", 0.1)
    async with running_router(tmp_path / "data", storage_max_bytes=1 << 20) as router, router.client() as client:
        await fill(client)
        await until(router.lifecycle.lack)
        assert router.lifecycle.lack() == (
            "storage is not writable: its limit is reached (FLOWHOOK_STORAGE_MAX_BYTES, or that of the log)"
        )
