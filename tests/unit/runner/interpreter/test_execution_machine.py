"""What a turn asks for, calls off and journals: races, moments, and results that come too late."""

from __future__ import annotations

import orjson
import pytest

from flowhook import limits
from runner.interpreter import nodes, tasks
from runner.interpreter.effects import EffectResult, WorkflowCompleted, WorkflowFaulted
from runner.interpreter.errors import Kind, error
from runner.interpreter.execution_machine import HANDLERS
from runner.interpreter.nodes import Node

START = 1_700_000_000_000
CALL = {"call": "f"}
SECOND = {"after": {"seconds": 1}}


def fork(*branches, **more):
    return {"f": {"fork": {"branches": [{f"b{index}": task} for index, task in enumerate(branches)], **more}}}


@pytest.mark.parametrize(
    "loser",
    [
        CALL,
        {"do": [{"c": CALL}, {"next": CALL}]},
        {"do": [{"c": CALL}], "timeout": SECOND},
        {"fork": {"branches": [{"c": CALL}, {"w": {"wait": {"seconds": 5}}}]}},
        {"try": [{"c": CALL}], "catch": {"retry": {"limit": {"attempt": {"count": 3, "duration": "PT1S"}}}}},
    ],
)
def test_what_loses_a_race_is_called_off_whatever_it_is_within(begin, loser):
    begun = begin([fork(loser, CALL, compete=True), {"last": {"wait": {"days": 1}}}])
    lost, won = sorted(begun.effects, key=lambda effect: effect.key)
    assert begun.after(effect=won).cancel == [lost.key]
    assert begun.turn.wake_at_ms == START + 86_400_000
    late = begun.after(seconds=60, effect=lost)
    assert (late.writes, late.perform, late.wake_at_ms) == ((), [], START + 86_400_000)
    assert isinstance(begun.after(seconds=86_340).ending, WorkflowCompleted)


def test_a_branch_that_says_end_ends_the_others_and_the_flow(begin):
    begun = begin([fork(CALL, {"do": [{"c": CALL}, {"out": {"set": {"out": 1}, "then": "end"}}]}), {"never": CALL}])
    assert begun.after(effect=begun.effects[1]).ending == WorkflowCompleted(b'{"out":1}')


def test_a_failure_of_one_branch_calls_off_the_others(begin):
    begun = begin([{"t": {"try": [fork(CALL, CALL)], "catch": {}}}, {"next": {"wait": {"seconds": 1}}}])
    failed = EffectResult(None, error(Kind.COMMUNICATION, "no", status=404))
    assert begun.after(effect=begun.effects[1], result=failed).cancel == [begun.effects[0].key]


def test_no_race_goes_on_when_one_reached_the_limits_of_the_execution(begin, monkeypatch):
    monkeypatch.setattr(tasks, "MAX_TASKS", 10)
    endless = {"do": [{"a": {"set": {"n": 1}, "then": "a"}}]}
    ending = begin([fork({"wait": {"days": 1}}, endless, compete=True)]).turn.ending
    assert isinstance(ending, WorkflowFaulted)
    assert "more than 10 tasks" in ending.error.detail


def test_the_result_of_an_attempt_that_took_too_long_is_not_that_of_the_next_one(begin):
    retry = {"limit": {"attempt": {"count": 1, "duration": {"seconds": 1}}}}
    begun = begin([{"t": {"try": [{"c": CALL}], "catch": {"retry": retry}}}])
    first = begun.effects[0]
    assert begun.after(seconds=1).cancel == [first.key]
    assert begun.keys() == [first.key]
    assert begun.after(effect=first, result=b'"late"').ending is None
    assert begun.after(effect=begun.effects[1], result=b'"good"').ending == WorkflowCompleted(b'"good"')


def test_a_result_that_is_here_counts_before_a_moment_that_has_come(begin):
    begun = begin([{"c": {**CALL, "timeout": SECOND}}])
    assert isinstance(begun.after(seconds=2, effect=begun.effects[0]).ending, WorkflowCompleted)


def test_a_moment_comes_to_the_millisecond(begin):
    begun = begin([{"w": {"wait": {"seconds": 1}}}])
    assert begun.turn.wake_at_ms == START + 1000
    assert begun.after(seconds=0.999).ending is None
    assert isinstance(begun.after(seconds=0.001).ending, WorkflowCompleted)


def test_no_effect_waits_until_its_limit_of_time_is_on_record(begin):
    begun = begin([{"c": {**CALL, "timeout": SECOND}}, {"d": CALL}])
    assert [(write.entry.key, write.binding) for write in begun.turn.writes] == [("/do/0/c#0:timeout", False)]
    begun.after(effect=begun.effects[0])
    assert [(write.entry.key, write.binding) for write in begun.turn.writes] == [("/do/0/c#0", True)]


def test_what_was_called_off_takes_no_room_in_the_journal(begin, monkeypatch):
    monkeypatch.setattr(limits, "MAX_JOURNAL_ENTRIES", 12)
    begun = begin([{"l": {"for": {"in": "[range(10)]"}, "do": [fork(CALL, CALL, compete=True)]}}])
    while begun.turn.ending is None:
        begun.after(effect=begun.turn.perform[1])
    assert isinstance(begun.turn.ending, WorkflowCompleted)


def test_when_a_branch_pauses_changes_nothing_of_the_order(begin):
    def export(name):
        return {
            "set": {"n": 1},
            "export": {"as": f'${{ ($context | if type == "string" then . else "" end) + "{name}" }}'},
        }

    do = [fork({"do": [{"a": export("a")}, {"b": export("b")}]}, export("c")), {"out": {"set": "${ $context }"}}]
    for pauses in range(12):
        countdown = iter([False] * pauses + [True])
        begun = begin(do, overdue=lambda countdown=countdown: next(countdown, False))
        while begun.turn.paused:
            begun.after()
        assert begun.turn.ending == WorkflowCompleted(b'"abc"')


def test_a_reply_goes_with_the_entry_of_its_call_only(begin):
    begun = begin([{"r": {"call": "reply"}}, {"c": CALL}])
    reply = object()
    begun.after(effect=begun.effects[0], result=EffectResult(b"{}", reply=reply))
    assert [write.reply for write in begun.turn.writes] == [reply]
    begun.after(effect=begun.effects[1])
    assert [write.reply for write in begun.turn.writes] == [None]
    assert orjson.loads(begun.turn.ending.output) == {"n": 1}


def test_a_failure_that_ends_a_race_is_on_record_as_what_decided_it(begin):
    begun = begin([fork(CALL, {"do": [{"c": CALL}]})])
    failed = error(Kind.COMMUNICATION, "no", status=404)
    assert isinstance(begun.after(effect=begun.effects[1], result=EffectResult(None, failed)).ending, WorkflowFaulted)
    assert [write.entry.error for write in begun.turn.writes] == [failed]


def test_each_kind_of_task_has_exactly_one_handler():
    defined = vars(nodes).values()
    classes = [value for value in defined if isinstance(value, type) and issubclass(value, Node)]
    kinds = [kind for kind in classes if not any(kind in other.__bases__ for other in classes)]
    assert sorted([*HANDLERS.evaluate, *HANDLERS.execute], key=str) == sorted(kinds, key=str)
