"""Tests of more than one module of the product, with real processes, sockets and files."""

from __future__ import annotations

import pytest
from support import warm

from flowhook.offload import offload
from runner import app, local_run


@pytest.fixture(scope="module", autouse=True)
def _warm_processes():
    """Keep the processes that parse and evaluate from one test to the next."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "new_starter", warm.new_starter)
        patch.setattr(local_run, "InterpreterStarter", warm.new_starter)
        patch.setattr(offload, "OffloadWorker", warm.KeptWorker)
        yield


def pytest_sessionfinish():
    """End the processes that were kept."""
    warm.end()
