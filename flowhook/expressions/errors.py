"""Errors of expressions."""

from __future__ import annotations

from flowhook.errors import InvalidError


class InvalidExpression(InvalidError):  # noqa: N818  # named for what it is, as is InvalidOperation in decimal
    """An expression was rejected by the static check, before it ever runs."""

    default_reason = "EXPRESSION_INVALID"


class ExpressionTypeError(InvalidError):
    """An expression failed on data of a type that it can't index. The message names types and keys, never data."""

    default_reason = "EXPRESSION_TYPE"
