"""Tests of more than one module of the product, with real processes, sockets and files."""

from __future__ import annotations

import pytest
from support import warm
from support.nats_servers import nats_cluster, nats_server

from flowhook.sandbox import offload
from runner import app, local_run


@pytest.fixture(scope="module", autouse=True)
def _warm_processes():
    """Keep the processes that parse and evaluate from one test to the next."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "new_starter", warm.new_starter)
        patch.setattr(local_run, "InterpreterStarter", warm.new_starter)
        patch.setattr(offload, "OffloadWorker", warm.KeptWorker)
        yield


@pytest.fixture(scope="module")
def log_server(tmp_path_factory):
    """One NATS server for a module: each test has streams of its own, which cost CPU time for as long as it runs."""
    with nats_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="module")
def log_cluster(tmp_path_factory):
    """Three of them; a test that stops some starts them again."""
    with nats_cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


def pytest_sessionfinish():
    """End the processes that were kept."""
    warm.end()
