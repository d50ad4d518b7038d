"""What a replay from the failed task leaves out of the journal."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.cases import cases

from flowhook.errors import ConflictError
from flowhook.model import JournalEntry, RaiseOrigin, Status, WorkflowError
from router.replay.resumption import before_failure, from_failed_task
from router.storage.model import ExecutionContent, ExecutionRecord, Resumption

AWAY = WorkflowError("about:blank", 503, "away", "/do/1/b")


def journal(*entries):
    """Make entries of keys: `!` failed, `<` is a moment that was fixed, `>` one that came, anything else succeeded."""
    outputs = {"<": b'{"until":5}', ">": b'{"over":6}'}
    return tuple(
        JournalEntry(entry[1:], None, AWAY)
        if entry[0] == "!"
        else JournalEntry(entry.lstrip("<>"), outputs.get(entry[0], b"1"))
        for entry in entries
    )


@cases(
    ("instance", "entries", "retained"),
    [
        ("/do/1/b", ["/do/0/a#0", "!/do/1/b#0"], ["/do/0/a#0"]),
        ("/do/1/b", ["!/do/0/a#0", "!/do/1/b#0"], ["!/do/0/a#0"]),
        ("/do/1/b", ["/do/0/a#0", "/do/1/b#0"], ["/do/0/a#0", "/do/1/b#0"]),
        ("/do/1/b", ["!/do/1/b#0", "/do/2/c#0"], ["!/do/1/b#0", "/do/2/c#0"]),
        ("", ["/do/0/a#0", "!/do/1/b#0"], ["/do/0/a#0", "!/do/1/b#0"]),
        ("/output", ["!/do/1/b#0"], ["!/do/1/b#0"]),
        ("/do/1/b", [], []),
        ("/do/1/b", ["@", "!/do/1/b#0"], ["@"]),
        ("/do/1", ["!/do/1/b#0"], ["!/do/1/b#0"]),
        # iterations are in the keys only
        ("/do/0/loop/do/0/c", ["/do/0/loop/do/0/c[3]#0", "!/do/0/loop/do/0/c[4]#0"], ["/do/0/loop/do/0/c[3]#0"]),
        # retries of the call and of a try around it begin anew
        (
            "/do/1/b",
            ["/do/0/a#0", "!/do/1/b#0", "</do/1/b#0:retry", ">/do/1/b#0:retry", "!/do/1/b#0"],
            ["/do/0/a#0"],
        ),
        ("/do/1/t/try/0/c", ["!/do/1/t/try/0/c#0", "/do/1/t#0:failed", "</do/1/t#0:retry", ">/do/1/t#0:retry"], []),
        # those of others, and waits, stay
        ("/do/1/b", [">/do/0/a#0:retry", "!/do/1/b#0"], [">/do/0/a#0:retry"]),
        ("/do/1/b", ["</do/0/p#0:wait", ">/do/0/p#0:wait", "!/do/1/b#0"], ["</do/0/p#0:wait", ">/do/0/p#0:wait"]),
        ("/do/1/f/fork/b", ["</do/1/f/fork/p#0:wait", "!/do/1/f/fork/b#0"], ["</do/1/f/fork/p#0:wait"]),
        # limits that were running begin anew; one that was exceeded and caught stays
        ("/do/1/b", ["</timeout#0", "</do/1/b#0:timeout", "/do/0/a#0", "!/do/1/b#0"], ["/do/0/a#0"]),
        ("/do/1/b", ["</do/1/b#0:timeout", ">/do/1/b#0:timeout"], []),
        ("/do", ["</timeout#0", "/do/0/a#0", ">/timeout#0"], ["/do/0/a#0"]),
        (
            "/do/2/c",
            ["</do/0/a#0:timeout", ">/do/0/a#0:timeout", "/do/1/b#0", "!/do/2/c#0"],
            ["</do/0/a#0:timeout", ">/do/0/a#0:timeout", "/do/1/b#0"],
        ),
        (
            "/do/0/t/try/0/c",
            [
                "</do/0/t/try/0/c#0:timeout",
                ">/do/0/t/try/0/c#0:timeout",
                "</do/0/t#0:retry",
                ">/do/0/t#0:retry",
                "/x#0",
                "</do/0/t/try/0/c#0:timeout",
                "!/do/0/t/try/0/c#0",
            ],
            [
                "</do/0/t/try/0/c#0:timeout",
                ">/do/0/t/try/0/c#0:timeout",
                "</do/0/t#0:retry",
                ">/do/0/t#0:retry",
                "/x#0",
            ],
        ),
        # failures in other iterations or on other visits were caught
        ("/do/0/l/do/0/c", ["!/do/0/l/do/0/c[0]#0", "!/do/0/l/do/0/c[1]#0"], ["!/do/0/l/do/0/c[0]#0"]),
        ("/do/0/c", ["!/do/0/c#0", "!/do/0/c#1"], ["!/do/0/c#0"]),
        ("/do/0/c", [">/do/0/c#0:timeout", ">/do/0/c#1:timeout"], [">/do/0/c#0:timeout"]),
        (
            "/do/0/l/do/0/t/try/0/c",
            [">/do/0/l/do/0/t[0]#0:retry", ">/do/0/l/do/0/t[1]#0:retry", "!/do/0/l/do/0/t/try/0/c[1]#0"],
            [">/do/0/l/do/0/t[0]#0:retry"],
        ),
        # a function's entries stand behind the key of its call
        (
            "/use/functions/f/do/0/c",
            ["</do/0/t#0:retry", ">/do/0/t#0:retry", "!/do/0/t/try/0/x[2]#0 /use/functions/f/do/0/c#0"],
            [],
        ),
        (
            "/use/functions/f",
            [">/do/0/x#0 /use/functions/f#0:retry", "!/do/1/x#0 /use/functions/f#0"],
            [">/do/0/x#0 /use/functions/f#0:retry"],
        ),
        ("/use/functions/f", ["</do/0/x#0 /use/functions/f#0:timeout", ">/do/0/x#0 /use/functions/f#0:timeout"], []),
        # another flow that failed is run again; one that ended well is not, nor one whose failure was caught
        ("/do/1/r", ["/do/0/a#0", "/do/1/r#0", "/do/2/f#0", "!/do/1/r#0:end"], ["/do/0/a#0", "/do/2/f#0"]),
        ("/do/1/c", ["/do/0/r#0", "/do/0/r#0:end", "!/do/1/c#0"], ["/do/0/r#0", "/do/0/r#0:end"]),
        ("/do/1/c", ["/do/0/r#0", "!/do/0/r#0:end", "!/do/1/c#0"], ["/do/0/r#0", "!/do/0/r#0:end"]),
        # events that came stay
        ("/do/1/c", ["/do/0/l#0:event", "!/do/1/c#0"], ["/do/0/l#0:event"]),
        # an extension's entries stand behind the key of the task that it extends
        (
            "/use/extensions/0/e/before/0/c",
            [
                "/do/0/a#0:extended /use/extensions/0/e/before/0/c#0",
                "!/do/1/b#0:extended /use/extensions/0/e/before/0/c#0",
            ],
            ["/do/0/a#0:extended /use/extensions/0/e/before/0/c#0"],
        ),
        (
            "/use/functions/f",
            ["/do/0/t/try/0/x#0 /use/functions/f#0", "!/do/0/t/try/0/x#1 /use/functions/f#0", "/do/0/t#3:failed"],
            ["/do/0/t/try/0/x#0 /use/functions/f#0"],
        ),
        # names may have anything in them
        ("/do/0/a#1 [2] b", ["!/do/0/a#1 [2] b#0"], []),
    ],
)
def test_what_led_to_the_failure_is_left_out_and_nothing_else(instance, entries, retained):
    assert before_failure(journal(*entries), instance) == journal(*retained)


def record(status=Status.FAULTED, effect_scope=""):
    return ExecutionRecord("evt_1", "shop", 3, status, 1, 0, 5, AWAY, seq=1, effect_scope=effect_scope)


def content(*entries, start=0):
    return ExecutionContent(b"", journal(*entries), None, None, start)


def test_the_scope_of_keys_is_that_of_the_first_in_a_row_of_replays():
    assert from_failed_task(record(), content(), 3) == Resumption("evt_1")
    assert from_failed_task(record(effect_scope="evt_0"), content("@", "!/do/1/b#0", start=7), 3) == Resumption(
        "evt_0", journal("@"), 7
    )


def test_a_snapshot_fits_the_revision_it_was_taken_on_only():
    assert from_failed_task(record(), content("/do/0/a#0"), 4).journal == journal("/do/0/a#0")
    with pytest.raises(ConflictError) as caught:
        from_failed_task(record(), content("@"), 4)
    assert caught.value.reason == "JOURNAL_COMPACTED"


def test_what_completed_did_not_fail():
    with pytest.raises(ConflictError) as caught:
        from_failed_task(record(Status.COMPLETED), content(), 3)
    assert caught.value.reason == "EXECUTION_NOT_FAILED"


AGAIN = "/do/1/t/catch/do/0/again"
B, C, NOTIFY = "/do/1/t/try/0/b#0", "/do/1/t/try/1/c#0", "/do/1/t/catch/do/0/notify#0"


def raised(cause, *entries, revision=3, instance=AGAIN):
    error = WorkflowError("about:blank", 500, "again", instance, raising=RaiseOrigin(AGAIN, cause))
    return from_failed_task(replace(record(), error=error), content(*entries), revision).journal


@cases(
    ("cause", "entries", "retained"),
    [
        (B, ["/do/0/a#0", f"!{B}", NOTIFY], ["/do/0/a#0", f"~{NOTIFY}"]),
        (B, ["/do/0/a#0", f"!{B}"], ["/do/0/a#0"]),
        (C, [B, f"!{C}", NOTIFY], [B, f"~{NOTIFY}"]),
        # all retries of what failed begin anew, and limits; of the handler only the results are taken over
        (B, [f"!{B}", f"<{B}:retry", f">{B}:retry", f"!{B}", f"!{NOTIFY}", f"<{NOTIFY}:retry", NOTIFY],
         [f"~{NOTIFY}"]),
        (C, ["</timeout#0", f"!{B}", "</do/1/t#0:retry", ">/do/1/t#0:retry", B, f"!{C}", "/do/1/t#0:failed"],
         [f"!{B}", "</do/1/t#0:retry", ">/do/1/t#0:retry", B]),
        (f"{B}:timeout", [f"<{B}:timeout", f">{B}:timeout", NOTIFY], [f"~{NOTIFY}"]),
        (B, [f"!{B}", "</w#0:wait", ">/w#0:wait", "/w#0:now", "/w#0:event", "/w#0:callback"], []),
        # in a function
        (B, [f"!{B}", f"{NOTIFY} /use/functions/f#0"], [f"~{NOTIFY} /use/functions/f#0"]),
        (f"{B} /use/functions/f/do/0/x#0", [f"!{B} /use/functions/f/do/0/x#0", NOTIFY], [f"~{NOTIFY}"]),
        # the very one in its iteration and on its visit, whatever failed since
        ("/l/do/0/b[1]#0", ["!/l/do/0/b[0]#0", "/n[0]#0", "!/l/do/0/b[1]#0", "/n[1]#0", "!/l/do/0/b[1]#1"],
         ["!/l/do/0/b[0]#0", "/n[0]#0", "~/n[1]#0"]),
        # what runs beside it
        (B, [f"!{B}", "/do/1/f/fork/p#0"], ["~/do/1/f/fork/p#0"]),
        # another flow that failed is run again, one that ended well is not
        ("/r#0:end", ["/r#0", "!/r#0:end", "/s#0", "/s#0:end", "/u#0", "!/u#0:end"], ["~/s#0", "~/s#0:end"]),
        # of replays of replays
        (B, ["/do/0/a#0", f"~{NOTIFY}", "~/n#0", f"!{B}", NOTIFY], ["/do/0/a#0", "~/n#0", f"~{NOTIFY}"]),
    ],
)  # fmt: skip
def test_where_a_handler_raises_it_starts_at_what_it_handled_and_holds_what_succeeded_since(cause, entries, retained):
    assert raised(cause, *entries) == journal(*retained)
    # whichever instance the error that is raised says
    assert raised(cause, *entries, instance=cause.partition("#")[0]) == journal(*retained)


@pytest.mark.parametrize(
    ("cause", "entries"),
    [
        ("", ["/do/0/a#0", f"!{B}", C, NOTIFY]),
        (B, ["/do/0/a#0", NOTIFY]),
        (B, ["!/do/1/t/try/0/b[1]#0", "!/do/1/t/try/0/b#1", NOTIFY]),
        (B, ["@", NOTIFY]),
        ("x", [NOTIFY]),
    ],
)
def test_where_nothing_would_run_anew_it_is_refused_but_on_another_revision(cause, entries):
    with pytest.raises(ConflictError, match="from the start") as caught:
        raised(cause, *entries)
    assert caught.value.reason == "NOTHING_TO_RUN_ANEW"
    if "@" not in entries:
        assert raised(cause, *entries, revision=4) == journal(*entries)


def test_the_failure_of_a_call_in_a_handler_is_that_of_the_call():
    original = replace(record(), error=WorkflowError("about:blank", 503, "away", NOTIFY[:-2]))
    resumed = from_failed_task(original, content(f"!{B}", f"!{NOTIFY}"), 3)
    assert resumed.journal == journal(f"!{B}")
