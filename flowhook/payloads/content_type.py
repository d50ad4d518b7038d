"""Media types and their parameters.

Source: RFC 9110, section 8.3 (Content-Type); RFC 6838 and RFC 6839 (`+json`, `+xml`).
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from email.message import Message
from email.utils import collapse_rfc2231_value
from functools import lru_cache
from types import MappingProxyType
from typing import Final, NamedTuple

from flowhook.errors import InvalidError

MAX_LENGTH: Final = 1024
"""Characters of a field that are looked at; what is longer is of no known type."""

_ESSENCE: Final = re.compile(r"[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+")


class ContentType(NamedTuple):
    """A media type. `essence` is `type/subtype` in lower case, empty when there is none; parameter names are, too."""

    essence: str
    parameters: Mapping[str, str]

    @property
    def charset(self) -> str:
        """The `charset` parameter, or an empty string."""
        return self.parameters.get("charset", "")


@lru_cache(maxsize=256)
def parse_content_type(value: str) -> ContentType:
    """Return what a Content-Type field says; one that can't be read says nothing."""
    if len(value) > MAX_LENGTH:
        return ContentType("", MappingProxyType({}))
    essence = value.partition(";")[0].strip().lower()
    if not _ESSENCE.fullmatch(essence):
        return ContentType("", MappingProxyType({}))
    if ";" not in value:
        return ContentType(essence, MappingProxyType({}))
    return ContentType(essence, MappingProxyType(parameters(value, "content-type")))


def is_json(content_type: str) -> bool:
    """Whether a media type is JSON. Source: RFC 8259, section 11; RFC 6839, section 3.1."""
    essence = parse_content_type(content_type).essence
    return essence == "application/json" or essence.endswith("+json")


def parameters(value: str, field: str) -> dict[str, str]:
    """Return the parameters of a field value by lower-case name, the first of each; RFC 2231 and quotes are undone."""
    message = Message()
    message[field] = value.replace("\r", " ").replace("\n", " ")
    found: dict[str, str] = {}
    for name, raw in (message.get_params(header=field) or [])[1:]:
        found.setdefault(name.lower().removesuffix("*"), collapse_rfc2231_value(raw))
    return found


def decode(body: bytes, charset: str) -> str:
    """Return text.

    Args:
        body: the bytes.
        charset: as named; when none is, UTF-8 is tried.

    Raises:
        InvalidError: the charset is not known, or none is named and it is not UTF-8 (`CHARSET_UNKNOWN`); the bytes are
            not of the one that is named (`BODY_INVALID`).
    """
    try:
        codec = codecs.lookup(charset.strip() or "utf-8")
    except (LookupError, ValueError):
        raise InvalidError("the charset is not known", reason="CHARSET_UNKNOWN") from None
    if not codec._is_text_encoding:  # noqa: SLF001 - what bytes.decode itself asks; there is no public name
        raise InvalidError("the charset is not known", reason="CHARSET_UNKNOWN")
    try:
        return body.decode("utf-8-sig" if codec.name == "utf-8" else codec.name)
    except (UnicodeError, ValueError):
        reason = "BODY_INVALID" if charset.strip() else "CHARSET_UNKNOWN"
        raise InvalidError(f"the body is not {codec.name}", reason=reason) from None
