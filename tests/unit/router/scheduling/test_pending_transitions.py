"""Executions between two states: in one transition each, and counted until it is stored."""

from __future__ import annotations

import pytest

from router.scheduling.pending_transitions import PendingTransitions, ReturningExecution
from router.scheduling.queues import FlowQueue


@pytest.fixture
def pending():
    return PendingTransitions()


@pytest.fixture
def queue():
    return FlowQueue("a")


def test_an_ending_execution_is_stopping_if_it_was_running(pending, queue):
    pending.ending[1] = queue, True
    pending.ending[2] = queue, False
    assert [seq in pending.ending for seq in (1, 2, 3)] == [True, True, False]
    assert [pending.is_stopping(seq) for seq in (1, 2, 3)] == [True, False, False]
    assert pending.ending.pop(1) == (queue, True)
    assert len(pending.ending) == 1
    with pytest.raises(KeyError):
        pending.ending.pop(1)


def test_returning_and_parking_executions_change_and_ending_ones_do_not(pending, queue):
    pending.returning[1] = ReturningExecution(queue, False)
    pending.parking[2] = queue
    pending.ending[3] = queue, True
    assert [pending.is_changing(seq) for seq in (1, 2, 3)] == [True, True, False]
    assert [pending.is_counted(seq) for seq in (1, 2, 3)] == [False, True, False]


def test_a_returning_execution_can_end_instead(pending, queue):
    pending.returning[1] = ReturningExecution(queue, True)
    assert pending.end_returning(1)
    assert not pending.end_returning(1)
    assert pending.returning.pop(1, None) is None
    assert pending.ending.pop(1) == (queue, True)


def test_a_returning_execution_remembers_where_it_is_queued(pending, queue):
    pending.returning[1] = ReturningExecution(queue, True, True)
    assert pending.returning.pop(1, None) == (queue, True, True)
    assert 1 not in pending.returning


def test_a_withdrawn_execution_is_in_no_transition(pending, queue):
    pending.returning[1] = ReturningExecution(queue, True)
    pending.parking[2] = queue
    pending.ending[3] = queue, True
    assert [pending.withdraw(seq) for seq in (1, 2, 3)] == [queue, queue, None]
    assert (pending.returning.pop(1, None), pending.parking.pop(2, None), pending.parking) == (None, None, {})
