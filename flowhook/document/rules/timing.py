"""Durations, timeouts and retry policies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from flowhook.document import scopes
from flowhook.document.problems import Path, Problem
from flowhook.document.rules.context import Context
from flowhook.document.rules.tree import mapping, nulls
from flowhook.document.shape import check_shape
from flowhook.document.timing import RetryPolicy
from flowhook.expressions import is_expression

_DURATIONS: Final = (
    ("delay",),
    ("backoff", "linear", "increment"),
    ("limit", "attempt", "duration"),
    ("limit", "duration"),
    ("jitter", "from"),
    ("jitter", "to"),
)
"""Where a retry policy has durations."""


def check_duration(context: Context, value: object, path: Path, variables: frozenset[str]) -> Iterator[Problem]:
    """Check a duration as far as it is an expression."""
    if is_expression(value):
        yield from context.expression(value, path, variables)


def check_timeout(context: Context, timeout: object, path: Path, variables: frozenset[str]) -> Iterator[Problem]:
    """Check a timeout or the name of one."""
    if isinstance(timeout, str):
        yield from context.reference(timeout, context.timeouts, path, "timeout {} in `use.timeouts`")
        return
    yield from nulls(timeout, path)
    yield from check_duration(context, mapping(timeout).get("after"), (*path, "after"), variables)


def check_retry(context: Context, policy: object, path: Path, name: object = "error") -> Iterator[Problem]:
    """Check a retry policy or the name of one; `name` is that of the error."""
    if isinstance(policy, str):
        yield from context.reference(policy, context.retries, path, "retry policy {} in `use.retries`")
        return
    parts = mapping(policy)
    yield from nulls(parts, path)
    with context.naming(name):
        for key in ("when", "exceptWhen"):
            yield from context.expression(parts.get(key), (*path, key), scopes.TASK)
    for place in _DURATIONS:
        value: object = parts
        for key in place:
            value = mapping(value).get(key)
        yield from check_duration(context, value, (*path, *place), scopes.TASK)


def check_own_retry(context: Context, task: dict[str, Any], path: Path) -> Iterator[Problem]:
    """Check the retry policy that a task has of its own, in its `metadata`."""
    metadata = mapping(task.get("metadata"))
    if "retry" not in metadata:
        return
    place = (*path, "metadata", "retry")
    if isinstance(metadata["retry"], dict):
        yield from check_shape(RetryPolicy, metadata["retry"], place)
    elif not isinstance(metadata["retry"], str):
        yield Problem(place, "expected a retry policy, or the name of one in `use.retries`")
    yield from check_retry(context, metadata["retry"], place)
