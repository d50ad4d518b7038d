"""What the guard concludes from what it sees, with a clock and a memory of the test's."""

from __future__ import annotations

import signal

import pytest

from runner.guard.record import MAX_INSTANCE_BYTES, Evaluation, Record
from runner.guard.watch import STALL_SECONDS, Watch, confessed

S = 1_000_000_000
MIB = 1024 * 1024


@pytest.fixture
def watch():
    return Watch(expression_seconds=2.0, expression_bytes=256 * MIB)


def evaluating(sequence=1, started=S, beat=S, lease=b"l", instance="/do/0/a"):
    return Evaluation(sequence, started, beat, lease, instance)


def test_an_evaluation_may_run_up_to_the_limit_and_not_longer(watch):
    for tenth in range(21):
        assert watch.look(evaluating(), 0, S + tenth * S // 10) is None
    verdict = watch.look(evaluating(), 0, 3 * S + 1)
    assert verdict.evaluation.lease == b"l"
    assert verdict.error.type.endswith("/expression")
    assert (verdict.error.status, verdict.error.instance) == (500, "/do/0/a")
    assert "2 s" in verdict.error.detail


def test_the_time_for_which_guard_and_child_stood_still_is_not_charged(watch):
    assert watch.look(evaluating(), 0, S) is None
    assert watch.look(evaluating(), 0, 60 * S) is None
    for tenth in range(1, 21):
        assert watch.look(evaluating(), 0, 60 * S + tenth * S // 10) is None
    assert watch.look(evaluating(), 0, 62 * S + 1) is not None


def test_an_evaluation_that_began_while_nobody_looked_has_all_its_time_left(watch):
    watch.look(evaluating(1), 0, S)
    assert watch.look(evaluating(2, started=50 * S), 0, 60 * S) is None
    for tenth in range(1, 21):
        assert watch.look(evaluating(2, started=50 * S), 0, 60 * S + tenth * S // 10) is None
    assert watch.look(evaluating(2, started=50 * S), 0, 62 * S + 1) is not None


def test_a_loop_that_stood_still_with_its_guard_is_not_stuck(watch):
    watch.look(evaluating(started=0, beat=S), 0, S)
    assert watch.look(evaluating(started=0, beat=S), 0, 60 * S) is None
    assert watch.look(evaluating(started=0, beat=S), 0, 60 * S + S // 10) is None


def test_many_short_evaluations_are_no_long_one(watch):
    for number in range(1, 100):
        assert watch.look(evaluating(number, started=number * S), 0, number * S + S) is None


def test_growth_counts_from_when_the_evaluation_was_first_seen(watch):
    assert watch.look(evaluating(1), 900 * MIB, S) is None
    assert watch.look(evaluating(1), 1156 * MIB, S) is None
    assert "256 MiB" in watch.look(evaluating(1), 1157 * MIB, S).error.detail


def test_growth_of_one_evaluation_is_not_charged_to_the_next(watch):
    watch.look(evaluating(1), 0, S)
    watch.look(evaluating(1), 200 * MIB, S)
    assert watch.look(evaluating(2), 400 * MIB, S) is None
    assert watch.look(evaluating(0, started=0), 600 * MIB, S) is None
    assert watch.look(evaluating(2), 800 * MIB, S) is None


def test_a_step_of_a_call_may_take_longer_and_any_memory_and_faults_its_execution_then(watch):
    step = evaluating()._replace(is_step=True)
    for tenth in range(10 * int(STALL_SECONDS) + 1):
        assert watch.look(step, tenth * 100 * MIB, S + tenth * S // 10) is None
    verdict = watch.look(step, 0, S + int(STALL_SECONDS * S) + 1)
    assert verdict.evaluation.lease == b"l"
    assert verdict.error.type.endswith("/runtime")
    assert (verdict.error.status, verdict.error.instance) == (500, "/do/0/a")
    assert "10 s" in verdict.error.detail


def test_many_short_steps_are_no_long_one(watch):
    for number in range(1, 100):
        step = evaluating(number, started=number * S)._replace(is_step=True)
        assert watch.look(step, 0, number * S + S) is None


def test_a_loop_that_does_not_run_is_a_stall_of_nobody(watch):
    idle = evaluating(started=0, beat=S)
    assert watch.look(idle, 0, S + int(STALL_SECONDS * S)) is None
    verdict = watch.look(idle, 0, S + int(STALL_SECONDS * S) + 1)
    assert (verdict.evaluation, verdict.error) == (None, None)


def test_a_child_that_did_not_start_to_work_does_not_stall(watch):
    assert watch.look(evaluating(started=0, beat=0), 0, 10**18) is None


def test_the_record_says_what_the_child_wrote():
    parent = Record()
    child = Record(__import__("os").dup(parent.descriptor))
    try:
        assert parent.read() == Evaluation(0, 0, 0, b"", "")
        child.assign(b"x" * 64)
        child.begin("/do/0/ä")
        child.beat()
        seen = parent.read()
        assert (seen.sequence, seen.lease, seen.instance) == (1, b"x" * 64, "/do/0/ä")
        assert 0 < seen.started_ns <= seen.beat_ns
        child.end()
        child.assign(b"y")
        child.begin("/" + "z" * 1000)
        seen = parent.read()
        assert (seen.sequence, seen.lease, len(seen.instance)) == (2, b"y", MAX_INSTANCE_BYTES)
        child.end()
        assert parent.read().started_ns == 0
    finally:
        child.close()
        parent.close()


@pytest.mark.parametrize(
    ("is_step", "returncode", "expected"),
    [
        (False, -signal.SIGSEGV, True),
        (False, -signal.SIGKILL, True),  # the kernel may have killed it for the memory that it took
        (True, -signal.SIGSEGV, True),
        (True, 1, True),
        (True, -signal.SIGKILL, False),  # no step of a call does that: somebody else did
    ],
)
def test_a_child_that_died_at_something_confesses_unless_somebody_else_killed_it(is_step, returncode, expected):
    assert confessed(Evaluation(1, S, S, b"l", "/do/0/a", is_step), returncode) is expected


@pytest.mark.parametrize("idle", [{"started": 0}, {"lease": b""}])
def test_a_child_that_died_at_nothing_confesses_nothing(idle):
    assert not confessed(evaluating(**idle), -signal.SIGSEGV)
