"""Attempts as bars: what is stored of them, and what the times of tasks say where the assignment is not known."""

from __future__ import annotations

import pytest

from admin.console.timeline import attempt_bars
from flowhook.model import Event, Execution, ExecutionDetail, Status, TaskRun, TaskState
from flowhook.model.executions import Attempt, AttemptEnd
from operations.executions import detail_view

START = 1_795_780_800_000
LOST = AttemptEnd.RUNNER_LOST


def at(seconds):
    return None if seconds is None else START + round(seconds * 1000)


def after(intervals):
    """Return intervals in seconds after the start."""
    return [tuple(None if each is None else (each - START) / 1000 for each in interval) for interval in intervals]


def lost(number, assigned, ended, end=LOST, *, charged=True):
    return Attempt(number, "r1", at(assigned), at(ended), end, "", charged)


def present(number, assigned):
    return Attempt(number, "r2", at(assigned))


def last(number, assigned, ended):
    return Attempt(number, "r2", at(assigned), at(ended), AttemptEnd.EXECUTION_ENDED, "", charged=True)


def ran(begin, end=None):
    return TaskRun(1, "/do/0/a", at(begin), at(end), 1, TaskState.COMPLETED if end else TaskState.RUNNING, "")


def shown(*attempts, status=Status.COMPLETED, number=1, ended=None, tasks=(), left_out=0):
    execution = Execution("evt_1", "f", 1, status, number, START, at(ended))
    event = Event("evt_1", "f", START, None, "", "POST", "/", "", "", (), b"")
    detail = ExecutionDetail(
        execution, event, (), None, history=tuple(tasks), attempts=attempts, attempts_left_out=left_out
    )
    found = attempt_bars(detail_view(detail))
    bars = [(bar.label, *after([(bar.begin_ms, bar.end_ms)])[0]) for bar in found.bars]
    return after(found.queued), bars


def test_an_execution_that_ran_undisturbed_has_one_attempt_from_its_assignment_on():
    assert shown(last(1, 1, 5), tasks=[ran(2, 3)], ended=5) == ([(0, 1)], [("runner attempt 1: completed", 1, 5)])
    assert shown(last(1, 1, 5), status=Status.FAULTED, ended=5) == ([(0, 1)], [("runner attempt 1: faulted", 1, 5)])


def test_an_attempt_whose_assignment_is_not_known_begins_with_its_first_task():
    assert shown(tasks=[ran(2, 3)], ended=5) == ([(0, 2)], [("runner attempt 1: completed", 2, 5)])
    assert shown(last(1, None, 5), tasks=[ran(2, 3)], ended=5) == ([(0, 2)], [("runner attempt 1: completed", 2, 5)])
    assert shown(last(1, None, 5), ended=5) == ([(0, 5)], [])


def test_an_execution_of_which_no_task_is_stored_has_only_its_time_in_the_queue():
    assert shown(ended=5) == ([(0, 5)], [])
    assert shown(status=Status.PENDING, number=0) == ([(0, None)], [])


def test_each_attempt_has_a_bar_and_the_time_in_the_queue_before_it():
    queued, bars = shown(lost(1, 1, 3), present(2, 4), status=Status.RUNNING, number=2, tasks=[ran(1.5)])
    assert queued == [(0, 1), (3, 4)]
    assert bars == [("runner attempt 1: runner lost", 1, 3), ("runner attempt 2: under way", 4, None)]


def test_the_last_attempt_begins_with_its_assignment_even_if_a_task_went_on():
    assert shown(lost(1, 1, 3), last(2, 4, 7), number=2, tasks=[ran(1, 6)], ended=7) == (
        [(0, 1), (3, 4)],
        [("runner attempt 1: runner lost", 1, 3), ("runner attempt 2: completed", 4, 7)],
    )


def test_the_last_attempt_of_unknown_assignment_begins_with_the_next_task_or_at_once_if_a_task_went_on():
    assert shown(lost(1, 1, 3), number=2, tasks=[ran(1, 2), ran(5, 6)], ended=7) == (
        [(0, 1), (3, 5)],
        [("runner attempt 1: runner lost", 1, 3), ("runner attempt 2: completed", 5, 7)],
    )
    assert shown(lost(1, 1, 3), number=2, tasks=[ran(1, 4), ran(5, 6)], ended=7) == (
        [(0, 1)],
        [("runner attempt 1: runner lost", 1, 3), ("runner attempt 2: completed", 3, 7)],
    )


def test_an_execution_that_is_given_up_has_no_attempt_after_the_last_one_that_is_stored():
    assert shown(lost(1, 1, 3), status=Status.FAULTED, ended=3) == (
        [(0, 1)],
        [("runner attempt 1: runner lost", 1, 3)],
    )


@pytest.mark.parametrize(
    ("status", "attempts", "ended", "queued", "labels"),
    [
        (Status.PENDING, 1, None, [(0, 1), (3, None)], []),
        (Status.CANCELLED, 1, 9, [(0, 1), (3, 9)], []),
        (Status.CANCELLED, 2, 9, [(0, 1)], ["runner attempt 2: cancelled"]),
    ],
)
def test_after_a_loss_an_execution_is_queued_until_an_attempt_begins(status, attempts, ended, queued, labels):
    found, (_, *others) = shown(lost(1, 1, 3), status=status, number=attempts, ended=ended)
    assert found == queued
    assert [label for label, *_ in others] == labels


def test_a_suspended_execution_is_not_in_the_queue():
    suspended = lost(1, 1, 3, AttemptEnd.SUSPENDED, charged=False)
    assert shown(suspended, status=Status.SUSPENDED, number=0)[0] == [(0, 1)]
    assert shown(suspended, present(1, 60), status=Status.RUNNING)[0] == [(0, 1)]


def test_nothing_is_said_of_times_that_are_not_known():
    unknown = Attempt(4, "", None, at(3), AttemptEnd.ROUTER_RESTARTED, "", charged=True)
    queued, bars = shown(unknown, present(5, 4), status=Status.RUNNING, number=5, left_out=3)
    assert queued == [(3, 4)]
    assert bars == [("runner attempt 5: under way", 4, None)]


def test_an_attempt_that_waited_before_is_one_bar_from_its_first_task_on():
    queued, bars = shown(last(1, 60, 61), tasks=[ran(2, 60)], ended=61)
    assert (queued, bars) == ([(0, 2)], [("runner attempt 1: completed", 2, 61)])
    queued, bars = shown(present(1, 60), status=Status.RUNNING, tasks=[ran(2, 60)])
    assert (queued, bars) == ([(0, 2)], [("runner attempt 1: under way", 2, None)])
    queued, bars = shown(status=Status.WAITING, tasks=[ran(2)])
    assert (queued, bars) == ([(0, 2)], [("runner attempt 1: waits", 2, None)])
