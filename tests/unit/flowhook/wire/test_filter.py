"""Conditions on executions arrive as they were sent."""

import pytest

from flowhook.model import Status
from flowhook.model.execution_filter import ALL, ExecutionFilter
from flowhook.v1.execution_service_pb2 import ExecutionFilter as Message
from flowhook.wire import convert

FULL = ExecutionFilter(
    flow_id="shop",
    statuses=(Status.FAULTED, Status.CANCELLED),
    unresolved=True,
    receive_from_ms=1,
    receive_until_ms=0,
    error_type="communication",
    error_task="",
    error_status=503,
    error_title="Unavailable",
    min_attempts=2,
    attributes=(("order", "4711"), ("order", "12")),
    caused_by="evt_0000000000e008000000000009",
)


@pytest.mark.parametrize("wanted", [ALL, FULL])
def test_a_filter_arrives_as_it_was_sent(wanted):
    sent = convert.filter_to_proto(wanted).SerializeToString()
    assert convert.filter_from_proto(Message.FromString(sent)) == wanted


def test_the_filter_of_the_test_has_every_condition():
    assert all(getattr(FULL, name) != getattr(ALL, name) for name in ExecutionFilter._fields)
