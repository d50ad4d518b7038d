"""The scheduling core: waiting, suspended and ordered executions, example by example."""

from __future__ import annotations

import pytest

from flowhook.model import Status
from router.scheduling.leases import Loss
from router.scheduling.queues import FlowPolicy
from router.scheduling.shard import MAX_WAKES, Shard


@pytest.fixture
def shard():
    return make_shard()


def make_shard(max_attempts=3):
    shard = Shard(epoch=1, lease_seconds=6.0, max_attempts=max_attempts, reattach_seconds=2.0)
    shard.begin(0.0)
    shard.attach("r1", (), explained=True, now=0.0)
    shard.runners.add_credit("r1", 4096)
    return shard


def seqs(shard):
    return [item.seq for item in shard.assign()]


def park(shard, wake_at_ms):
    (item,) = shard.assign()
    assert shard.park(item.token).attempt == item.attempt
    shard.parked(item.seq, wake_at_ms)
    return item


def test_a_parked_execution_runs_again_at_its_time_uncharged(shard):
    shard.accept(1, "a")
    assert park(shard, 500).attempt == 1
    assert (shard.waiting, shard.leased, shard.ready, shard.unfinished) == (1, 0, 0, 1)
    assert shard.next_wake() == 500
    assert (shard.wake(499), seqs(shard)) == ([], [])
    assert shard.wake(500) == [1]
    (again,) = shard.assign()
    assert (again.seq, again.attempt) == (1, 1)
    assert shard.next_wake() is None


def test_attempts_that_were_charged_before_a_wait_are_charged_after_it(shard):
    shard.accept(1, "a")
    (item,) = shard.assign()
    assert shard.losses.release(item.token, charged=True) == Loss(1, 1)
    shard.requeued([1])
    assert park(shard, 5).attempt == 2
    shard.wake(5)
    (item,) = shard.assign()
    assert item.attempt == 2


def test_an_execution_holds_its_place_until_its_wait_is_on_record(shard):
    shard.queues.set_policy("a", FlowPolicy(concurrency=1))
    shard.accept(1, "a")
    shard.accept(2, "a")
    (item,) = shard.assign()
    shard.park(item.token)
    assert shard.is_waiting(1)
    assert seqs(shard) == []
    shard.parked(1, 500)
    assert seqs(shard) == [2]


def test_what_something_arrived_for_runs_again_once_that_is_on_record_and_holds_no_place_before(shard):
    shard.queues.set_policy("a", FlowPolicy(concurrency=1))
    shard.accept(1, "a")
    park(shard, 500)
    shard.accept(2, "a")
    assert shard.timers.get(1).flow_id == "a"
    assert shard.deliver([1, 2, 9]) == [(1, 0)]
    assert (shard.is_waiting(1), 1 in shard.pending.returning, shard.timers.get(1)) == (False, True, None)
    assert (shard.wake(500), shard.deliver([1])) == ([], [])
    (item,) = shard.assign()
    assert item.seq == 2
    shard.requeued([1])
    assert seqs(shard) == []
    shard.end(item.token)
    shard.ended(2)
    assert seqs(shard) == [1]


def test_what_something_arrived_for_can_be_cancelled_and_suspended_before_that_is_on_record(shard):
    for seq in (1, 2):
        shard.accept(seq, "a")
        park(shard, None)
    shard.deliver([1, 2])
    assert shard.cancel(1, "a").attempts == 0
    assert shard.suspend(2, "a").attempts == 0
    shard.requeued([1, 2])
    assert seqs(shard) == []
    assert 1 in shard.pending.ending
    shard.ended(1)
    assert shard.resume(2)
    assert seqs(shard) == [2]


def test_a_stale_token_parks_nothing(shard):
    shard.accept(1, "a")
    item = park(shard, 500)
    assert shard.park(item.token) is None
    assert shard.park(b"") is None


def test_what_was_woken_runs_before_what_arrived_later_in_order_of_its_times(shard):
    for seq, wake_at_ms in ((1, 30), (2, 10), (3, 20)):
        shard.accept(seq, "a")
        park(shard, wake_at_ms)
    shard.accept(4, "a")
    assert shard.wake(100) == [2, 3, 1]
    assert seqs(shard) == [2, 3, 1, 4]


def test_a_crowd_is_woken_a_bounded_number_at_a_time(shard):
    for seq in range(MAX_WAKES + 1):
        shard.accept(seq, "a")
        park(shard, 10)
    assert len(shard.wake(10)) == MAX_WAKES
    assert shard.next_wake() == 10
    assert len(shard.wake(10)) == 1


def test_waiting_executions_are_cancelled_with_the_attempt_that_parked_them(shard):
    shard.accept(1, "a")
    park(shard, 500)
    assert shard.cancel(1, "a") == (1, None)
    assert shard.cancel(1, "a") is None
    assert shard.wake(500) == []
    shard.ended(1)
    assert (shard.unfinished, shard.waiting) == (0, 0)


