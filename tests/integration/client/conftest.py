"""A real router, and a client of either kind."""

from __future__ import annotations

import socket

import pytest
from support.clients import KINDS, Either, close
from support.patience import PATIENCE
from support.routers import running_router


@pytest.fixture
async def router(tmp_path):
    async with running_router(tmp_path / "data") as running:
        yield running


@pytest.fixture(params=KINDS)
def kind(request):
    """The class of the client under test."""
    return request.param


@pytest.fixture
async def client(router, kind):
    client = kind(router.target, token=router.token(), timeout=PATIENCE)
    yield Either(client)
    await close(client)


@pytest.fixture
def unused_port():
    """A port on which nobody listens, kept by a socket that is bound and never listens."""
    with socket.socket() as keeper:
        keeper.bind(("127.0.0.1", 0))
        yield keeper.getsockname()[1]
