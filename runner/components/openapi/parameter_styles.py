"""Serialization of parameters into the path, query, headers and cookies of a request.

Source: OpenAPI Specification 3.1.1, sections 4.8.12.3 "Style Values" and 4.8.12.6 "Style Examples"; RFC 6570,
section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import quote

from flowhook.payloads.content_type import is_json
from runner.components.base import as_text
from runner.interpreter.json_codec import encode

ParameterLocation = Literal["path", "query", "header", "cookie"]

PARAMETER_LOCATIONS: Final[tuple[ParameterLocation, ...]] = ("path", "query", "header", "cookie")
# characters that `allowReserved` leaves unescaped: the reserved ones without a meaning to parsers of a query
_RESERVED: Final = ":/?@!$'()*,;"

_DELIMITERS: Final = {"spaceDelimited": "%20", "pipeDelimited": "%7C", "tabDelimited": "%09"}

# styles of parameters that declare none
DEFAULT_STYLES: Final[Mapping[ParameterLocation, str]] = {
    "path": "simple",
    "query": "form",
    "header": "simple",
    "cookie": "form",
}


class UnwritableError(Exception):
    """A value cannot be serialized in a style; the message says why, without the value."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of an operation."""

    name: str
    place: ParameterLocation
    required: bool
    style: str  # one of OpenAPI 3's, or `tabDelimited`, which Swagger 2.0 had
    explode: bool  # whether the items of an array and the members of an object are serialized separately
    reserved: bool = False  # whether reserved characters stay unescaped
    media_type: str = ""  # media type in which the value is serialized, instead of the style; empty: the style applies


def in_path(parameter: Parameter, value: Any) -> str:
    """Serialize a parameter into a path.

    Raises:
        UnwritableError: the value cannot be serialized there, is empty, or would lead to another path.
    """
    written = quote(_content(parameter, value), safe="") if parameter.media_type else _expand(parameter, value)
    if not written:
        raise UnwritableError("is empty, and stands in a path")
    if written in (".", ".."):
        raise UnwritableError("is '.' or '..', which leads to another path")
    return written


def in_query(parameter: Parameter, value: Any) -> str:
    """Serialize a parameter into a part of a query string; empty if the value has no items or members.

    Raises:
        UnwritableError: the value cannot be serialized there.
    """
    safe = _RESERVED if parameter.reserved else ""
    name = quote(parameter.name, safe="")
    if parameter.media_type:
        return f"{name}={quote(_content(parameter, value), safe=safe)}"
    match value:
        case dict() if parameter.style == "deepObject":
            return "&".join(f"{name}%5B{quote(key, safe='')}%5D={text}" for key, text in _members(value, safe))
        case dict() if parameter.explode:
            return "&".join(f"{quote(key, safe='')}={text}" for key, text in _members(value, safe))
        case list() if parameter.explode:
            return "&".join(f"{name}={text}" for text in _items(value, safe))
    return f"{name}={_joined(value, safe, _DELIMITERS.get(parameter.style, ','))}"


def in_header(parameter: Parameter, value: Any) -> str:
    """Serialize a parameter into the value of a header field, without percent-encoding; raises as `in_query` does."""
    if parameter.media_type:
        return _content(parameter, value)
    match value:
        case dict():
            sign = "=" if parameter.explode else ","
            return ",".join(f"{key}{sign}{_text(item)}" for key, item in value.items() if item is not None)
        case list():
            return ",".join(_text(item) for item in value if item is not None)
    return _text(value)


def in_cookie(parameter: Parameter, value: Any) -> str:
    """Serialize a parameter into pairs for the header `Cookie`; raises as `in_query` does."""
    return in_query(parameter, value).replace("&", "; ")


def _expand(parameter: Parameter, value: Any) -> str:
    name = quote(parameter.name, safe="")
    before, between = {"label": (".", "."), "matrix": (";", ";")}.get(parameter.style, ("", ","))
    match value:
        case dict() if parameter.explode:
            parts = [f"{quote(key, safe='')}={text}" for key, text in _members(value, "")]
        case list() if parameter.explode and parameter.style == "matrix":
            parts = [f"{name}={text}" for text in _items(value, "")]
        case list() if parameter.explode:
            parts = list(_items(value, ""))
        case _:
            text = _joined(value, "", _DELIMITERS.get(parameter.style, ","))
            parts = [text if parameter.style != "matrix" else f"{name}={text}" if text else name]
    return before + between.join(parts)


def _joined(value: Any, safe: str, delimiter: str) -> str:
    match value:
        case dict():
            return delimiter.join(f"{quote(key, safe='')}{delimiter}{text}" for key, text in _members(value, safe))
        case list():
            return delimiter.join(_items(value, safe))
    return quote(_text(value), safe=safe)


def _items(value: list[Any], safe: str) -> list[str]:
    return [quote(_text(item), safe=safe) for item in value if item is not None]


def _members(value: dict[str, Any], safe: str) -> list[tuple[str, str]]:
    return [(key, quote(_text(item), safe=safe)) for key, item in value.items() if item is not None]


def _text(value: Any) -> str:
    if isinstance(value, dict | list):
        raise UnwritableError("holds nested arrays or objects, which its style can't express")
    return as_text(value)


def _content(parameter: Parameter, value: Any) -> str:
    if is_json(parameter.media_type):
        return encode(value).decode()
    if isinstance(value, str):
        return value
    raise UnwritableError(f"is {parameter.media_type}, and has to be a text")
