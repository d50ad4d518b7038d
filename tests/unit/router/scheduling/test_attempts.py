"""Attempts: charged, refunded, and limited."""

from __future__ import annotations

import pytest

from router.scheduling.losses import UNCERTAIN_FACTOR, AttemptCounts


@pytest.fixture
def attempts():
    return AttemptCounts(max_attempts=2)


def test_an_execution_without_a_charge_takes_no_memory(attempts):
    attempts.charge(1, 2)
    assert (attempts.charged(1), 1 in attempts, len(attempts)) == (2, True, 1)
    attempts.charge(1, 0)
    assert (attempts.charged(1), 1 in attempts, len(attempts)) == (0, False, 0)


def test_attributed_losses_exhaust_an_execution(attempts):
    attempts.attribute(1)
    assert not attempts.is_exhausted(1, 2)
    attempts.attribute(1)
    assert attempts.is_exhausted(1, 2)
    assert attempts.is_exhausted(1, 0)
    assert not attempts.is_exhausted(2, 2)


def test_losses_without_a_known_cause_exhaust_an_execution_later(attempts):
    assert not attempts.is_exhausted(1, 2 * UNCERTAIN_FACTOR - 1)
    assert attempts.is_exhausted(1, 2 * UNCERTAIN_FACTOR)
    assert not attempts.is_exhausted(1, 0)


def test_an_execution_that_ended_is_forgotten(attempts):
    attempts.charge(1, 1)
    attempts.attribute(1)
    attempts.forget(1)
    assert len(attempts) == 0
