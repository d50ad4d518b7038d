"""Expression syntax of the DSL's strict mode: a whole string `${ … }`.

Source: dsl.md, "Runtime Expressions"; schema/workflow.yaml, `runtimeExpression`.
"""

from __future__ import annotations

import re
from typing import Final, TypeGuard

from flowhook.errors import InvalidError


class InvalidExpression(InvalidError):  # noqa: N818  # named for what it is, as is InvalidOperation in decimal
    """An expression was rejected by the static check, before it ever runs."""

    default_reason = "EXPRESSION_INVALID"


class ExpressionTypeError(InvalidError):
    """An expression failed on data of a type that it can't index. The message names types and keys, never data."""

    default_reason = "EXPRESSION_TYPE"


_MAX_QUOTED: Final = 60

_BARE: Final = re.compile(r"\s*[.$][A-Za-z_]")


def is_expression(value: object) -> TypeGuard[str]:
    """Whether a value is a string that begins with `${` and ends with `}`, ignoring surrounding whitespace."""
    if not isinstance(value, str):
        return False
    text = value.strip()
    return text.startswith("${") and text.endswith("}")


def strip_markers(value: str) -> str:
    """Return the jq program of an expression, with or without `${ }` around it."""
    return value.strip()[2:-1].strip() if is_expression(value) else value.strip()


def syntax_hint(value: object) -> str:
    """Return a hint to append to an error message if a value looks like an expression without `${ }`; else empty."""
    if isinstance(value, str) and _BARE.match(value):
        return f"; as an expression, write ${{ {value.strip()[:_MAX_QUOTED]} }}"
    return ""
