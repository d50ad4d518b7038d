import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.cases import cases

from flowhook import limits
from flowhook.document.diagnostics.problems import key_of, line_of
from flowhook.document.diagnostics.source import MAX_DEPTH, read

COLON = "a ':' is not allowed here: "
INDENTED_OR_UNFINISHED = (
    COLON + "this line is indented too far, or the one before lacks the ':' and the space after its key"
)
QUOTE_WITHIN = "the quoted string ends before this: within \"…\" a quote is written \\\", within '…' it is written ''"

# What is no YAML; then its line and cause.
BAD = [
    ("a: b: c", 1, COLON + "put the text in quotes"),
    ("a: 1\nb: x\n  c: y", 3, INDENTED_OR_UNFINISHED),
    ("a: 1\nb:\n  c:x\n  d: y", 4, INDENTED_OR_UNFINISHED),
    ("a: 1\nb:x\nc: y", 2, "this line is neither `key: value` (with a space after the colon) nor `- item`"),
    ("a: 1\nb\nc: 2", 2, "this line is neither `key: value` (with a space after the colon) nor `- item`"),
    ("a:\n  - b: 1\n  c: 2", 3, "an item of a list begins with `- `; its content is indented further"),
    ("a:\n  - b: 1\n - c: 2", 3, "this line is not indented like the lines it belongs to"),
    ("a:\n  b: 1\n c: 2", 3, "this line is not indented like the lines it belongs to"),
    ("a: 1\n- b", 2, "a list item where a key is expected"),
    ("a: - b", 1, "a list begins on a line of its own; put a text with '- ' in quotes"),
    ("a:\n\tb: 1", 2, "indent with spaces, not with tabs"),
    ("a: {x: ${ .b }}", 1, "within { } and [ ], put expressions in quotes"),
    ("a: [${ .b }]", 1, "within { } and [ ], put expressions in quotes"),
    ("a:\n  {b: [1, 2\nc: 3\n", 3, "a comma is missing here, or the bracket that closes the one on line 2"),
    ("a: 1\nb: {\n  c: 1\n", 2, "the bracket that is opened here is never closed"),
    ("a: 1\nb: [", 2, "a closing bracket is missing at the end of the file"),
    ('{"a": 1 "b": 2}', 1, "a comma is missing here, or a closing bracket"),
    ('a: 1\nb: "x\nc: 3\nd: 4', 2, "the closing quote is missing"),
    ("a: 'it's'", 1, QUOTE_WITHIN),
    ('a: "${ "b" }"', 1, QUOTE_WITHIN),
    ("a: |\n  x\n y", 3, "unexpected text: is it indented like the lines that it continues?"),
    ('a: "${ .b | test(\'\\d\') }"', 1, "in double quotes \\d is written \\\\d; in single quotes, leave it as it is"),
    ("a: @b", 1, "put text that starts with '@' in quotes"),
    ("a: ]", 1, "put text that starts with ']' in quotes"),
    ("a: &", 1, "while scanning an anchor expected alphabetic or numeric character, but found '\\x00'"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "cause"), BAD)
def test_what_is_no_yaml_says_where_and_what_to_write(text, line, cause):
    source = read(text.encode())
    assert source.data is None
    assert [(problem.line, problem.cause) for problem in source.problems] == [(line, f"invalid YAML: {cause}")]


def value_of(text):
    source = read(text.encode() if isinstance(text, str) else text)
    assert source.problems == []
    return source.data


NO_MERGE_KEYS = "YAML 1.2 has no merge keys: write the keys out, or put '<<' in quotes"


def problem_of(text):
    (problem,) = read(text.encode() if isinstance(text, str) else text).problems
    return problem.line, key_of(problem.path), problem.cause


