"""The log's suite: each check runs for every implementation of `CommitLog`.

A new implementation is one more entry in `LOGS`: a context manager that gives a function which opens the same new and
empty log, again and again, as several routers would.
"""

import itertools
from contextlib import ExitStack, contextmanager

import pytest
from support.cluster_keys import KEYS
from support.fake_log import FakeLog
from support.nats_servers import nats_cluster, nats_server

from router.storage.commit_log.jetstream import connect

_PREFIXES = (f"T{number}" for number in itertools.count())


@contextmanager
def fake(_servers):
    log = FakeLog()
    yield lambda: log


@contextmanager
def jetstream(servers):
    prefix, routers = next(_PREFIXES), itertools.count()
    with ExitStack() as opened:

        def open_log():
            system = connect(servers.url(prefix=prefix, max_bytes="100M"), KEYS, router=f"router-{next(routers)}")
            opened.callback(system.close)
            return system.log

        yield open_log


LOGS = {"fake": fake, "jetstream-r1": jetstream, "jetstream-r3": jetstream}


@pytest.fixture(scope="session")
def servers(tmp_path_factory):
    """What a log runs on, by the name of the log; started when it is wanted."""
    with ExitStack() as stack:
        running = {"fake": None}

        def of(name):
            if name not in running:
                start = nats_server if name == "jetstream-r1" else nats_cluster
                running[name] = stack.enter_context(start(tmp_path_factory.mktemp(name)))
            return running[name]

        yield of


@pytest.fixture(params=LOGS)
def open_log(request, servers):
    with LOGS[request.param](servers(request.param)) as opener:
        yield opener


@pytest.fixture
def log(open_log):
    return open_log()


@pytest.fixture
def other(open_log, log):
    """The same log, opened by another router."""
    return open_log()
