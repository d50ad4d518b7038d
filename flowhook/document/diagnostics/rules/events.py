"""Checks the events that a flow waits for, is started by, or emits.

A filter is evaluated twice: the router matches literal attributes and correlations, which have to be paths for that
reason; a runner evaluates everything else.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, Final

from flowhook import limits
from flowhook.document.definition import filters_of, is_pattern, literal_type
from flowhook.document.diagnostics.problems import Code, Path, Problem, suggestion
from flowhook.document.diagnostics.rules.context import (
    EXPECTATION_VARIABLES,
    TASK_VARIABLES,
    RuleContext,
    mapping,
    null_keys,
)
from flowhook.document.models.base import is_uri
from flowhook.events.lifecycle import TASK_PREFIX, TYPES, WORKFLOW_PREFIX, is_reserved_type
from flowhook.expressions import InvalidExpression, is_expression, strip_markers
from flowhook.expressions.paths import compile_accessor


def check_awaited(context: RuleContext, strategy: object, path: Path) -> Iterator[Problem]:
    """Check the events that a `listen` task waits for."""
    yield from null_keys(strategy, path)
    for place, event_filter in filters_of(strategy, path):
        yield from _filter(event_filter, place)
        yield from context.template(event_filter.get("with"), (*place, "with"), TASK_VARIABLES)
        yield from _patterns(event_filter, (*place, "with"))
        tells = False
        for where, correlation in _correlations(event_filter, place):
            if is_expression(correlation.get("expect")):
                tells = True
                yield from context.expression(correlation["expect"], (*where, "expect"), EXPECTATION_VARIABLES)
        if not tells and mapping(context.callbacks.get(literal_type(event_filter) or "")).get("auth") == "none":
            yield Problem((*place, "correlate"), Code.CALLBACK_UNPROTECTED, _ANYBODY)
    until = mapping(strategy).get("until")
    most = limits.MAX_EVENT_FILTERS
    if isinstance(until, dict) and len(list(filters_of(until))) <= most < len(list(filters_of(strategy))):
        yield Problem(
            (*path, "until"), Code.VALUE_RANGE, f"expected at most {most} filters, including those of `until`"
        )
    yield from null_keys(until, (*path, "until"))
    yield from context.expression(until, (*path, "until"), TASK_VARIABLES)


def check_triggers(context: RuleContext, strategy: object, path: Path) -> Iterator[Problem]:
    """Check the events that start a flow: no runner evaluates their filters, so the only expressions are paths."""
    yield from null_keys(strategy, path)
    if "until" in mapping(strategy):
        yield Problem(
            (*path, "until"),
            Code.KEY_CONFLICT,
            "a schedule has no `until`: events start an execution, they don't end it",
        )
    filters = list(filters_of({**mapping(strategy), "until": None}, path))
    shared = {name for _, each in filters for name in _without_expect(each)} if "all" in mapping(strategy) else set()
    for place, event_filter in filters:
        yield from _filter(event_filter, place)
        kind = literal_type(event_filter)
        if kind in context.callbacks:
            cause = f"{kind!r} is a callback: callbacks reach running executions, and start none"
            yield Problem((*place, "with", "type"), Code.EVENT_NOT_AWAITABLE, cause)
        for name, value in mapping(event_filter.get("with")).items():
            if name == "data" or is_expression(value):
                yield Problem((*place, "with", name), Code.EXPRESSION_NOT_ALLOWED, _CONSTANT)
            elif is_pattern(value):
                yield Problem((*place, "with", name), Code.EXPRESSION_NOT_ALLOWED, _NO_PATTERN)
        for where, correlation in _correlations(event_filter, place):
            if where[-1] not in shared and ("expect" not in correlation or is_expression(correlation["expect"])):
                yield Problem(
                    (*where, "expect"),
                    Code.EXPRESSION_NOT_ALLOWED,
                    "expected a constant: there is no data to compute it from before the flow runs",
                )
        for name in sorted(shared - _without_expect(event_filter)):
            cause = (
                f"expected {name} here too, without `expect`: its value must be the same in all events of an execution"
            )
            yield Problem((*place, "correlate"), Code.CORRELATION_INVALID, cause)


def check_emit(context: RuleContext, task: dict[str, Any], path: Path) -> Iterator[Problem]:
    """Check an `emit` task, and the URL in its `metadata.sink`."""
    emit = mapping(task["emit"])
    yield from null_keys(emit, (*path, "emit"))
    event = mapping(emit.get("event"))
    yield from null_keys(event, (*path, "emit", "event"))
    properties, place = mapping(event.get("with")), (*path, "emit", "event", "with")
    yield from null_keys({name: value for name, value in properties.items() if name != "data"}, place)
    yield from context.template(properties, place, TASK_VARIABLES)
    metadata = mapping(task.get("metadata"))
    if "sink" in metadata:
        sink, place = metadata["sink"], (*path, "metadata", "sink")
        if is_expression(sink):
            yield from context.expression(sink, place, TASK_VARIABLES)
        elif not is_uri(sink):
            yield Problem(
                place,
                Code.URI_INVALID,
                "expected an http(s) URI such as https://events.example.com/in, or an expression ${ … }",
            )


_ANYBODY: Final = (
    "anybody can call this callback (`auth: none`), so a correlation has to identify the execution: expect a value of "
    "the task's input that nobody can guess, or remove `auth`, so that only one-time URLs are accepted"
)

_CONSTANT: Final = (
    "expressions are not evaluated before the flow runs: write a literal string here, and use `correlate` to compare "
    "data"
)

_NO_PATTERN: Final = (
    "regular expressions are not evaluated before the flow runs: write the exact value here, or let a `correlate` "
    "expect it if it contains such characters itself"
)


def _filter(event_filter: Mapping[str, Any], path: Path) -> Iterator[Problem]:
    yield from null_keys(event_filter, path)
    yield from null_keys(event_filter.get("with"), (*path, "with"))
    kind = literal_type(event_filter)
    if kind is not None and is_reserved_type(kind) and kind not in TYPES:
        yield Problem((*path, "with", "type"), Code.EVENT_NOT_AWAITABLE, _unpublished(kind))
    for place, correlation in _correlations(event_filter, path):
        yield from null_keys(correlation, place)
        yield from _path(correlation.get("from"), (*place, "from"))


def _patterns(event_filter: Mapping[str, Any], path: Path) -> Iterator[Problem]:
    """Check the regular expressions of a filter, as far as jq's syntax is that of Python."""
    for name, value in mapping(event_filter.get("with")).items():
        if name == "data" or not is_pattern(value):
            continue
        try:
            with warnings.catch_warnings(action="ignore"):
                re.compile(value)
        except (re.error, OverflowError, RecursionError) as error:
            cause = f'invalid regular expression: {error}; for a string with such characters, write ${{ . == "…" }}'
            yield Problem((*path, name), Code.PATTERN_INVALID, cause)


