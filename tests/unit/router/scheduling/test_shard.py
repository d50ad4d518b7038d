"""The scheduling core, example by example: who gets what, and when. Time is whatever the tests say."""

from __future__ import annotations

import pytest
from support.cores import REATTACH, accept, attach, make_shard

from flowhook.attach.send_pacing import QUIET
from router.scheduling.leases import MAX_CREDIT
from router.scheduling.queues import FlowPolicy
from router.scheduling.shard import MIN_SHARE


@pytest.fixture
def shard():
    return make_shard()


def test_an_accepted_execution_goes_to_a_runner_with_credit(shard):
    attach(shard)
    accept(shard, "a", 1)
    (assigned,) = shard.assign()
    assert (assigned.runner.id, assigned.seq, assigned.attempt) == ("r1", 1, 1)
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
    assert not shard.runners.add_credit("r1", 1)


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
    shard.ended(shard.end(taken[0].token).seq)
    assert [item.seq for item in shard.assign()] == [151]


def test_a_flow_with_a_backlog_leaves_room_in_the_only_runner(shard):
    attach(shard, credit=64)
    accept(shard, "noisy", *range(1, 1001))
    taken = [*shard.assign(), *shard.assign()]
    assert len(taken) == 48
    accept(shard, "quiet", 2000)
    assert [item.seq for item in shard.assign()] == [2000]


