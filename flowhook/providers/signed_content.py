"""Parses templates of signed content: the value of `hmac.content`, such as `{timestamp}.{body}`."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")
"""A header field's name. Source: RFC 9110, section 5.6.2; the maximum length is Flowhook's own."""

_PLACEHOLDER: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


class ContentPart(NamedTuple):
    """A piece of signed content.

    Attributes:
        source: `text`, one of `SOURCES`, `header`, `field` (of the JSON body), or `setting` (of the kind of `auth`).
        value: the text, the lower-case name of the header, the dotted path of the field, or the name of the setting;
            else empty.
    """

    source: str
    value: str = ""

    @property
    def is_of_body(self) -> bool:
        """Whether it is derived from the body."""
        return self.source in OF_BODY


SOURCES: Final = ("body", "body_crc32", "form", "timestamp", "id", "method", "url", "decoded_url", "path")
"""Placeholders without an argument: the body's bytes; its CRC-32 in decimal; the names and values of a form, sorted by
name and joined without a separator; timestamp and ID as sent; the request's method; its URL, as sent or percent-decoded
except for `%3F`; and its path."""

OF_BODY: Final = frozenset({"body", "body_crc32", "form", "field"})

_FIELD: Final = re.compile(r"[^.{}\s]+(\.[^.{}\s]+)*")


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
            raise ValueError(f"a {token!r} is not paired; write {token * 2!r} for the character itself")
        if text:
            parts.append(ContentPart("text", text))
            text = ""
        parts.append(_content_part(name))
    text += template[position:]
    if text:
        parts.append(ContentPart("text", text))
    return tuple(parts)


def _content_part(name: str) -> ContentPart:
    if name in SOURCES:
        return ContentPart(name)
    source, colon, value = name.partition(":")
    if source == "header" and colon:
        if not TOKEN.fullmatch(value):
            raise ValueError(f"{value!r} is not a valid header name")
        return ContentPart("header", value.lower())
    if source == "field" and colon:
        if not _FIELD.fullmatch(value):
            raise ValueError(f"{value!r} is not a path of names joined by dots")
        return ContentPart("field", value)
    known = ", ".join(f"{{{source}}}" for source in SOURCES)
    raise ValueError(f"{{{name}}} is unknown: use {known}, {{header:NAME}} and {{field:PATH}}")
