"""Plain programs: which they are, what closures decide, and what is left to jq.

`tests/conformance/expressions` compares them with jq.
"""

from __future__ import annotations

import pytest
from support.cases import cases

from flowhook.expressions.plain_programs import MAX_SIZE, MAX_TERMS, MAX_TEXT, Undecided, compile_plain
from flowhook.expressions.syntax import ExpressionTypeError

DATA = {
    "n": 3,
    "zero": 0,
    "text": "a b c",
    "none": None,
    "no": False,
    "list": [1, "x"],
    "map": {"k": 1.5},
    "big": 2**53 + 1,
    "half": 0.5,
    "é": "É😀",
}


def evaluate(source):
    return compile_plain("${" + source + "}")(DATA, {"context": {"n": 1}})


@cases(
    ("source", "expected"),
    [
        (".n > 2 and (.text | length) < 200", True),
        ('.text | split(" ") | length', 3),
        (".n > 2.5", True),
        (".no == null or .none < .no", True),
        ('.list > .text and .map > .list and .n < "0"', True),
        ("[] < .list and {} != .map and [] == []", True),
        (".none // .no // $context.n == 1", True),
        (".missing // .no", False),
        ("$context.n | not", False),
        (".zero and true", True),
        (".missing.a? // 0", 0),
        (".n - 1 * 2 - 4", -3),
        (".half * 3 + .half", 2),
        (".half + .n", 3.5),
        ('"\\(.half + .half)"', "1"),
        ('.text + "!" + null', "a b c!"),
        (".list + [.n]", [1, "x", 3]),
        ("{n, map: (.map + {k: 2})}", {"n": 3, "map": {"k": 2}}),
        ('{"a": .n == 3, "b c": [.n, .no]}', {"a": True, "b c": [3, False]}),
        ('"\\(.list | length) of \\(.n)"', "2 of 3"),
        ('.["é"] | length', 2),
        ('(.text | split(" "))[-1]', "c"),
        ('.text | split("")', ["a", " ", "b", " ", "c"]),
        ('.missing.text // "" | startswith("a")', False),
        ('.text | ltrimstr("a ") | rtrimstr("c")', "b "),
        ('(.map | has("k")) and (.text | contains("b c"))', True),
        (".n | tostring", "3"),
        ("-1.5 < -1", True),
        ('"costs $total"', "costs $total"),
    ],
)
def test_a_closure_decides(source, expected):
    result = evaluate(source)
    assert (result, type(result)) == (expected, type(expected))


@cases(
    "source",
    [
        ".big == .n", ".big + 0", ".big > 1.5", ".list == .list", ".map != {k: 1}",
        "true | length", ".n | length", ".text.a", ".text + 1", ".n * -0.5 * 0", ".zero * 3",
        ".text - 1", '"a" * 2', "0.0001 * 0.5", "999999999999999 * 999999999999999", "$gone", ".text?.a",
        '.n | has("k")', '.n | startswith("a")',
    ],
)  # fmt: skip
def test_rare_values_and_errors_are_left_to_jq(source):
    with pytest.raises((Undecided, ExpressionTypeError)):
        evaluate(source)


def test_what_goes_over_long_texts_is_left_to_jq():
    for source in (". + .", 'split(" ")', 'contains("b")'):
        plain = compile_plain("${" + source + "}")
        plain("a" * (MAX_SIZE // 2), {})
        with pytest.raises(Undecided):
            plain("a" * (MAX_SIZE + 1), {})


@cases("source", ["tostring", '"\\(.)"', '"\\(.)\\(.)" + "b"'])
def test_structures_and_long_texts_become_part_of_a_text_in_jq_which_is_supervised(source):
    plain = compile_plain("${" + source + "}")
    plain("a" * 1000, {})
    for value in ([], {"a": 1}, "a" * (MAX_TEXT + 1)):
        with pytest.raises(Undecided):
            plain(value, {})


@cases(
    "source",
    [
        "", ".a, .b", ".[]", ".a[]", "..", ".a .b", ".a < .b < .c", ".a = 1", ".a |= 1", ".a += 1", ".a //= 1",
        ".a / 2", ".a % 2", ".a?//1", ". as $x | $x", "reduce .[] as $x (0; . + $x)", "def f: 1; f", "now", "env",
        "empty", 'test("a")', "split(.a)", 'split("a"; "g")', 'split ("a")', '"a" "b"', "@base64", '@json "x"',
        "$__loc__", "{$__loc__}", "{$x}", "{a: 1, a: 2}", "{(.a): 1}", "{a: 1,}", "[1,]", "{1: 2}", "{a b}", "(.a",
        ".a)", "1.10", "1e3", "-0", "- 1", "-.a", "01", "nota", "not.a.", ".a andb", ".a and", "then.a",
        "if .a then 1 end", "ifs", "input", ".a # c", "\0", '"\\ud800"', "$a::b", "a::length",
        "true(1)", "label $f | 1", "try 1", "limit(1; .a)",
        '"\\(.)\\(.)" | length', "[., .] | .", "{a: .} | .", ". + . | .",
    ],
)  # fmt: skip
def test_all_else_needs_jq(source):
    assert compile_plain("${" + source + "}") is None


def test_a_program_is_plain_up_to_a_number_of_terms_and_not_of_any_depth():
    assert compile_plain("${" + " and ".join(["true"] * MAX_TERMS) + "}")({}, {}) is True
    assert compile_plain("${" + " and ".join(["true"] * (MAX_TERMS + 1)) + "}") is None
    assert compile_plain("${" + "(" * 4000 + "1" + ")" * 4000 + "}") is None


def test_a_template_is_plain_if_each_of_its_expressions_is():
    plain = compile_plain({"a": ["${ .n == 3 }", "x", None], "b": {"c": "${ .text }"}})
    assert plain(DATA, {}) == {"a": [True, "x", None], "b": {"c": "a b c"}}
    assert compile_plain({"a": ["${ .n == 3 }", {"b": "${ now }"}]}) is None
