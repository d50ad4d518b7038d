"""How `make test` shares the suite between its workers.

Half of the time that processes take is waiting, so there are three workers for two cores, and the tests that start
whole clusters go to one of them, one after another; those of runners and of commands to one as well; all others go with
their module to whoever is free. No group is more than a third of the suite, so that no worker is idle at the end. No
two tests that share a cluster, or a module's fixtures, ever run at the same time.
"""

from __future__ import annotations

import gc
from typing import Final

import hypothesis
import pytest

TOGETHER: Final = {
    "tests/e2e/": "clusters",
    "tests/integration/admin/": "clusters",
    "tests/integration/cli/": "commands",
    "tests/integration/packaging/": "clusters",
    "tests/integration/runner/": "runners",
}
"""Folders whose tests run one after another, by what they start."""

# how long an example takes says more of what else runs than of what is tested; `timeout` bounds a test
hypothesis.settings.register_profile("suite", deadline=None)
hypothesis.settings.load_profile("suite")


def pytest_collection_finish(session):
    """Let the garbage collector go over what a test makes, and not again and again over thousands of tests."""
    del session
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadScopeScheduling  # noqa: PLC0415 - only there when it is wanted

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            module = nodeid.partition("::")[0]
            return next((name for folder, name in TOGETHER.items() if module.startswith(folder)), module)

    return Scheduling(config, log)
