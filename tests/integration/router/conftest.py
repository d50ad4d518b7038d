"""A real router on a free port, with real storage, and an operator's client; or the host of a shard alone."""

from __future__ import annotations

import pytest
from support.routers import running_router
from support.shards import running_host


@pytest.fixture
async def router(tmp_path):
    async with running_router(tmp_path / "data") as running:
        yield running


@pytest.fixture
async def client(router):
    async with router.client() as client:
        yield client


@pytest.fixture
async def shard(tmp_path):
    """A shard's host on real storage, without gRPC."""
    async with running_host(tmp_path) as shard:
        yield shard


@pytest.fixture
async def runner(shard):
    """A runner of `shard` that takes whatever it is given."""
    return shard.attach(credit=100)
