"""Views of a body, made from its bytes: as text, indented if it is JSON or XML, and in hexadecimal; pure.

Nothing is converted: numbers, escapes, repeated keys and their order stay as sent. Source: RFC 8259 (JSON).
"""

from __future__ import annotations

import re
from typing import Any, Final
from xml.parsers import expat

MAX_SHOWN: Final = 64 * 1024  # bytes of a body that a page shows as text
MAX_HEX: Final = 4 * 1024  # bytes of a body that a page shows in hexadecimal
_WIDTH: Final = 16  # bytes in a line in hexadecimal
_XML_TOKEN: Final = re.compile(
    r"""<!--.*?--> | <!\[CDATA\[.*?\]\]> | <\?.*?\?> | <(?:[^>"']|"[^"]*+"|'[^']*+')*+> | [^<]++""",
    re.VERBOSE | re.DOTALL,
)
_PRESERVED: Final = re.compile(r"""\sxml:space\s*=\s*["']preserve["']""")


def body_view(body: bytes) -> dict[str, Any]:
    """Return the views of a body, of which the first `MAX_SHOWN` bytes are shown; indented only if it is whole."""
    shown = body[:MAX_SHOWN]
    cut = len(shown) < len(body)
    text = shown.decode("utf-8", "replace")
    return {
        "text": text,
        "pretty": None if cut else indented(text),
        "hex": hexdump(shown[:MAX_HEX]),
        "cut": cut,
        "hex_cut": len(shown) > MAX_HEX,
        "utf8": "\ufffd" not in text or shown.decode("utf-8", "ignore").encode() == shown,
        "size": len(shown),
    }


def indented(text: str) -> str | None:
    """Return JSON or XML with one member, element or child a line; None if the text is neither."""
    return indent_json(text) or indent_xml(text)


def hexdump(data: bytes) -> str:
    """Return bytes as `xxd` shows them, 16 a line: offset, bytes, and printable ASCII characters."""
    return "\n".join(
        f"{offset:08x}  {line.hex(' '):<{_WIDTH * 3 - 1}}  {''.join(chr(c) if 32 <= c < 127 else '.' for c in line)}"  # noqa: PLR2004
        for offset in range(0, len(data), _WIDTH)
        if (line := data[offset : offset + _WIDTH])
    )


def indent_xml(text: str) -> str | None:
    """Return a document with one child element a line; None if the text is not well-formed XML without a DTD.

    White space belongs to the content of an element that has text in it, so such an element is shown as it is. Nothing
    is expanded, loaded or normalised: expat says whether the document is well-formed, document types are refused, and
    what follows only cuts the text between its tags. Takes time in proportion to the length: the caller limits it.

    Source: https://www.w3.org/TR/xml/, section 2.10.
    """
    if not text.lstrip().startswith("<"):
        return None
    if not _is_well_formed(text):
        return None
    tokens = _XML_TOKEN.findall(text)
    ends = _ends_of_lines(tokens)
    lines: list[str] = []
    depth, index = 0, 0
    while index < len(tokens):
        token, end = tokens[index], ends.get(index, index)
        if token.startswith("</"):
            depth -= 1
        if not token.isspace():
            lines.append("  " * min(depth, MAX_INDENT) + "".join(tokens[index : end + 1]))
        if end == index and _begins(token):
            depth += 1
        index = end + 1
    return "\n".join(lines)


def _is_well_formed(text: str) -> bool:
    """Whether a text is a document without a document type, which could define entities."""
    parser = expat.ParserCreate("utf-8")
    parser.StartDoctypeDeclHandler = _refuse
    try:
        parser.Parse(text.encode(), True)
    except (expat.ExpatError, UnicodeEncodeError):
        return False
    return True


def _refuse(*_: object) -> None:
    raise expat.ExpatError("it has a document type")


def _ends_of_lines(tokens: list[str]) -> dict[int, int]:
    """Return the positions of the tags that begin and end each element that is shown as sent.

    `<a><b>x <i>y</i></b></a>`: `b` has text, `a` has none, so it is `{1: 7}`, and of `i`, which is never looked up.
    """
    ends: dict[int, int] = {}
    open_elements: list[int] = []
    has_text: list[bool] = []
    for index, token in enumerate(tokens):
        if token.startswith("</"):
            begin = open_elements.pop()
            is_leaf = index - begin == 1 or (index - begin == 2 and tokens[begin + 1].isspace())  # noqa: PLR2004
            if has_text.pop() or is_leaf:  # white space alone is the value of an element without children
                ends[begin] = index
        elif _begins(token):
            open_elements.append(index)
            has_text.append(_PRESERVED.search(token) is not None)
        elif open_elements and (token.startswith("<![CDATA[") or not (token[0] == "<" or token.isspace())):
            has_text[-1] = True
    return ends


def _begins(token: str) -> bool:
    """Whether a token is the tag at the beginning of an element that has an end of its own."""
    return token[0] == "<" and token[1] not in "!?/" and not token.endswith("/>")


MAX_INDENT: Final = 16  # levels that are indented; deeper ones are shown as deep as this
_JSON_TOKEN: Final = re.compile(
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
    while match := _JSON_TOKEN.match(text, position):
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
