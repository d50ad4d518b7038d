"""Routers on one NATS server; each test has streams of its own."""

import itertools
import os

import pytest
from support.cluster_keys import keys_of
from support.nats_servers import nats_cluster, nats_server
from support.replicated_routers import assert_views_equal, replicated_routers
from support.router_processes import CLOCK_SHIFT, RouterProcesses, shifted_clock

PAUSES = "FLOWHOOK_PAUSED_OWNER_ROUNDS" in os.environ
"""Whether the campaign of `test_paused_owner` runs, on three servers."""
numbers = itertools.count(1)


@pytest.fixture
def server(log_server):
    return log_server


@pytest.fixture
def max_bytes():
    """Limit of the log, as its URL has it."""
    return "64M"


@pytest.fixture
def url(server, max_bytes):
    return server.url(prefix=f"R{next(numbers)}", max_bytes=max_bytes)


@pytest.fixture
async def routers(tmp_path, url):
    async with replicated_routers(tmp_path / "data", url) as routers:
        yield routers


@pytest.fixture(scope="package")
def processes(tmp_path_factory):
    """Two router processes, the second one with a clock that is a minute ahead; at the end, their views are equal."""
    directory = tmp_path_factory.mktemp("processes")
    with (nats_cluster if PAUSES else nats_server)(directory / "servers") as servers:
        url = servers.url(prefix="PROCESSES", max_bytes="64M")
        processes = RouterProcesses(directory / "data", url)
        processes.start("r1")
        processes.start("r2", **shifted_clock(directory / "clock", CLOCK_SHIFT))
        yield processes
        processes.close()
        assert_views_equal(url, keys_of(directory / "data"), processes.routers)
