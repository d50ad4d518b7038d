"""Events that are waited for.

A filter is looked at twice: the router matches literal attributes and correlations, which are paths for that reason; a
runner evaluates what else there is.
"""

from __future__ import annotations

from collections.abc import Iterator

from flowhook.document import scopes
from flowhook.document.filters import filters_of
from flowhook.document.problems import Path, Problem
from flowhook.document.rules.context import Context
from flowhook.document.rules.tree import mapping, nulls
from flowhook.expressions import InvalidExpression, is_expression, strip
from flowhook.expressions.paths import compile_accessor


def check_awaited(context: Context, strategy: object, path: Path) -> Iterator[Problem]:
    """Check what a `listen` task waits for."""
    parts = mapping(strategy)
    yield from nulls(parts, path)
    for place, event_filter in filters_of(strategy, path):
        yield from nulls(event_filter, place)
        yield from nulls(event_filter.get("with"), (*place, "with"))
        yield from context.template(event_filter.get("with"), (*place, "with"), scopes.TASK)
        for name, correlation in mapping(event_filter.get("correlate")).items():
            where = (*place, "correlate", name)
            yield from nulls(correlation, where)
            yield from _path(mapping(correlation).get("from"), (*where, "from"))
            expected = mapping(correlation).get("expect")
            if is_expression(expected):
                yield from context.expression(expected, (*where, "expect"), scopes.EXPECTATION)
    until = parts.get("until")
    yield from nulls(until, (*path, "until"))
    yield from context.expression(until, (*path, "until"), scopes.TASK)


def _path(value: object, path: Path) -> Iterator[Problem]:
    """Check an expression over an event that is evaluated where no jq runs."""
    if not isinstance(value, str):
        return
    try:
        compile_accessor(strip(value), variables=())
    except InvalidExpression as error:
        yield Problem(path, f"no jq runs where events are matched: {error.message}")
