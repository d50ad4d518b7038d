"""The scheduling core, example by example. Time is whatever the tests say."""

from __future__ import annotations

import pytest

from router.scheduling.absences import EXPLAIN_SECONDS
from router.scheduling.changes import Confessed, Exhausted, Requeued
from router.scheduling.leases import MAX_CREDIT
from router.scheduling.queues import FlowPolicy
from router.scheduling.shard import Shard

LEASE = 6.0
REATTACH = 2.0


def make_shard(*recovered, epoch=1, now=0.0, max_attempts=3):
    """Make a shard that found `recovered`, of flow "a", at its start."""
    shard = Shard(epoch=epoch, lease_seconds=LEASE, max_attempts=max_attempts, reattach_seconds=REATTACH)
    for seq in recovered:
        shard.recover(seq, "a", 0)
    shard.begin(now)
    return shard


def attach(shard, runner="r1", *, credit=100, held=(), explained=True, now=0.0):
    attached = shard.attach(runner, held, explained=explained, now=now)
    if credit:
        assert shard.add_credit(runner, credit)
    return attached


def accept(shard, flow, *seqs):
    for seq in seqs:
        shard.accept(seq, flow)


def on_record(shard, losses):
    """Say that losses are durable; returns them."""
    shard.requeued([loss.seq for loss in losses if isinstance(loss, Requeued)])
    return losses


@pytest.fixture
def shard():
    return make_shard()


def test_an_accepted_execution_goes_to_a_runner_with_credit(shard):
    attach(shard)
    accept(shard, "a", 1)
    (assigned,) = shard.assign()
    assert (assigned.runner_id, assigned.seq, assigned.attempt) == ("r1", 1, 1)
    assert shard.assign() == []


def test_without_credit_nothing_is_assigned(shard):
    attach(shard, credit=0)
    accept(shard, "a", 1)
    assert shard.assign() == []


def test_each_assignment_consumes_one_credit(shard):
    attach(shard, credit=2)
    accept(shard, "a", 1, 2, 3)
    assert [item.seq for item in shard.assign()] == [1, 2]


def test_credit_beyond_the_limit_is_refused(shard):
    attach(shard, credit=MAX_CREDIT)
    assert not shard.add_credit("r1", 1)


def test_executions_of_one_flow_run_in_order_of_arrival(shard):
    attach(shard)
    accept(shard, "a", *range(1, 51))
    assert [item.seq for item in shard.assign()] == list(range(1, 51))


def test_a_quiet_flow_waits_one_turn_of_the_ring_not_for_the_backlog_of_another(shard):
    accept(shard, "noisy", *range(1, 1001))
    accept(shard, "quiet", 2000)
    attach(shard, credit=2)
    assert [item.seq for item in shard.assign()] == [1, 2000]


def test_a_flow_whose_calls_hang_leaves_room_for_the_others(shard):
    attach(shard, "r1", credit=100)
    attach(shard, "r2", credit=100)
    accept(shard, "hanging", *range(1, 1001))
    taken = []
    while batch := shard.assign():
        taken += batch
    assert len(taken) == 150
    accept(shard, "quiet", 2000)
    assert [item.seq for item in shard.assign()] == [2000]
    shard.ended(shard.take(taken[0].token).seq)
    assert [item.seq for item in shard.assign()] == [151]


def test_a_concurrency_of_its_own_lifts_the_share_of_a_flow(shard):
    shard.set_policy("a", FlowPolicy(concurrency=200))
    attach(shard, credit=100)
    accept(shard, "a", *range(100))
    assert len([*shard.assign(), *shard.assign()]) == 100


def test_runners_share_what_is_ready_evenly(shard):
    attach(shard, "r1")
    attach(shard, "r2")
    accept(shard, "a", *range(10))
    by_runner = [item.runner_id for item in shard.assign()]
    assert (by_runner.count("r1"), by_runner.count("r2")) == (5, 5)


