"""How the suite is divided: what `make unit` and `make test-release` run, and which tests share a worker.

More than half of the time that processes take is waiting, so there are six workers for two cores. The tests of a module
run in one worker, one after another, and so do those of modules that share a cluster or a browser (`GROUPS`). What
takes long begins first (`ORDER`), so that no worker is left with a long module at the end.
"""

from __future__ import annotations

from typing import Final

GROUPS: Final = {
    "tests/e2e/test_outages.py": "outages",
    "tests/e2e/test_shaping.py": "shaping",
    "tests/e2e/test_tls.py": "tls",
    "tests/e2e/test_upgrade.py": "upgrades",
    "tests/integration/cluster/test_clocks.py": "router processes",
    "tests/integration/cluster/test_jobs.py": "router processes",
    "tests/integration/cluster/test_paused_owner.py": "router processes",
}
"""Modules that share what they start, and those of `tests/e2e` that share nothing."""

SHARED_CLUSTERS: Final = "shared clusters"
"""The group of the other modules of `tests/e2e`: those of `make test-release` start clusters of their own."""

COMMANDS: Final = "commands"
"""The group of the tests of commands, which share a cluster."""

BROWSER: Final = "browser"
"""The group of tests in a browser, which share one."""

ORDER: Final = (
    "tests/e2e/",
    "tests/integration/deploy/test_alerts.py",
    "tests/integration/cli/",
    "tests/integration/runner/",
    "tests/integration/cluster/",
    "tests/integration/admin/",
    "tests/integration/commit_log/",
    "tests/integration/",
    "tests/conformance/",
)
"""What begins first, by the beginning of its path; all else begins last."""

RELEASE: Final = (
    "tests/conformance/expressions/test_plain_programs.py::test_closures_give_what_jq_gives_in_a_million_cases",
    "tests/e2e/test_chaos.py",
    "tests/e2e/test_crashes.py",
    "tests/e2e/test_examples.py::test_the_commands_in_its_comment_work_as_printed",
    "tests/e2e/test_hostile_bodies.py",
    "tests/e2e/test_jobs.py",
    "tests/e2e/test_killed_runners.py",
    "tests/e2e/test_large_bodies.py",
    "tests/e2e/test_no_secret_in_the_clear.py",
    "tests/e2e/test_replaced_installation.py",
    "tests/e2e/test_restarts.py",
    "tests/e2e/test_runaway_expressions.py",
    "tests/e2e/test_several_routers.py",
    "tests/e2e/test_stopping.py",
    "tests/integration/chaos/",
    "tests/integration/deploy/",
    "tests/integration/docs/test_first_webhook.py::test_a_fresh_clone_verifies_a_webhook_with_the_commands_of_the_readme",
    "tests/integration/docs/test_how_to.py::test_commands_print_what_the_pages_say",
    "tests/integration/docs/test_other_languages.py",
    "tests/integration/docs/test_tutorial.py::test_its_commands_print_what_it_says",
    "tests/integration/packaging/",
    "tests/integration/payloads/test_hostile.py",
)
"""What `make test` leaves to `make test-release`, by the beginning of its ID: it is slow, and changes seldom."""

RELEASE_FIXTURES: Final = {"chrome"}
"""The same for tests in a browser, which takes more CPU time than all else that they start."""

UNITS: Final = ("tests/unit/", "tests/conformance/signatures/", "tests/conformance/storage/")
"""What `make unit` runs. A test here that starts a process or opens a socket fails: see `support/alone.py`."""


def group_of(nodeid: str, *, release: bool) -> str:
    """Return the group of a test, in `make test-release` or in other runs."""
    module = nodeid.partition("::")[0]
    if release and module.startswith("tests/integration/admin/console/"):
        return BROWSER
    if module in GROUPS:
        return GROUPS[module]
    if module.startswith("tests/e2e/") and not module.startswith(RELEASE):
        return SHARED_CLUSTERS
    if module.startswith("tests/integration/cli/commands/"):
        return COMMANDS
    return module


def position_of(nodeid: str) -> int:
    """Return where a test stands in `ORDER`."""
    return next((position for position, start in enumerate(ORDER) if nodeid.startswith(start)), len(ORDER))
