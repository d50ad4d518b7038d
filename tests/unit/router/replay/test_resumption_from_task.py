"""Where a journal is cut for a replay from a task, and what is taken over."""

from __future__ import annotations

import orjson
import pytest
from support.cases import cases

from flowhook.errors import ConflictError, NotFoundError
from flowhook.model import JournalEntry, Status, WorkflowError
from router.replay.journal_keys import locate_runs
from router.replay.resumption import Cut, cut_before, from_task
from router.storage.model import ExecutionContent, ExecutionRecord

AWAY = WorkflowError("about:blank", 503, "away", "/do/1/b")
ORIGINAL = ExecutionRecord("evt_1", "shop", 3, Status.COMPLETED, 1, 0, 5, seq=1, effect_scope="evt_0")
AT_THE_END = 2**61


def journal(*entries):
    """Make entries of keys: `!` failed, `<` is a moment that was fixed, `>` one that came, anything else succeeded."""
    outputs = {"<": b'{"until":5}', ">": b'{"over":6}'}
    return tuple(
        JournalEntry(entry[1:], None, AWAY)
        if entry[0] == "!"
        else JournalEntry(entry.lstrip("<>"), outputs.get(entry[0], b"1"))
        for entry in entries
    )


def content(*entries, start=0):
    return ExecutionContent(b"", journal(*entries), None, None, start)


def history(*fragments):
    """Locate runs: each fragment has an index, and items `number task`, with `began…` and `…ended`."""
    found = []
    for index, *items in fragments:
        texts = [item.split(" ", 1) for item in items]
        found.append(
            (
                index,
                orjson.dumps(
                    [
                        [
                            int(number),
                            task.strip("…"),
                            int(not task.startswith("…")),
                            int(not task.endswith("…")),
                            1,
                            "",
                        ]
                        for number, task in texts
                    ]
                ),
            )
        )
    return locate_runs(found)


A, B, C = "/do/0/a", "/do/1/b", "/do/2/c"
SEQUENCE = history((0, f"1 {A}…"), (1, f"1 {A}", f"2 {B}"), (1, f"3 {C}…"), (AT_THE_END, f"3 {C}"))
"""`a` and `c` call something, and `b` does not."""


def taken_over(task, runs, *entries, start=0, revision=3, output=None):
    of = content(*entries, start=start)
    cut = cut_before(task, ORIGINAL, of, runs, revision)
    return from_task(task, cut, of, runs, output)


@pytest.mark.parametrize(("task", "retained"), [(A, []), (B, [f"{A}#0"]), (C, [f"{A}#0"])])
def test_what_was_journaled_before_it_began_is_taken_over(task, retained):
    resumed = taken_over(task, SEQUENCE, f"{A}#0", f"{C}#0")
    assert resumed.journal == journal(*retained)
    assert resumed.effect_scope == ""  # new idempotency keys


def test_a_given_output_is_held():
    resumed = taken_over(B, SEQUENCE, f"{A}#0", f"{C}#0", output=b"1")
    assert resumed.journal == journal(f"{A}#0", f"~{B}#2:output")


def test_on_another_revision_an_output_is_given_to_the_first_run_since_numbers_may_differ():
    of = ExecutionContent(b"", journal(f"{A}#0", f"{C}#0"), None, None, 0)
    cut = cut_before(B, ORIGINAL, of, SEQUENCE, 2)
    assert from_task(B, cut, of, SEQUENCE, b"1").journal == journal(f"{A}#0", f"~{B}#0:output")


def test_failures_before_it_are_taken_over_and_retries_of_it_are_not():
    entries = [f"!{A}#0", f"<{A}#0:retry", f">{A}#0:retry", f"{A}#0", f"!{C}#0", f"<{C}#0:retry", f">{C}#0:retry"]
    runs = history((0, f"1 {A}…"), (4, f"1 {A}", f"3 {C}…"))
    assert taken_over(C, runs, *entries).journal == journal(*entries[:4])
    assert taken_over(A, runs, *entries).journal == ()


def test_limits_that_were_running_begin_anew():
    runs = history((1, f"1 {A}…"), (2, f"1 {A}", f"2 {B}"))
    assert taken_over(B, runs, "</timeout#0", f"{A}#0", f"{C}#0").journal == journal(f"{A}#0")


LOOP = "/do/0/l/do/0/c"


def test_in_a_loop_it_is_the_iteration_that_is_named():
    runs = history((0, "1 /do/0/l…", f"2 {LOOP}[0]…"), (1, f"2 {LOOP}[0]", f"3 {LOOP}[1]…"))
    entries = [f"{LOOP}[0]#0", f"{LOOP}[1]#0"]
    assert taken_over(f"{LOOP}[1]", runs, *entries).journal == journal(entries[0])
    assert taken_over("/do/0/l", runs, *entries).journal == ()
    with pytest.raises(NotFoundError) as caught:
        taken_over(LOOP, runs, *entries)
    assert caught.value.reason == "TASK_NOT_FOUND"


def test_of_several_runs_it_is_the_first():
    runs = history((0, f"1 {A}…"), (1, f"1 {A}", f"2 {A}…"), (2, f"2 {A}"))
    assert taken_over(A, runs, f"{A}#0", f"{A}#1").journal == ()


P, Q, R = "/do/1/f/fork/branches/0/p", "/do/1/f/fork/branches/1/q", "/do/1/f/fork/branches/0/p/do/1/r"
FORK = history(
    (0, f"1 {A}…"),
    (1, f"1 {A}", "2 /do/1/f…", f"3 {P}…", f"4 {Q}…"),
    (2, f"3 {P}", f"5 {R}…"),
    (3, f"4 {Q}"),
)
BRANCHES = [f"{A}#0", f"{P}#0", f"{Q}#0", f"{R}#0"]


