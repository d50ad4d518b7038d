import pytest

from flowhook.document.source import read

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
