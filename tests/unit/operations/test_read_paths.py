"""Which parts of its input a program reads."""

import jq
import orjson
from hypothesis import given
from hypothesis import strategies as st
from support.cases import cases

from flowhook.payloads.parsing import select, selection_of
from operations.search_conditions import read_paths

UNDERSTOOD = {
    ".body.order == -1": [("body", "order")],
    '.headers["x-kind"] != "a" and .body."b c".d? > 1.5e3': [("headers", "x-kind"), ("body", "b c", "d")],
    ".body.a // .query.b | length > 3": [("body", "a"), ("query", "b")],
    "(.body.a | .c, keys) == 1 or .body.b": [("body", "a"), ("body", "b")],
    ".body.a[.body.n].c": [("body", "a"), ("body", "n"), ("c",)],
    '.body.a[]? | select(.b == "x") | .c | test("^[a-z]+"; "i")': [("body", "a")],
    "[.body.a, 1 - .body.b]": [("body", "a"), ("body", "b")],
    "true": [],
}

NOT_UNDERSTOOD = [
    ".",
    "..",
    ".[0]",
    ".[]",
    '.["a"]',
    "length",
    "keys",
    ".a and not",
    "{a}",
    "{a: .b}",
    "select(.a)",
    "any(.a[]; .)",
    ".a as $x | .b",
    ".a as [$x] | .b",
    "def f: .b; .a | f",
    "reduce .a[] as $x (0; . + 1)",
    '"\\(.a)"',
    "@json",
    ".a # .b",
    ".a |= 1",
    ".a //= 1",
    ".a += 1",
    ".a = 1",
    "if .a then .b else .c end",
    "try .a",
    "-length",
    "$__loc__",
    ". | .a",
    "(.) | .a",
    "[.] | .a",
    "first(.a, .)",
    "getpath([1])",
    ".a | label $f | .b",
    "1 as $x | .a",
    '"a" | . as $x | .',
    "input",
    "env.a",
]


@cases("program", UNDERSTOOD)
def test_paths_before_a_pipe_are_what_a_program_reads(program):
    assert read_paths(program) == UNDERSTOOD[program]


@cases("program", NOT_UNDERSTOOD)
def test_a_program_that_may_read_its_whole_input_is_not_understood(program):
    assert read_paths(program) is None


VALUES = st.recursive(
    st.sampled_from([None, True, False, 0, 1, -2.5, "", "a", "b"]),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abcd"), inner, max_size=4)),
    max_leaves=20,
)
PATHS = [".a", ".b.c", '.c["d"]', '."a"."b"', ".d?", ".", "..", "[0]", "[]"]
MARKS = ["[", "]", "(", ")", "{", "}", "|", ",", "//", "==", "<", "+", "-", "?", ":", ";", "|=", "1", '"a"', "$x"]
WORDS = ["and", "or", "not", "null", "length", "keys", "select", "as", "if", "then", "else", "end", "try", "any", "map"]
WORDS += ["type", "error", "empty", "tojson", "to_entries", "@json", "reduce"]
TOKENS = st.sampled_from(PATHS + MARKS + WORDS)
PROGRAMS = st.one_of(
    st.sampled_from(sorted(UNDERSTOOD)),
    st.lists(TOKENS, min_size=1, max_size=9).map(" ".join),
    st.lists(TOKENS, min_size=1, max_size=5).map("".join),
    st.builds(
        "{}{} {} {}{}".format,
        st.sampled_from([".a", "(.b.c | length)", "[.c]", "(.a // .d)"]),
        st.sampled_from(["", " | keys", "[0]?", "?", " | .a"]),
        st.sampled_from(["==", "and", "or", ",", "|", "//", "+", "<"]),
        st.sampled_from(["(.b | .a)", ".d", "(.c | tojson)", "1", "map(.a)", "select(.b)", "(. | .a)"]),
        st.sampled_from(["", " | type", "?", " | length"]),
    ),
)


@given(PROGRAMS, VALUES)
def test_a_program_has_the_same_results_and_errors_with_what_it_reads_alone(program, value):
    paths = read_paths(program)
    if paths is None:
        return
    try:
        compiled = jq.compile(f"try (1, ({program})) catch [tostring]")
    except ValueError:
        return
    results = [
        compiled.input_text(orjson.dumps(each).decode()).all() for each in (value, select(value, selection_of(paths)))
    ]
    assert results[0] == results[1]
