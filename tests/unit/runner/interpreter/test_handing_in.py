"""Results that are journaled before anything is computed with them."""

from __future__ import annotations

from runner.interpreter.effects import EffectResult, WorkflowCompleted
from runner.interpreter.errors import Kind, error


def call(**more):
    return {"call": "http", "with": {"method": "get", "endpoint": "http://x"}, **more}


def fork(*, compete=False):
    branches = [{name: {"do": [{"ask": call()}, {"then": {"set": {"from": name}}}]}} for name in ("a", "b")]
    return [{"all": {"fork": {"compete": compete, "branches": branches}}}]


def keys(writes):
    return [write.entry.key for write in writes]


def test_a_result_is_to_be_written_before_the_run_goes_on_and_not_again(begin):
    begun = begin([{"ask": call()}, {"next": call()}])
    (effect,) = begun.effects
    assert keys(begun.run.queue_result(effect, EffectResult(b'{"n":1}'))) == ["/do/0/ask#0"]
    assert begun.run.has_pending_input
    turn = begun.after()
    assert (keys(turn.writes), begun.keys()) == ([], ["/do/1/next#0"])
    assert not begun.run.has_pending_input


def test_of_two_results_the_second_is_written_when_it_is_its_turn(begin):
    begun = begin(fork())
    first, second = begun.effects
    assert keys(begun.run.queue_result(first, EffectResult(b"1"))) == [first.key]
    assert keys(begun.run.queue_result(second, EffectResult(b"2"))) == []
    turn = begun.after()
    assert keys(turn.writes) == [second.key]
    assert isinstance(turn.ending, WorkflowCompleted)


def test_one_that_lost_a_race_before_it_was_looked_at_is_not_written(begin):
    begun = begin(fork(compete=True))
    first, second = begun.effects
    begun.run.queue_result(first, EffectResult(b"1"))
    assert keys(begun.run.queue_result(second, EffectResult(b"2"))) == []
    turn = begun.after()
    assert (keys(turn.writes), turn.ending) == ([], WorkflowCompleted(b'{"from":"a"}'))


def test_while_the_run_pauses_a_result_waits_for_its_turn(begin):
    is_overdue = False
    begun = begin(fork(), overdue=lambda: is_overdue)
    first, second = begun.effects
    is_overdue = True
    assert begun.after(effect=second).paused
    assert keys(begun.run.queue_result(first, EffectResult(b"1"))) == []
    is_overdue = False
    assert keys(begun.after().writes) == [first.key]


def test_one_that_nobody_waits_for_any_more_is_passed_over(begin):
    begun = begin([{"ask": call(timeout={"after": {"seconds": 1}})}, {"next": call()}])
    (effect,) = begun.effects
    begun.after(seconds=2)
    assert keys(begun.run.queue_result(effect, EffectResult(b"1"))) == []


def test_a_moment_that_has_passed_meanwhile_does_not_take_it_back(begin, execute):
    tasks = [{"ask": call(timeout={"after": {"seconds": 1}})}]
    begun = begin(tasks)
    (effect,) = begun.effects
    written = [write.entry for write in begun.turn.writes]
    written += [write.entry for write in begun.run.queue_result(effect, EffectResult(b'"yes"'))]
    turn = begun.after(seconds=2)
    assert turn.ending == WorkflowCompleted(b'"yes"')
    assert keys(turn.writes) == []
    assert execute(tasks, {"n": 0}, journal=written).output == "yes"


def test_an_error_that_nothing_catches_is_not_written(begin):
    begun = begin([{"ask": call()}])
    (effect,) = begun.effects
    assert keys(begun.run.queue_result(effect, EffectResult(None, error(Kind.RUNTIME, "no")))) == []
    assert begun.after().ending.error.detail == "no"
