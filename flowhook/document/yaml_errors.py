"""Explains YAML syntax errors in terms of the text rather than of the parser.

A parser reports where it stopped and what it expected. The author's mistake is often on another line, and one of a few
kinds: a missing quote or bracket, a missing hyphen or space, a string that needs quotes.
"""

from __future__ import annotations

import re
from typing import Final

from ruamel.yaml.error import MarkedYAMLError, StreamMark

_QUOTED: Final = "put text that starts with {!r} in quotes"
_INDENTED: Final = "this line is not indented like the lines it belongs to"

_BY_PROBLEM: Final = {
    "expected <block end>, but found '<block mapping start>'": _INDENTED,
    "expected <block end>, but found '<block sequence start>'": _INDENTED,
    "expected <block end>, but found '-'": "a list item where a key is expected",
    "expected <block end>, but found '?'": "an item of a list begins with `- `; its content is indented further",
    "found character '\\t' that cannot start any token": "indent with spaces, not with tabs",
    "sequence entries are not allowed here": "a list begins on a line of its own; put a text with '- ' in quotes",
}
_WHERE_IT_BEGAN: Final = {
    "could not find expected ':'": "this line is neither `key: value` (with a space after the colon) nor `- item`",
    "found unexpected end of stream": "the closing quote is missing",
}
_CANNOT_START: Final = re.compile(
    r"found character '(.)' that cannot start any token|expected the node content, .*'(.)'"
)
_ESCAPE: Final = re.compile(r"found unknown escape character '(.+)'")
_FLOW: Final = re.compile(r"expected ',' or '[\]}]', but got '(.*)'")


def explain(error: MarkedYAMLError, text: str) -> tuple[str, int]:
    """Return the cause of an error and its line (from 1; 0 if it is not known)."""
    problem = str(error.problem)
    here = error.problem_mark or error.context_mark
    opened = error.context_mark or here
    if problem in _BY_PROBLEM:
        return _BY_PROBLEM[problem], _line(here)
    if problem == "mapping values are not allowed here":
        return _colon(here, text), _line(here)
    if problem in _WHERE_IT_BEGAN:
        return _WHERE_IT_BEGAN[problem], _line(opened)
    if problem == "expected <block end>, but found '<scalar>'":
        return _text(here, text), _line(here)
    if flow := _FLOW.fullmatch(problem):
        return _flow(flow[1], opened, here)
    if "'<stream end>'" in problem:
        return "a closing bracket is missing at the end of the file", _line(here)
    if escape := _ESCAPE.fullmatch(problem):
        found = escape[1]
        return f"in double quotes \\{found} is written \\\\{found}; in single quotes, leave it as it is", _line(here)
    if start := _CANNOT_START.fullmatch(problem):
        return _QUOTED.format(start[1] or start[2]), _line(here)
    return " ".join(filter(None, [error.context, problem])), _line(here)


def _colon(mark: StreamMark | None, text: str) -> str:
    """Explain an unexpected colon: in a string that needs quotes, or on a line where no mapping can begin."""
    if mark is None or ": " in _before(mark, text):
        return "a ':' is not allowed here: put the text in quotes"
    return (
        "a ':' is not allowed here: this line is indented too far, or the one before lacks the ':' and the space "
        "after its key"
    )


def _text(mark: StreamMark | None, text: str) -> str:
    if mark is not None and re.search("[\"']", _before(mark, text)):
        return """the quoted string ends before this: within "…" a quote is written \\", within '…' it is written ''"""
    return "unexpected text: is it indented like the lines that it continues?"


def _flow(found: str, opened: StreamMark | None, here: StreamMark | None) -> tuple[str, int]:
    if found == "<stream end>":
        return "the bracket that is opened here is never closed", _line(opened)
    if found in ("{", "["):
        return "within { } and [ ], put expressions in quotes", _line(here)
    if _line(opened) == _line(here):
        return "a comma is missing here, or a closing bracket", _line(here)
    return f"a comma is missing here, or the bracket that closes the one on line {_line(opened)}", _line(here)


def _before(mark: StreamMark, text: str) -> str:
    """Return the text before a mark on its line."""
    return text.splitlines()[mark.line][: mark.column] if mark.line < len(text.splitlines()) else ""


def _line(mark: StreamMark | None) -> int:
    return mark.line + 1 if mark else 0
