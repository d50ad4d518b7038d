"""An address that guesses waits; others do not."""

from __future__ import annotations

import pytest

from admin.security import login_limiter
from admin.security.login_limiter import BURST, SECONDS_PER_ATTEMPT, LoginLimiter


@pytest.fixture
def limiter():
    return LoginLimiter()


def spend(limiter, address, now=0.0):
    assert [limiter.attempt(address, now) for _ in range(BURST)] == [0] * BURST


def test_after_a_burst_an_address_waits(limiter):
    spend(limiter, "192.0.2.1")
    assert limiter.attempt("192.0.2.1", 0.0) == SECONDS_PER_ATTEMPT
    assert limiter.attempt("192.0.2.1", SECONDS_PER_ATTEMPT) == 0
    assert limiter.attempt("192.0.2.1", SECONDS_PER_ATTEMPT) > 0


def test_others_do_not_wait(limiter):
    spend(limiter, "192.0.2.1")
    assert limiter.attempt("192.0.2.2", 0.0) == 0


def test_a_valid_token_does_not_count_and_makes_no_other_attempt_undone(limiter):
    spend(limiter, "192.0.2.1")
    limiter.give_back("192.0.2.1")
    assert limiter.attempt("192.0.2.1", 0.0) == 0
    assert limiter.attempt("192.0.2.1", 0.0) > 0
    limiter.give_back("192.0.2.9")


@pytest.mark.parametrize(
    ("one", "other"),
    [("2001:db8::1", "2001:db8::ffff:2"), ("::ffff:192.0.2.1", "::ffff:192.0.2.1"), ("fe80::1%eth0", "fe80::2%eth0")],
)
def test_addresses_of_one_network_count_together(limiter, one, other):
    spend(limiter, one)
    assert limiter.attempt(other, 0.0) > 0


@pytest.mark.parametrize(
    ("one", "other"), [("2001:db8::1", "2001:db8:0:1::1"), ("::ffff:192.0.2.1", "::ffff:192.0.2.2"), ("", "0.0.0.0")]
)
def test_addresses_of_several_networks_do_not(limiter, one, other):
    spend(limiter, one)
    assert limiter.attempt(other, 0.0) == 0


def test_what_is_remembered_is_bounded(limiter, monkeypatch):
    monkeypatch.setattr(login_limiter, "MAX_ADDRESSES", 2)
    spend(limiter, "192.0.2.1")
    limiter.attempt("192.0.2.2", 0.0)
    limiter.attempt("192.0.2.1", 0.0)  # used again: .2 is now the oldest
    limiter.attempt("192.0.2.3", 0.0)
    assert limiter.attempt("192.0.2.1", 0.0) > 0
    assert len(limiter._buckets) == 2
