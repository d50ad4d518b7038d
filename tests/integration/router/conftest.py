"""A real router on a free port, with real storage, and an operator's client."""

from __future__ import annotations

import pytest
from support.routers import running_router


@pytest.fixture
async def router(tmp_path):
    async with running_router(tmp_path / "data") as running:
        yield running


@pytest.fixture
async def client(router):
    async with router.client() as client:
        yield client
