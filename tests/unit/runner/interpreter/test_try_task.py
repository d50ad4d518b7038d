"""What a `try` catches, and what a retry of it is called by."""

from __future__ import annotations

import orjson
import pytest

from flowhook.model import JournalEntry
from runner.interpreter.effects import EffectResult
from runner.interpreter.errors import Kind, error

CALL = {"call": "f"}
AWAY = EffectResult(None, error(Kind.COMMUNICATION, "away", status=503))
NO = EffectResult(None, error(Kind.RUNTIME, "no"))


def failing(execute, *numbers):
    """Return a world in which the calls of these numbers, from 0, fail."""

    def answer(_effect):
        return NO if len(world.performed) - 1 in numbers else EffectResult(orjson.dumps({"n": len(world.performed)}))

    world = execute.World({"f": answer})
    return world


def test_whether_a_try_takes_an_error_is_judged_by_what_the_flow_knows_when_it_comes(execute):
    known = {"set": {"n": 1}, "export": {"as": "{known: true}"}}
    tries = {"try": [{"k": known}, {"a": CALL}], "catch": {"when": "$context.known", "do": []}}
    world = execute.World({"f": AWAY})
    assert execute([{"t": tries}], {"n": 7}, world=world).output == {"n": 7}
    assert len(world.performed) == 1  # a call is tried again by itself only where no try takes its error


def test_whether_there_is_a_retry_is_judged_by_what_the_flow_knows_then(execute):
    known = {"set": {"n": 1}, "export": {"as": "{known: true}"}}
    retry = {"when": "$context.known | not", "limit": {"attempt": {"count": 3}}}
    world = failing(execute, 0)
    assert execute([{"t": {"try": [{"k": known}, {"a": CALL}], "catch": {"retry": retry}}}], {}, world=world).error
    assert len(world.performed) == 1


RETRY = {"retry": {"limit": {"attempt": {"count": 3}}}}
FOR_TWO = {"for": {"in": "[1, 2]"}}


@pytest.mark.parametrize(
    ("tries", "keys"),
    [
        ([{"a": CALL}, {"b": CALL}], ["a", "b", "a", "b"]),
        ([{"a": {"do": [{"c": CALL}]}}, {"b": CALL}], ["a/do/0/c", "b", "a/do/0/c", "b"]),
        ([{"a": {**FOR_TWO, "do": [{"c": CALL}]}}], ["a/do/0/c[0]", "a/do/0/c[1]", "a/do/0/c[0]", "a/do/0/c[1]"]),
    ],
)
def test_a_retry_is_called_by_the_keys_of_the_first_try_and_the_next_visit_by_new_ones(execute, tries, keys):
    count = {"set": {"n": 1}, "export": {"as": "if $context == 1 then 2 else 1 end"}}
    again = {"switch": [{"again": {"when": "$context == 1", "then": "t"}}]}
    world = failing(execute, 1, 5)
    execute([{"t": {"try": tries, "catch": RETRY}}, {"count": count}, {"again": again}], {}, world=world)
    places = [f"/do/0/t/try/{0 if key.startswith('a') else 1}/{key}" for key in keys]
    assert [effect.key for effect in world.performed] == [f"{place}#{visit}" for visit in (0, 1) for place in places]


def test_a_retry_within_a_function_keeps_its_keys(execute):
    own = {"functions": {"own": {"try": [{"a": CALL}], "catch": RETRY}}}
    world = failing(execute, 0)
    execute([{"x": {"call": "own"}}], {}, world=world, use=own)
    assert [effect.key for effect in world.performed] == ["/do/0/x#0 /use/functions/own/try/0/a#0"] * 2


def test_a_call_is_not_tried_again_by_itself_where_a_try_further_out_takes_its_error(execute):
    inner = {"try": [{"a": CALL}], "catch": {"errors": {"with": {"status": 404}}}}
    world = execute.World({"f": AWAY})
    tries = {"try": [{"t": inner}], "catch": {"errors": {"with": {"status": 503}}}}
    assert execute([{"o": tries}], {"n": 7}, world=world).output == {"n": 7}
    assert len(world.performed) == 1


def test_what_fails_while_an_error_is_handled_is_not_taken_by_the_same_try(execute):
    world = execute.World({"f": AWAY})
    tries = {"try": [{"r": {"raise": {"error": "own"}}}], "catch": {"do": [{"a": CALL}]}}
    outcome = execute([{"t": tries}], {}, world=world, use={"errors": {"own": {"type": "a:b", "status": 400}}})
    assert outcome.error.status == 503
    assert len(world.performed) == 14


def test_an_error_raised_under_an_earlier_name_of_its_type_is_caught_under_the_present_one(execute):
    raised = {"type": "https://serverlessworkflow.io/dsl/errors/types/timeout", "status": 408}
    catch = {"errors": {"with": {"type": "https://open-workflow-specification.org/spec/1.0.0/errors/timeout"}}}
    tries = {"try": [{"r": {"raise": {"error": raised}}}], "catch": catch}
    assert execute([{"t": tries}], {"n": 7}).output == {"n": 7}


