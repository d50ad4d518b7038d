"""Which flows are in quarantine, with a clock of the test's."""

from __future__ import annotations

import pytest
from support.clocks import Clock

from runner.guard.watchdog import QUARANTINE_SECONDS
from runner.quarantine.quarantined_flows import MAX_FLOWS, SLOW_SECONDS, QuarantinedFlows


@pytest.fixture
def clock():
    return Clock()


def test_a_flow_is_in_quarantine_for_a_while_after_it_was_slow(clock):
    flows = QuarantinedFlows(clock)
    assert "slow" not in flows
    flows.add("slow")
    clock.now = SLOW_SECONDS - 1
    assert "slow" in flows
    assert "other" not in flows
    flows.add("slow")  # once more
    clock.now = 2 * SLOW_SECONDS - 2
    assert "slow" in flows
    clock.now = 2 * SLOW_SECONDS
    assert "slow" not in flows
    assert len(flows) == 0


def test_one_of_which_something_was_killed_stays_for_longer_however_quick_it_is_then(clock):
    reported = []
    flows = QuarantinedFlows(clock, on_added=lambda *added: reported.append(added))
    flows.add("killed", QUARANTINE_SECONDS)
    flows.add("killed")
    clock.now = QUARANTINE_SECONDS - 1
    assert "killed" in flows
    assert reported == [("killed", QUARANTINE_SECONDS)]


def test_what_is_known_from_before_stays_for_as_long_as_it_had_left(clock):
    flows = QuarantinedFlows(clock, {"known": 5.0})
    clock.now = 4.9
    assert "known" in flows
    clock.now = 5.0
    assert "known" not in flows


def test_there_are_so_many_at_a_time_and_the_first_to_leave_gives_way(clock):
    flows = QuarantinedFlows(clock, {"killed": QUARANTINE_SECONDS})
    for number in range(MAX_FLOWS):
        clock.now += 0.001
        flows.add(f"slow-{number}")
    assert len(flows) == MAX_FLOWS
    assert "killed" in flows
    assert "slow-0" not in flows
    assert "slow-1" in flows
