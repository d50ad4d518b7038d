"""Leases: one for each execution, fenced by tokens and terms."""

from __future__ import annotations

import pytest

from router.scheduling.leases import LeaseTable, Runner
from router.scheduling.queues import FlowQueue


@pytest.fixture
def runner():
    return Runner("r1", deadline=6.0)


@pytest.fixture
def queue():
    return FlowQueue("a")


def test_a_lease_is_found_by_its_token_and_by_its_execution(runner, queue):
    leases = LeaseTable(epoch=1)
    lease = leases.grant(7, queue, runner, 3)
    assert leases.get(lease.token) is leases.of(7) is runner.leases[lease.token] is lease
    assert (leases.seq_of(lease.token), leases.attempt_of(7), len(leases)) == (7, 3, 1)


@pytest.mark.parametrize("end", ["release", "void"])
def test_a_lease_that_ended_is_listed_nowhere(runner, queue, end):
    leases = LeaseTable(epoch=1)
    lease = leases.grant(7, queue, runner, 1)
    assert getattr(leases, end)(lease.token) is lease
    assert getattr(leases, end)(lease.token) is None
    assert (leases.get(lease.token), leases.of(7), leases.attempt_of(7), runner.leases) == (None, None, None, {})


def test_a_void_lease_begins_a_new_term_and_a_released_one_does_not(runner, queue):
    leases = LeaseTable(epoch=1)
    leases.release(leases.grant(7, queue, runner, 1).token)
    assert leases.term_of(7) == 0
    leases.void(leases.grant(7, queue, runner, 1).token)
    assert leases.term_of(7) == 1
    leases.forget(7)
    assert leases.term_of(7) == 0


def test_no_two_tokens_are_equal(runner, queue):
    tables = [LeaseTable(epoch=1), LeaseTable(epoch=2)]
    tokens = [table.grant(7, queue, runner, 1).token for table in tables for _ in range(3)]
    assert len(set(tokens)) == 6


@pytest.mark.parametrize(("stored_term", "claimed"), [(0, 7), (1, None)])
def test_a_token_of_the_stored_term_claims_an_execution_in_a_later_epoch(runner, queue, stored_term, claimed):
    token = LeaseTable(epoch=1).grant(7, queue, runner, 1).token
    later = LeaseTable(epoch=2)
    later.recover(7, stored_term)
    assert later.claimable_by(token) == claimed


def test_a_token_claims_nothing_in_its_own_epoch_nor_what_was_not_recovered(runner, queue):
    leases = LeaseTable(epoch=1)
    token = leases.grant(7, queue, runner, 1).token
    assert leases.claimable_by(token) is None
    assert LeaseTable(epoch=2).claimable_by(token) is None
    assert leases.claimable_by(b"short") is None


def test_an_adopted_lease_is_valid_again(runner, queue):
    token = LeaseTable(epoch=1).grant(7, queue, runner, 1).token
    later = LeaseTable(epoch=2)
    later.recover(7, 0)
    later.adopt(token, 7, queue, runner, 2)
    assert (later.seq_of(token), later.attempt_of(7)) == (7, 2)
    later.void(token)
    assert later.claimable_by(token) is None
