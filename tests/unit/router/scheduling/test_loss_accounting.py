"""Lost leases: what they cost an execution, and what is learned of them later."""

from __future__ import annotations

import pytest

from flowhook.model.executions import Attempt, AttemptEnd
from router.scheduling.leases import LateFailure, LeaseTable, Loss, Runner
from router.scheduling.losses import EXPLAIN_SECONDS, UNCERTAIN_FACTOR, AttemptCounts, LossAccounting, LostLeases
from router.scheduling.pending_transitions import PendingTransitions
from router.scheduling.queues import FairQueues


class Parts:
    """The parts that losses concern, and a lease on execution 1 for each attempt."""

    def __init__(self):
        self.queues = FairQueues()
        self.queue = self.queues.flow("a")
        self.leases = LeaseTable(epoch=1)
        self.attempts = AttemptCounts(max_attempts=2)
        self.pending = PendingTransitions()
        self.lost = LostLeases()
        self.losses = LossAccounting(
            leases=self.leases,
            attempts=self.attempts,
            pending=self.pending,
            queues=self.queues,
            lost=self.lost,
        )
        self.runner = Runner("r1", deadline=6.0)

    def lease(self, seq=1):
        self.pending.returning.pop(seq, None)
        return self.leases.grant(seq, self.queue, self.runner, self.attempts.charged(seq) + 1)


@pytest.fixture
def parts():
    return Parts()


@pytest.mark.parametrize(("charged", "attempts"), [(True, 1), (False, 0)])
def test_an_execution_returns_charged_or_not(parts, charged, attempts):
    lease = parts.lease()
    assert parts.losses.lose(lease, charged=charged, certain=True) == Loss(1, attempts)
    assert parts.attempts.charged(1) == attempts
    assert 1 in parts.pending.returning
    assert (parts.leases.get(lease.token), parts.leases.term_of(1)) == (None, 1)


@pytest.mark.parametrize(("attached", "end"), [(True, AttemptEnd.LEASE_EXPIRED), (False, AttemptEnd.RUNNER_LOST)])
def test_a_silent_runner_is_told_from_one_that_has_gone(parts, attached, end):
    lease = parts.leases.grant(1, parts.queue, parts.runner, 1, 1000)
    parts.runner.attached = attached
    assert parts.losses.lose_absent(lease, 0.0).interrupted == Attempt(1, "r1", 1000, None, end, "", charged=True)


def test_an_attempt_that_the_runner_never_received_is_none(parts):
    assert parts.losses.release(parts.lease().token, charged=False).interrupted is None
    released = parts.losses.release(parts.lease().token, charged=False, end=AttemptEnd.RELEASED, detail="DRAINING")
    assert released.interrupted == Attempt(1, "r1", None, None, AttemptEnd.RELEASED, "DRAINING")


@pytest.mark.parametrize(("certain", "losses"), [(True, 2), (False, 2 * UNCERTAIN_FACTOR)])
def test_charged_losses_exhaust_an_execution(parts, certain, losses):
    for _ in range(losses - 1):
        assert not parts.losses.lose(parts.lease(), charged=True, certain=certain).exhausted
    assert parts.losses.lose(parts.lease(), charged=True, certain=certain) == Loss(1, losses, exhausted=True)
    assert parts.pending.is_stopping(1)


def test_the_charge_for_an_absence_is_refunded_if_the_runner_explains_it(parts):
    parts.losses.lose_absent(parts.lease(), 0.0)
    newer = parts.lease()
    assert newer.attempt == 2
    assert parts.losses.reattached("r1", [], explained=True, now=1.0) == [1]
    assert (parts.attempts.charged(1), newer.attempt) == (0, 1)


@pytest.mark.parametrize(("explained", "now"), [(False, 1.0), (True, EXPLAIN_SECONDS)])
def test_the_charge_stays_if_it_is_not_explained_in_time(parts, explained, now):
    parts.losses.lose_absent(parts.lease(), 0.0)
    assert parts.losses.reattached("r1", [], explained=explained, now=now) == []
    assert parts.attempts.charged(1) == 1


def test_a_final_failure_ends_the_execution_that_has_not_been_leased_since(parts):
    lease = parts.lease()
    parts.losses.lose_absent(lease, 0.0)
    assert parts.losses.report_late_failure("r1", lease.token, final=True) == LateFailure(1, 1, is_ending=True)
    assert 1 in parts.pending.ending
    assert parts.losses.report_late_failure("r1", lease.token, final=True) is None


def test_a_final_failure_breaks_a_newer_lease(parts):
    lease = parts.lease()
    parts.losses.lose_absent(lease, 0.0)
    newer = parts.lease()
    del parts.lost.last[1]
    assert parts.losses.report_late_failure("r1", lease.token, final=True) == LateFailure(
        1, 1, is_ending=True, lease=newer
    )
    assert parts.leases.of(1) is None
    assert parts.pending.is_stopping(1)


def test_a_failure_that_is_not_final_is_attributed_and_leaves_the_newer_lease(parts):
    lease = parts.lease()
    parts.losses.lose_absent(lease, 0.0)
    newer = parts.lease()
    del parts.lost.last[1]
    assert parts.losses.report_late_failure("r1", lease.token, final=False) == LateFailure(1, 1, is_ending=False)
    assert parts.leases.of(1) is newer
    assert parts.losses.lose(newer, charged=True, certain=True).exhausted
