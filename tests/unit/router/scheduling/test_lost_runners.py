"""The scheduling core, example by example: runners that come, go and stay away, and what they lose."""

from __future__ import annotations

import pytest
from support.cores import LEASE, REATTACH, accept, attach, bare, lose_by_absence, make_shard, on_record

from flowhook.model.executions import Attempt, AttemptEnd
from router.scheduling.leases import LateFailure, Loss
from router.scheduling.losses import EXPLAIN_SECONDS
from router.scheduling.queues import FlowPolicy


@pytest.fixture
def shard():
    return make_shard()


def test_a_runner_that_falls_silent_loses_its_leases_and_its_stream(shard):
    attach(shard)
    accept(shard, "a", 1)
    (assigned,) = shard.assign()
    assert shard.runners.silent(LEASE) == ["r1"]
    expired = shard.expire(LEASE)
    assert on_record(shard, expired.losses) == [Loss(1, 1)]
    assert shard.leases.seq_of(assigned.token) is None
    attach(shard, "r2", now=LEASE)
    (again,) = shard.assign()
    assert (again.seq, again.attempt) == (1, 2)


def test_renewal_keeps_leases(shard):
    attach(shard)
    accept(shard, "a", 1)
    (assigned,) = shard.assign()
    shard.runners.renew("r1", 4.0)
    assert shard.expire(LEASE).losses == []
    assert shard.leases.seq_of(assigned.token) == 1


def test_a_runner_that_comes_back_in_time_keeps_its_work(shard):
    attach(shard)
    accept(shard, "a", 1)
    (assigned,) = shard.assign()
    shard.runners.detach("r1", 1.0)
    assert shard.assign() == []
    attached = attach(shard, held=[assigned.token], now=2.0)
    assert attached.kept == [assigned.token]
    assert shard.end(assigned.token).seq == 1


def test_a_runner_that_stays_away_loses_its_work_before_its_lease_would_end(shard):
    attach(shard)
    accept(shard, "a", 1)
    shard.assign(now_ms=7)
    shard.runners.detach("r1", 1.0)
    assert shard.next_deadline() <= 1.0 + REATTACH
    lost = Attempt(1, "r1", 7, None, AttemptEnd.RUNNER_LOST, charged=True)
    assert shard.expire(1.0 + REATTACH).losses == [Loss(1, 1, lost)]


def test_what_shared_a_process_with_a_culprit_is_not_charged(shard):
    attach(shard)
    accept(shard, "a", 1, 2)
    culprit, innocent = shard.assign()
    shard.runners.detach("r1", 1.0)
    attached = attach(shard, held=[culprit.token], explained=True, now=1.5)
    assert on_record(shard, attached.losses) == [Loss(2, 0)]
    assert shard.end(culprit.token).seq == 1
    (again,) = shard.assign()
    assert (again.seq, again.attempt, again.token != innocent.token) == (2, 1, True)


def test_an_execution_that_breaks_its_runner_is_exhausted_after_its_attempts(shard):
    attach(shard)
    accept(shard, "a", 1)
    losses = []
    for _ in range(3):
        (assigned,) = shard.assign()
        losses += on_record(shard, [shard.losses.release(assigned.token, charged=True)])
    assert losses == [Loss(1, 1), Loss(1, 2), Loss(1, 3, exhausted=True)]
    assert shard.assign() == []
    shard.ended(1)
    assert shard.unfinished == 0


def test_losses_nobody_can_explain_count_less(shard):
    accept(shard, "a", 1)
    for number in range(1, 12):
        attach(shard, explained=False)
        shard.assign()
        shard.runners.detach("r1", 0.0)
        assert on_record(shard, attach(shard, credit=0, explained=False).losses) == [Loss(1, number)]
    attach(shard)
    shard.assign()
    (last,) = attach(shard, credit=0, explained=False).losses
    assert bare(last) == Loss(1, 12, exhausted=True)
    assert last.interrupted == Attempt(12, "r1", end=AttemptEnd.NOT_HELD, charged=True)


def test_giving_back_is_not_charged_and_goes_first_in_line(shard):
    attach(shard)
    accept(shard, "a", 1, 2)
    first, _ = shard.assign()
    accept(shard, "a", 3)
    assert on_record(shard, [shard.losses.release(first.token, charged=False)]) == [Loss(1, 0)]
    assert [(item.seq, item.attempt) for item in shard.assign()] == [(1, 1), (3, 1)]


def test_a_lost_lease_is_on_record_before_anybody_gets_the_next_one(shard):
    attach(shard)
    accept(shard, "a", 1)
    (assigned,) = shard.assign()
    loss = shard.losses.release(assigned.token, charged=False)
    assert shard.assign() == []
    shard.requeued([loss.seq])
    assert [item.seq for item in shard.assign()] == [1]


def test_what_was_lost_together_runs_again_in_order_of_arrival(shard):
    attach(shard)
    accept(shard, "a", *range(1, 6))
    shard.assign()
    accept(shard, "a", 6)
    on_record(shard, shard.expire(LEASE).losses)
    attach(shard, "r2", now=LEASE)
    assert [item.seq for item in shard.assign()] == [1, 2, 3, 4, 5, 6]


