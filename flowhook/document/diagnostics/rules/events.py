"""Checks the events that a flow waits for, is started by, or emits.

A filter is evaluated twice: the router matches literal attributes and correlations, which have to be paths for that
reason; a runner evaluates everything else.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from typing import Final

from flowhook import limits
from flowhook.document.definition import filters_of, is_pattern, literal_type
from flowhook.document.diagnostics.problems import Code, Problem, suggestion
from flowhook.document.diagnostics.rules.context import (
    EXPECTATION_VARIABLES,
    TASK_VARIABLES,
    Part,
    RuleContext,
    mapping,
)
from flowhook.document.models.base import is_uri
from flowhook.events.lifecycle import PUBLISHED, TASK_PREFIX, WORKFLOW_PREFIX, is_reserved_type
from flowhook.expressions.paths import compile_accessor
from flowhook.expressions.syntax import InvalidExpression, is_expression, strip_markers


def check_awaited(context: RuleContext, strategy: Part) -> Iterator[Problem]:
    """Yield the problems of what a `listen` task waits for: its filters, expectations and `until`."""
    yield from strategy.null_keys()
    filters, until, most = _filters(strategy), strategy.at("until"), limits.MAX_EVENT_FILTERS
    for each in filters:
        yield from _filter(each)
        yield from context.template(each.at("with"), TASK_VARIABLES)
        yield from _patterns(each.at("with"))
        expectations = [part for _, part in _expectations(each) if is_expression(part.value)]
        for expectation in expectations:
            yield from context.expression(expectation, EXPECTATION_VARIABLES)
        auth = mapping(context.callbacks.get(literal_type(each.value) or "")).get("auth")
        if not expectations and auth == "none":
            yield each.at("correlate").problem(Code.CALLBACK_UNPROTECTED, _ANYBODY)
    if isinstance(until.value, dict) and len(_filters(until)) <= most < len(filters):
        yield until.problem(Code.VALUE_RANGE, f"expected at most {most} filters, including those of `until`")
    yield from until.null_keys()
    yield from context.expression(until, TASK_VARIABLES)


def check_triggers(context: RuleContext, strategy: Part) -> Iterator[Problem]:
    """Check the events that start a flow: no runner evaluates their filters, so the only expressions are paths."""
    yield from strategy.null_keys()
    if "until" in mapping(strategy.value):
        cause = "a schedule has no `until`: events start an execution, they don't end it"
        yield strategy.at("until").problem(Code.KEY_CONFLICT, cause)
    filters = _filters(strategy._replace(value={**mapping(strategy.value), "until": None}))
    together = "all" in mapping(strategy.value)
    shared = {name for each in filters for name in _without_expect(each)} if together else set()
    for each in filters:
        yield from _filter(each)
        kind = literal_type(each.value)
        if kind in context.callbacks:
            cause = f"{kind!r} is a callback: callbacks reach running executions, and start none"
            yield each.at("with", "type").problem(Code.EVENT_NOT_AWAITABLE, cause)
        for name, attribute in each.at("with").members:
            if name == "data" or is_expression(attribute.value):
                yield attribute.problem(Code.EXPRESSION_NOT_ALLOWED, _CONSTANT)
            elif is_pattern(attribute.value):
                yield attribute.problem(Code.EXPRESSION_NOT_ALLOWED, _NO_PATTERN)
        for name, expectation in _expectations(each):
            if name not in shared and (name in _without_expect(each) or is_expression(expectation.value)):
                cause = "expected a constant: there is no data to compute it from before the flow runs"
                yield expectation.problem(Code.EXPRESSION_NOT_ALLOWED, cause)
        for name in sorted(shared - _without_expect(each)):
            cause = (
                f"expected {name} here too, without `expect`: its value must be the same in all events of an execution"
            )
            yield each.at("correlate").problem(Code.CORRELATION_INVALID, cause)


def check_emit(context: RuleContext, task: Part) -> Iterator[Problem]:
    properties = task.mapping_at("emit", "event", "with")
    yield from task.at("emit").null_keys()
    yield from task.at("emit", "event").null_keys()
    attributes = {name: value for name, value in properties.value.items() if name != "data"}
    yield from properties._replace(value=attributes).null_keys()
    yield from context.template(properties, TASK_VARIABLES)
    sink = task.at("metadata", "sink")
    if is_expression(sink.value):
        yield from context.expression(sink, TASK_VARIABLES)
    elif "sink" in mapping(task.at("metadata").value) and not is_uri(sink.value):
        cause = "expected an http(s) URI such as https://events.example.com/in, or an expression ${ … }"
        yield sink.problem(Code.URI_INVALID, cause)


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


def _filters(strategy: Part) -> list[Part]:
    return [Part(event_filter, path) for path, event_filter in filters_of(strategy.value, strategy.path)]


def _filter(event_filter: Part) -> Iterator[Problem]:
    yield from event_filter.null_keys()
    yield from event_filter.at("with").null_keys()
    kind = literal_type(event_filter.value)
    if kind is not None and is_reserved_type(kind) and kind not in PUBLISHED:
        yield event_filter.at("with", "type").problem(Code.EVENT_NOT_AWAITABLE, _unpublished(kind))
    for _, correlation in event_filter.at("correlate").members:
        yield from correlation.null_keys()
        path = correlation.at("from")
        if isinstance(path.value, str):
            try:
                compile_accessor(strip_markers(path.value), variables=())
            except InvalidExpression as error:
                yield path.problem(Code.EXPRESSION_INVALID, f"events are matched without jq: {error.message}")


def _patterns(attributes: Part) -> Iterator[Problem]:
    """Check the regular expressions of a filter, as far as jq's syntax is that of Python."""
    for name, attribute in attributes.members:
        if name == "data" or not is_pattern(attribute.value):
            continue
        try:
            with warnings.catch_warnings(action="ignore"):
                re.compile(attribute.value)
        except (re.error, OverflowError, RecursionError) as error:
            cause = f'invalid regular expression: {error}; for a string with such characters, write ${{ . == "…" }}'
            yield attribute.problem(Code.PATTERN_INVALID, cause)


def _unpublished(kind: str) -> str:
    if kind in _UNTOLD:
        return f"events of this type are never published: {_UNTOLD[kind]}"
    known = sorted(PUBLISHED)
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


def _expectations(event_filter: Part) -> Iterator[tuple[str, Part]]:
    for name, correlation in event_filter.at("correlate").members:
        if isinstance(correlation.value, dict):
            yield name, correlation.at("expect")


def _without_expect(event_filter: Part) -> set[str]:
    correlations = event_filter.at("correlate").members
    return {name for name, each in correlations if isinstance(each.value, dict) and "expect" not in each.value}
