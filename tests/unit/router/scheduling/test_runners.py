"""Runners: credit while attached, and a deadline until they are lost."""

from __future__ import annotations

import pytest

from router.scheduling.leases import MAX_CREDIT, RunnerTable


@pytest.fixture
def runners():
    return RunnerTable(lease_seconds=6.0, reattach_seconds=2.0)


def test_a_runner_is_lost_when_it_does_not_renew_in_time(runners):
    runners.attach("r1", 0.0)
    runners.renew("r1", 1.0)
    assert runners.deadline == 7.0
    assert runners.expire(6.9) == []
    assert [(runner.id, runner.attached) for runner in runners.expire(7.0)] == [("r1", True)]
    assert runners.deadline is None


def test_a_detached_runner_has_no_credit_and_less_time(runners):
    runners.attach("r1", 0.0)
    assert runners.add_credit("r1", 3)
    runners.detach("r1", 1.0)
    runners.return_credit("r1")
    runners.renew("r1", 2.0)
    assert (runners.slots, runners.with_credit(()), runners.deadline) == (0, [], 3.0)
    assert not runners.add_credit("r1", 1)


def test_detaching_does_not_extend_a_deadline(runners):
    runners.attach("r1", 0.0)
    runners.detach("r1", 5.0)
    assert runners.deadline == 6.0


def test_a_runner_that_reattaches_begins_without_credit(runners):
    runner = runners.attach("r1", 0.0)
    assert runners.add_credit("r1", 3)
    assert runners.attach("r1", 1.0) is runner
    assert (runner.credit, runner.deadline) == (0, 7.0)


@pytest.mark.parametrize("credit", [0, -1, MAX_CREDIT + 1])
def test_credit_out_of_bounds_is_refused(runners, credit):
    runners.attach("r1", 0.0)
    assert not runners.add_credit("r1", credit)
    assert not runners.add_credit("unknown", 1)


def test_returned_credit_does_not_exceed_the_limit(runners):
    runners.attach("r1", 0.0)
    assert runners.add_credit("r1", MAX_CREDIT)
    runners.return_credit("r1")
    assert runners.slots == MAX_CREDIT


def test_runners_with_credit_are_listed_except_full_ones(runners):
    for runner_id in ("r1", "r2", "r3"):
        runners.attach(runner_id, 0.0)
    assert runners.add_credit("r1", 1)
    assert runners.add_credit("r2", 1)
    assert [runner.id for runner in runners.with_credit({"r1"})] == ["r2"]