def test_beside_it_results_of_what_began_before_it_are_held():
    assert taken_over(R, FORK, *BRANCHES).journal == journal(f"{A}#0", f"{P}#0", f"~{Q}#0")
    assert taken_over(Q, FORK, *BRANCHES).journal == journal(f"{A}#0", f"~{P}#0")
    assert taken_over(P, FORK, *BRANCHES).journal == journal(f"{A}#0")


def test_what_failed_beside_it_runs_again_and_so_does_a_flow_that_it_started():
    assert taken_over(R, FORK, f"{A}#0", f"{P}#0", f"!{Q}#0", f"{R}#0").journal == journal(f"{A}#0", f"{P}#0")
    entries = [f"{A}#0", f"{Q}#0", f"{P}#0", f"!{Q}#0:end"]
    runs = history((1, f"1 {A}", f"3 {P}…", f"4 {Q}…"), (3, f"3 {P}", f"5 {R}…"))
    assert taken_over(R, runs, *entries).journal == journal(f"{A}#0", f"{P}#0")
    ended = [*entries[:3], f"{Q}#0:end"]
    assert taken_over(R, runs, *ended).journal == journal(*ended[:3], f"~{Q}#0:end")


def test_of_results_beside_it_under_one_key_the_first_is_held():
    of = ExecutionContent(b"", (JournalEntry(f"{Q}#0", b"1"), JournalEntry(f"{Q}#0", b"2")), None, None, 0)
    runs = history((0, f"4 {Q}…", f"5 {R}…"), (1, f"4 {Q}"))
    assert from_task(R, Cut(0, 5), of, runs, None).journal == (JournalEntry(f"~{Q}#0", b"1"),)


def test_what_the_original_held_itself_is_not_taken_over():
    resumed = taken_over(C, SEQUENCE, f"{A}#0", f"{C}#0", "~/do/9/z#0")
    assert resumed.journal == journal(f"{A}#0")
    # held entries count where the index of an entry is concerned
    runs = history((2, f"3 {C}…"))
    assert taken_over(C, runs, f"{A}#0", f"~{C}#0", f"{C}#0").journal == journal(f"{A}#0")


def test_a_task_that_was_taken_over_from_another_execution_is_found_by_its_entries():
    runs = history((2, f"3 {C}…"))
    assert taken_over(A, runs, f"{A}#0", f"{C}#0").journal == ()
    assert taken_over("/do/1/t/try/0/x", runs, f"{A}#0", "/do/1/t/try/0/x#0").journal == journal(f"{A}#0")
    # it ended in this execution, and began when its journal was replayed
    runs = history((2, "1 …/do/0/l"))
    assert taken_over("/do/0/l", runs, "/do/0/l/do/0/c[0]#0", f"{C}#0").journal == ()


def test_a_report_of_its_beginning_that_was_left_out_is_made_up_for_by_those_of_later_tasks():
    runs = history((1, f"3 {C}…"), (2, f"3 {C}", f"2 {B}"))
    assert taken_over(B, runs, f"{A}#0", f"{C}#0").journal == journal(f"{A}#0")


def test_after_compaction_it_begins_with_the_snapshot():
    runs = history((5, f"1 {A}…"), (6, f"1 {A}", f"3 {C}…"))
    resumed = taken_over(C, runs, "@", f"{A}#0", f"{C}#0", start=4)
    # what the snapshot holds of an earlier replay is not taken over
    assert resumed.journal == (*journal("@", f"{A}#0"), JournalEntry("~", b"null"))
    assert resumed.journal_start == 4


def test_what_was_compacted_away_is_refused_with_the_first_task_that_is_not():
    runs = history((3, f"1 {A}…"), (4, f"1 {A}", f"2 {B}"), (5, f"3 {C}…"))
    for task in (A, B):
        with pytest.raises(ConflictError, match=C) as caught:
            taken_over(task, runs, "@", f"{C}#0", start=4)
        assert caught.value.reason == "JOURNAL_COMPACTED"
    with pytest.raises(ConflictError, match="from the start"):
        taken_over(A, runs[:2], "@", start=4)


def test_a_snapshot_fits_the_revision_it_was_taken_on_only():
    runs = history((5, f"3 {C}…"))
    with pytest.raises(ConflictError, match="revision 3 only") as caught:
        taken_over(C, runs, "@", f"{C}#0", start=4, revision=4)
    assert caught.value.reason == "JOURNAL_COMPACTED"
    assert taken_over(C, history((1, f"3 {C}…")), f"{A}#0", f"{C}#0", revision=4).journal == journal(f"{A}#0")


@cases("task", ["", "/do/9/x", "x", "/do/0/a#0", "/do/0/a[0]", "~/do/0/a", "/do/0/aa", "/do/0"])
def test_a_task_that_did_not_run_is_refused(task):
    with pytest.raises(NotFoundError, match=r"/do/0/a, /do/1/b, /do/2/c") as caught:
        taken_over(task, SEQUENCE, f"{A}#0", f"{C}#0")
    assert caught.value.reason == "TASK_NOT_FOUND"


def test_malformed_history_is_ignored():
    assert locate_runs([(0, b""), (1, b"{}"), (2, b"[1]"), (3, b"[[1,2,3,4,5,6]]"), (4, b"\xff")]) == ()
