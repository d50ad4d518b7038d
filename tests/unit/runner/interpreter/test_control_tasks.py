"""Loops, forks and functions: what they hand on, how effects within them are called, and what ends with them."""

from __future__ import annotations

import pytest

from flowhook import limits
from runner.interpreter.effects import EffectResult
from runner.interpreter.errors import Kind, error

CALL = {"call": "f"}
END = {"set": {"out": 1}, "then": "end"}
NEVER = {"never": CALL}


def keys(outcome):
    return [effect.key for effect in outcome.world.performed]


def functions(**own):
    return {"use": {"functions": own}}


def test_effects_in_loops_are_distinguished_by_the_indexes_of_all_of_them(execute):
    inner = {"for": {"in": "[range($item)]", "each": "x"}, "do": [{"c": CALL}]}
    outcome = execute([{"l": {"for": {"in": "[1, 2]"}, "do": [{"i": inner}, {"d": CALL}]}}], {})
    deep, flat = "/do/0/l/do/0/i/do/0/c", "/do/0/l/do/1/d"
    assert keys(outcome) == [f"{deep}[0][0]#0", f"{flat}[0]#0", f"{deep}[1][0]#0", f"{deep}[1][1]#0", f"{flat}[1]#0"]


def test_effects_in_functions_are_distinguished_by_their_calls(execute):
    own = functions(
        outer={"do": [{"a": {"call": "inner"}}, {"b": {"call": "inner"}}]},
        inner={"for": {"in": "[1, 2]"}, "do": [{"c": CALL}]},
    )
    outcome = execute([{"l": {"for": {"in": "[1, 2]"}, "do": [{"x": {"call": "outer"}}]}}], {}, **own)
    assert keys(outcome) == [
        f"/do/0/l/do/0/x[{loop}]#0 /use/functions/outer/do/{call}#0 /use/functions/inner/do/0/c[{index}]#0"
        for loop in (0, 1)
        for call in ("0/a", "1/b")
        for index in (0, 1)
    ]


def test_a_function_sees_no_variables_of_its_caller(execute):
    own = functions(peek={"set": {"seen": "${ $item }"}})
    outcome = execute([{"l": {"for": {"in": "[1]"}, "do": [{"x": {"call": "peek"}}]}}], {}, **own)
    assert (outcome.error.status, outcome.error.instance) == (400, "/use/functions/peek")


@pytest.mark.parametrize(
    "task",
    [
        {"do": [{"e": END}, NEVER]},
        {"for": {"in": "[1, 2]"}, "do": [{"e": END}, NEVER]},
        {"try": [{"e": END}, NEVER], "catch": {}},
        {"try": [{"r": {"raise": {"error": "own"}}}], "catch": {"do": [{"e": END}, NEVER]}},
        {"call": "ending"},
        {"fork": {"branches": [{"b": {"do": [{"e": END}, NEVER]}}, {"w": {"wait": {"days": 1}}}]}},
        {"do": [{"e": END}, NEVER], "timeout": {"after": {"days": 1}}},
    ],
)
def test_end_ends_the_flow_from_within_whatever_it_stands_in(execute, task):
    use = {"functions": {"ending": {"do": [{"e": END}, NEVER]}}, "errors": {"own": {"type": "a:b", "status": 400}}}
    outcome = execute([{"t": task}, NEVER], {}, use=use)
    assert (outcome.output, outcome.world.performed) == ({"out": 1}, [])


def test_while_sees_the_context_that_the_iteration_before_left(execute):
    body = [{"c": {"set": {"n": "${ $index }"}, "export": {"as": "{seen: $index}"}}}]
    loop = {"for": {"in": "[range(9)]"}, "while": "$context.seen != 2", "do": body}
    assert execute([{"l": loop}], {}).output == {"n": 2}


def test_item_and_index_end_with_their_loop(execute):
    loop = {"for": {"in": "[1]"}, "while": "true", "do": [{"c": {"set": {"n": 1}}}], "output": {"as": "$item"}}
    assert execute([{"l": loop}], {}).error.instance == "/do/0/l"


def test_a_long_loop_lets_others_run_although_it_does_nothing(execute):
    assert execute([{"l": {"for": {"in": "[range(5000)]"}, "do": []}}], {}).turns == 5


def test_the_outputs_of_branches_together_are_no_larger_than_one_may_be(execute):
    half = {"set": {"x": f'${{ "x" * {limits.MAX_RESULT_BYTES // 2} }}'}}
    problem = execute([{"f": {"fork": {"branches": [{"a": half}, {"b": half}]}}}], {}).error
    assert (problem.status, problem.instance) == (500, "/do/0/f")


@pytest.mark.parametrize("outer", [True, False])
def test_a_competitor_that_fails_leaves_the_race_to_the_others(execute, outer):
    answers = {"f": EffectResult(None, error(Kind.RUNTIME, "no")), "g": {"n": 1}}
    losing = {"do": [{"l": {"fork": {"branches": [{"c": CALL}], "compete": not outer}}}]}
    race = {"fork": {"branches": [{"a": losing}, {"b": {"call": "g"}}], "compete": True}}
    outcome = execute([{"f": race}], {}, world=execute.World(answers))
    assert outcome.output == {"n": 1}
    assert execute([{"f": race}], {}, journal=outcome.journal).world.performed == []
