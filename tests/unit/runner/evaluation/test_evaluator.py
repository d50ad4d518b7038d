"""Templates and expressions: what they give, and that the fast way gives the same."""

from __future__ import annotations

from unittest.mock import Mock

import pytest

from runner.evaluation import jq_programs
from runner.evaluation.evaluator import Evaluator
from runner.interpreter.errors import ExpressionFailed
from runner.interpreter.execution_context import ExecutionContext
from runner.interpreter.scope import ExpressionScope


def scope(**more):
    workflow = ExecutionContext("evt_1", {}, None, 0, lambda: 0, secrets=more.pop("secrets", {}))
    made = ExpressionScope(workflow, context=more.pop("context", None), variables=more.pop("variables", None))
    made.input = more.pop("input", None)
    return made


@pytest.fixture
def evaluator():
    return Evaluator()


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ({"a": "${ .n }", "b": ["x", "${ .s }", None, 1.5], "c": {"d": "${ .none.e }"}}, None),
        ({"a": "${ .n + 1 }", "b": ["x", "${ .s }", None, 1.5], "c": {"d": True}}, None),
        ({'q"\\(.n)': "\\(.n)", "b": "$x {} ${", "c": "${ .n + 0 }"}, None),
        ({"a": "${ empty }", "b": "${ 1, 2 }", "c": "${ .s # comment\n }"}, {"a": None, "b": 1, "c": "text"}),
        ({"a": "${ .s.x? }", "b": ['${ "\\(.s.x?)" }'], "c": "${ .n }"}, {"a": None, "b": [None], "c": 1}),
        ("${ empty }", "null"),
        ("${ .n, .s }", 1),
    ],
)
def test_a_template_gives_its_shape_with_the_first_result_of_each_expression(evaluator, template, expected):
    data = {"n": 1, "s": "text"}
    result = evaluator.template(template)(data, scope())
    if expected is None:
        expected = {
            0: {"a": 1, "b": ["x", "text", None, 1.5], "c": {"d": None}},
            1: {"a": 2, "b": ["x", "text", None, 1.5], "c": {"d": True}},
            2: {'q"\\(.n)': "\\(.n)", "b": "$x {} ${", "c": 1},
        }[{"${ .n }": 0, "${ .n + 1 }": 1}.get(template.get("a"), 2)]
    assert result == (None if expected == "null" else expected)


@pytest.mark.parametrize("value", [1, "text", "${", {"a": [1]}, None, "$ {x}"])
def test_what_has_no_expression_is_itself(evaluator, value):
    assert evaluator.template(value)({}, scope()) == value


def test_an_expression_needs_no_braces_where_only_expressions_stand(evaluator):
    assert evaluator.expression(".a")({"a": 1}, scope()) == 1
    assert evaluator.expression("${ .a }")({"a": 1}, scope()) == 1
    assert evaluator.expression(".a + 1")({"a": 1}, scope()) == 2
    assert evaluator.expression({"b": "${ .a }"})({"a": 1}, scope()) == {"b": 1}


def test_variables_are_bound_when_mentioned_and_may_be_shadowed(evaluator):
    given = scope(context={"c": 1}, input=[2], variables={"item": 3})
    assert evaluator.expression("[$context.c + 0, $input[0], $item]")({}, given) == [1, 2, 3]
    assert evaluator.expression(". as $input | $input + 1")(5, given) == 6
    assert evaluator.expression("$context.c")({}, given) == 1


@pytest.mark.parametrize("number", [2**53 + 1, -(2**53) - 1, 2**63 - 1, 2**64 - 1])
def test_whole_numbers_keep_their_digits_where_nothing_is_computed_with_them(evaluator, number):
    given = scope(context={"n": number})
    assert evaluator.expression(". + {a: 1}")({"n": number}, given) == {"n": number, "a": 1}
    assert evaluator.expression("[.n, $context.n]")({"n": number}, given) == [number, number]
    mixed = {"id": "${ .n }", "name": "${ .s | ascii_upcase }"}
    assert evaluator.template(mixed)({"n": number, "s": "a"}, given) == {"id": number, "name": "A"}


def test_what_is_no_number_of_json_is_null(evaluator):
    assert evaluator.expression("[nan, 1.5, -0.25, 1e300]")(None, scope()) == [None, 1.5, -0.25, 1e300]


def test_a_result_that_is_nested_too_deeply_is_an_expression_failure(evaluator):
    with pytest.raises(ExpressionFailed, match="too deeply"):
        evaluator.expression("reduce range(2000) as $_ (0; [.])")(None, scope())


@pytest.mark.parametrize("source", [".a.b", ".a + 1", "$nope", "syntax error (", 'error("x")'])
def test_what_fails_is_an_expression_failure(evaluator, source):
    with pytest.raises(ExpressionFailed):
        evaluator.expression(source)({"a": "text"}, scope())


def test_with_secrets_a_failure_shows_no_value(evaluator):
    for source in (".a | tonumber", ".a | error", "$secrets.k | error"):
        with pytest.raises(ExpressionFailed) as problem:
            evaluator.expression(source)({"a": "pa55word"}, scope(secrets={"k": "pa55word"}))
        assert "pa55" not in str(problem.value)


def test_plain_programs_run_without_jq(evaluator, monkeypatch):
    monkeypatch.setattr(jq_programs.jq, "compile", None)
    template = {"a": "${ .body.x == 1 }", "b": '${ "n \\(.body.n)" }', "c": "${ $context.y }"}
    result = evaluator.template(template)({"body": {"x": 1, "n": 2}}, scope(context={"y": 3}))
    assert result == {"a": True, "b": "n 2", "c": 3}


def test_in_quarantine_plain_programs_run_in_this_process(evaluator):
    given = scope()
    given.workflow.remote_evaluator = Mock()
    given.workflow.remote_evaluator.first.return_value = "[5]"
    assert evaluator.expression(".a > 1")({"a": 2}, given) is True
    assert not given.workflow.remote_evaluator.first.called
    assert evaluator.expression(".a + [3]")({"a": 2}, given) == [5]


def test_a_template_that_python_leaves_undecided_is_one_jq_program(evaluator, monkeypatch):
    programs = []
    first = jq_programs.JqProgramCache.first
    monkeypatch.setattr(jq_programs.JqProgramCache, "first", lambda *given: programs.append(given[1]) or first(*given))
    template = evaluator.template({"a": "${ .n == 1 }", "b": "${ .big + 1 }", "c": ["${ $item }"]})
    given = scope(variables={"item": "x"})
    assert template({"n": 1, "big": 1}, given) == {"a": True, "b": 2, "c": ["x"]}
    assert programs == []
    assert template({"n": 1, "big": 2**53}, given) == {"a": True, "b": 2**53, "c": ["x"]}
    assert len(programs) == 1


@pytest.mark.parametrize("source", [".a.b", ".n == 1 and .a.b", "$gone", "$gone == 1", ".a + 1", '.n | has("x")'])
def test_a_plain_program_fails_as_jq_does(evaluator, source):
    problems = []
    for program in (source, f"first({source})"):
        with pytest.raises(ExpressionFailed) as problem:
            evaluator.expression(program)({"a": "text", "n": 1}, scope())
        problems.append(str(problem.value).partition(" at ")[0])
    assert problems[0] == problems[1]
