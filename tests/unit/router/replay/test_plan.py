"""Which tasks a preview names as taken over, and which as running again."""

from __future__ import annotations

from flowhook.model import JournalEntry, RaiseOrigin, TaskState, WorkflowError
from flowhook.model.replays import ReplayedTask
from router.replay.journal_keys import LocatedRun
from router.replay.plan import MAX_TASKS, Preview

DEFINITION = {
    "do": [
        {"a": {"call": "http"}},
        {"l": {"for": {"in": "${ . }"}, "do": [{"b/[0]": {"call": "f"}}]}},
        {"f": {"fork": {"branches": [{"p": {"call": "http"}}, {"q": {"emit": {}}}]}}},
        {"w": {"wait": {"seconds": 1}}},
    ],
    "use": {"functions": {"twice": {"do": [{"x": {"set": {}}}]}}},
}
DONE, FAILED, CANCELLED = TaskState.COMPLETED, TaskState.FAULTED, TaskState.CANCELLED
A, P, Q, W = "/do/0/a", "/do/2/f/fork/branches/0/p", "/do/2/f/fork/branches/1/q", "/do/3/w"


def runs(*given):
    return [LocatedRun(number, *each) for number, each in enumerate(given, 1)]


def held(*keys):
    return [JournalEntry(key, b"1") for key in keys]


def names(tasks):
    return [each.task for each in tasks]


def test_a_task_has_its_kind_whatever_its_name_and_place():
    tasks = [A, "/do/1/l", "/do/1/l/do/0/b~1[0][2]", Q, "/do/0/a#0 /use/functions/twice/do/0/x", "/do/9/x", "odd"]
    preview = Preview(DEFINITION, runs(*((task, DONE, 0, 1) for task in tasks)))
    kinds = ["call", "for", "call", "emit", "set", "", ""]
    assert preview.again(0, 0) == tuple(map(ReplayedTask, tasks, kinds))


def test_what_ended_before_the_cut_is_taken_over_with_what_the_journal_has():
    preview = Preview(DEFINITION, runs((A, DONE, 0, 1), (W, DONE, 1, 3), (P, DONE, 3, 5), ("/do/1/l", DONE, 0, 1)))
    retained = [*held("@", f"{Q}#0", f"~{P}#0", "/do/0/a#0:output", f"~{W}#0:output")]
    assert names(preview.taken_over(retained, 3)) == [A, W, Q, P]


def test_what_runs_again_is_what_began_later_and_what_was_under_way_beside_it():
    located = runs((A, DONE, 0, 1), ("/do/2/f", DONE, 1, 9), (P, DONE, 1, 3), (Q, DONE, 1, 2), (W, DONE, 3, 5))
    preview = Preview(DEFINITION, located)
    assert names(preview.again(4, 1, task=Q)) == [P, Q, W]
    # its result is held, or it had ended before
    assert names(preview.again(4, 1, held(f"{A}#0", f"~{P}#0"), task=Q)) == [Q, W]
    assert names(preview.again(5, 3, held(f"{A}#0", f"{Q}#0", f"{P}#0"), task=W)) == [W]


def test_what_was_skipped_is_not_named_and_nothing_twice():
    preview = Preview(DEFINITION, runs((A, TaskState.SKIPPED, 0, 1), (W, DONE, 0, 1), (W, DONE, 1, 2)))
    assert names(preview.again(0, 0)) == [W]


def test_a_long_list_is_cut():
    preview = Preview(DEFINITION, runs(*((f"/do/1/l/do/0/b[{index}]", DONE, 0, 1) for index in range(2000))))
    assert len(preview.again(0, 0)) == MAX_TASKS


def test_the_task_that_failed_is_found_by_the_error():
    preview = Preview(DEFINITION, runs((A, FAILED, 0, 1), (A, DONE, 1, 2), (P, FAILED, 2, 3), (A, FAILED, 4, 5)))
    assert preview.failed(WorkflowError("about:blank", 500, "", A)) == 4
    raised = WorkflowError("about:blank", 500, "", "/do/9/r", raising=RaiseOrigin("/do/9/r", f"{P}#0"))
    assert preview.failed(raised) == 3
    assert preview.failed(WorkflowError("about:blank", 500, "", "/output")) is None
    assert preview.failed(None) is None


def test_of_one_that_was_cancelled_what_was_under_way_runs_again():
    preview = Preview(DEFINITION, runs((A, DONE, 0, 1), (P, CANCELLED, 1, None), ("/do/1/l", CANCELLED, 0, None)))
    assert names(preview.again(None, 1, held(f"{A}#0"))) == [P]
