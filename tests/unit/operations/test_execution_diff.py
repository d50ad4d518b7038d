"""Differences of executions."""

from __future__ import annotations

from dataclasses import replace

from flowhook.model import Event, Execution, ExecutionDetail, Principal, Status, TaskRun, TaskState, WorkflowError
from operations.comparison import MAX_TASKS, compare_executions

EVENT = Event(
    id="evt_1",
    flow_id="shop",
    receive_time_ms=1000,
    principal=Principal("github", "hush"),
    dedupe_key="d-1",
    method="POST",
    path="/hook/shop",
    query="a=1&b=2&a=3",
    content_type="application/json",
    headers=(("x-one", b"1"), ("x-raw", b"\xff")),
    body=b'{"n":1}',
)
DETAIL = ExecutionDetail(
    Execution("evt_1", "shop", 3, Status.COMPLETED, 1, 1000, 1500),
    EVENT,
    (),
    b'{"total":1.0}',
    history=(
        TaskRun(1, "/do/0/a", 1000, 1100, 1, TaskState.COMPLETED, ""),
        TaskRun(2, "/do/1/b", 1100, 1400, 1, TaskState.COMPLETED, "yes"),
    ),
)


def fields(differences):
    return [(each.name, each.first, each.second) for each in differences]


def compare(first, second):
    return compare_executions(first, second, first.event.body, second.event.body)


def test_an_execution_does_not_differ_from_itself():
    found = compare(DETAIL, DETAIL)
    assert not any((found.summary, found.request, found.query, found.headers, found.error))
    assert (found.body.format, found.output.format, found.diverges_at) == ("equal", "equal", None)
    assert [pair.first.duration for pair in found.tasks] == [0.1, 0.3]


def test_requests_and_results_are_compared():
    event = EVENT._replace(
        method="PUT", query="a=1&c=4", headers=(("x-one", b"2"), ("x-one", b"3")), principal=None, body=b'{"n":2}'
    )
    error = WorkflowError("about:blank", 500, "Runtime", "/do/1/b", "no")
    execution = Execution("evt_2", "shop", 4, Status.FAULTED, 2, 1000, 1250, error)
    found = compare(DETAIL, replace(DETAIL, execution=execution, event=event, output=None))
    assert fields(found.summary) == [
        ("revision", "3", "4"),
        ("status", "completed", "faulted"),
        ("attempts", "1", "2"),
        ("duration", "0.500", "0.250"),
    ]
    assert fields(found.request) == [("method", "POST", "PUT"), ("authenticated by", "github hush", None)]
    assert fields(found.query) == [("a", "1, 3", "1"), ("b", "2", None), ("c", None, "4")]
    assert fields(found.headers) == [("x-one", "1", "2, 3"), ("x-raw", "\\xff", None)]
    assert ("detail", None, "no") in fields(found.error)
    assert found.body.differences[0].path == "/n"
    assert (found.output.first_size, found.output.second_size) == (13, 0)


def test_the_first_task_run_with_another_result_is_found():
    first, second = DETAIL.history
    other = replace(DETAIL, history=(first._replace(begin_time_ms=0, tries=4), second._replace(detail="no")))
    found = compare(DETAIL, other)
    assert (found.diverges_at, [pair.same for pair in found.tasks]) == (1, [True, False])
    shorter = compare(DETAIL, replace(DETAIL, history=(first,)))
    assert (shorter.diverges_at, shorter.tasks[1].second) == (1, None)
    running = replace(DETAIL, history=(first._replace(end_time_ms=None),))
    assert compare(running, running).tasks[0].first.duration is None


def test_task_runs_are_listed_up_to_a_limit_and_compared_beyond_it():
    run = DETAIL.history[0]
    many = replace(DETAIL, history=(run,) * MAX_TASKS)
    found = compare(many, replace(many, history=(*many.history, run)))
    assert (len(found.tasks), found.tasks_cut, found.diverges_at) == (MAX_TASKS, True, MAX_TASKS)