def test_a_flow_whose_calls_take_long_gets_three_quarters_of_a_runner_that_requests_more_beside_them(shard):
    attach(shard, credit=40)
    accept(shard, "slow", *range(1, 1001))
    calling, permitted = 0, 40
    while batch := shard.assign():
        calling += len(batch)
        more = min(256, 40 + calling * 4 // 3) - permitted
        if more:
            shard.runners.add_credit("r1", more)
        permitted += more
    assert calling == 192


def test_the_runner_with_the_least_to_do_gets_work_first(shard):
    attach(shard, "busy", credit=2)
    accept(shard, "a", 1, 2)
    assert len(shard.assign()) == 2
    shard.runners.add_credit("busy", 50)
    attach(shard, "idle", credit=10)
    accept(shard, "a", 3)
    assert [item.runner.id for item in shard.assign()] == ["idle"]


def test_a_flow_gets_all_of_the_few_places_that_there_are(shard):
    attach(shard, credit=MIN_SHARE)
    accept(shard, "a", *range(1, 2 * MIN_SHARE))
    assert len(shard.assign()) == MIN_SHARE


def test_a_flow_with_little_under_way_is_quiet(shard):
    attach(shard, credit=64)
    accept(shard, "a", *range(1, QUIET + 2))
    taken = shard.assign()
    assert not any(item.is_quiet for item in taken)
    shard.end(taken[0].token)
    shard.ended(taken[0].seq)
    assert all(item.is_quiet for item in taken[1:])


def test_a_concurrency_of_its_own_lifts_the_share_of_a_flow(shard):
    shard.queues.set_policy("a", FlowPolicy(concurrency=200))
    attach(shard, credit=100)
    accept(shard, "a", *range(100))
    assert len([*shard.assign(), *shard.assign()]) == 100


def test_runners_share_what_is_ready_evenly(shard):
    attach(shard, "r1")
    attach(shard, "r2")
    accept(shard, "a", *range(10))
    by_runner = [item.runner.id for item in shard.assign()]
    assert (by_runner.count("r1"), by_runner.count("r2")) == (5, 5)


def test_concurrency_bounds_what_runs_at_a_time(shard):
    shard.queues.set_policy("a", FlowPolicy(concurrency=2))
    attach(shard)
    accept(shard, "a", 1, 2, 3)
    first = shard.assign()
    assert [item.seq for item in first] == [1, 2]
    taken = shard.end(first[0].token)
    assert shard.assign() == []  # its end is not durable yet
    shard.ended(taken.seq)
    assert [item.seq for item in shard.assign()] == [3]


def test_a_paused_flow_is_queued_and_runs_when_resumed(shard):
    attach(shard)
    shard.queues.set_policy("a", FlowPolicy(paused=True))
    accept(shard, "a", 1)
    accept(shard, "b", 2)
    assert [item.seq for item in shard.assign()] == [2]
    assert shard.queues.unfinished("a") == 1
    shard.queues.set_policy("a", FlowPolicy())
    assert [item.seq for item in shard.assign()] == [1]


def test_an_ended_execution_is_forgotten(shard):
    attach(shard)
    accept(shard, "a", 1)
    (assigned,) = shard.assign()
    assert shard.end(assigned.token).seq == 1
    assert shard.end(assigned.token) is None
    assert shard.queues.unfinished("a") == 1
    shard.ended(1)
    assert (shard.queues.unfinished("a"), shard.unfinished, shard.leased) == (0, 0, 0)


def test_cancelling_takes_an_execution_out_wherever_it_is():
    shard = make_shard()
    shard.recover(1, "a", 2)
    attach(shard)
    accept(shard, "a", 2, 3)
    shard.runners.add_credit("r1", 1)
    leased = shard.assign()[0]
    assert shard.cancel(1, "a") == (2, None)
    attempts, lease = shard.cancel(leased.seq, "a")
    assert (attempts, lease.token, lease.runner.id) == (1, leased.token, "r1")
    assert shard.cancel(leased.seq, "a") is None
    assert shard.end(leased.token) is None
    shard.expire(REATTACH)
    assert 1 not in [item.seq for item in shard.assign()]


def test_a_flow_without_work_or_limits_takes_no_memory(shard):
    attach(shard)
    accept(shard, "a", 1)
    (assigned,) = shard.assign()
    shard.end(assigned.token)
    shard.ended(1)
    shard.queues.set_policy("b", FlowPolicy())
    assert shard.queues._flows == {}


def test_an_execution_that_is_returning_can_be_cancelled(shard):
    attach(shard)
    accept(shard, "a", 1)
    (assigned,) = shard.assign()
    loss = shard.losses.release(assigned.token, charged=True)
    assert shard.cancel(1, "a") == (1, None)
    shard.requeued([loss.seq])
    assert shard.assign() == []
    shard.ended(1)
    assert shard.unfinished == 0


def test_credit_for_what_never_reached_the_runner_is_given_back(shard):
    attach(shard, credit=1)
    accept(shard, "a", 1, 2)
    (assigned,) = shard.assign()
    shard.cancel(assigned.seq, "a")
    assert shard.assign() == []
    shard.runners.return_credit("r1")
    assert [item.seq for item in shard.assign()] == [2]


def test_a_runner_that_can_take_nothing_is_passed_over(shard):
    attach(shard, "r1")
    attach(shard, "r2", credit=1)
    accept(shard, "a", 1, 2)
    assert [(item.runner.id, item.seq) for item in shard.assign(full={"r1"})] == [("r2", 1)]
    assert [(item.runner.id, item.seq) for item in shard.assign()] == [("r1", 2)]


def test_what_a_deleted_flow_left_behind_keeps_to_its_concurrency_and_ends_its_pause(shard):
    shard.queues.set_policy("a", FlowPolicy(concurrency=1, paused=True))
    attach(shard)
    accept(shard, "a", 1, 2)
    shard.queues.retire("a")
    (assigned,) = shard.assign()
    shard.end(assigned.token)
    shard.ended(1)
    (assigned,) = shard.assign()
    shard.end(assigned.token)
    shard.ended(2)
    assert shard.assign() == []
    assert shard.queues._flows == {}


def test_a_flow_whose_executions_were_all_cancelled_takes_no_memory(shard):
    accept(shard, "a", 1)
    shard.cancel(1, "a")
    shard.ended(1)
    accept(shard, "b", 2)
    attach(shard)
    shard.assign()
    assert list(shard.queues._flows) == ["b"]