def test_concurrency_bounds_what_runs_at_a_time(shard):
    shard.set_policy("a", FlowPolicy(concurrency=2))
    attach(shard)
    accept(shard, "a", 1, 2, 3)
    first = shard.assign()
    assert [item.seq for item in first] == [1, 2]
    taken = shard.take(first[0].token)
    assert shard.assign() == []  # its end is not durable yet
    shard.ended(taken.seq)
    assert [item.seq for item in shard.assign()] == [3]


def test_a_paused_flow_is_queued_and_runs_when_resumed(shard):
    attach(shard)
    shard.set_policy("a", FlowPolicy(paused=True))
    accept(shard, "a", 1)
    accept(shard, "b", 2)
    assert [item.seq for item in shard.assign()] == [2]
    assert shard.backlog("a") == 1
    shard.set_policy("a", FlowPolicy())
    assert [item.seq for item in shard.assign()] == [1]


def test_an_ended_execution_is_forgotten(shard):
    attach(shard)
    accept(shard, "a", 1)
    (assigned,) = shard.assign()
    assert shard.take(assigned.token).seq == 1
    assert shard.take(assigned.token) is None
    assert shard.backlog("a") == 1
    shard.ended(1)
    assert (shard.backlog("a"), shard.unfinished, shard.leased) == (0, 0, 0)


def test_a_runner_that_falls_silent_loses_its_leases_and_its_stream(shard):
    attach(shard)
    accept(shard, "a", 1)
    (assigned,) = shard.assign()
    expired = shard.expire(LEASE)
    assert on_record(shard, expired.losses) == [Requeued(1, 1)]
    assert expired.silent == ["r1"]
    assert shard.lease_of(assigned.token) is None
    attach(shard, "r2", now=LEASE)
    (again,) = shard.assign()
    assert (again.seq, again.attempt) == (1, 2)


def test_renewal_keeps_leases(shard):
    attach(shard)
    accept(shard, "a", 1)
    (assigned,) = shard.assign()
    shard.renew("r1", 4.0)
    assert shard.expire(LEASE).losses == []
    assert shard.lease_of(assigned.token) == 1


def test_a_runner_that_comes_back_in_time_keeps_its_work(shard):
    attach(shard)
    accept(shard, "a", 1)
    (assigned,) = shard.assign()
    shard.detach("r1", 1.0)
    assert shard.assign() == []
    attached = attach(shard, held=[assigned.token], now=2.0)
    assert attached.kept == [assigned.token]
    assert shard.take(assigned.token).seq == 1


def test_a_runner_that_stays_away_loses_its_work_before_its_lease_would_end(shard):
    attach(shard)
    accept(shard, "a", 1)
    shard.assign()
    shard.detach("r1", 1.0)
    assert shard.next_deadline() <= 1.0 + REATTACH
    assert shard.expire(1.0 + REATTACH).losses == [Requeued(1, 1)]


def test_what_shared_a_process_with_a_culprit_is_not_charged(shard):
    attach(shard)
    accept(shard, "a", 1, 2)
    culprit, innocent = shard.assign()
    shard.detach("r1", 1.0)
    attached = attach(shard, held=[culprit.token], explained=True, now=1.5)
    assert on_record(shard, attached.losses) == [Requeued(2, 0)]
    assert shard.take(culprit.token).seq == 1
    (again,) = shard.assign()
    assert (again.seq, again.attempt, again.token != innocent.token) == (2, 1, True)


def test_an_execution_that_breaks_its_runner_is_exhausted_after_its_attempts(shard):
    attach(shard)
    accept(shard, "a", 1)
    losses = []
    for _ in range(3):
        (assigned,) = shard.assign()
        losses += on_record(shard, [shard.release(assigned.token, charged=True)])
    assert losses == [Requeued(1, 1), Requeued(1, 2), Exhausted(1, 3)]
    assert shard.assign() == []
    shard.ended(1)
    assert shard.unfinished == 0


def test_losses_nobody_can_explain_count_less(shard):
    accept(shard, "a", 1)
    for number in range(1, 12):
        attach(shard, explained=False)
        shard.assign()
        shard.detach("r1", 0.0)
        assert on_record(shard, attach(shard, credit=0, explained=False).losses) == [Requeued(1, number)]
    attach(shard)
    shard.assign()
    assert attach(shard, credit=0, explained=False).losses == [Exhausted(1, 12)]


