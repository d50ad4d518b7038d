"""An execution with its attempts arrives as it was sent."""

from __future__ import annotations

from support.cases import cases

from flowhook.model import Event, Execution, ExecutionDetail, Status
from flowhook.model.executions import Attempt, AttemptEnd
from flowhook.v1.execution_service_pb2 import GetExecutionResponse
from flowhook.wire import convert_detail


def sent(*attempts, left_out=0):
    execution = Execution("evt_1", "f", 1, Status.RUNNING, 3, 1000)
    event = Event("evt_1", "f", 1000, None, "", "POST", "/", "", "", (), b"")
    return convert_detail.detail_to_proto(
        ExecutionDetail(execution, event, (), None, attempts=attempts, attempts_left_out=left_out)
    ).SerializeToString()


def received(message):
    return convert_detail.detail_from_proto(GetExecutionResponse.FromString(message))


@cases("end", list(AttemptEnd))
def test_attempts_arrive_as_they_were_sent(end):
    attempts = (Attempt(2, "", None, 5, end, "why", charged=True), Attempt(3, "r1", 6))
    detail = received(sent(*attempts, left_out=7))
    assert (detail.attempts, detail.attempts_left_out) == (attempts, 7)


def test_an_end_that_a_later_version_reports_is_unknown():
    message = GetExecutionResponse.FromString(sent(Attempt(1, "r1", 5, 6, AttemptEnd.RELEASED)))
    message.attempts[0].end = 99
    (attempt,) = received(message.SerializeToString()).attempts
    assert (attempt.end, attempt.reason) == (None, "unknown reason")
