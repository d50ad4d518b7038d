"""What passes the gate before a destination that is down, and what is reported of calls."""

from __future__ import annotations

import pytest
from yarl import URL

from flowhook.attach.messages import CallReport, DestinationState, DestinationUpdate
from flowhook.errors import InvalidError
from router.session import check_calls
from runner.interpreter.errors import DESTINATION_DOWN, Kind, TaskFault, fault
from runner.interpreter.retry_policy import is_transient
from runner.outbound.destinations import CallGate, DestinationDown, Destinations, Permit

ORIGIN = "https://api.example"


class Process:
    """The destinations of a process, and what it reported."""

    def __init__(self, state=DestinationState.UNKNOWN):
        self.reports = []
        self.destinations = Destinations(self.reports.append)
        self.destinations.update([DestinationUpdate("f", ORIGIN, state)], renewed=False)

    def gate(self, flow="f", **options):
        return CallGate(self.destinations, flow, **options)


def passes(gate, origin=ORIGIN):
    try:
        gate.enter(origin)
    except DestinationDown as down:
        return down.origin != gate.blocked_by
    return True


def test_a_call_of_the_flow_to_what_is_down_is_not_made_and_others_are():
    process = Process(DestinationState.PARKS)
    assert not passes(process.gate())
    assert passes(process.gate("g"))
    assert passes(process.gate(), "https://other.example")
    process.destinations.update([DestinationUpdate("f", ORIGIN, DestinationState.WATCHED)], renewed=False)
    assert passes(process.gate())


def test_a_router_that_is_new_on_the_stream_knows_better():
    process = Process(DestinationState.PARKS)
    process.destinations.update([], renewed=True)
    assert passes(process.gate())


def test_a_permit_is_for_one_call():
    process, permit = Process(DestinationState.PARKS), Permit(ORIGIN, "")
    first, second = process.gate(permit=permit), process.gate(permit=permit)
    assert passes(first)
    assert passes(first)  # with a token first, or after a challenge
    assert not passes(second)


def test_it_is_reported_whether_a_call_that_failed_had_the_permit():
    process, permit = Process(DestinationState.PARKS), Permit(ORIGIN, "")
    under_way = process.gate()
    gate = process.gate(permit=permit)
    gate.enter(ORIGIN)
    gate.answered(ORIGIN, 503)
    under_way.failed(ORIGIN, "no answer")
    assert [each.permitted for each in process.reports] == [True, False]


def test_a_call_that_is_let_fail_is_not_tried_again():
    process = Process(DestinationState.PARKS)
    with pytest.raises(TaskFault) as failed:
        process.gate(permit=Permit(ORIGIN, "it answers 503")).enter(ORIGIN)
    error = failed.value.error
    assert (error.status, error.title) == (503, DESTINATION_DOWN)
    assert "it answers 503" in error.detail
    assert not is_transient(error)


@pytest.mark.parametrize(
    ("status", "wait", "fails"),
    [(200, 0, False), (404, 0, False), (429, 0, False), (429, 5, True), (500, 0, True), (503, 0, True)],
)
def test_statuses_that_count_as_failures(status, wait, fails):
    process = Process(DestinationState.WATCHED)
    gate = process.gate()
    gate.enter(ORIGIN)
    gate.answered(ORIGIN, status, wait)
    [report] = process.reports
    assert report[:4] == ("f", ORIGIN, not fails, int(fails))
    assert report.retry_after_ms == (wait if fails else 0)


def test_successes_are_reported_only_of_what_is_watched():
    process = Process()
    gate = process.gate()
    gate.enter(ORIGIN)
    gate.answered(ORIGIN, 200)
    assert process.reports == []
    gate.failed(ORIGIN, "can't connect")
    assert process.reports == [CallReport("f", ORIGIN, successes=0, failures=1, cause="can't connect")]


@pytest.mark.parametrize(
    ("status", "repeatable", "parks"), [(503, False, True), (500, True, False), (502, True, True), (404, True, False)]
)
def test_a_call_that_fails_while_it_is_down_parks_if_it_may_be_made_again(status, repeatable, parks):
    process = Process(DestinationState.PARKS)
    gate = process.gate(permit=Permit(ORIGIN, ""), repeatable=repeatable)
    gate.enter(ORIGIN)
    gate.answered(ORIGIN, status)
    assert (gate.blocked_by == ORIGIN) is parks


@pytest.mark.parametrize(
    ("sent", "repeatable", "parks"), [(True, True, True), (False, False, True), (True, False, False)]
)
def test_a_call_without_an_answer_parks_if_nothing_was_sent_or_it_may_be_made_again(sent, repeatable, parks):
    process = Process(DestinationState.PARKS)
    gate = process.gate(permit=Permit(ORIGIN, ""), repeatable=repeatable)
    gate.enter(ORIGIN)
    gate.failed(ORIGIN, "the connection was lost", sent=sent)
    assert (gate.blocked_by == ORIGIN) is parks


def test_a_call_that_is_not_made_by_the_http_client_passes_the_gate_too():
    process = Process(DestinationState.WATCHED)
    with process.gate().calling(ORIGIN):
        pass
    with pytest.raises(TaskFault), process.gate().calling(ORIGIN):
        raise fault(Kind.COMMUNICATION, "secret details", status=503)
    with pytest.raises(TaskFault), process.gate().calling(ORIGIN):
        raise fault(Kind.COMMUNICATION, "not found", status=404)
    assert [(bool(each.successes), each.failures, each.cause) for each in process.reports] == [
        (True, 0, ""),
        (False, 1, "it answers 503"),
        (True, 0, ""),
    ]


def test_a_call_whose_time_is_over_had_no_answer():
    process = Process()
    gate = process.gate()
    gate.timed_out()
    assert process.reports == []
    gate.enter(ORIGIN)
    gate.timed_out()
    assert [each.failures for each in process.reports] == [1]


@pytest.mark.parametrize(
    "origin",
    [f"https://{'a' * 300}", str(URL("http://a b.example/").origin()), str(URL("http://[fe80::1%\u00e9]/").origin())],
)
def test_what_a_router_does_not_take_for_an_origin_is_neither_reported_nor_waited_for(origin):
    """It would end the stream, and so all that the runner does, if senders choose what a flow calls."""
    process = Process()
    gate = process.gate()
    gate.enter(origin)
    gate.failed(origin, "can't connect")
    assert not gate.blocked_by
    assert process.reports == []
    with pytest.raises(InvalidError):
        check_calls([CallReport("f", origin, successes=0, failures=1)])
