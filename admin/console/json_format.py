"""Indents JSON without parsing its values, so that numbers, escapes and the order of keys stay as they were sent; pure.

Source: RFC 8259, section 2.
"""

from __future__ import annotations

import re
from typing import Final

MAX_INDENT: Final = 16
"""Levels that are indented; deeper ones are shown as deep as this."""

_TOKEN: Final = re.compile(r'[ \t\n\r]*+("(?:[^"\\]|\\.)*+"|[{}\[\],:]|[^ \t\n\r{}\[\],:"]++)')
_BLANK: Final = re.compile(r"[ \t\n\r]*+")
_COLON: Final = (":",)
_CLOSING: Final = {"}": "{", "]": "["}


def indent_json(text: str) -> str | None:
    """Return JSON with one member or element a line; None if brackets or quotes don't match.

    Takes time in proportion to the length: the caller limits it.
    """
    parts: list[str] = []
    open_brackets: list[str] = []
    position, previous = 0, ""
    while match := _TOKEN.match(text, position):
        token, position = match[1], match.end()
        if token in _CLOSING:
            if not open_brackets or open_brackets.pop() != _CLOSING[token]:
                return None
            if previous != _CLOSING[token]:
                parts.append(_line(open_brackets))
        elif previous in ("{", "[", ","):
            parts.append(_line(open_brackets))
        parts.append(f"{token} " if token in _COLON else token)
        if token in ("{", "["):
            open_brackets.append(token)
        previous = token
    if open_brackets or not parts or _BLANK.fullmatch(text, position) is None:
        return None
    return "".join(parts)


def _line(open_brackets: list[str]) -> str:
    return "\n" + "  " * min(len(open_brackets), MAX_INDENT)