def test_one_that_is_cancelled_while_its_wait_is_being_stored_does_not_wait(shard):
    shard.accept(1, "a")
    (item,) = shard.assign()
    shard.park(item.token)
    assert shard.cancel(1, "a") == (1, None)
    shard.parked(1, 500)
    assert not shard.is_waiting(1)
    shard.ended(1)
    assert shard.unfinished == 0


def test_suspending_takes_an_execution_out_wherever_it_is_until_it_is_resumed(shard):
    for seq in range(1, 6):
        shard.accept(seq, "a")
    leased, waiting, parking, returning, _ = shard.assign()
    shard.park(waiting.token)
    shard.parked(waiting.seq, 500)
    shard.park(parking.token)
    shard.losses.release(returning.token, charged=True)
    shard.accept(6, "a")
    assert shard.suspend(leased.seq, "a").lease.token == leased.token
    for seq in (waiting.seq, parking.seq, 6):
        assert shard.suspend(seq, "a") == (0, None)
    assert shard.suspend(returning.seq, "a") == (1, None)
    assert shard.suspend(leased.seq, "a") is None
    assert shard.suspend(99, "a") is None
    assert shard.suspended == 5
    shard.parked(parking.seq, 500)
    shard.requeued([returning.seq])
    assert (shard.wake(1000), seqs(shard)) == ([], [])
    for seq in (1, 2, 3, 4, 6):
        assert shard.resume(seq)
        assert not shard.resume(seq)
        assert seqs(shard) == [seq]


def test_a_suspended_execution_is_cancelled(shard):
    shard.accept(1, "a")
    shard.suspend(1, "a")
    assert shard.cancel(1, "a") == (0, None)
    shard.ended(1)
    assert (shard.suspended, shard.unfinished) == (0, 0)


def test_executions_of_one_key_run_one_after_another_and_those_of_other_flows_beside_them(shard):
    for seq, flow, key in ((1, "a", "k"), (2, "a", "k"), (3, "a", "other"), (4, "b", "k"), (5, "a", "")):
        shard.accept(seq, flow, key)
    assert shard.ready == 5
    items = {item.seq: item for item in shard.assign()}
    assert set(items) == {1, 3, 4, 5}
    shard.end(items[1].token)
    assert seqs(shard) == []
    shard.ended(1)
    assert seqs(shard) == [2]


def test_a_key_is_retained_while_its_execution_waits_is_suspended_or_loses_its_runner(shard):
    shard.accept(1, "a", "k")
    shard.accept(2, "a", "k")
    park(shard, 10)
    assert seqs(shard) == []
    shard.wake(10)
    shard.suspend(1, "a")
    assert seqs(shard) == []
    shard.resume(1)
    (item,) = shard.assign()
    shard.losses.release(item.token, charged=True)
    shard.requeued([1])
    (item,) = shard.assign()
    assert item.seq == 1
    shard.end(item.token)
    shard.ended(1)
    assert seqs(shard) == [2]


def test_a_blocked_execution_is_cancelled_and_suspended_without_holding_up_its_key(shard):
    for seq in range(1, 5):
        shard.accept(seq, "a", "k")
    shard.cancel(2, "a")
    shard.ended(2)
    shard.suspend(3, "a")
    (item,) = shard.assign()
    shard.end(item.token)
    shard.ended(1)
    assert seqs(shard) == []  # 3 has its turn, and is suspended
    shard.resume(3)
    (item,) = shard.assign()
    assert item.seq == 3
    shard.end(item.token)
    shard.ended(3)
    assert seqs(shard) == [4]


def test_everything_is_recovered_as_it_was():
    shard = Shard(epoch=2, lease_seconds=6.0, max_attempts=3, reattach_seconds=2.0)
    shard.recover(1, "a", 2, status=Status.WAITING, wake_at_ms=500, order_key="k")
    shard.recover(2, "a", 0, order_key="k")
    shard.recover(3, "a", 1, status=Status.SUSPENDED)
    shard.recover(4, "a", 1, status=Status.WAITING, wake_at_ms=None)
    assert shard.recover(5, "a", 12, order_key="k") == Loss(5, 12, exhausted=True)
    shard.begin(0.0)
    shard.attach("r1", (), explained=True, now=0.0)
    shard.runners.add_credit("r1", 10)
    shard.expire(2.0)
    shard.ended(5)
    assert (shard.waiting, shard.suspended, shard.ready, seqs(shard)) == (2, 1, 1, [])
    assert shard.wake(500) == [1]
    (item,) = shard.assign()
    assert (item.seq, item.attempt) == (1, 2)
    shard.end(item.token)
    shard.ended(1)
    assert seqs(shard) == [2]


def test_order_keys_take_no_memory_once_nothing_has_them(shard):
    for seq in range(100):
        shard.accept(seq, "a", f"k{seq % 10}")
    while items := shard.assign():
        for item in items:
            shard.end(item.token)
            shard.ended(item.seq)
    assert shard.unfinished == 0
    assert not shard.order_keys
