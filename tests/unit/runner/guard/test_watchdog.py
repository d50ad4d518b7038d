"""What the guard concludes from what it sees, with a clock, a CPU time and a memory of the test's."""

from __future__ import annotations

import os
import signal

import pytest
from support.cases import cases

from runner.guard import evaluation_record as module
from runner.guard.evaluation_record import MAX_INSTANCE_BYTES, Activity, EvaluationRecord, RecordSnapshot
from runner.guard.watchdog import GONE, STALL_SECONDS, WALL_FACTOR, SchedulingState, Usage, Watchdog, is_probable_cause

S = 1_000_000_000
MIB = 1024 * 1024


class Child:
    """A child whose CPU time, memory and clock are the test's, and the watch that looks at it."""

    def __init__(self, **options):
        self.watch = Watchdog(**{"expression_seconds": 2.0, "expression_bytes": 256 * MIB, **options})
        self.now, self.cpu = S, 0

    def look(self, evaluation, *, wall=0.1, cpu=None, state=SchedulingState.RUNNABLE, memory=0):
        """Let time pass, of which the child got all that it wanted unless `cpu` says how much, and look."""
        self.now += int(wall * S)
        self.cpu += int((wall if cpu is None else cpu) * S)
        return self.watch.judge(evaluation, Usage(self.cpu, memory, state), self.now)

    def until_killed(self, evaluation, **passing):
        """Return the verdict, and after how many looks."""
        for looks in range(1, 100_000):
            verdict = self.look(evaluation, **passing)
            if verdict is not None:
                return verdict, looks
        raise AssertionError


@pytest.fixture
def child():
    return Child()


def evaluating(sequence=1, started=S, beat=S, lease=b"l", instance="/do/0/a"):
    return RecordSnapshot(sequence, started, beat, lease, instance, flow_id="f")


IDLE = evaluating(started=0)
STEP = evaluating()._replace(activity=Activity.STEP)


def test_an_evaluation_may_use_so_much_cpu_time_and_not_more(child):
    verdict, looks = child.until_killed(evaluating())
    assert looks == 22  # the first one begins to count
    assert verdict.snapshot.lease == b"l"
    assert verdict.error.type.endswith("/expression")
    assert (verdict.error.status, verdict.error.instance) == (400, "/do/0/a")
    assert "2 s" in verdict.error.detail


def test_an_evaluation_that_gets_a_tenth_of_a_core_has_ten_times_as_long(child):
    for _ in range(200):
        assert child.look(evaluating(), cpu=0.01) is None
    assert child.until_killed(evaluating(), cpu=0.01)[1] <= 3


@pytest.mark.parametrize("state", [SchedulingState.RUNNABLE, SchedulingState.STOPPED])
def test_an_evaluation_that_waits_for_the_machine_is_not_charged_for_that(child, state):
    for _ in range(300):
        assert child.look(evaluating(), cpu=0, state=state) is None


@pytest.mark.parametrize("state", [SchedulingState.SLEEPING, SchedulingState.RUNNABLE])
def test_an_evaluation_that_sleeps_or_never_gets_a_core_is_ended_by_a_limit_of_wall_time(child, state):
    verdict, looks = child.until_killed(evaluating(), cpu=0, state=state)
    assert looks == pytest.approx(WALL_FACTOR * 2.0 / 0.1, abs=3)
    assert verdict.error.type.endswith("/expression")


def test_a_sample_that_failed_is_no_burst_of_cpu_time(child):
    assert child.look(evaluating(), cpu=100) is None  # of earlier work
    assert child.watch.judge(evaluating(), GONE, child.now) is None
    assert child.look(evaluating()) is None


def test_a_child_that_was_stopped_alone_is_not_killed_however_long_that_takes(child):
    for _ in range(20 * WALL_FACTOR):
        assert child.look(evaluating(), wall=10, cpu=0, state=SchedulingState.STOPPED) is None


def test_the_time_for_which_guard_and_child_stood_still_is_not_charged(child):
    for _ in range(WALL_FACTOR * 2):
        assert child.look(evaluating(), wall=3600, cpu=0) is None
    assert child.look(IDLE, wall=0.1, cpu=0, state=SchedulingState.SLEEPING) is None
    for _ in range(5):
        assert child.look(IDLE, wall=3600, cpu=0, state=SchedulingState.SLEEPING) is None


def test_many_short_evaluations_are_no_long_one(child):
    for number in range(1, 100):
        assert child.look(evaluating(number), wall=1) is None


def test_one_that_others_wait_for_goes_on_elsewhere_long_before_its_limit():
    verdict, looks = Child(shared=True).until_killed(evaluating())
    assert looks == 7
    assert (verdict.snapshot.flow_id, verdict.error) == ("f", None)


