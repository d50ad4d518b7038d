"""Executions found at a start: held for their runner, or claimable, until the deadline."""

from __future__ import annotations

import pytest

from flowhook.model.executions import Attempt, AttemptEnd
from router.scheduling.leases import LeaseTable, Loss, Runner
from router.scheduling.losses import UNCERTAIN_FACTOR, AttemptCounts
from router.scheduling.pending_transitions import PendingTransitions
from router.scheduling.queues import FairQueues, FlowPolicy, TimerQueue
from router.scheduling.recovered import MAX_RELEASED, RecoveredExecutions


class Start:
    """The parts of a shard at its second start, and a runner that holds leases of the first."""

    def __init__(self, *seqs):
        self.runner = Runner("r1", deadline=6.0)
        self.queues = FairQueues()
        self.queue = self.queues.flow("a")
        earlier = LeaseTable(epoch=1)
        self.tokens = {seq: earlier.grant(seq, self.queue, Runner("r1", 6.0), 1).token for seq in seqs}
        self.leases = LeaseTable(epoch=2)
        for seq in seqs:
            self.leases.recover(seq, 0)
        self.attempts = AttemptCounts(max_attempts=1)
        self.timers = TimerQueue()
        self.pending = PendingTransitions()
        self.recovered = RecoveredExecutions(
            queues=self.queues,
            timers=self.timers,
            leases=self.leases,
            attempts=self.attempts,
            pending=self.pending,
        )
        self.recovered.deadline = 2.0


@pytest.fixture
def start():
    return Start(1, 2, 3)


def test_a_held_execution_takes_a_slot_and_is_not_ready_before_the_deadline(start):
    start.recovered.hold(1, start.queue, begun=False)
    assert (start.queue.held, start.queues.draw(9), len(start.recovered)) == (1, None, 1)
    assert start.recovered.expire(1.9) == ([], [])
    assert start.queue.held == 1
    assert start.recovered.expire(2.0) == ([], [])
    assert (start.queue.held, start.queues.draw(9)) == (0, (start.queue, 1))
    assert (len(start.recovered), start.recovered.deadline) == (0, None)


def test_many_held_executions_become_ready_little_by_little_ahead_of_others(start):
    start.queues.put(start.queue, 5000)
    for seq in range(1, 2 * MAX_RELEASED + 2):
        start.recovered.hold(seq, start.queue, begun=False)
    left = []
    while start.recovered.deadline is not None:
        start.recovered.expire(2.0)
        left.append(start.queue.held)
    assert left == [MAX_RELEASED + 1, 1, 0]
    drawn = [start.queues.draw(9999)[1] for _ in range(2 * MAX_RELEASED + 2)]
    assert drawn == [*range(1, 2 * MAX_RELEASED + 2), 5000]


def test_its_runner_continues_a_held_execution_in_the_slot_that_it_took(start):
    start.recovered.hold(1, start.queue, begun=False)
    assert start.recovered.adopt(start.runner, start.tokens[1]) == 1
    assert (start.queue.held, start.queue.running, start.leases.attempt_of(1)) == (0, 1, 1)
    assert start.recovered.adopt(start.runner, start.tokens[1]) is None


def test_the_attempt_that_is_continued_is_not_charged_any_more(start):
    start.attempts.charge(1, 2)
    start.recovered.hold(1, start.queue, begun=True)
    start.recovered.adopt(start.runner, start.tokens[1])
    assert (start.attempts.charged(1), start.leases.attempt_of(1)) == (1, 2)


@pytest.mark.parametrize(("concurrency", "adopted"), [(1, None), (2, 2)])
def test_a_ready_execution_is_continued_if_its_flow_has_room(start, concurrency, adopted):
    start.queues.set_policy("a", FlowPolicy(concurrency))
    start.recovered.hold(1, start.queue, begun=False)
    start.queues.put(start.queue, 2)
    start.recovered.claimable[2] = start.queue
    assert start.recovered.adopt(start.runner, start.tokens[2]) == adopted
    assert start.queues.ready == (adopted is None)


def test_an_execution_assigned_to_another_runner_is_not_claimable(start):
    start.queues.put(start.queue, 2)
    start.recovered.claimable[2] = start.queue
    start.queues.draw(9)
    del start.recovered.claimable[2]
    assert start.recovered.adopt(start.runner, start.tokens[2]) is None


def test_an_execution_that_waits_on_record_is_continued_by_the_runner_that_had_it(start):
    start.timers.add(3, start.queue, 10)
    assert start.recovered.adopt(start.runner, start.tokens[3]) == 3
    assert len(start.timers) == 0


def interrupted(number):
    return Attempt(number, end=AttemptEnd.ROUTER_RESTARTED, charged=True)


@pytest.mark.parametrize(("begun", "unclaimed"), [(True, [(1, interrupted(2))]), (False, [])])
def test_a_begun_attempt_that_nobody_continues_is_reported(start, begun, unclaimed):
    start.attempts.charge(1, 2)
    start.recovered.hold(1, start.queue, begun=begun)
    assert start.recovered.expire(2.0) == ([], unclaimed)
    assert start.queues.ready == 1


@pytest.mark.parametrize("begun", [True, False])
def test_a_begun_attempt_that_nobody_continues_may_exhaust_the_execution(start, begun):
    start.attempts.charge(1, UNCERTAIN_FACTOR)
    start.recovered.hold(1, start.queue, begun=begun)
    last = Loss(1, UNCERTAIN_FACTOR, interrupted(UNCERTAIN_FACTOR), exhausted=True)
    assert start.recovered.expire(2.0) == ([last] if begun else [], [])
    assert (1 in start.pending.ending) == begun
    assert start.queues.ready == (not begun)


def test_executions_that_nobody_claimed_are_ready_in_their_order(start):
    for seq in (1, 2, 3):
        start.recovered.hold(seq, start.queue, begun=False)
    start.recovered.expire(2.0)
    assert [start.queues.draw(9)[1] for _ in range(3)] == [1, 2, 3]
