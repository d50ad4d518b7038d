"""The router's time in a runner, whatever the runner's own clock shows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.session import RouterClock


class Machine:
    """A monotonic clock that the test sets, and a wall clock that is wrong by years."""

    def __init__(self):
        self.now = 10.0
        self.clock = RouterClock(lambda: self.now, lambda: 1.0)


@pytest.fixture
def machine():
    return Machine()


def test_the_own_clock_is_told_until_the_router_said_its_time(machine):
    assert machine.clock.now_ms() == 1_000


def test_time_goes_on_from_what_the_router_said(machine):
    machine.clock.attached(500_000, machine.now)
    machine.now += 2.5
    assert machine.clock.now_ms() == 502_500


def test_what_the_router_ended_at_its_time_is_over_here(machine):
    machine.clock.attached(500_000, machine.now)
    machine.now += 1.0
    machine.clock.read(501_400, machine.now)  # the first message was 0.4 s on its way
    assert machine.clock.now_ms() == 501_400
    machine.clock.read(501_300, machine.now)  # this one was later
    assert machine.clock.now_ms() == 501_400


def test_an_answer_corrects_a_clock_that_was_set_back(machine):
    machine.clock.attached(500_000, machine.now)
    asked = machine.now
    machine.now += 0.5
    machine.clock.read(440_500, machine.now)
    machine.clock.answered(440_500, asked)
    assert 440_500 <= machine.clock.now_ms() <= 441_001


def test_another_router_has_another_time(machine):
    machine.clock.attached(500_000, machine.now)
    machine.clock.attached(440_000, machine.now)
    assert machine.clock.now_ms() == 440_000


@given(
    skew=st.floats(-1e9, 1e9),
    trips=st.lists(st.tuples(st.floats(0, 5), st.floats(0, 5), st.floats(0, 30)), min_size=1, max_size=20),
)
def test_it_is_never_off_by_more_than_the_last_round_trip(skew, trips):
    machine = Machine()
    router_ms = lambda: int((machine.now + skew) * 1000)  # noqa: E731
    machine.clock.attached(router_ms(), machine.now)
    for there, back, idle in trips:
        asked = machine.now
        machine.now += there
        sent = router_ms()
        machine.now += back
        machine.clock.read(sent, machine.now)
        machine.clock.answered(sent, asked)
        assert sent - 1 <= machine.clock.now_ms()
        assert abs(machine.clock.now_ms() - router_ms()) <= (there + back) * 1000 + 2
        machine.now += idle
