"""The scheduling core, example by example: what a restart finds, and who may go on with it."""

from __future__ import annotations

import pytest
from support.cores import LEASE, REATTACH, accept, attach, bare, make_shard, on_record

from flowhook.model import Status
from router.scheduling.leases import Loss
from router.scheduling.queues import FlowPolicy
from router.scheduling.shard import Shard


@pytest.fixture
def shard():
    return make_shard()


def assigned_before():
    """Have the router before this one assign execution 1 to "r1"."""
    before = make_shard(epoch=1)
    attach(before)
    accept(before, "a", 1)
    return before.assign()


def parked_and_assigned_again():
    """Have the router before this one park execution 1, and assign it again to "r1" when it is woken."""
    before = make_shard(epoch=1)
    attach(before)
    accept(before, "a", 1)
    (first,) = before.assign()
    before.park(first.token)
    before.parked(1, 0)
    before.wake(0)
    assert before.leases.term_of(1) == 1
    return before.assign()


def make_recovered(attempts, *, begun=False, term=0, epoch=2):
    """Make a shard that found execution 1 at its start, pending or begun."""
    shard = make_shard(epoch=epoch)
    shard.recover(1, "a", attempts, status=Status.RUNNING if begun else Status.PENDING, term=term)
    shard.begin(0.0)
    return shard


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
    assert shard.end(held.token).seq == 1


def test_new_events_do_not_wait_for_runners_to_come_back():
    shard = make_shard(1, epoch=2)
    attach(shard)
    accept(shard, "a", 2)
    assert [item.seq for item in shard.assign()] == [2]


def test_what_may_be_under_way_takes_its_places_until_runners_had_time_to_come_back():
    (held,) = assigned_before()
    shard = make_shard(1, 2, epoch=2)
    shard.queues.set_policy("a", FlowPolicy(concurrency=1))
    attach(shard, "r2")
    accept(shard, "a", 3)
    assert shard.assign() == []
    attach(shard, "r1", held=[held.token], credit=0, now=0.1)
    shard.end(held.token)
    shard.ended(1)
    assert shard.assign() == [], "2 may be under way, too"
    shard.expire(REATTACH)
    (first,) = shard.assign()
    assert first.seq == 2
    shard.end(first.token)
    shard.ended(2)
    assert [item.seq for item in shard.assign()] == [3]


def test_a_place_is_free_when_what_may_have_been_under_way_was_cancelled():
    shard = make_shard(1, epoch=2)
    shard.queues.set_policy("a", FlowPolicy(concurrency=1))
    attach(shard)
    accept(shard, "a", 2)
    assert shard.cancel(1, "a") is not None
    assert [item.seq for item in shard.assign()] == [2]


def test_what_was_woken_just_before_a_restart_is_not_adopted_beyond_its_flows_concurrency():
    (held,) = parked_and_assigned_again()
    shard = make_shard(epoch=2)
    shard.recover(1, "a", 1, status=Status.WAITING, wake_at_ms=0, term=1)
    shard.queues.set_policy("a", FlowPolicy(concurrency=1))
    shard.begin(0.0)
    attach(shard, "r2")
    accept(shard, "a", 2)
    (other,) = shard.assign()
    assert attach(shard, held=[held.token]).kept == []
    shard.wake(0)
    assert shard.assign() == []
    assert attach(shard, held=[held.token]).kept == []
    shard.end(other.token)
    shard.ended(2)
    (again,) = shard.assign()
    assert (again.seq, again.attempt) == (1, 1)


def test_a_lease_is_adopted_over_any_number_of_restarts_while_nobody_else_got_the_execution():
    (held,) = assigned_before()
    shard = make_shard(1, epoch=3)
    assert attach(shard, held=[held.token]).kept == [held.token]


def test_a_lease_is_not_adopted_once_somebody_got_the_execution_in_between():
    (held,) = assigned_before()
    between = make_shard(1, epoch=2)
    attach(between, "r2")
    between.expire(REATTACH)
    (next_one,) = between.assign()
    assert attach(between, "r1", held=[held.token]).kept == []

    shard = make_recovered(1, begun=True, term=between.leases.term_of(1), epoch=3)
    assert attach(shard, "r1", held=[held.token]).kept == []
    assert attach(shard, "r2", held=[next_one.token]).kept == [next_one.token]


def test_an_adopted_lease_is_void_once_the_execution_was_parked():
    (held,) = assigned_before()
    shard = make_recovered(1, begun=True)
    attach(shard, held=[held.token])
    shard.park(held.token)
    shard.parked(1, None)
    assert attach(shard, held=[held.token]).kept == []
    later = make_shard(epoch=3)
    later.recover(1, "a", 1, status=Status.WAITING, wake_at_ms=None, term=shard.leases.term_of(1))
    assert attach(later, held=[held.token]).kept == []


