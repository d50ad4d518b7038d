import pytest

from flowhook.document.source import read

COLON = "a ':' stands where none can be: "
INDENTED_OR_UNFINISHED = (
    COLON + "this line is indented too far, or the one before lacks the ':' and the space behind its key"
)
QUOTE_WITHIN = "a quoted text ends before this: within \"…\" a quote is written \\\", within '…' it is written ''"

# What is no YAML; then its line and cause.
BAD = [
    ("a: b: c", 1, COLON + "put the text in quotes"),
    ("a: 1\nb: x\n  c: y", 3, INDENTED_OR_UNFINISHED),
    ("a: 1\nb:\n  c:x\n  d: y", 4, INDENTED_OR_UNFINISHED),
    ("a: 1\nb:x\nc: y", 2, "this line is no `key: value`, with a space behind the colon, and no item of a list"),
    ("a: 1\nb\nc: 2", 2, "this line is no `key: value`, with a space behind the colon, and no item of a list"),
    ("a:\n  - b: 1\n  c: 2", 3, "an item of a list begins with `- `; what is in it is indented further"),
    ("a:\n  - b: 1\n - c: 2", 3, "this line is not indented like those it belongs to"),
    ("a:\n  b: 1\n c: 2", 3, "this line is not indented like those it belongs to"),
    ("a: 1\n- b", 2, "an item of a list stands where a key is expected"),
    ("a: - b", 1, "a list begins on a line of its own; put a text with '- ' in quotes"),
    ("a:\n\tb: 1", 2, "indent with spaces, not with tabs"),
    ("a: {x: ${ .b }}", 1, "within { } and [ ] an expression has to stand in quotes"),
    ("a: [${ .b }]", 1, "within { } and [ ] an expression has to stand in quotes"),
    ("a:\n  {b: [1, 2\nc: 3\n", 3, "a comma is missing here, or the bracket that closes the one on line 2"),
    ("a: 1\nb: {\n  c: 1\n", 2, "the bracket that opens here is never closed"),
    ("a: 1\nb: [", 2, "the file ends before a bracket that was opened is closed"),
    ('{"a": 1 "b": 2}', 1, "a comma is missing here, or a closing bracket"),
    ('a: 1\nb: "x\nc: 3\nd: 4', 2, "the quote that begins here does not end"),
    ("a: 'it's'", 1, QUOTE_WITHIN),
    ('a: "${ "b" }"', 1, QUOTE_WITHIN),
    ("a: |\n  x\n y", 3, "here is a text that belongs to nothing: is it indented like those lines it goes on from?"),
    ('a: "${ .b | test(\'\\d\') }"', 1, "in double quotes \\d is written \\\\d; in single quotes it can stay as it is"),
    ("a: @b", 1, "put text that starts with '@' in quotes"),
    ("a: ]", 1, "put text that starts with ']' in quotes"),
    ("a: &", 1, "while scanning an anchor expected alphabetic or numeric character, but found '\\x00'"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "cause"), BAD)
def test_what_is_no_yaml_says_where_and_what_to_write(text, line, cause):
    source = read(text.encode())
    assert source.data is None
    assert [(problem.line, problem.cause) for problem in source.problems] == [(line, f"no valid YAML: {cause}")]
