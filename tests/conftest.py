"""Divides the suite into `make test` and `make test-release`, and distributes it over workers.

`support/suite.py` has the tables.
"""

from __future__ import annotations

import gc
import os
from contextlib import nullcontext

import pytest
from support import delays
from support.alone import alone
from support.examples import register_profiles
from support.suite import RELEASE, RELEASE_FIXTURES, UNITS, group_of, position_of

os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # or it logs each connection that a test cuts, in between
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")  # as `flowhook` does

pytest_plugins = ["support.progress"]

register_profiles()

if seed := os.environ.get("FLOWHOOK_TEST_DELAYS"):
    delays.install(seed)

gc.disable()  # until all tests are collected: none of what that takes is garbage


def pytest_collection_finish(session):
    """Let the garbage collector go over what a test makes, and not again and again over thousands of tests."""
    del session
    gc.freeze()
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    """Report a failure without collecting garbage: a finalizer might parse source meanwhile.

    pytest parses the source that it shows, and `traceback` parses the lines of what a finalizer raises. Before 3.11.8,
    Python counts the depth of both together, so that the first one ends with `SystemError: AST constructor recursion
    depth mismatch`, and the worker with it. Source: https://github.com/python/cpython/issues/106905
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Refuse processes and sockets to unit tests."""
    with alone() if item.nodeid.startswith(UNITS) else nullcontext():
        return (yield)


def pytest_ignore_collect(collection_path, config):
    """Leave files unread of which `make test` runs nothing: each worker would read them."""
    path = collection_path.relative_to(config.rootpath).as_posix()
    return (config.option.markexpr == "not release" and (path in RELEASE or f"{path}/" in RELEASE)) or None


def pytest_collection_modifyitems(config, items):
    """Mark what is left to `make test-release`; in a worker, put first what is to begin first."""
    for item in items:
        if item.nodeid.startswith(RELEASE) or RELEASE_FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker("release")
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: position_of(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadScopeScheduling  # noqa: PLC0415 - only there when it is wanted

    release = config.option.markexpr.startswith("release")

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return group_of(nodeid, release=release)

    config.option.loadscopereorder = False  # by the number of tests, which says nothing of how long they take
    return Scheduling(config, log)
