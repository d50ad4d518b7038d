"""What a replay from the failed task leaves out of the journal."""

from __future__ import annotations

import pytest

from flowhook.model import JournalEntry, WorkflowError
from router.replay import before_failure

AWAY = WorkflowError("about:blank", 503, "away")


def journal(*entries):
    """Make entries of keys; those that begin with `!` failed."""
    return tuple(
        JournalEntry(entry[1:], None, AWAY) if entry.startswith("!") else JournalEntry(entry, b"1") for entry in entries
    )


@pytest.mark.parametrize(
    ("instance", "entries", "kept"),
    [
        ("/do/1/b", ["/do/0/a#0", "!/do/1/b#0"], 1),
        ("/do/1/b", ["/do/0/a#0", "!/do/1/b#0", "!/do/1/b#1", "!/do/1/b#2"], 1),
        ("/do/1/b", ["!/do/0/a#0", "!/do/1/b#0"], 1),
        ("/do/0/a", ["!/do/0/a#0"], 0),
        ("/do/1/b", ["/do/0/a#0"], 1),
        ("/do/1/b", ["/do/0/a#0", "/do/1/b#0"], 2),
        ("/do/1/b", ["!/do/1/b#0", "/do/2/c#0"], 2),
        ("", ["/do/0/a#0", "!/do/1/b#0"], 2),
        ("/output", ["!/do/1/b#0"], 1),
        ("/do/0/loop/for/do/0/call", ["/do/0/loop/for/3/do/0/call#0", "!/do/0/loop/for/4/do/0/call#0"], 1),
        ("/do/0/loop/for/do/0/call", ["!/do/0/loop/for/4/do/1/other#0"], 1),
        ("/do/1/b", [], 0),
        ("/do/1/b", ["@", "!/do/1/b#0"], 1),
        ("/do/1", ["!/do/1/b#0"], 1),
        ("/do/1/b/do/0/c", ["!/do/1/b#0"], 1),
    ],
)
def test_failures_of_the_failed_task_at_the_end_are_left_out(instance, entries, kept):
    assert before_failure(journal(*entries), instance) == journal(*entries)[:kept]
