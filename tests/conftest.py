"""Distributes the suite over the workers of `make test`.

More than half of the time that processes take is waiting, so there are six workers for two cores. A group of tests runs
in one worker, one after another: the groups of `GROUPS`, by what they start, and each other module. The groups of
`GROUPS` begin first, longest first, so that no worker is left with a long one at the end. No two tests that share a
cluster, or a module's fixtures, ever run at the same time.
"""

from __future__ import annotations

import gc
import os
from typing import Final

import hypothesis
import pytest
from support import delays

OWN_CLUSTER: Final = (
    "chaos",
    "crashes",
    "hostile_bodies",
    "killed_runners",
    "large_bodies",
    "no_secret_in_the_clear",
    "restarts",
    "stopping",
    "task_events",
    "tls",
)
"""Modules of `tests/e2e` that use none of the clusters that others share."""

GROUPS: Final = {
    **{f"tests/e2e/test_{name}.py": "own clusters" for name in OWN_CLUSTER},
    "tests/integration/runner/": "runners",
    "tests/integration/commit_log/": "servers of the log",
    "tests/integration/cluster/": "servers of the log",
    "tests/integration/cli/": "commands",
    "tests/e2e/": "shared clusters",
    "tests/integration/admin/": "console",
    "tests/integration/packaging/": "shared clusters",
}
"""Groups by the beginning of a module's path, of which the first one counts; in the order in which they begin."""

# how long an example takes says more of what else runs than of what is tested; `timeout` bounds a test
hypothesis.settings.register_profile("suite", deadline=None)
hypothesis.settings.load_profile("suite")


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


def pytest_collection_modifyitems(config, items):
    """In a worker, put the groups in the order in which they are to begin."""
    if hasattr(config, "workerinput"):
        order = list(dict.fromkeys(GROUPS.values()))
        items.sort(key=lambda item: order.index(group) if (group := _group_of(item.nodeid)) in order else len(order))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadScopeScheduling  # noqa: PLC0415 - only there when it is wanted

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return _group_of(nodeid)

    config.option.loadscopereorder = False  # by the number of tests, which says nothing of how long they take
    return Scheduling(config, log)


def _group_of(nodeid):
    module = nodeid.partition("::")[0]
    return next((group for start, group in GROUPS.items() if module.startswith(start)), module)