def test_giving_back_is_not_charged_and_goes_first_in_line(shard):
    attach(shard)
    accept(shard, "a", 1, 2)
    first, _ = shard.assign()
    accept(shard, "a", 3)
    assert on_record(shard, [shard.release(first.token, charged=False)]) == [Requeued(1, 0)]
    assert [(item.seq, item.attempt) for item in shard.assign()] == [(1, 1), (3, 1)]


def test_what_was_accepted_before_a_restart_waits_for_runners_to_come_back():
    before = make_shard(epoch=1)
    attach(before)
    accept(before, "a", 1, 2)
    held, _ = before.assign()

    shard = make_shard(1, 2, epoch=2)
    attach(shard, "r2", now=0.1)
    assert shard.assign() == []
    assert attach(shard, "r1", held=[held.token], now=0.5).kept == [held.token]
    shard.expire(REATTACH)
    assert [item.seq for item in shard.assign()] == [2]
    assert shard.take(held.token).seq == 1


def test_new_events_do_not_wait_for_runners_to_come_back():
    shard = make_shard(1, epoch=2)
    attach(shard)
    accept(shard, "a", 2)
    assert [item.seq for item in shard.assign()] == [2]


def test_a_token_of_an_older_epoch_is_not_adopted():
    before = make_shard(epoch=1)
    attach(before)
    accept(before, "a", 1)
    (held,) = before.assign()
    shard = make_shard(1, epoch=3)
    assert attach(shard, held=[held.token]).kept == []


def test_two_runners_cannot_adopt_one_execution():
    before = make_shard(epoch=1)
    attach(before)
    accept(before, "a", 1)
    (held,) = before.assign()
    shard = make_shard(1, epoch=2)
    assert attach(shard, "r1", held=[held.token]).kept == [held.token]
    assert attach(shard, "r2", held=[held.token]).kept == []


@pytest.mark.parametrize("token", [b"", b"x" * 20, b"x" * 64])
def test_a_token_that_is_not_ours_is_stale(shard, token):
    assert attach(shard, held=[token]).kept == []
    assert shard.take(token) is None
    assert shard.release(token, charged=True) is None


def test_an_execution_that_was_there_at_too_many_deaths_is_not_tried_again():
    shard = make_shard(epoch=2, max_attempts=3)
    assert shard.recover(1, "a", 12) == Exhausted(1, 12)
    attach(shard)
    shard.expire(REATTACH)
    assert shard.assign() == []


def test_cancelling_takes_an_execution_out_wherever_it_is():
    shard = make_shard()
    shard.recover(1, "a", 2)
    attach(shard)
    accept(shard, "a", 2, 3)
    shard.add_credit("r1", 1)
    leased = shard.assign()[0]
    assert shard.cancel(1, "a") == (2, None)
    attempts, lease = shard.cancel(leased.seq, "a")
    assert (attempts, lease.token, lease.runner.id) == (1, leased.token, "r1")
    assert shard.cancel(leased.seq, "a") is None
    assert shard.take(leased.token) is None
    shard.expire(REATTACH)
    assert 1 not in [item.seq for item in shard.assign()]


def test_a_flow_without_work_or_limits_takes_no_memory(shard):
    attach(shard)
    accept(shard, "a", 1)
    (assigned,) = shard.assign()
    shard.take(assigned.token)
    shard.ended(1)
    shard.set_policy("b", FlowPolicy())
    assert shard._queues._flows == {}


def test_a_lost_lease_is_on_record_before_anybody_gets_the_next_one(shard):
    attach(shard)
    accept(shard, "a", 1)
    (assigned,) = shard.assign()
    loss = shard.release(assigned.token, charged=False)
    assert shard.assign() == []
    shard.requeued([loss.seq])
    assert [item.seq for item in shard.assign()] == [1]


