"""Executions between two states: in one transition each, and counted until it is stored."""

from __future__ import annotations

import pytest

from router.scheduling.pending_transitions import PendingTransitions
from router.scheduling.queues import FlowQueue


@pytest.fixture
def pending():
    return PendingTransitions()


@pytest.fixture
def queue():
    return FlowQueue("a")


def test_an_ending_execution_is_stopping_if_it_was_running(pending, queue):
    pending.end(1, queue, counted=True)
    pending.end(2, queue, counted=False)
    assert [pending.is_ending(seq) for seq in (1, 2, 3)] == [True, True, False]
    assert [pending.is_stopping(seq) for seq in (1, 2, 3)] == [True, False, False]
    assert pending.ended(1) == (queue, True)
    assert pending.ending == 1
    with pytest.raises(KeyError):
        pending.ended(1)


def test_returning_and_parking_executions_change_and_ending_ones_do_not(pending, queue):
    pending.requeue(1, queue, counted=False)
    pending.park(2, queue)
    pending.end(3, queue, counted=True)
    assert [pending.is_changing(seq) for seq in (1, 2, 3)] == [True, True, False]
    assert [pending.is_counted(seq) for seq in (1, 2, 3)] == [False, True, False]


def test_a_returning_execution_can_end_instead(pending, queue):
    pending.requeue(1, queue, counted=True)
    assert pending.end_returning(1)
    assert not pending.end_returning(1)
    assert pending.requeued(1) is None
    assert pending.ended(1) == (queue, True)


def test_a_returning_execution_remembers_where_it_is_queued(pending, queue):
    pending.requeue(1, queue, counted=True, to_back=True)
    assert pending.requeued(1) == (queue, True, True)
    assert not pending.is_returning(1)


def test_a_withdrawn_execution_is_in_no_transition(pending, queue):
    pending.requeue(1, queue, counted=True)
    pending.park(2, queue)
    pending.end(3, queue, counted=True)
    assert [pending.withdraw(seq) for seq in (1, 2, 3)] == [queue, queue, None]
    assert (pending.requeued(1), pending.parked(2), pending.parking) == (None, None, 0)
