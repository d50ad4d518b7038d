"""The scheduling core, example by example: what a restart finds, and who may go on with it."""

from __future__ import annotations

import pytest
from support.cores import LEASE, REATTACH, accept, attach, make_shard, on_record

from router.scheduling.changes import Exhausted
from router.scheduling.shard import Shard


@pytest.fixture
def shard():
    return make_shard()


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
