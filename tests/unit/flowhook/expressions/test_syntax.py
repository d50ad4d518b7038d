import pytest
from support.cases import cases

from flowhook.expressions.syntax import is_expression, strip_markers


@pytest.mark.parametrize("value", ["${ .a }", "${.a}", " ${ .a }\n", "${\n  .a\n}", "${}"])
def test_a_string_from_dollar_brace_to_brace_is_an_expression(value):
    assert is_expression(value)


@cases("value", [".a", "Hello ${ .a }!", "${ .a", "$ { .a }", "", 1, None, {"a": "${ .a }"}, ["${ . }"]])
def test_anything_else_is_not(value):
    assert not is_expression(value)


@pytest.mark.parametrize(
    ("value", "program"), [("${ .a }", ".a"), (" ${.a}\n", ".a"), (".a", ".a"), ("${}", ""), ("${ {a: 1} }", "{a: 1}")]
)
def test_the_program_stands_between_the_braces(value, program):
    assert strip_markers(value) == program
