"""Parser of media types and their parameters, and decoding of text by charset.

Source: RFC 9110, section 8.3 (Content-Type); RFC 6838 and RFC 6839 (`+json`, `+xml`).
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from functools import lru_cache
from operator import itemgetter
from types import MappingProxyType
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from flowhook.errors import InvalidError

MAX_LENGTH: Final = 1024  # characters of a field value; a longer one is treated as an unknown type

_ESSENCE: Final = re.compile(r"[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+")
_PARAMETER: Final = re.compile(r'[^;="]*=[ \t]*(?:"(?:[^"\\]|\\.)*"[^;]*|[^;]*)|[^;]+')
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"[^;]*')
_ESCAPED: Final = re.compile(r'\\(["\\])')
_character: Final = itemgetter(1)
"""Returns the character of a match of `_ESCAPED`. Before Python 3.12, a template (`\\1`) takes four times as long."""
_SECTION: Final = re.compile(r"(?P<name>[^*]+)(?:\*(?P<number>[0-9]{1,3}))?(?P<extended>\*)?")
_CHARSETS: Final = re.compile(
    r"ascii|utf-(8(-sig)?|16(-[bl]e)?|32(-[bl]e)?)|iso8859-\d+|cp\d+|koi8-[rtu]|kz1048|ptcp154|tis-620|hp-roman8|mac-[a-z0-9]+"
    r"|big5(hkscs)?|gb(2312|k|18030)|hz|johab|euc_[a-z0-9_]+|shift_jis[x0-9_]*|iso2022_[a-z0-9_]+"
)
"""Python's names of the codecs that are charsets. Other codecs produce lone surrogates (`utf-7`, `unicode-escape`),
warn, or take quadratic time (`punycode`)."""


class ContentType(NamedTuple):
    """A media type. `essence` is `type/subtype` in lower case, or empty; parameter names are in lower case, too."""

    essence: str
    parameters: Mapping[str, str]

    @property
    def is_json(self) -> bool:
        """Whether it is JSON. Source: RFC 8259, section 11; RFC 6839, section 3.1."""
        return self.essence == "application/json" or self.essence.endswith("+json")

    @property
    def charset(self) -> str:
        """The `charset` parameter, or an empty string."""
        return self.parameters.get("charset", "")


@lru_cache(maxsize=256)
def parse_content_type(value: str) -> ContentType:
    """Parse a Content-Type field; the result is empty if it can't be parsed."""
    essence = value.partition(";")[0].strip().lower()
    if len(value) > MAX_LENGTH or not _ESSENCE.fullmatch(essence):
        return ContentType("", MappingProxyType({}))
    return ContentType(essence, MappingProxyType(parameters(value)))


def is_json(content_type: str) -> bool:
    return parse_content_type(content_type).is_json


def parameters(value: str) -> dict[str, str]:
    """Return the decoded parameters of a field value by lower-case name; of repeated ones the first.

    Own code, because the standard library's takes time quadratic in the length of the value.

    Source: RFC 9110, section 5.6.6; RFC 2231, sections 3 and 4; RFC 8187.
    """
    found: dict[str, str] = {}
    sections: dict[str, dict[int, tuple[str, bool]]] = {}
    _, _, rest = value.partition(";")
    for item in _PARAMETER.findall(rest):
        key, equals, raw = item.partition("=")
        section = _SECTION.fullmatch(key.strip().lower())
        if not equals or section is None:
            continue
        raw = raw.strip()
        quoted = _QUOTED.fullmatch(raw)
        text = raw if quoted is None else _ESCAPED.sub(_character, quoted[1])
        name, number, extended = section["name"], section["number"], section["extended"] is not None
        if number is None and not extended:
            found.setdefault(name, text)
        else:
            sections.setdefault(name, {}).setdefault(int(number or 0), (text, extended))
    return found | {name: text for name, parts in sections.items() if (text := _joined(parts)) is not None}


def _joined(sections: Mapping[int, tuple[str, bool]]) -> str | None:
    """Join a value that was sent in sections; None if it can't be decoded: the plain parameter is used then."""
    charset = ""
    if sections.get(0, ("", False))[1]:
        charset, _, rest = sections[0][0].partition("'")
        sections = {**sections, 0: (rest.partition("'")[2], True)}
    data = b""
    for number in range(len(sections)):
        if number not in sections:
            return None
        text, extended = sections[number]
        data += unquote_to_bytes(text) if extended else text.encode(errors="replace")
    try:
        return decode_charset(data, charset)
    except InvalidError:
        return None


def decode_charset(body: bytes, charset: str) -> str:
    """Decode text; without a charset (empty), UTF-8 is tried."""
    charset = charset.strip()
    codec = codec_of(charset or "utf-8")
    try:
        return body.decode("utf-8-sig" if codec.name == "utf-8" else codec.name)
    except (UnicodeError, ValueError):
        reason = "BODY_INVALID" if charset else "CHARSET_UNKNOWN"
        raise InvalidError(f"the body is not {codec.name}", reason=reason) from None


def codec_of(charset: str) -> codecs.CodecInfo:
    try:
        codec = codecs.lookup(charset.strip())
    except (LookupError, ValueError):
        codec = None
    if codec is None or not _CHARSETS.fullmatch(codec.name):
        raise InvalidError("the charset is not known", reason="CHARSET_UNKNOWN")
    return codec