def test_a_lost_execution_counts_as_running_until_that_is_on_record(shard):
    shard.queues.set_policy("a", FlowPolicy(concurrency=1))
    attach(shard)
    accept(shard, "a", 1, 2)
    (assigned,) = shard.assign()
    loss = shard.losses.release(assigned.token, charged=False)
    assert shard.assign() == []
    on_record(shard, [loss])
    assert [item.seq for item in shard.assign()] == [1]


def test_losses_nobody_can_explain_are_not_held_against_one_that_broke_something_once(shard):
    accept(shard, "a", 1)
    for _ in range(5):
        attach(shard, explained=False)
        shard.assign()
        on_record(shard, attach(shard, credit=0, explained=False).losses)
    attach(shard)
    (assigned,) = shard.assign()
    assert shard.losses.release(assigned.token, charged=True) == Loss(1, 6)


def test_what_shared_a_process_with_a_culprit_is_not_charged_however_late_the_next_one_comes(shard):
    attach(shard)
    accept(shard, "a", 1, 2)
    (culprit, _), now = lose_by_absence(shard)
    attached = attach(shard, held=[culprit.token], now=now + 10)
    assert (attached.kept, attached.refunded) == ([], [2])
    assert shard.losses.report_late_failure("r1", culprit.token, final=False) == LateFailure(1, 1, is_ending=False)
    assert [(item.seq, item.attempt) for item in shard.assign()] == [(1, 2), (2, 1)]


def test_a_culprit_is_exhausted_after_its_attempts_however_late_each_is_explained(shard):
    accept(shard, "a", 1)
    attach(shard)
    now, confessed = 0.0, []
    for _ in range(3):
        (culprit,), now = lose_by_absence(shard, now)
        attach(shard, held=[culprit.token], now=now)
        confessed.append(shard.losses.report_late_failure("r1", culprit.token, final=False))
    assert confessed == [
        LateFailure(1, 1, is_ending=False),
        LateFailure(1, 2, is_ending=False),
        LateFailure(1, 3, is_ending=True),
    ]
    assert shard.assign() == []
    shard.ended(1)
    assert shard.unfinished == 0


def test_a_verdict_that_comes_late_ends_what_nobody_got_meanwhile(shard):
    attach(shard)
    accept(shard, "a", 1)
    (culprit,), now = lose_by_absence(shard)
    attach(shard, held=[culprit.token], now=now)
    assert shard.losses.report_late_failure("r1", culprit.token, final=True) == LateFailure(1, 1, is_ending=True)
    assert shard.losses.report_late_failure("r1", culprit.token, final=True) is None


def test_a_verdict_that_comes_late_ends_what_somebody_got_meanwhile_and_breaks_that_lease(shard):
    attach(shard)
    accept(shard, "a", 1, 2)
    (culprit, _), now = lose_by_absence(shard)
    attach(shard, "r2", now=now)
    newer, neighbour = shard.assign()
    attach(shard, held=[culprit.token], now=now)
    broken = shard.leases.get(newer.token)
    assert shard.losses.report_late_failure("r1", culprit.token, final=True) == LateFailure(
        1, 1, is_ending=True, lease=broken
    )
    assert broken.runner.id == "r2"
    assert shard.end(newer.token) is None
    shard.ended(1)
    assert shard.end(neighbour.token).attempt == 1


def test_one_that_is_merely_suspected_goes_on_where_somebody_got_it_meanwhile(shard):
    attach(shard)
    accept(shard, "a", 1)
    (culprit,), now = lose_by_absence(shard)
    attach(shard, "r2", now=now)
    (newer,) = shard.assign()
    attach(shard, held=[culprit.token], now=now)
    assert shard.losses.report_late_failure("r1", culprit.token, final=False) == LateFailure(1, 1, is_ending=False)
    assert shard.end(newer.token).attempt == 2


def test_what_was_evaluated_at_a_death_is_assigned_again_after_the_others_of_its_flow(shard):
    attach(shard, credit=2)
    accept(shard, "a", 1, 2, 3)
    culprit, neighbour = shard.assign()
    losses = [
        shard.losses.release(culprit.token, charged=True, to_back=True),
        shard.losses.release(neighbour.token, charged=False),
    ]
    on_record(shard, losses)
    attach(shard)
    assert [item.seq for item in shard.assign()] == [2, 3, 1]


@pytest.mark.parametrize("late", [False, True])
def test_what_is_not_explained_or_too_late_stays_charged(shard, late):
    attach(shard)
    accept(shard, "a", 1)
    _, now = lose_by_absence(shard)
    assert attach(shard, explained=late, now=now + EXPLAIN_SECONDS * late).refunded == []
    assert [item.attempt for item in shard.assign()] == [2]


def test_a_process_that_merely_stood_still_pardons_nothing_of_what_it_holds(shard):
    attach(shard)
    accept(shard, "a", 1)
    (assigned,), now = lose_by_absence(shard)
    assert attach(shard, held=[assigned.token], now=now).refunded == []
    assert [item.attempt for item in shard.assign()] == [2]


def test_nobody_accounts_for_what_another_runner_lost(shard):
    attach(shard)
    accept(shard, "a", 1)
    (assigned,), now = lose_by_absence(shard)
    attach(shard, "r2", held=[assigned.token], now=now)
    assert shard.losses.report_late_failure("r2", assigned.token, final=True) is None
