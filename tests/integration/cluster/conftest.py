"""One NATS server for all tests of this folder; each test has streams of its own."""

import itertools

import pytest
from support.nats_servers import nats_server
from support.replicated_routers import replicated_routers

numbers = itertools.count(1)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    with nats_server(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
def url(server):
    return server.url(prefix=f"T{next(numbers)}", max_bytes="64M")


@pytest.fixture
async def routers(tmp_path, url):
    async with replicated_routers(tmp_path / "data", url) as routers:
        yield routers