def _unpublished(kind: str) -> str:
    """Return why lifecycle events of a type are never published."""
    if kind in _UNTOLD:
        return f"events of this type are never published: {_UNTOLD[kind]}"
    known = sorted(TYPES)
    return f"unknown type of event{suggestion(kind, known)}; known: {', '.join(known)}"


_WHOLE: Final = "executions are {0} as a whole; use io.serverlessworkflow.workflow.{0}.v1"
_OPTIONAL: Final = "they are optional in the DSL; use the events of the single changes"
_UNTOLD: Final = {
    f"{TASK_PREFIX}suspended.v1": _WHOLE.format("suspended"),
    f"{TASK_PREFIX}resumed.v1": _WHOLE.format("resumed"),
    f"{TASK_PREFIX}status-changed.v1": _OPTIONAL,
    f"{WORKFLOW_PREFIX}status-changed.v1": _OPTIONAL,
}
"""Lifecycle events of the DSL that are never published, and why."""


def _correlations(event_filter: Mapping[str, Any], path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for name, correlation in mapping(event_filter.get("correlate")).items():
        if isinstance(correlation, dict):
            yield (*path, "correlate", name), correlation


def _without_expect(event_filter: Mapping[str, Any]) -> set[str]:
    """Return the names of the correlations without `expect`."""
    found = _correlations(event_filter, ())
    return {str(place[-1]) for place, correlation in found if "expect" not in correlation}


def _path(value: object, path: Path) -> Iterator[Problem]:
    """Check an expression over an event: it is evaluated without jq."""
    if not isinstance(value, str):
        return
    try:
        compile_accessor(strip_markers(value), variables=())
    except InvalidExpression as error:
        yield Problem(path, Code.EXPRESSION_INVALID, f"events are matched without jq: {error.message}")
