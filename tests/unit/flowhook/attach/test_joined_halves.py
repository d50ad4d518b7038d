"""The two halves of Attach, joined: whatever breaks and whenever, nothing is lost and nothing is done twice."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.attach_link import CALL, PARK, TELL, WAIT, JoinedHalves
from support.cases import cases
from support.examples import examples

PROGRAMS = [[CALL, TELL, CALL], [CALL, WAIT, CALL], [], [PARK, CALL], [WAIT, PARK, WAIT], [TELL, TELL]]


def run(seed, *steps, fault=JoinedHalves.cut):
    """Run the programs in an order that `seed` chooses, with a fault after each of some numbers of steps."""
    world = JoinedHalves(Random(seed), PROGRAMS)
    for step in steps:
        while world.steps < step:
            world.step()
        fault(world)
    world.finish()
    world.check()
    return world


@cases("seed", range(20))
def test_executions_run_to_their_ends(seed):
    world = run(seed)
    assert set(world.performed.values()) == {1}
    assert sum(world.router.consumed.values()) == 5


@pytest.mark.parametrize("seed", range(2))
def test_a_link_may_be_cut_after_each_step(seed):
    for cut in range(run(seed).steps):
        assert set(run(seed, cut).performed.values()) == {1}


def test_a_link_may_be_cut_twice_after_any_steps():
    steps = run(0).steps
    for first in range(0, steps, 13):
        for second in range(first, steps, 11):
            assert set(run(0, first, second).performed.values()) == {1}


@pytest.mark.parametrize("seed", range(2))
def test_a_runner_may_crash_after_each_step(seed):
    for step in range(run(seed).steps):
        run(seed, step, fault=JoinedHalves.crash)


@pytest.mark.parametrize("seed", range(2))
def test_a_runner_may_stall_after_each_step(seed):
    for step in range(run(seed).steps):
        run(seed, step, fault=JoinedHalves.stall)


@pytest.mark.parametrize("seed", range(2))
def test_an_execution_may_be_cancelled_and_its_revocation_lost_after_each_step(seed):
    def cancel_and_cut(world):
        if number not in world.router.ended:
            world.router.cancel(number)
        world.cut()

    for step in range(run(seed).steps):
        number = step % len(PROGRAMS)
        run(seed, step, fault=cancel_and_cut)


@settings(max_examples=examples(100), deadline=None)
@given(seed=st.integers(0, 2**32 - 1), programs=st.lists(st.lists(st.sampled_from([CALL, TELL, WAIT, PARK]))))
def test_anything_may_happen_at_any_time(seed, programs):
    random = Random(seed)
    world = JoinedHalves(random, programs)
    for _ in range(random.randrange(10)):
        for _ in range(random.randrange(60)):
            world.step()
        match random.choice(["cut", "crash", "stall", "cancel"]):
            case "cut":
                world.cut()
            case "crash":
                world.crash()
            case "stall":
                world.stall()
            case "cancel" if programs:
                number = random.randrange(len(programs))
                if number not in world.router.ended:
                    world.router.cancel(number)
    world.finish()
    world.check()
