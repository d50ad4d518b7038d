"""The order in which fibers run, what they wait for, and what is cancelled with a group."""

from __future__ import annotations

import pytest

from runner.interpreter.effects import EffectResult, Perform
from runner.interpreter.errors import Kind, TaskFault, fault
from runner.interpreter.fibers import FiberScheduler
from runner.interpreter.requests import PAUSE, BranchResult, Now, RunBranches, WithTimeout


def effect(key):
    return Perform(key=key, function="f", arguments={}, instance="/do")


def branch(key, *, ends=False):
    result = yield effect(key)
    return BranchResult(result.output, ends)


def forked(*keys, compete=False):
    return (yield RunBranches([branch(key) for key in keys], compete))


def keys(effects):
    return [pending.request.key for pending in effects]


def perform_all(fibers):
    effects = [pending for pending, _ in fibers.take_new_effects()]
    for pending in effects:
        pending.performed = True
        fibers.performing += 1
    return effects


def test_a_pause_lets_others_run_and_continues_in_its_turn():
    def steps():
        yield PAUSE
        return "done"

    fibers = FiberScheduler(steps())
    assert not fibers.run()
    assert fibers.has_ready
    assert fibers.run()
    assert (fibers.is_over, fibers.result()) == (True, "done")


def test_branches_are_answered_in_any_order_and_their_results_keep_theirs():
    fibers = FiberScheduler(forked("a", "b"))
    assert fibers.run()
    (first, _), (second, _) = fibers.take_new_effects()
    assert keys([first, second]) == ["a", "b"]
    assert fibers.take_new_effects() == []
    fibers.answer(second, EffectResult(b"2"))
    assert fibers.run()
    assert not fibers.is_over
    fibers.answer(first, EffectResult(b"1"))
    assert fibers.run()
    assert [result.output for result in fibers.result()] == [b"1", b"2"]


def test_the_winner_of_a_race_cancels_what_the_others_perform():
    fibers = FiberScheduler(forked("a", "b", compete=True))
    fibers.run()
    lost, won = perform_all(fibers)
    fibers.answer(won, EffectResult(b"2"))
    fibers.run()
    assert [result.output for result in fibers.result()] == [b"2"]
    assert (fibers.take_cancelled(), fibers.take_cancelled()) == (["a"], [])
    assert not fibers.is_pending(lost)
    assert (fibers.pending, fibers.performing) == ({}, 0)


def test_an_effect_that_is_cancelled_before_it_is_taken_is_never_requested():
    def steps():
        yield RunBranches([branch("a"), failing()])

    def failing():
        raise fault(Kind.RUNTIME, "no")
        yield

    fibers = FiberScheduler(steps())
    fibers.run()
    assert (fibers.take_new_effects(), fibers.take_cancelled()) == ([], [])
    with pytest.raises(TaskFault, match="no"):
        fibers.result()


def test_a_timeout_is_raised_where_it_was_requested():
    def steps():
        try:
            yield WithTimeout(branch("a"), "limit", 1000, "/do")
        except TaskFault as problem:
            return str(problem)

    fibers = FiberScheduler(steps())
    fibers.run()
    perform_all(fibers)
    (limit,) = fibers.undated
    fibers.answer_group(limit.group, None, fault(Kind.TIMEOUT, "too late"))
    fibers.run()
    assert (fibers.result(), fibers.take_cancelled(), fibers.pending) == ("too late", ["a"], {})


def test_readings_of_the_clock_are_listed_in_the_order_of_request():
    def now(key):
        return BranchResult((yield Now(key)))

    def steps():
        return (yield RunBranches([now("b"), now("a")]))

    fibers = FiberScheduler(steps())
    fibers.run()
    assert keys(fibers.undated) == ["b", "a"]
