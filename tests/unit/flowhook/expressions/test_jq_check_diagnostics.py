import re

import pytest
from support.cases import cases

from flowhook.expressions.jq_check import check_program
from flowhook.expressions.syntax import InvalidExpression

VARIABLES = frozenset({"context", "input", "secrets"})


@cases(
    ("source", "message"),
    [
        # other languages
        (".a && .b", "unexpected '&': `&&` is written `and` (column 4 of the expression)"),
        (".a || .b", "unexpected '|': `||` is written `or` (column 5 of the expression)"),
        ("!.a", "unexpected '!': `!x` is written `(x | not)` (column 1 of the expression)"),
        (".a === 1", "unexpected '=': `===` is written `==` (column 6 of the expression)"),
        (".a <> 1", "unexpected '>': `<>` is written `!=` (column 5 of the expression)"),
        (
            ".a ? .b : .c",
            "unexpected ':': `a ? b : c` is written `if a then b else c end` (column 9 of the expression)",
        ),
        (".a == 'b'", 'unexpected "\'": strings are written in double quotes, "…" (column 7 of the expression)'),
        ("now()", "unexpected ')': a function without arguments has no parentheses (column 5 of the expression)"),
        ("$.a", "unexpected '.a': the input is `.`, and its members are `.name` (column 2 of the expression)"),
        ("{.a}", "unexpected '.a': members of an object have names, `{name: .value}` (column 2 of the expression)"),
        # what closes nothing, and what is never closed
        (".a)", "unexpected ')': this `)` closes nothing (column 3 of the expression)"),
        ('"ö(" + .a)', "unexpected ')': this `)` closes nothing (column 11 of the expression)"),
        ("map(.a", "the expression ends too early: this lacks a `)`"),
        ('{a: [(.b) | "c\\(.d[0])"', "the expression ends too early: this lacks a `]`"),
        ('{a: "}"', "the expression ends too early: this lacks a `}`"),
        ('"a\\(.b', "the expression ends too early: this lacks a `)`"),
        ('.a + "b', 'the expression ends too early: a string that begins with `"` is not closed'),
        ("if .a then 1 else 2", "the expression ends too early: an `if … then …` ends with `end`"),
        (".a // ", "the expression ends too early: something has to follow `//`"),
        # left as jq says it
        (".a .. .b", "syntax error, unexpected .., expecting end of file (column 4 of the expression)"),
        ("let a", "syntax error, unexpected 'a' (column 5 of the expression)"),
    ],
)
def test_a_program_that_does_not_parse_says_what_to_write(source, message):
    with pytest.raises(InvalidExpression, match=re.escape(message) + "$"):
        check_program(source, VARIABLES)


@cases(
    ("source", "text"),
    [
        (".headers.x-request-id", '/0; write a key with a hyphen as ["x-request-id"]'),
        ("length(.a)", "/1; length takes no arguments: write its input before it, `… | length`"),
        ('.a | sub("b", "c")', "/1; sub takes 2 or 3 arguments, with `;` between them"),
        ("map", "/0; map takes 1 argument"),
        ("context.a", "/0, did you mean $context?"),
        ("body.a", "/0, did you mean .body?"),
        ("len(.a)", "/1, did you mean length?"),
        (".a | lower", "/0, did you mean ascii_downcase?"),
        (".a | to_entrys", "/0, did you mean to_entries?"),
        ("True", "/0, did you mean true?"),
        ("xyz(1)", "/1"),
    ],
)
def test_an_unknown_function_says_which_was_meant(source, text):
    with pytest.raises(InvalidExpression, match=rf"^unknown function \w+{re.escape(text)}$"):
        check_program(source, VARIABLES)


@pytest.mark.parametrize(("source", "meant"), [("$secret.a", "secrets"), ("$INPUT", "input")])
def test_an_unknown_variable_says_which_was_meant(source, meant):
    with pytest.raises(InvalidExpression, match=rf"did you mean \${meant}\?; available: \$context"):
        check_program(source, VARIABLES)
