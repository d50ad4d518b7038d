"""Indents JSON without converting its values: numbers, escapes, repeated keys and their order stay as sent; pure.

Source: RFC 8259.
"""

from __future__ import annotations

import re
from typing import Final

MAX_INDENT: Final = 16  # levels that are indented; deeper ones are shown as deep as this
_TOKEN: Final = re.compile(
    r"""[ \t\n\r]*+(
    [{}\[\],:]
    | "(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+"
    | -?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?(?![0-9A-Za-z.+-])
    | (?:true|false|null)(?![0-9A-Za-z])
    )""",
    re.VERBOSE,
)
_BLANK: Final = re.compile(r"[ \t\n\r]*+")
# What may come next, by kind of token: `{ } [ ] , :`, `"` for a string, `0` for any other value.
_STRUCTURE: Final = frozenset('{}[],:"')
_VALUE: Final = '{["0'
_FOLLOWING: Final = {"{": '"}', "[": _VALUE + "]", ":": _VALUE}
_CLOSING: Final = {"}": "{", "]": "["}


def indent_json(text: str) -> str | None:
    """Return JSON with one member or element a line; None if the text is not JSON.

    Takes time in proportion to the length: the caller limits it.
    """
    parts: list[str] = []
    open_brackets: list[str] = []
    position, previous, expected = 0, "", _VALUE
    while match := _TOKEN.match(text, position):
        token, position = match[1], match.end()
        first = token[0]
        kind = first if first in _STRUCTURE else "0"
        if kind not in expected:
            return None
        if kind in _CLOSING:
            open_brackets.pop()
            if previous != _CLOSING[kind]:
                parts.append(_line(open_brackets))
        elif previous in ("{", "[", ","):
            parts.append(_line(open_brackets))
        parts.append(": " if kind == ":" else token)
        if kind in ("{", "["):
            open_brackets.append(kind)
        expected = _expected(kind, previous, open_brackets)
        previous = kind
    if expected or _BLANK.fullmatch(text, position) is None:
        return None
    return "".join(parts)


def _expected(kind: str, previous: str, open_brackets: list[str]) -> str:
    """Return the kinds of tokens that may follow one of `kind`, before which there was one of `previous`."""
    if kind in _FOLLOWING:
        return _FOLLOWING[kind]
    if not open_brackets:
        return ""
    if open_brackets[-1] == "[":
        return _VALUE if kind == "," else ",]"
    if kind == ",":
        return '"'
    return ":" if kind == '"' and previous in "{," else ",}"  # after a member's name, else after its value


def _line(open_brackets: list[str]) -> str:
    return "\n" + "  " * min(len(open_brackets), MAX_INDENT)
