"""Models of durations, timeouts and retry policies.

Source: dsl-reference.md, "Duration", "Timeout", "Retry"; schema/workflow.yaml, `retryPolicy`.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, PlainValidator, StrictInt

from flowhook.document.diagnostics.problems import Code, validation_error
from flowhook.document.models import base
from flowhook.document.models.base import Model, OneKeyModel, OrText
from flowhook.document.quantities import parse_duration
from flowhook.errors import InvalidError
from flowhook.expressions.syntax import is_expression, syntax_hint


def _duration(value: object) -> object:
    if is_expression(value):
        return value
    try:
        parse_duration(value)
    except InvalidError as error:
        cause = error.message
        hint = syntax_hint(value)
        if hint:
            cause = f"expected a duration such as PT5M{hint}"
        elif isinstance(value, dict) and any(map(is_expression, value.values())):
            cause = "a duration can be an expression as a whole, but one of its units can't"
        raise validation_error(Code.DURATION_INVALID, cause) from None
    return value


Duration = Annotated[dict[str, Any] | str, PlainValidator(_duration), base.DURATION_OR_EXPRESSION]
"""ISO 8601, a mapping of units to numbers, or an expression in `${ }` that yields one of them."""


class Timeout(Model):
    """A time limit."""

    after: Duration


class Nothing(Model):
    """A mapping without keys."""


class ExponentialBackoff(Model):
    """Each delay is twice the one before; none is longer than `maxDelay`, which Flowhook adds to the DSL."""

    max_delay: Duration | None = Field(None, alias="maxDelay")


class LinearBackoff(Model):
    """Each delay is longer than the one before by `increment`, by default by `delay`; for `maxDelay` see above."""

    increment: Duration | None = None
    max_delay: Duration | None = Field(None, alias="maxDelay")


class Backoff(OneKeyModel):
    """The growth of delays: exactly one of these."""

    constant: Nothing | None = None
    exponential: ExponentialBackoff | None = None
    linear: LinearBackoff | None = None


class AttemptLimit(Model):
    """Number of retries, and time limit of each attempt."""

    count: Annotated[StrictInt, Field(ge=0, le=10_000)] | None = None
    duration: Duration | None = None


class RetryLimit(Model):
    """The end of retrying; `duration` counts from the first failure."""

    attempt: AttemptLimit | None = None
    duration: Duration | None = None


class Jitter(Model):
    """A random time between these is added to each delay."""

    from_: Duration = Field(alias="from")
    to: Duration


class RetryPolicy(Model):
    """Conditions and delays of retries."""

    when: str | None = None
    except_when: str | None = Field(None, alias="exceptWhen")
    delay: Duration | None = None
    backoff: Backoff | None = None
    limit: RetryLimit | None = None
    jitter: Jitter | None = None


# or the name of one of `use.timeouts` or `use.retries`; `execution` and `metadata` may name one of `RETRY_PRESETS`
TimeoutOrName = OrText[Timeout]
RetryOrName = OrText[RetryPolicy]
