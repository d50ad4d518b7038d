"""How the suite is divided: what `make test-release` runs, and which tests share a worker.

More than half of the time that processes take is waiting, so there are six workers for two cores. A group of tests runs
in one worker, one after another: the groups of `GROUPS`, by what they start, and each other module. The groups of
`GROUPS` begin first, longest first, so that no worker is left with a long one at the end. No two tests that share a
cluster, or a module's fixtures, ever run at the same time.
"""

from __future__ import annotations

from typing import Final

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

RELEASE: Final = (
    "tests/e2e/test_chaos.py",
    "tests/e2e/test_hostile_bodies.py",
    "tests/e2e/test_replaced_installation.py",
    "tests/integration/admin/console/test_accessibility.py",
    "tests/integration/chaos/",
    "tests/integration/docs/test_other_languages.py",
    "tests/integration/packaging/",
    "tests/integration/deploy/",
)
"""What `make test` leaves to `make test-release`, by the beginning of a path: it is slow, and changes seldom."""

UNITS: Final = ("tests/unit/", "tests/conformance/signatures/", "tests/conformance/storage/")
"""What `make unit` runs. A test here that starts a process or opens a socket fails: see `support/alone.py`."""
