"""Checks durations, timeouts and retry policies."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from flowhook.document.definition import RETRY_PRESETS
from flowhook.document.diagnostics.problems import Code, Problem
from flowhook.document.diagnostics.rules.context import TASK_VARIABLES, Part, RuleContext, mapping, unsettled
from flowhook.document.diagnostics.shapes import check_shape
from flowhook.document.models.timing import RetryPolicy
from flowhook.document.quantities import UNITS, guess_duration, parse_duration
from flowhook.errors import InvalidError
from flowhook.expressions.syntax import is_expression

_DURATIONS: Final = (
    ("delay",),
    ("backoff", "linear", "increment"),
    ("backoff", "linear", "maxDelay"),
    ("backoff", "exponential", "maxDelay"),
    ("limit", "attempt", "duration"),
    ("limit", "duration"),
    ("jitter", "from"),
    ("jitter", "to"),
)
"""Paths of the durations in a retry policy."""


def check_duration(context: RuleContext, duration: Part, variables: frozenset[str]) -> Iterator[Problem]:
    if is_expression(duration.value):
        yield from context.expression(duration, variables)


def check_timeout(
    context: RuleContext, timeout: Part, variables: frozenset[str], *, may_be_named: bool = True
) -> Iterator[Problem]:
    written = timeout.value
    if isinstance(written, dict):
        if "after" not in written and written.keys() & UNITS:
            units = ", ".join(f"{unit}: {count}" for unit, count in written.items())
            yield timeout.problem(Code.KEY_MISSING, f"write the duration below `after`: {{after: {{{units[:40]}}}}}")
        yield from timeout.null_keys()
        yield from check_duration(context, timeout.at("after"), variables)
        return
    meant = _guess_timeout(written)
    if isinstance(written, str) and may_be_named and (written in context.timeouts or not meant):
        yield from context.reference(timeout, context.timeouts, "timeout {} in `use.timeouts`")
    elif written is not None:
        named = ", or the name of one in `use.timeouts`" if may_be_named else ""
        yield timeout.problem(Code.VALUE_TYPE, f"expected a timeout: {{after: {meant or 'PT30S'}}}{named}")


def check_retry(
    context: RuleContext,
    policy: Part,
    name: object = "error",
    *,
    may_be_named: bool = True,
    presets: Collection[str] = (),
) -> Iterator[Problem]:
    """Check a retry policy or, if it `may_be_named`, the name of one; `name` is the variable with the error.

    `presets` are names that need no definition in `use.retries`.
    """
    if isinstance(policy.value, str) and may_be_named:
        yield from context.reference(policy, (*context.retries, *presets), "retry policy {} in `use.retries`")
        return
    if not isinstance(policy.value, dict | None):
        named = ", or the name of one in `use.retries`" if may_be_named else ""
        example = f"{{delay: PT1S, limit: {{attempt: {_count(policy.value)}}}}}"
        yield policy.problem(Code.VALUE_TYPE, f"expected a retry policy: {example}{named}")
        return
    yield from policy.null_keys()
    yield from _misshapen(policy)
    with context.with_variables(name):
        for key in ("when", "exceptWhen"):
            yield from context.expression(policy.at(key), TASK_VARIABLES)
    for place in _DURATIONS:
        yield from check_duration(context, policy.at(*place), TASK_VARIABLES)
    least, most = (_seconds(policy.at("jitter", key).value) for key in ("from", "to"))
    if least is not None and most is not None and least > most:
        yield policy.at("jitter").problem(Code.VALUE_RANGE, "expected `from` to be no longer than `to`")


def _misshapen(policy: Part) -> Iterator[Problem]:
    """Yield the parts of a policy that lack the mapping around them."""
    limit, attempt, backoff = policy.at("limit"), policy.at("limit", "attempt"), policy.at("backoff")
    if isinstance(limit.value, int | str):
        yield limit.problem(Code.VALUE_TYPE, f"expected a mapping: {{attempt: {_count(limit.value)}}}")
    if isinstance(attempt.value, int | str):
        yield attempt.problem(Code.VALUE_TYPE, f"expected a mapping: {_count(attempt.value)}")
    if backoff.value in ("constant", "exponential", "linear"):
        yield backoff.problem(Code.VALUE_TYPE, f"expected a mapping: {{{backoff.value}: {{}}}}")


def _count(written: object) -> str:
    return f"{{count: {written if isinstance(written, int) and not isinstance(written, bool) else 3}}}"


def _guess_timeout(value: object) -> str:
    if not isinstance(value, str):
        return ""
    return value if _seconds(value) is not None else guess_duration(value[:40])


def _seconds(duration: object) -> float | None:
    try:
        return parse_duration(duration)
    except InvalidError:
        return None


def check_own_retry(context: RuleContext, task: Part) -> Iterator[Problem]:
    policy = task.at("metadata", "retry")
    if "retry" not in mapping(task.at("metadata").value):
        return
    if policy.value is None:
        yield policy.problem(Code.VALUE_MISSING, "expected a retry policy, or the name of one in `use.retries`")
    rules = list(check_retry(context, policy, presets=RETRY_PRESETS))
    yield from rules
    if isinstance(policy.value, dict):
        yield from unsettled(check_shape(RetryPolicy, policy.value, policy.path), rules)
