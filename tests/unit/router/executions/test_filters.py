"""Filters of requests that make no sense are refused."""

from __future__ import annotations

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from flowhook.errors import InvalidError
from flowhook.events.search_attributes import MAX_ATTRIBUTES
from flowhook.model.execution_filter import ALL
from flowhook.v1.envelope_pb2 import SearchAttribute
from flowhook.v1.execution_service_pb2 import Execution, ExecutionFilter
from router.executions.filters import MAX_BYTES, read_filter


def test_no_filter_is_one_that_all_meet():
    assert read_filter(ExecutionFilter()) == ALL


@pytest.mark.parametrize(
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
        ({"attributes": [SearchAttribute(name="x")] * (MAX_ATTRIBUTES + 1)}, "at most 8"),
        ({"caused_by": "evt_4711"}, "`caused_by` must be the ID of an execution: .* evt_ and 26 characters"),
    ],
)
def test_a_condition_that_nothing_can_mean_is_refused(fields, message):
    with pytest.raises(InvalidError, match=message) as caught:
        read_filter(ExecutionFilter(**fields))
    assert caught.value.reason == "FILTER_INVALID"