def test_a_lease_that_was_lost_before_a_restart_is_not_adopted_after_it():
    before = make_shard(epoch=1)
    attach(before, "r1")
    accept(before, "a", 1)
    (cut_off,) = before.assign()
    on_record(before, before.expire(LEASE).losses)
    attach(before, "r2", now=LEASE)
    (next_one,) = before.assign()

    shard = Shard(epoch=2, lease_seconds=LEASE, max_attempts=3, reattach_seconds=REATTACH)
    shard.recover(1, "a", 1, requeued=True)
    shard.begin(0.0)
    assert attach(shard, "r1", held=[cut_off.token]).kept == []
    assert attach(shard, "r2", held=[next_one.token]).kept == []
    (again,) = shard.assign()
    assert (again.seq, again.attempt) == (1, 2)


def test_what_was_lost_together_runs_again_in_order_of_arrival(shard):
    attach(shard)
    accept(shard, "a", *range(1, 6))
    shard.assign()
    accept(shard, "a", 6)
    on_record(shard, shard.expire(LEASE).losses)
    attach(shard, "r2", now=LEASE)
    assert [item.seq for item in shard.assign()] == [1, 2, 3, 4, 5, 6]


def test_what_was_accepted_before_a_restart_runs_before_what_came_after():
    shard = make_shard(1, 2, epoch=2)
    accept(shard, "a", 3)
    shard.expire(REATTACH)
    attach(shard)
    assert [item.seq for item in shard.assign()] == [1, 2, 3]


def test_runners_get_their_time_to_come_back_however_long_recovery_takes():
    shard = make_shard(1, epoch=2, now=100.0)
    attach(shard, now=100.0)
    assert shard.next_deadline() == 100.0 + REATTACH
    shard.expire(100.0 + REATTACH / 2)
    assert shard.assign() == []


def test_a_lost_execution_counts_as_running_until_that_is_on_record(shard):
    shard.set_policy("a", FlowPolicy(concurrency=1))
    attach(shard)
    accept(shard, "a", 1, 2)
    (assigned,) = shard.assign()
    loss = shard.release(assigned.token, charged=False)
    assert shard.assign() == []
    on_record(shard, [loss])
    assert [item.seq for item in shard.assign()] == [1]


def test_an_execution_that_is_returning_can_be_cancelled(shard):
    attach(shard)
    accept(shard, "a", 1)
    (assigned,) = shard.assign()
    loss = shard.release(assigned.token, charged=True)
    assert shard.cancel(1, "a") == (1, None)
    shard.requeued([loss.seq])
    assert shard.assign() == []
    shard.ended(1)
    assert shard.unfinished == 0


def test_losses_nobody_can_explain_are_not_held_against_one_that_broke_something_once(shard):
    accept(shard, "a", 1)
    for _ in range(5):
        attach(shard, explained=False)
        shard.assign()
        on_record(shard, attach(shard, credit=0, explained=False).losses)
    attach(shard)
    (assigned,) = shard.assign()
    assert shard.release(assigned.token, charged=True) == Requeued(1, 6)


def test_credit_for_what_never_reached_the_runner_is_given_back(shard):
    attach(shard, credit=1)
    accept(shard, "a", 1, 2)
    (assigned,) = shard.assign()
    shard.cancel(assigned.seq, "a")
    assert shard.assign() == []
    shard.refund("r1")
    assert [item.seq for item in shard.assign()] == [2]


def test_a_runner_that_can_take_nothing_is_passed_over(shard):
    attach(shard, "r1")
    attach(shard, "r2", credit=1)
    accept(shard, "a", 1, 2)
    assert [(item.runner_id, item.seq) for item in shard.assign(full={"r1"})] == [("r2", 1)]
    assert [(item.runner_id, item.seq) for item in shard.assign()] == [("r1", 2)]


def test_what_a_deleted_flow_left_behind_keeps_to_its_concurrency_and_ends_its_pause(shard):
    shard.set_policy("a", FlowPolicy(concurrency=1, paused=True))
    attach(shard)
    accept(shard, "a", 1, 2)
    shard.retire("a")
    (assigned,) = shard.assign()
    shard.take(assigned.token)
    shard.ended(1)
    (assigned,) = shard.assign()
    shard.take(assigned.token)
    shard.ended(2)
    assert shard.assign() == []
    assert shard._queues._flows == {}