def test_one_try_of_a_call_takes_no_longer_than_its_policy_says(execute):
    call = {**CALL, "timeout": {"after": {"seconds": 60}}}
    policies = [{"limit": {"attempt": {"count": 1, "duration": {"seconds": seconds}}}} for seconds in (5, 0)]
    limited = [{f"b{index}": {**call, "metadata": {"retry": policy}}} for index, policy in enumerate(policies)]
    world = execute([{"a": call}, *limited], {}).world
    assert [effect.timeout for effect in world.performed] == [60, 5, 0]


def early(key):
    """The entry by which an operator ends a wait, as the router writes it."""
    return JournalEntry(key, b'{"over":1700000002000,"early":true}')


def test_of_waits_that_an_operator_ends_at_once_those_are_void_that_the_first_one_cancels(execute):
    """The first try of `pure` ends its race without any effect; so the wait of `other` is over before its entry."""
    hour = {"retry": {"delay": {"hours": 1}, "limit": {"attempt": {"count": 3}}}}
    attempts = {"set": {"n": 1}, "export": {"as": "{tries: (($context.tries // 0) + 1)}"}}
    fails = {"if": "$context.tries < 2", "raise": {"error": {"type": "https://e.com/x", "status": 500, "title": "t"}}}
    pure = {"try": [{"count": attempts}, {"fails": fails}], "catch": hour}
    other = {"try": [{"call": CALL}], "catch": hour}
    do = [
        {"race": {"fork": {"compete": True, "branches": [{"pure": pure}, {"other": other}]}}},
        {"last": {"call": "g"}},
    ]
    world = execute.World({"f": AWAY})
    waiting = execute(do, {}, world=world, stop_after=3)
    keys = sorted(
        (entry.key for entry in waiting.journal if entry.key.endswith(":retry")), key=lambda key: "pure" not in key
    )
    assert len(keys) == 2
    for tail in (do, do[:1]):  # with something after the race, and without
        outcome = execute(tail, {}, world=world, journal=(*waiting.journal, *map(early, keys)))
        assert outcome.step is not None
        assert outcome.output is not None


FAILED = {"raise": {"error": {"type": "https://example.com/errors/own", "status": 409}}}
MARKED = "${ .seen + [$task.name] }"


@pytest.mark.parametrize(
    ("then", "seen"),
    [
        (None, ["h", "next", "other"]),
        ("continue", ["h", "own", "next", "other"]),
        ("other", ["h", "other"]),
        ("exit", ["h"]),
        ("end", ["h"]),
    ],
)
@pytest.mark.parametrize("retry", [{}, RETRY])
def test_after_an_error_was_handled_the_flow_goes_where_catch_says(execute, then, seen, retry):
    mark = {"set": {"seen": MARKED}}
    tries = {"try": [{"r": FAILED}], "catch": {**retry, "do": [{"h": mark}]}, "then": "next"}
    if then is not None:
        tries["catch"]["then"] = then
    do = [{"t": tries}, {"own": mark}, {"next": mark}, {"other": mark}]
    assert execute(do, {"seen": []}).output == {"seen": seen}
    without = {**tries, "catch": {key: value for key, value in tries["catch"].items() if key != "do"}}
    if then is not None:  # else the error is raised again after the last retry
        assert execute([{"t": without}, *do[1:]], {"seen": []}).output == {"seen": seen[1:]}


def test_a_directive_of_catch_is_that_of_its_own_list_only(execute):
    mark = {"set": {"seen": MARKED}}
    inner = {"do": [{"t": {"try": [{"r": FAILED}], "catch": {"then": "exit"}}}, {"x": mark}]}
    assert execute([{"in": inner}, {"after": mark}], {"seen": []}).output == {"seen": ["after"]}
    looped = {"for": {"in": "[1, 2]"}, "do": [{"t": {"try": [{"r": FAILED}], "catch": {"then": "exit"}}}, {"x": mark}]}
    assert execute([{"in": looped}, {"after": mark}], {"seen": []}).output == {"seen": ["after"]}
    ended = {**looped, "do": [{"t": {"try": [{"r": FAILED}], "catch": {"then": "end"}}}]}
    assert execute([{"in": ended}, {"after": mark}], {"seen": []}).output == {"seen": []}


def test_the_then_of_catch_is_not_taken_without_an_error(execute):
    tries = {"try": [{"a": {"set": {"n": 1}}}], "catch": {"then": "end"}}
    assert execute([{"t": tries}, {"b": {"set": {"n": "${ .n + 1 }"}}}], {}).output == {"n": 2}
    limited = {**tries, "timeout": {"after": {"seconds": 5}}, "try": [{"r": FAILED}]}
    assert execute([{"t": limited}, {"b": {"set": {"n": 2}}}], {"n": 0}).output == {"n": 0}
