"""`execution`: how Flowhook runs a flow. Not part of the DSL."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, StrictInt

from flowhook import limits
from flowhook.document.codes import Code
from flowhook.document.model import Model
from flowhook.document.timing import RetryOrName
from flowhook.document.validation import validation_error
from flowhook.events.search_attributes import MAX_ATTRIBUTES, MAX_NAME, NAME_PATTERN
from flowhook.expressions import InvalidExpression, is_expression, strip_markers, syntax_hint
from flowhook.expressions.paths import compile_accessor


def _path(value: str) -> str:
    if not is_expression(value):
        raise validation_error(Code.EXPRESSION_REQUIRED, f"expected an expression ${{ … }}{syntax_hint(value)}")
    try:
        compile_accessor(strip_markers(value), variables=())
    except InvalidExpression as error:
        raise validation_error(Code.EXPRESSION_INVALID, error.message) from None
    return value


def _attribute(value: str) -> str:
    try:
        compile_accessor(strip_markers(value), variables=())
    except InvalidExpression as error:
        raise validation_error(Code.EXPRESSION_INVALID, error.message) from None
    return value


class ExecutionPolicy(Model):
    """Limits, order and retries of a flow's executions."""

    concurrency: Annotated[StrictInt, Field(ge=1, le=100_000)] | None = None
    """Concurrent executions; None: as many as runners can take."""
    order_by: Annotated[str, AfterValidator(_path)] | None = None
    """Expression in `${ }`: events of one key run one after another. A path (see `expressions.paths`)."""
    search: dict[
        Annotated[str, Field(max_length=MAX_NAME, pattern=NAME_PATTERN)], Annotated[str, AfterValidator(_attribute)]
    ] = Field(default_factory=dict, max_length=MAX_ATTRIBUTES)
    """Search attributes by name: paths (see `expressions.paths`), with or without `${ }`."""
    retry: RetryOrName | None = None
    """The DSL's retry policy, for calls that fail transiently."""
    max_backlog: Annotated[StrictInt, Field(ge=1, le=10_000_000)] = limits.DEFAULT_FLOW_BACKLOG
    """Unfinished executions; beyond it, senders get 429."""
