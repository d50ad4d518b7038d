"""Indents XML: one child a line where an element has nothing but elements in it; all else stays as sent; pure.

White space belongs to the content of an element that has text in it, so such an element is shown as it is. Nothing is
expanded, loaded or normalised: expat says whether the document is well-formed, document types are refused, and what
follows only cuts the text between its tags.

Source: https://www.w3.org/TR/xml/, section 2.10.
"""

from __future__ import annotations

import re
from typing import Final
from xml.parsers import expat

from admin.console.json_format import MAX_INDENT

_TOKEN: Final = re.compile(
    r"""<!--.*?--> | <!\[CDATA\[.*?\]\]> | <\?.*?\?> | <(?:[^>"']|"[^"]*+"|'[^']*+')*+> | [^<]++""",
    re.VERBOSE | re.DOTALL,
)
_PRESERVED: Final = re.compile(r"""\sxml:space\s*=\s*["']preserve["']""")


def indent_xml(text: str) -> str | None:
    """Return a document with one child element a line; None if the text is not well-formed XML without a DTD.

    Takes time in proportion to the length: the caller limits it.
    """
    if not text.lstrip().startswith("<"):
        return None
    if not _is_well_formed(text):
        return None
    tokens = _TOKEN.findall(text)
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
