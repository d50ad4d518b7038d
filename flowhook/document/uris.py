"""Types of URIs in flow files.

Source: dsl-reference.md, "Endpoint", "URI Template".
"""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import AfterValidator

from flowhook.document.codes import Code
from flowhook.document.validation import validation_error
from flowhook.expressions import is_expression, syntax_hint

_URI: Final = re.compile(r"https?://[^\s/?#{}]\S*", re.IGNORECASE)
_TEMPLATE: Final = re.compile(r"[^{}]*(?:\{[^{}]+\}[^{}]*)*")

_WITHIN: Final = (
    """; an expression is a whole string, ${ "https://api.example.com/pets/\\(.id)" }; {id} stands for the property """
    "`id` of the task's input"
)


def _template(value: str) -> str:
    if is_expression(value):
        return value
    if not _URI.fullmatch(value):
        hint = _WITHIN if "${" in value else syntax_hint(value)
        cause = f"expected an http(s) URI such as https://api.example.com/pets{hint}"
        raise validation_error(Code.URI_INVALID, cause)
    if not _TEMPLATE.fullmatch(value):
        cause = "braces in a URI template enclose simple variables, such as {id}, and nothing else"
        raise validation_error(Code.URI_INVALID, cause)
    return value


def is_uri(value: object) -> bool:
    """Whether a value is an absolute http(s) URI, written out and without variables."""
    return isinstance(value, str) and _URI.fullmatch(value) is not None and "{" not in value and "}" not in value


def _uri(value: str) -> str:
    if not is_expression(value) and not is_uri(value):
        cause = "expected an http(s) URI such as https://login.example.com, without variables"
        raise validation_error(Code.URI_INVALID, cause)
    return value


UriTemplate = Annotated[str, AfterValidator(_template)]
"""An absolute http(s) URI that may hold `{variables}`, or an expression in `${ }`."""

Uri = Annotated[str, AfterValidator(_uri)]
"""An absolute http(s) URI, or an expression in `${ }`."""
