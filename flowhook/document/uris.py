"""URIs, as written.

Source: dsl-reference.md, "Endpoint", "URI Template".
"""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from flowhook.expressions import is_expression

_URI: Final = re.compile(r"https?://[^\s/?#{}]\S*", re.IGNORECASE)
_TEMPLATE: Final = re.compile(r"[^{}]*(?:\{[^{}]+\}[^{}]*)*")


def _template(value: str) -> str:
    if is_expression(value):
        return value
    if not _URI.fullmatch(value):
        raise PydanticCustomError("flow", "expected an http(s) URI such as https://api.example.com/pets")
    if not _TEMPLATE.fullmatch(value):
        raise PydanticCustomError("flow", "a URI template has only simple variables in braces, and no other braces")
    return value


def is_uri(value: object) -> bool:
    """Whether a value is an absolute http(s) URI, written out and without variables."""
    return isinstance(value, str) and _URI.fullmatch(value) is not None and "{" not in value and "}" not in value


def _uri(value: str) -> str:
    if not is_expression(value) and not is_uri(value):
        raise PydanticCustomError(
            "flow", "expected an http(s) URI such as https://login.example.com, without variables"
        )
    return value


UriTemplate = Annotated[str, AfterValidator(_template)]
"""An absolute http(s) URI that may hold `{variables}`, or an expression in `${ }`."""

Uri = Annotated[str, AfterValidator(_uri)]
"""An absolute http(s) URI, or an expression in `${ }`."""
