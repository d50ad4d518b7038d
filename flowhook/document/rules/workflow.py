"""Checks a document as a whole: the entry point of the rules."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from flowhook.document import unsupported, variable_scopes
from flowhook.document.codes import Code
from flowhook.document.problems import Problem
from flowhook.document.rules.calls import check_authentication
from flowhook.document.rules.context import RuleContext
from flowhook.document.rules.events import check_triggers
from flowhook.document.rules.raw_bodies import check_raw_bodies
from flowhook.document.rules.tasks import check_error, check_function, check_section, check_tasks
from flowhook.document.rules.timing import check_retry, check_timeout
from flowhook.document.rules.tree import mapping, named_items, null_keys


def check_rules(data: dict[str, Any], functions: Collection[str] | None) -> Iterator[Problem]:
    """Yield the problems of a document that breaks a rule; see `RuleContext`."""
    context = RuleContext(data, functions)
    yield from unsupported.in_document(data)
    yield from null_keys(data, ())
    for key in ("document", "use"):
        yield from null_keys(data.get(key), (key,))
    yield from check_section(context, data, (), "input", variable_scopes.WORKFLOW_INPUT)
    for name, error in context.errors.items():
        yield from check_error(context, error, ("use", "errors", name))
    for name, policy in context.authentications.items():
        place = ("use", "authentications", name)
        yield from context.template(policy, place, variable_scopes.TASK)
        yield from check_authentication(context, policy, place)
    for name, policy in context.retries.items():
        yield from check_retry(context, policy, ("use", "retries", name), may_be_named=False)
    for name, timeout in context.timeouts.items():
        yield from check_timeout(context, timeout, ("use", "timeouts", name), variable_scopes.TASK, may_be_named=False)
    for name, task in context.own_functions.items():
        yield from check_function(context, name, task, ("use", "functions", name))
    yield from _extensions(context)
    yield from check_retry(context, mapping(data.get("execution")).get("retry"), ("execution", "retry"))
    yield from check_raw_bodies(data)
    yield from check_timeout(context, data.get("timeout"), ("timeout",), variable_scopes.WORKFLOW_OUTPUT)
    schedule = mapping(data.get("schedule"))
    yield from null_keys(schedule, ("schedule",))
    yield from check_triggers(context, schedule.get("on"), ("schedule", "on"))
    yield from check_tasks(context, data.get("do"), ("do",))
    yield from check_section(context, data, (), "output", variable_scopes.WORKFLOW_OUTPUT)


def _extensions(context: RuleContext) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, name, extension in named_items(mapping(context.data.get("use")).get("extensions")):
        place = ("use", "extensions", index, name)
        if name in seen:
            yield Problem(place, Code.NAME_DUPLICATE, f"another extension is called {name!r}: choose another name")
        seen.add(name)
        parts = mapping(extension)
        yield from null_keys(parts, place)
        yield from context.expression(parts.get("when"), (*place, "when"), variable_scopes.TASK_INPUT)
        for key in ("before", "after"):
            yield from check_tasks(context, parts.get(key), (*place, key))
