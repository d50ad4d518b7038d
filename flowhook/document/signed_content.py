"""What a signature covers, as `hmac.content` writes it: a template such as `{timestamp}.{body}`."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")
"""A header field's name. Source: RFC 9110, section 5.6.2; the bound is ours."""

_PLACEHOLDER: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


class ContentPart(NamedTuple):
    """A piece of signed content.

    Attributes:
        source: `text`, `body`, `timestamp`, `id`, `method`, `url`, `path` or `header`.
        value: the text, or the lower-case name of the header; else empty.
    """

    source: str
    value: str = ""


_SOURCES: Final = ("body", "timestamp", "id", "method", "url", "path")


def parse_content(template: str) -> tuple[ContentPart, ...]:
    """Return the pieces of a content template; `{{` and `}}` stand for braces.

    Raises:
        ValueError: a brace without its partner, or a placeholder that does not exist.
    """
    parts: list[ContentPart] = []
    text = ""
    position = 0
    for match in _PLACEHOLDER.finditer(template):
        text += template[position : match.start()]
        position = match.end()
        token, name = match[0], match[1]
        if token in ("{{", "}}"):
            text += token[0]
            continue
        if name is None:
            raise ValueError(f"a {token!r} without its partner; write {token * 2!r} for the character itself")
        if text:
            parts.append(ContentPart("text", text))
            text = ""
        parts.append(_content_part(name))
    text += template[position:]
    if text:
        parts.append(ContentPart("text", text))
    return tuple(parts)


def _content_part(name: str) -> ContentPart:
    if name in _SOURCES:
        return ContentPart(name)
    source, colon, header = name.partition(":")
    if source == "header" and colon:
        if not TOKEN.fullmatch(header):
            raise ValueError(f"{header!r} is no header name")
        return ContentPart("header", header.lower())
    known = ", ".join(f"{{{source}}}" for source in _SOURCES)
    raise ValueError(f"{{{name}}} is unknown; there are {known} and {{header:NAME}}")
