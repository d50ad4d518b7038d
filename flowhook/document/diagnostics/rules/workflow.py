"""Checks a document as a whole: the entry point of the rules."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from flowhook.document.diagnostics.problems import Code, Path, Problem
from flowhook.document.diagnostics.rules import unsupported
from flowhook.document.diagnostics.rules.calls import check_authentication
from flowhook.document.diagnostics.rules.context import (
    TASK_INPUT_VARIABLES,
    TASK_VARIABLES,
    WORKFLOW_INPUT_VARIABLES,
    WORKFLOW_OUTPUT_VARIABLES,
    RuleContext,
    mapping,
    named_items,
    null_keys,
)
from flowhook.document.diagnostics.rules.events import check_triggers
from flowhook.document.diagnostics.rules.tasks import check_error, check_function, check_section, check_tasks
from flowhook.document.diagnostics.rules.timing import check_retry, check_timeout
from flowhook.expressions import InvalidExpression, is_expression, strip_markers
from flowhook.expressions.paths import paths_in

CAUSE = "`.body` is null with `parse: raw`: the body is an attachment, which only tasks can read"


def check_raw_bodies(data: dict[str, Any]) -> Iterator[Problem]:
    """Yield the expressions that read a body that is not parsed.

    Flows that were stored before this check existed still run: such an expression yields null.
    """
    webhook = mapping(data.get("webhook"))
    if webhook.get("parse") == "raw":
        execution = mapping(data.get("execution"))
        yield from _check(execution.get("order_by"), ("execution", "order_by"))
        for name, path in mapping(execution.get("search")).items():
            if isinstance(path, str) and _looks_at_body(strip_markers(path)):
                yield Problem(("execution", "search", name), Code.BODY_NOT_PARSED, CAUSE)
        yield from _check_endpoint(webhook, ("webhook",))
    for name, callback in mapping(webhook.get("callbacks")).items():
        if mapping(callback).get("parse") == "raw":
            yield from _check_endpoint(mapping(callback), ("webhook", "callbacks", name))


def _check_endpoint(endpoint: dict[str, Any], place: Path) -> Iterator[Problem]:
    yield from _check(mapping(endpoint.get("dedupe")).get("key"), (*place, "dedupe", "key"))
    respond = mapping(endpoint.get("respond"))
    for key in ("headers", "body"):
        yield from _check(respond.get(key), (*place, "respond", key))


def _check(value: object, place: Path) -> Iterator[Problem]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _check(item, (*place, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _check(item, (*place, index))
    elif isinstance(value, str) and is_expression(value) and _looks_at_body(strip_markers(value)):
        yield Problem(place, Code.BODY_NOT_PARSED, CAUSE)


def _looks_at_body(expression: str) -> bool:
    try:
        return any(path[:1] == ("body",) for path in paths_in(expression))
    except InvalidExpression:  # reported by the check of its shape
        return False


def check_rules(data: dict[str, Any], functions: Collection[str] | None) -> Iterator[Problem]:
    """Yield the problems of a document that breaks a rule; see `RuleContext`."""
    context = RuleContext(data, functions)
    yield from unsupported.in_document(data)
    yield from null_keys(data, ())
    for key in ("document", "use"):
        yield from null_keys(data.get(key), (key,))
    yield from check_section(context, data, (), "input", WORKFLOW_INPUT_VARIABLES)
    for name, error in context.errors.items():
        yield from check_error(context, error, ("use", "errors", name))
    for name, policy in context.authentications.items():
        place = ("use", "authentications", name)
        yield from context.template(policy, place, TASK_VARIABLES)
        yield from check_authentication(context, policy, place)
    for name, policy in context.retries.items():
        yield from check_retry(context, policy, ("use", "retries", name), may_be_named=False)
    for name, timeout in context.timeouts.items():
        yield from check_timeout(context, timeout, ("use", "timeouts", name), TASK_VARIABLES, may_be_named=False)
    for name, task in context.own_functions.items():
        yield from check_function(context, name, task, ("use", "functions", name))
    yield from _extensions(context)
    yield from check_retry(context, mapping(data.get("execution")).get("retry"), ("execution", "retry"))
    yield from check_raw_bodies(data)
    yield from check_timeout(context, data.get("timeout"), ("timeout",), WORKFLOW_OUTPUT_VARIABLES)
    schedule = mapping(data.get("schedule"))
    yield from null_keys(schedule, ("schedule",))
    yield from check_triggers(context, schedule.get("on"), ("schedule", "on"))
    yield from check_tasks(context, data.get("do"), ("do",))
    yield from check_section(context, data, (), "output", WORKFLOW_OUTPUT_VARIABLES)


def _extensions(context: RuleContext) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, name, extension in named_items(mapping(context.data.get("use")).get("extensions")):
        place = ("use", "extensions", index, name)
        if name in seen:
            yield Problem(place, Code.NAME_DUPLICATE, f"another extension is called {name!r}: choose another name")
        seen.add(name)
        parts = mapping(extension)
        yield from null_keys(parts, place)
        yield from context.expression(parts.get("when"), (*place, "when"), TASK_INPUT_VARIABLES)
        for key in ("before", "after"):
            yield from check_tasks(context, parts.get(key), (*place, key))
