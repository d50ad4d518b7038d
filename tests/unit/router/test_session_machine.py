"""The router's half of Attach, example by example."""

from __future__ import annotations

import pytest

from flowhook.attach.messages import (
    Assignment,
    AssignmentBatch,
    CallReport,
    CallReports,
    Checkpoint,
    CheckpointBatch,
    Credit,
    Hello,
    Renewal,
    Renewed,
    Welcome,
)
from flowhook.errors import InvalidError
from router.session import AddCredit, CountCalls, Register, RenewLeases, RunnerSession, StoreReports

HELLO = Hello("r1", ("http",), "1", (b"a", b"b"), losses_explained=True)
REPORT = CheckpointBatch((Checkpoint(b"a", 0, None),))


def attached(hello=HELLO):
    session = RunnerSession()
    session.receive(hello, 1)
    session.welcome(6.0, [b"a"])
    session.take()
    return session


def test_a_runner_is_registered_and_then_welcomed():
    session = RunnerSession()
    assert session.receive(HELLO, 1) == [Register(HELLO)]
    assert session.runner_id == "r1"
    session.outgoing.assign([Assignment(b"c", 1, 1, b"e")])
    assert session.take() == []
    session.welcome(6.0, [b"a"])
    assert session.take() == [Welcome(6.0, frozenset({b"a"}))]
    assert session.take() == [AssignmentBatch((Assignment(b"c", 1, 1, b"e"),))]


@pytest.mark.parametrize("message", [Credit(1), Renewal(1), REPORT, None], ids=lambda each: type(each).__name__)
def test_anything_before_the_hello_breaks_the_protocol(message):
    with pytest.raises(InvalidError) as caught:
        RunnerSession().receive(message, 1)
    assert caught.value.reason == "ATTACH_PROTOCOL_VIOLATION"


def test_a_second_hello_breaks_the_protocol():
    with pytest.raises(InvalidError):
        attached().receive(HELLO, 1)


def test_a_hello_that_exceeds_the_limits_breaks_the_protocol():
    with pytest.raises(InvalidError):
        RunnerSession().receive(Hello("", (), "", (), losses_explained=True), 1)


@pytest.mark.parametrize("credit", [-1, 0, 1025])
def test_credit_is_bounded(credit):
    with pytest.raises(InvalidError):
        attached().receive(Credit(credit), 1)


def test_credit_and_renewals_take_effect_at_once():
    session = attached()
    assert session.receive(Credit(1024), 1) == [AddCredit(1024)]
    assert session.receive(Renewal(5), 1) == [RenewLeases(5)]
    session.outgoing.renewed(5)
    assert session.take() == [Renewed(5)]


def test_reports_wait_until_they_are_stored():
    session = attached()
    assert session.receive(REPORT, 1) == []
    assert session.reports.take() == [StoreReports(REPORT.checkpoints, (), ())]


def test_a_message_of_a_kind_that_a_newer_version_has_is_ignored():
    session = attached()
    assert session.receive(None, 1) == []
    assert not session.reports


REPORTED = CallReport("f", "https://a.example", successes=1, failures=2, cause="no answer")


def test_outcomes_of_calls_are_counted():
    assert attached().receive(CallReports((REPORTED,)), 1) == [CountCalls((REPORTED,))]


@pytest.mark.parametrize(
    "change",
    [
        {"origin": ""},
        {"origin": "https://a.example /path"},
        {"origin": "https://" + "a" * 300},
        {"cause": "c" * 301},
        {"flow_id": ""},
        {"failures": -1},
    ],
    ids=str,
)
def test_outcomes_of_calls_that_no_runner_sends_break_the_protocol(change):
    with pytest.raises(InvalidError) as caught:
        attached().receive(CallReports((REPORTED._replace(**change),)), 1)
    assert caught.value.reason == "ATTACH_PROTOCOL_VIOLATION"