def test_a_limit_that_is_as_short_faults_at_once():
    verdict, looks = Child(shared=True, expression_seconds=0.5).until_killed(evaluating())
    assert looks == 7
    assert "0.5 s" in verdict.error.detail


def test_growth_counts_from_when_the_evaluation_was_first_seen(child):
    assert child.look(evaluating(1), memory=900 * MIB) is None
    assert child.look(evaluating(1), memory=1156 * MIB) is None
    assert "256 MiB" in child.look(evaluating(1), memory=1157 * MIB).error.detail


def test_growth_of_one_evaluation_is_not_charged_to_the_next(child):
    child.look(evaluating(1), memory=0)
    child.look(evaluating(1), memory=200 * MIB)
    assert child.look(evaluating(2), memory=400 * MIB) is None
    assert child.look(IDLE, memory=600 * MIB) is None
    assert child.look(evaluating(2), memory=800 * MIB) is None


def test_a_step_of_a_call_may_take_longer_and_any_memory_and_faults_its_execution_then(child):
    for tenth in range(10 * int(STALL_SECONDS) + 1):
        assert child.look(STEP, memory=tenth * 100 * MIB) is None
    verdict = child.look(STEP)
    assert verdict.snapshot.lease == b"l"
    assert verdict.error.type.endswith("/runtime")
    assert (verdict.error.status, verdict.error.instance) == (500, "/do/0/a")
    assert "10 s" in verdict.error.detail


def test_a_step_that_sleeps_blocks_its_runner_and_one_that_waits_for_a_core_does_not(child):
    for _ in range(300):
        assert child.look(STEP, cpu=0.01) is None
    assert Child().until_killed(STEP, cpu=0, state=SchedulingState.SLEEPING)[1] == 102


def test_many_short_steps_are_no_long_one(child):
    for number in range(1, 100):
        assert child.look(STEP._replace(sequence=number), wall=1) is None


def test_a_loop_that_does_not_run_is_a_stall_of_nobody(child):
    verdict, looks = child.until_killed(IDLE, cpu=0, state=SchedulingState.SLEEPING)
    assert looks == 102
    assert (verdict.snapshot, verdict.error) == (None, None)


def test_a_loop_that_runs_late_because_the_machine_is_busy_does_not_stall(child):
    for beat in range(1, 20):
        for _ in range(90):
            assert child.look(evaluating(started=0, beat=beat), cpu=0.1) is None
    for _ in range(1000):
        assert child.look(evaluating(started=0, beat=20), cpu=0.0) is None


def test_a_child_that_did_not_start_to_work_does_not_stall(child):
    for _ in range(200):
        assert child.look(evaluating(started=0, beat=0), state=SchedulingState.SLEEPING) is None


@pytest.mark.parametrize("has_memfd", [True, False])
def test_the_record_says_what_the_child_wrote(monkeypatch, has_memfd):
    if not has_memfd:
        monkeypatch.delattr(module.os, "memfd_create", raising=False)
    parent = EvaluationRecord()
    child = EvaluationRecord(os.dup(parent.descriptor))
    try:
        assert parent.read() == RecordSnapshot(0, 0, 0, b"", "")
        child.assign(b"x" * 64, "namespace.flow")
        child.begin("/do/0/ä")
        child.beat()
        seen = parent.read()
        assert (seen.sequence, seen.lease, seen.instance) == (1, b"x" * 64, "/do/0/ä")
        assert seen.flow_id == "namespace.flow"
        assert 0 < seen.started_ns <= seen.beat_ns
        child.end()
        child.assign(b"y")
        child.begin("/" + "z" * 1000)
        seen = parent.read()
        assert (seen.sequence, seen.lease, len(seen.instance)) == (2, b"y", MAX_INSTANCE_BYTES)
        assert seen.flow_id == ""
        child.end()
        assert parent.read().started_ns == 0
    finally:
        child.close()
        parent.close()


@cases(
    ("activity", "returncode", "expected"),
    [
        (Activity.EXPRESSION, -signal.SIGSEGV, True),
        (Activity.EXPRESSION, -signal.SIGKILL, True),  # the kernel may have killed it for the memory that it took
        (Activity.BODY, -signal.SIGKILL, True),
        (Activity.STEP, -signal.SIGSEGV, True),
        (Activity.STEP, 1, True),
        (Activity.STEP, -signal.SIGKILL, False),  # no step of a call does that: somebody else did
    ],
)
def test_a_child_that_died_at_something_confesses_unless_somebody_else_killed_it(activity, returncode, expected):
    assert is_probable_cause(RecordSnapshot(1, S, S, b"l", "/do/0/a", activity), returncode) is expected


@pytest.mark.parametrize("idle", [{"started": 0}, {"lease": b""}])
def test_a_child_that_died_at_nothing_confesses_nothing(idle):
    assert not is_probable_cause(evaluating(**idle), -signal.SIGSEGV)
