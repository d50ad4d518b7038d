"""Every document among the specification's examples loads, or is refused by the name of what is not supported."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from flowhook.document import canonical, load_definition, parse
from flowhook.errors import InvalidFlowError

SPECIFICATION = Path(__file__).parents[4] / ".mirror" / "serverlessworkflow+specification" / "repo"

pytestmark = pytest.mark.skipif(not SPECIFICATION.is_dir(), reason="no specification beside the clone")

LOADING = frozenset(
    {
        "authentication-bearer",
        "authentication-bearer-uri-format",
        "authentication-reusable",
        "call-custom-function-inline",
        "call-http-endpoint-interpolation",
        "call-http-endpoint-interpolation-shorthand",
        "call-http-query-headers-expressions",
        "call-http-query-parameters",
        "call-http-redirect",
        "conditional-task",
        "do-multiple",
        "do-single",
        "emit",
        "for",
        "fork",
        "listen-to-all",
        "listen-to-all read-envelope",
        "listen-to-any",
        "listen-to-any-filter",
        "listen-to-any-forever-foreach",
        "listen-to-any-until-condition",
        "listen-to-any-until-consumed",
        "listen-to-one",
        "raise-inline",
        "raise-reusable",
        "schedule-cron",
        "schedule-event-driven",
        "set",
        "set-expression",
        "star-wars-homeworld",
        "switch-then-string",
        "try-catch",
        "try-catch-retry-inline",
        "try-catch-retry-reusable",
        "try-catch-then",
        "wait-duration-inline",
        "wait-duration-iso8601",
    }
)
"""Those that use nothing but what is supported."""


def git(*arguments):
    return subprocess.run(["git", "-C", SPECIFICATION, *arguments], check=True, capture_output=True).stdout


def test_each_loads_or_names_what_is_not_supported():
    names = git("ls-tree", "--name-only", "-z", "HEAD", "examples/").decode().split("\0")
    loaded = set()
    for name in names:
        if not name.endswith(".yaml"):
            continue
        try:
            document = parse(git("show", f"HEAD:{name}"), file=name, functions={"twitter.post"})
        except InvalidFlowError as refusal:
            for fault in refusal.faults:
                assert "not supported yet" in fault.cause, fault
                assert (fault.line > 0, bool(fault.key)) == (True, True), fault
        else:
            assert load_definition(canonical(document.definition)) == document
            loaded.add(Path(name).stem)
    assert loaded == LOADING
