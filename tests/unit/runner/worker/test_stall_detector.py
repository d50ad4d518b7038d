"""A stall is noticed by whichever comes first, a tick or a check, and once."""

import asyncio

import pytest
from support.clocks import Clock

from runner.worker.execution_driver import STALL_SECONDS, StallDetector


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def stalls():
    return []


@pytest.fixture
def detector(clock, stalls):
    return StallDetector(clock, stalls.append)


def test_time_that_is_ticked_through_is_no_stall(detector, clock, stalls):
    for _ in range(10):
        clock.now += STALL_SECONDS
        detector.check()
    assert stalls == []


def test_a_check_after_a_stall_notices_it_once(detector, clock, stalls):
    clock.now += STALL_SECONDS + 0.1
    detector.check()
    detector.check()
    assert stalls == [clock.now]


async def test_a_tick_after_a_stall_notices_it(detector, clock, stalls):
    clock.now += STALL_SECONDS + 0.1
    ticking = asyncio.create_task(detector.run())
    await asyncio.sleep(0)
    ticking.cancel()
    assert stalls == [clock.now]
