import contextlib
import json

import jq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.cases import cases
from support.examples import examples

from flowhook.expressions.jq_check import FORBIDDEN_FUNCTIONS, check_program, secret_names
from flowhook.expressions.syntax import InvalidExpression

VARIABLES = frozenset({"context", "input", "secrets"})


@cases(
    "source",
    [
        ".",
        '.body.a["x"] // "none" | ascii_downcase',
        "[.[] | select(.a > 1)] | length",
        "$context + {a: $input.b}",
        ". as {a: $x} | $x",
        "def twice(f): f | f; twice(. * 2)",
        "$__loc__",
        '@base64 "x\\(.a)"',
        "now | todate",
        # Names that are forbidden as functions are fine as data.
        ".env",
        "{env}",
        "{env: 1}.env",
        '"env $ENV input"',
        "# env, $ENV\n.a",
        "def env: 1; env",
        ".a # halt",
    ],
)
def test_a_sound_program_passes(source):
    check_program(source, VARIABLES)


@cases("function", FORBIDDEN_FUNCTIONS)
@cases(
    "template",
    [
        "{}",
        "1 | {}",
        "[{}]",
        '"\\({})"',
        '"a\\("b\\({})")"',
        '@json "\\({})"',
        "{{a: {}}}",
        "{{({}): 1}}",
        "def f: {}; f",
        "def f(g): g; f({})",
        "reduce {} as $x (0; 1)",
        "# c\n{}",
        '"# " | {}',
        ".a[{}]?",
        ". as [$a] ?// $a | {}",
    ],
)
def test_a_forbidden_function_is_refused_wherever_it_hides(function, template):
    name, arity = function.split("/")
    call = name if arity == "0" else f"{name}(.)"
    with pytest.raises(InvalidExpression, match=f"^{name} is not allowed: "):
        check_program(template.format(call), VARIABLES)


@cases(
    "source",
    [
        "$ENV",
        "$ENV.PATH",
        '"\\($ENV)"',
        '"a\\("b" + "\\($ENV)")"',
        "{$ENV}",
        '"\\(1 # ")\n)" | $ENV',
        '"\\"" | $ENV',
        '"\\\\" | $ENV',
        ". as $ENV | $ENV",
        '"\\((1))" | $ENV',
    ],
)
def test_the_environment_is_refused_wherever_it_hides(source):
    with pytest.raises(InvalidExpression, match=r"^\$ENV is not allowed"):
        check_program(source, VARIABLES)


@cases(
    ("source", "message"),
    [
        ("", "an expression is missing"),
        (".a |", r"^the expression ends too early: something has to follow `\|`$"),
        (".a\n| )", r"syntax error, unexpected '\)': this `\)` closes nothing \(line 2, column 3 of the expression\)$"),
        ("$foo.a", r"^unknown variable \$foo; available: \$context, \$input, \$secrets$"),
        ("nope(1)", "^unknown function nope/1$"),
        ("nope", r"^unknown function nope/0, did you mean \.nope\?$"),
        ('import "a" as a; .', "^import is not allowed: there are no modules$"),
        ('include "a"; .', "^include is not allowed: there are no modules$"),
        ("module {}; .", "^module is not allowed: there are no modules$"),
        ('"\\x"', "Invalid escape"),
        (". #\\\n$ENV", "a comment must not end with a backslash"),
        (". #\\\r\n$ENV", "a comment must not end with a backslash"),
        (".\0 | env", r"no character U\+0000"),
        (". # \r env", r"no character U\+000D"),
        ("." + " " * 8192, "at most 8192 characters"),
        ("$__prog_args", r"unknown variable \$__prog_args"),
        ("$__refused_env0", "env is not allowed"),
    ],
)
def test_a_refusal_says_why(source, message):
    with pytest.raises(InvalidExpression, match=message):
        check_program(source, VARIABLES)


def test_without_variables_the_message_says_so():
    with pytest.raises(InvalidExpression, match=r"unknown variable \$context; available: none"):
        check_program("$context", ())


@cases(
    ("source", "names"),
    [
        ("$secrets.a", {"a"}),
        ('$secrets["b-c"] + $secrets."d" + $secrets.["e"]', {"b-c", "d", "e"}),
        ('"Bearer \\($secrets.token)"', {"token"}),
        ('"$secrets.a" # $secrets.b', set()),
        ("$secrets | keys", set()),
        ("$secrets[$input.name]", set()),
        ("$context.secrets.a", set()),
    ],
)
def test_secrets_are_found_where_they_stand_in_plain_sight(source, names):
    assert secret_names(source) == names


PIECES = st.sampled_from(
    ['"', "\\(", "(", ")", "#", "\n", "\\", "env", "$ENV", ".", "|", " ", "1", "$context", "@json ", "{", "}", ",", "a"]
)


@settings(deadline=None, max_examples=examples(1500))
@given(source=st.lists(PIECES, max_size=14).map("".join))
def test_what_passes_reads_no_environment(source):
    try:
        check_program(source, {"context"})
    except InvalidExpression:
        return
    # A program that passed uses its variable ENV, if at all, as text: binding it to something else changes nothing.
    # These programs are too short and too plain to run long.
    one, other = (
        jq.compile(source, args={"context": 0, "ENV": env}).input_text(json.dumps({"a": 1})) for env in ("x", "y")
    )
    assert _run(one) == _run(other)


def _run(program):
    try:
        return program.all()
    except ValueError as error:
        return str(error)


@given(source=st.text(max_size=40))
def test_no_text_fails_in_any_other_way(source):
    for check in (lambda text: check_program(text, ()), secret_names):
        with contextlib.suppress(InvalidExpression):
            check(source)
