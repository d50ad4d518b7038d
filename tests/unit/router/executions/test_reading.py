"""Filters of requests that make no sense are refused."""

from __future__ import annotations

import orjson
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from support.cases import cases

from flowhook.errors import InvalidError
from flowhook.limits import MAX_SEARCH_ATTRIBUTES
from flowhook.model import TaskRun, TaskState
from flowhook.model.execution_filter import ALL
from flowhook.v1.envelope_pb2 import SearchAttribute
from flowhook.v1.execution_service_pb2 import Execution, ExecutionFilter
from router.executions.reading import MAX_BYTES, MAX_SHOWN, build_task_history, read_filter


def test_no_filter_is_one_that_all_meet():
    assert read_filter(ExecutionFilter()) == ALL


@cases(
    ("fields", "message"),
    [
        ({"error_title": "x" * MAX_BYTES}, "more than 65536 bytes"),
        ({"statuses": [0]}, "STATUS_UNSPECIFIED"),
        ({"statuses": [Execution.STATUS_FAULTED, 99]}, "does not know"),
        ({"error_status": -1}, "error_status"),
        ({"min_attempts": -1}, "min_attempts"),
        ({"receive_from": Timestamp(seconds=-1)}, "receive_from"),
        ({"receive_until": Timestamp(seconds=2**60)}, "receive_until"),
        ({"attributes": [SearchAttribute(value="x")]}, "name"),
        ({"attributes": [SearchAttribute(name="x")] * (MAX_SEARCH_ATTRIBUTES + 1)}, "at most 8"),
        ({"caused_by": "evt_4711"}, "`caused_by` must be the ID of an execution: .* evt_ and 26 characters"),
    ],
)
def test_a_condition_that_nothing_can_mean_is_refused(fields, message):
    with pytest.raises(InvalidError, match=message) as caught:
        read_filter(ExecutionFilter(**fields))
    assert caught.value.reason == "FILTER_INVALID"


def text(*tasks):
    return orjson.dumps(tasks)


def test_a_task_that_began_and_ended_apart_is_one_in_the_order_of_numbers():
    reported = [text([2, "/do/1/a", 5, 0, 1, ""]), text([3, "/do/2/b", 8, 9, 1, "-"], [2, "/do/1/a", 0, 7, 2, ""])]
    assert build_task_history(reported, ended=True) == (
        TaskRun(2, "/do/1/a", 5, 7, 2, TaskState.COMPLETED, ""),
        TaskRun(3, "/do/2/b", 8, 9, 1, TaskState.SKIPPED, ""),
    )


def test_what_is_reported_again_does_not_replace_what_was_known():
    reported = [text([1, "/do/0/a", 1, 2, 1, "!503 away"]), text([1, "/do/0/a", 0, 9, 1, ""])]
    assert build_task_history(reported, ended=True) == (TaskRun(1, "/do/0/a", 1, 2, 1, TaskState.FAULTED, "503 away"),)


def test_what_has_not_ended_runs_until_the_execution_has():
    reported = [text([1, "/do/0/a", 1, 0, 1, ""])]
    assert [run.state for run in build_task_history(reported, ended=False)] == [TaskState.RUNNING]
    assert [run.state for run in build_task_history(reported, ended=True)] == [TaskState.CANCELLED]


def test_a_branch_says_where_it_went_and_a_task_that_lost_is_called_off():
    reported = [text([1, "/do/0/s", 1, 1, 1, ">end"], [2, "/do/1/f", 1, 4, 1, "x"])]
    assert [(run.state, run.detail) for run in build_task_history(reported, ended=True)] == [
        (TaskState.COMPLETED, "end"),
        (TaskState.CANCELLED, ""),
    ]


def test_what_is_no_history_is_passed_over():
    assert build_task_history([b"{", b"7", text(7, [1, 2], ["1", "/do/0/a", 1, 1, 1, ""])], ended=True) == ()


def test_of_very_many_the_first_and_the_last_are_shown():
    reported = [text(*([number, "/do/0/a", 1, 1, 1, ""] for number in range(1, 3 * MAX_SHOWN)))]
    numbers = [run.number for run in build_task_history(reported, ended=True)]
    assert (len(numbers), numbers[0], numbers[-1]) == (MAX_SHOWN, 1, 3 * MAX_SHOWN - 1)


def test_what_ends_where_something_is_left_out_is_not_shown_as_called_off():
    reported = [text([1, "/do/0/a", 1, 0, 1, ""], [2, "/do/1/b", 1, 0, 1, ""], [3, "/do/2/c", 1, 2, 1, ""]), b""]
    reported.append(text([1, "/do/0/a", 1, 9, 1, ""]))
    assert [(run.number, run.state) for run in build_task_history(reported, ended=True)] == [
        (1, TaskState.COMPLETED),
        (3, TaskState.COMPLETED),
    ]
