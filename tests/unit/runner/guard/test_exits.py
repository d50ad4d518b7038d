"""What the end of a child means: who is held to account, and whose flow is evaluated apart from then on."""

from __future__ import annotations

import signal

import pytest

from runner.guard.evaluation_record import Activity, RecordSnapshot
from runner.guard.exits import Exit, classify
from runner.guard.watchdog import KillDecision
from runner.interpreter.errors import Kind, error

ERROR = error(Kind.EXPRESSION, "it ran for more than 2 s")
IDLE = RecordSnapshot(7, 0, 1, b"lease", "/do/0/a", flow_id="f")
EVALUATING = IDLE._replace(started_ns=1)
STEP = EVALUATING._replace(activity=Activity.STEP)
BODY = EVALUATING._replace(activity=Activity.BODY)
KILL = -signal.SIGKILL


def test_an_expression_over_its_limit_faults_its_execution_and_sends_its_flow_into_quarantine():
    end = classify(KillDecision("", EVALUATING, ERROR), EVALUATING, KILL, drained=False)
    assert end == Exit(explained=True, lease=b"lease", error=ERROR, flow_id="f")


def test_one_that_merely_held_up_others_goes_on_uncharged():
    end = classify(KillDecision("", EVALUATING, None), EVALUATING, KILL, drained=False)
    assert end == Exit(explained=True, lease=b"lease", charged=False, flow_id="f")


def test_a_call_that_blocked_its_runner_faults_and_says_nothing_of_expressions():
    end = classify(KillDecision("", STEP, ERROR), STEP, KILL, drained=False)
    assert end == Exit(explained=True, lease=b"lease", error=ERROR)


def test_a_body_over_its_limit_faults_its_execution_and_sends_its_flow_into_quarantine():
    end = classify(KillDecision("", BODY, ERROR), BODY, KILL, drained=False)
    assert end == Exit(explained=True, lease=b"lease", error=ERROR, flow_id="f")


@pytest.mark.parametrize(("evaluation", "flow_id"), [(EVALUATING, "f"), (BODY, "f"), (STEP, "")])
def test_a_crash_is_charged_to_what_was_under_way(evaluation, flow_id):
    end = classify(None, evaluation, -signal.SIGSEGV, drained=False)
    assert end == Exit(explained=True, lease=b"lease", charged=True, flow_id=flow_id)


@pytest.mark.parametrize("evaluation", [IDLE, STEP])
def test_a_child_that_somebody_killed_explains_nothing(evaluation):
    assert classify(None, evaluation, KILL, drained=False) == Exit(explained=False)


def test_a_loop_that_is_stuck_explains_nothing():
    assert classify(KillDecision("", None, None), IDLE, KILL, drained=True) == Exit(explained=False)


@pytest.mark.parametrize("evaluation", [IDLE, STEP, EVALUATING])
def test_a_child_that_did_not_drain_in_time_is_nobody_s_fault(evaluation):
    assert classify(None, evaluation, KILL, drained=True) == Exit(explained=True)


def test_a_child_that_crashes_while_it_drains_is_held_to_account():
    end = classify(None, EVALUATING, -signal.SIGSEGV, drained=True)
    assert end == Exit(explained=True, lease=b"lease", charged=True, flow_id="f")