@cases(
    ("text", "value"),
    [
        ("on", "on"),
        ("yes", "yes"),
        ("2024-01-01", "2024-01-01"),
        ("12:30:45", "12:30:45"),
        ("1_000", "1_000"),
        ("1.0.3", "1.0.3"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("null", None),
        ("'null'", "null"),
        ('"5"', "5"),
        ("010", 10),
        ("0o10", 8),
        ("0xff", 255),
        ("-7", -7),
        ("+7", 7),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("18446744073709551615", 2**64 - 1),
        ("=", "="),
        ("|\n  ${ .a\n  }", "${ .a\n}"),
        ('"\\ud83d\\ude00"', "😀"),
        ("&a 1", 1),
        ("[&a x, *a, *a]", ["x", "x", "x"]),
    ],
)
def test_scalars_are_what_the_core_schema_of_yaml_1_2_says(text, value):
    result = value_of(f"k: {text}")["k"]
    assert (type(result), result) == (type(value), value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    # YAML has no unescaped C1 controls, and folds these line breaks, where JSON keeps them.
    | st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\u2028\u2029\ufeff\ufffe\uffff")),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(st.characters(codec="ascii", min_codepoint=32, max_codepoint=126)), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(
    data=st.dictionaries(st.sampled_from(["a", "b c", ""]), JSON),
    escaped=st.booleans(),
    indent=st.sampled_from([None, 2, "\t"]),
)
def test_json_is_read_as_json(data, escaped, indent):
    assert value_of(json.dumps(data, ensure_ascii=escaped, indent=indent)) == data


@given(source=st.binary(max_size=200))
def test_no_bytes_raise(source):
    read(source)


@given(source=st.text(alphabet="ab:-?[]{},&*!|>'\"%@`#~ \n\t\\xuU0190.", max_size=60))
def test_no_text_raises(source):
    read(source.encode())


@cases(
    ("text", "problem"),
    [
        ("", (0, "", "the file is empty")),
        ("# nothing\n", (0, "", "the file is empty")),
        ("a: 1\nb:\n  c: 1\n  c: 2\n", (4, "b.c", "the key 'c' is defined twice, first on line 3")),
        ("a: 1\nb: !!python/object:os.system x", (2, "b", "tags such as !!str are not allowed")),
        ("a: 1\n1: x", (2, "", "a key is a string: put '1' in quotes")),
        ("a: 1\n? [b]\n: c", (2, "", "a key is a string, not a collection")),
        ("a: 1\n---\nb: 2", (2, "", "a second document begins here, and a flow file has only one")),
        ("%YAML 1.1\n---\na: 1", (2, "", "only YAML 1.2 is supported")),
        ("a: 1\nb: *c", (2, "b", "alias *c is not defined before this")),
        ("a: &a\n  b: [*a]", (2, "a.b[0]", "alias *a refers to a node that contains it")),
        ("a: .nan", (1, "a", ".nan is not a number that JSON can represent; put it in quotes to make it a string")),
        ("a: 1e999", (1, "a", "1e999 is not a number that JSON can represent; put it in quotes to make it a string")),
        ("a: 18446744073709551616", (1, "a", "an integer has at most 64 bits; put it in quotes to make it a string")),
        ("a: 1\nb: c: d", (2, "", "invalid YAML: a ':' is not allowed here: put the text in quotes")),
        ("a:\n  b: 1\n c: 2", (3, "", "invalid YAML: this line is not indented like the lines it belongs to")),
        ("a:\n\tb: 1", (2, "", "invalid YAML: indent with spaces, not with tabs")),
        ("a: {b: <<}\nc: {<<: {}}", (2, "c.<<", NO_MERGE_KEYS)),
        ("a: 1\nb: \x07", (2, "", "invalid YAML: a character that is not allowed")),
        (b"a: 1\nb: \xff", (2, "", "the file is not valid UTF-8")),
        ('a: "\\UFFFFFFFF"', (0, "", "invalid YAML")),
        ('a: "\\ud800"', (1, "a", "incomplete surrogate pair: \\ud800 to \\udfff are valid only in pairs")),
        ("a" * (limits.MAX_DOCUMENT_BYTES + 1), (0, "", "a flow file has at most 256 KiB")),
    ],
)  # fmt: skip
def test_what_is_refused_names_its_line(text, problem):
    assert problem_of(text) == problem


def test_aliases_can_not_multiply_without_bound():
    lines = ["a0: &a0 [" + ", ".join(["x"] * 9) + "]"]
    lines += [f"a{n}: &a{n} [" + ", ".join([f"*a{n - 1}"] * 9) + "]" for n in range(1, 12)]
    line, _, cause = problem_of("\n".join(lines))
    assert cause == "aliases make the document too large"
    assert line < 12


def test_nesting_has_a_limit_that_aliases_can_not_pass():
    assert value_of("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    assert problem_of("[" * 200_000)[2] == f"nested more than {MAX_DEPTH} levels deep"
    deep = "[" * (MAX_DEPTH - 5) + "1" + "]" * (MAX_DEPTH - 5)
    assert problem_of(f"a: &a {deep}\nb: [[[[[[*a]]]]]]") == (
        2,
        "b[0][0][0][0][0][0]",
        f"nested more than {MAX_DEPTH} levels deep",
    )


def test_all_problems_of_a_file_are_found_up_to_the_first_that_hides_the_rest():
    problems = read(b"a: 1\na: 2\nb: !x 1\nc: [").problems
    assert [problem.line for problem in problems] == [2, 3, 4]


def test_every_node_has_its_line():
    root = read(b"a:\n  b:\n    - c: 1\n    -\n      d: |\n        x\n        y\n      e: &e {f: 1}\n  g: *e\n").root
    assert line_of(root, ("a", "b", 0, "c")) == 3
    assert line_of(root, ("a", "b", 1, "d")) == 5
    assert line_of(root, ("a", "b", 1, "e", "f")) == 8
    assert line_of(root, ("a", "g")) == 9
    # What is missing is reported where it ought to be.
    assert line_of(root, ("a", "b", 0, "missing")) == 3