def test_a_flow_whose_executions_were_all_cancelled_takes_no_memory(shard):
    accept(shard, "a", 1)
    shard.cancel(1, "a")
    shard.ended(1)
    accept(shard, "b", 2)
    attach(shard)
    shard.assign()
    assert list(shard._queues._flows) == ["b"]


def lose_by_absence(shard, now=0.0):
    """Have "r1" stay away with all that is ready, until that is lost; returns what it was assigned, and the time."""
    assigned = shard.assign()
    shard.detach("r1", now)
    on_record(shard, shard.expire(now + REATTACH).losses)
    return assigned, now + REATTACH


def test_what_shared_a_process_with_a_culprit_is_not_charged_however_late_the_next_one_comes(shard):
    attach(shard)
    accept(shard, "a", 1, 2)
    (culprit, _), now = lose_by_absence(shard)
    attached = attach(shard, held=[culprit.token], now=now + 10)
    assert (attached.kept, attached.pardoned) == ([], [2])
    assert shard.confess("r1", culprit.token, final=False) == Confessed(1, 1, is_ending=False)
    assert [(item.seq, item.attempt) for item in shard.assign()] == [(1, 2), (2, 1)]


def test_a_culprit_is_exhausted_after_its_attempts_however_late_each_is_explained(shard):
    accept(shard, "a", 1)
    attach(shard)
    now, confessed = 0.0, []
    for _ in range(3):
        (culprit,), now = lose_by_absence(shard, now)
        attach(shard, held=[culprit.token], now=now)
        confessed.append(shard.confess("r1", culprit.token, final=False))
    assert confessed == [
        Confessed(1, 1, is_ending=False),
        Confessed(1, 2, is_ending=False),
        Confessed(1, 3, is_ending=True),
    ]
    assert shard.assign() == []
    shard.ended(1)
    assert shard.unfinished == 0


def test_a_verdict_that_comes_late_ends_what_nobody_got_meanwhile(shard):
    attach(shard)
    accept(shard, "a", 1)
    (culprit,), now = lose_by_absence(shard)
    attach(shard, held=[culprit.token], now=now)
    assert shard.confess("r1", culprit.token, final=True) == Confessed(1, 1, is_ending=True)
    assert shard.confess("r1", culprit.token, final=True) is None


def test_a_verdict_that_comes_late_leaves_alone_what_somebody_got_meanwhile(shard):
    attach(shard)
    accept(shard, "a", 1, 2)
    (culprit, _), now = lose_by_absence(shard)
    attach(shard, "r2", now=now)
    again = shard.assign()
    attach(shard, held=[culprit.token], now=now)
    assert shard.confess("r1", culprit.token, final=True) == Confessed(1, 1, is_ending=False)
    assert [shard.take(item.token).attempt for item in again] == [2, 1]


@pytest.mark.parametrize("late", [False, True])
def test_what_is_not_explained_or_too_late_stays_charged(shard, late):
    attach(shard)
    accept(shard, "a", 1)
    _, now = lose_by_absence(shard)
    assert attach(shard, explained=late, now=now + EXPLAIN_SECONDS * late).pardoned == []
    assert [item.attempt for item in shard.assign()] == [2]


def test_a_process_that_merely_stood_still_pardons_nothing_of_what_it_holds(shard):
    attach(shard)
    accept(shard, "a", 1)
    (assigned,), now = lose_by_absence(shard)
    assert attach(shard, held=[assigned.token], now=now).pardoned == []
    assert [item.attempt for item in shard.assign()] == [2]


def test_nobody_accounts_for_what_another_runner_lost(shard):
    attach(shard)
    accept(shard, "a", 1)
    (assigned,), now = lose_by_absence(shard)
    attach(shard, "r2", held=[assigned.token], now=now)
    assert shard.confess("r2", assigned.token, final=True) is None