@pytest.mark.parametrize("begun", [True, False], ids=["written down", "not written down yet"])
def test_an_attempt_that_goes_on_over_a_restart_is_the_one_it_was(begun):
    (held,) = assigned_before()
    # two attempts were charged before it
    shard = make_recovered(3 if begun else 2, begun=begun)
    assert attach(shard, held=[held.token]).adopted == [1]
    assert shard.park(held.token).attempt == 3
    shard.parked(1, 0)
    shard.wake(0)
    (again,) = shard.assign()
    assert again.attempt == 3, "neither the restart nor the wait is charged"


def test_an_attempt_that_was_written_down_and_whose_runner_stays_away_is_charged():
    shard = make_recovered(1, begun=True)
    attach(shard)
    shard.expire(REATTACH)
    (again,) = shard.assign()
    assert again.attempt == 2


def test_a_last_attempt_that_goes_on_over_a_restart_exhausts_nothing():
    (held,) = assigned_before()
    shard = make_recovered(12, begun=True)
    assert attach(shard, held=[held.token]).kept == [held.token]
    assert shard.expire(REATTACH).losses == []
    assert shard.end(held.token).attempt == 12


def test_a_last_attempt_whose_runner_stays_away_after_a_restart_exhausts_its_execution():
    shard = make_recovered(12, begun=True)
    attach(shard)
    (last,) = shard.expire(REATTACH).losses
    assert bare(last) == Loss(1, 12, exhausted=True)
    assert shard.assign() == []
    shard.ended(1)
    assert shard.unfinished == 0


@pytest.mark.parametrize("woken", [False, True], ids=["waiting", "woken"])
def test_what_was_woken_just_before_a_restart_is_adopted_while_nobody_else_has_it(woken):
    (held,) = parked_and_assigned_again()
    shard = make_shard(epoch=2)
    shard.recover(1, "a", 1, status=Status.WAITING, wake_at_ms=0, term=1)
    shard.begin(0.0)
    if woken:
        assert shard.wake(0) == [1]
    attached = attach(shard, held=[held.token])
    assert (attached.kept, attached.adopted) == ([held.token], [1])
    assert shard.assign() == []
    assert shard.wake(0) == []
    assert shard.end(held.token).attempt == 1


def test_what_waits_on_record_does_not_wait_for_runners_to_come_back():
    (held,) = parked_and_assigned_again()
    shard = make_shard(epoch=2)
    shard.recover(1, "a", 1, status=Status.WAITING, wake_at_ms=0, term=1)
    shard.begin(0.0)
    attach(shard, "r2")
    shard.wake(0)
    (again,) = shard.assign()
    assert again.attempt == 1
    assert attach(shard, "r1", held=[held.token]).kept == []


def test_what_was_given_back_on_record_is_adopted_by_whoever_got_it_next_if_nobody_has_it_yet():
    before = make_shard(epoch=1)
    attach(before)
    accept(before, "a", 1)
    (first,) = before.assign()
    on_record(before, [before.losses.release(first.token, charged=False)])
    (second,) = before.assign()

    shard = make_recovered(0, term=before.leases.term_of(1))
    assert attach(shard, held=[first.token, second.token], credit=0).kept == [second.token]
    attach(shard, "r2")
    assert shard.assign() == []
    assert shard.leases.attempt_of(1) == 1


def test_an_execution_that_waits_over_a_restart_waits_on_although_its_runner_still_reports_it():
    before = make_shard(epoch=1)
    attach(before)
    accept(before, "a", 1)
    (held,) = before.assign()
    before.park(held.token)
    shard = make_shard(epoch=2)
    shard.recover(1, "a", 1, status=Status.WAITING, wake_at_ms=5000, term=before.leases.term_of(1))
    shard.begin(0.0)
    attached = attach(shard, held=[held.token])
    assert (attached.kept, attached.losses) == ([], [])
    assert shard.is_waiting(1)
    shard.wake(5000)
    (again,) = shard.assign()
    assert again.attempt == 1


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
    assert shard.end(token) is None
    assert shard.losses.release(token, charged=True) is None


def test_an_execution_that_was_there_at_too_many_deaths_is_not_tried_again():
    shard = make_shard(epoch=2, max_attempts=3)
    assert shard.recover(1, "a", 12) == Loss(1, 12, exhausted=True)
    attach(shard)
    shard.expire(REATTACH)
    assert shard.assign() == []


def test_a_lease_that_was_lost_before_a_restart_is_not_adopted_after_it_but_the_next_one_is():
    before = make_shard(epoch=1)
    attach(before, "r1")
    accept(before, "a", 1)
    (cut_off,) = before.assign()
    on_record(before, before.expire(LEASE).losses)
    attach(before, "r2", now=LEASE)
    (next_one,) = before.assign()

    shard = Shard(epoch=2, lease_seconds=LEASE, max_attempts=3, reattach_seconds=REATTACH)
    shard.recover(1, "a", 2, status=Status.RUNNING, term=before.leases.term_of(1))
    shard.begin(0.0)
    assert attach(shard, "r1", held=[cut_off.token]).kept == []
    assert attach(shard, "r2", held=[next_one.token]).kept == [next_one.token]
    assert shard.assign() == []
    assert shard.leases.attempt_of(1) == 2


def test_what_was_accepted_before_a_restart_runs_before_what_arrived_after():
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
