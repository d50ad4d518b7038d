"""Checks durations, timeouts and retry policies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from flowhook.document.diagnostics.problems import Code, Path, Problem
from flowhook.document.diagnostics.rules.context import TASK_VARIABLES, RuleContext, mapping, null_keys
from flowhook.document.diagnostics.shapes import check_shape
from flowhook.document.models.timing import RetryPolicy
from flowhook.document.quantities import UNITS, guess_duration, parse_duration
from flowhook.errors import InvalidError
from flowhook.expressions import is_expression

_DURATIONS: Final = (
    ("delay",),
    ("backoff", "linear", "increment"),
    ("limit", "attempt", "duration"),
    ("limit", "duration"),
    ("jitter", "from"),
    ("jitter", "to"),
)
"""Paths of the durations in a retry policy."""


def check_duration(context: RuleContext, value: object, path: Path, variables: frozenset[str]) -> Iterator[Problem]:
    """Check the expression, if a duration is one."""
    if is_expression(value):
        yield from context.expression(value, path, variables)


def check_timeout(
    context: RuleContext, timeout: object, path: Path, variables: frozenset[str], *, may_be_named: bool = True
) -> Iterator[Problem]:
    """Check a timeout or, if it `may_be_named`, the name of one."""
    if isinstance(timeout, dict):
        if "after" not in timeout and timeout.keys() & UNITS:
            written = ", ".join(f"{unit}: {count}" for unit, count in timeout.items())
            yield Problem(path, Code.KEY_MISSING, f"write the duration below `after`: {{after: {{{written[:40]}}}}}")
        yield from null_keys(timeout, path)
        yield from check_duration(context, timeout.get("after"), (*path, "after"), variables)
        return
    meant = _guess_timeout(timeout)
    if isinstance(timeout, str) and may_be_named and (timeout in context.timeouts or not meant):
        yield from context.reference(timeout, context.timeouts, path, "timeout {} in `use.timeouts`")
    elif timeout is not None:
        named = ", or the name of one in `use.timeouts`" if may_be_named else ""
        yield Problem(path, Code.VALUE_TYPE, f"expected a timeout: {{after: {meant or 'PT30S'}}}{named}")


def check_retry(
    context: RuleContext, policy: object, path: Path, name: object = "error", *, may_be_named: bool = True
) -> Iterator[Problem]:
    """Check a retry policy or, if it `may_be_named`, the name of one; `name` is the variable with the error."""
    if isinstance(policy, str) and may_be_named:
        yield from context.reference(policy, context.retries, path, "retry policy {} in `use.retries`")
        return
    if not isinstance(policy, dict | None):
        named = ", or the name of one in `use.retries`" if may_be_named else ""
        yield Problem(path, Code.VALUE_TYPE, f"expected a retry policy: {{delay: PT1S, {_tries(policy)}}}{named}")
        return
    parts = mapping(policy)
    yield from null_keys(parts, path)
    yield from _misshapen(parts, path)
    with context.with_variables(name):
        for key in ("when", "exceptWhen"):
            yield from context.expression(parts.get(key), (*path, key), TASK_VARIABLES)
    for place in _DURATIONS:
        value: object = parts
        for key in place:
            value = mapping(value).get(key)
        yield from check_duration(context, value, (*path, *place), TASK_VARIABLES)
    least, most = (_seconds(mapping(parts.get("jitter")).get(key)) for key in ("from", "to"))
    if least is not None and most is not None and least > most:
        yield Problem((*path, "jitter"), Code.VALUE_RANGE, "expected `from` to be no longer than `to`")


def _misshapen(policy: dict[str, Any], path: Path) -> Iterator[Problem]:
    """Yield the parts of a policy that lack the mapping around them."""
    limit, backoff = policy.get("limit"), policy.get("backoff")
    attempt = mapping(limit).get("attempt")
    if isinstance(limit, int | str):
        yield Problem((*path, "limit"), Code.VALUE_TYPE, f"expected a mapping: {{{_attempts(limit)}}}")
    if isinstance(attempt, int | str):
        yield Problem((*path, "limit", "attempt"), Code.VALUE_TYPE, f"expected a mapping: {_count(attempt)}")
    if backoff in ("constant", "exponential", "linear"):
        yield Problem((*path, "backoff"), Code.VALUE_TYPE, f"expected a mapping: {{{backoff}: {{}}}}")


def _tries(written: object) -> str:
    return f"limit: {{{_attempts(written)}}}"


def _attempts(written: object) -> str:
    return f"attempt: {_count(written)}"


def _count(written: object) -> str:
    return f"{{count: {written if isinstance(written, int) and not isinstance(written, bool) else 3}}}"


def _guess_timeout(value: object) -> str:
    """Return the duration given in place of a timeout; empty if absent."""
    if not isinstance(value, str):
        return ""
    return value if _seconds(value) is not None else guess_duration(value[:40])


def _seconds(duration: object) -> float | None:
    try:
        return parse_duration(duration)
    except InvalidError:
        return None


def check_own_retry(context: RuleContext, task: dict[str, Any], path: Path) -> Iterator[Problem]:
    """Check a task's own retry policy, in its `metadata`."""
    metadata = mapping(task.get("metadata"))
    if "retry" not in metadata:
        return
    place = (*path, "metadata", "retry")
    if metadata["retry"] is None:
        yield Problem(place, Code.VALUE_MISSING, "expected a retry policy, or the name of one in `use.retries`")
    rules = list(check_retry(context, metadata["retry"], place))
    yield from rules
    if isinstance(metadata["retry"], dict):
        settled = {problem.path for problem in rules}
        shape = check_shape(RetryPolicy, metadata["retry"], place)
        yield from (problem for problem in shape if problem.path not in settled)
