"""Connects routers to one server, or to a cluster of three; each test has streams of its own."""

import itertools
from contextlib import ExitStack

import pytest
from support.cluster_keys import KEYS
from support.cutting_relay import cutting_relay

from router.storage.commit_log.jetstream import connect

_PREFIXES = (f"T{number}" for number in itertools.count())


@pytest.fixture
def server(log_server):
    return log_server


@pytest.fixture
def cluster(log_cluster):
    return log_cluster


@pytest.fixture
def relay(server):
    with cutting_relay(server.address) as running:
        yield running


@pytest.fixture
def prefix():
    return next(_PREFIXES)


@pytest.fixture
def servers():
    """Enter the context of servers for this test alone: they end after the routers that are connected to them."""
    with ExitStack() as stack:
        yield stack.enter_context


@pytest.fixture
def opened(prefix, servers):
    """Connect routers, by default to streams of this test; they are disconnected at its end."""
    routers = itertools.count(1)
    with ExitStack() as stack:

        def connected(server, *, url=None, router=None, keys=KEYS, **options):
            url = url or server.url(prefix=prefix, max_bytes="50M")
            system = connect(url, keys, router=router or f"router-{next(routers)}", **options)
            stack.callback(system.close)
            return system

        yield connected
