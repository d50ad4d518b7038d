"""Calls, and how they authenticate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flowhook.document import scopes, unsupported
from flowhook.document.builtins import ARGUMENTS
from flowhook.document.http import HttpArguments
from flowhook.document.problems import Path, Problem, suggestion
from flowhook.document.rules.context import Context
from flowhook.document.rules.tree import mapping, nulls
from flowhook.document.shape import check_shape


def check_call(context: Context, task: dict[str, Any], path: Path) -> Iterator[Problem]:
    """Check what a task calls, and with what."""
    name = task["call"]
    if isinstance(name, str):
        cause = _unknown_function(context, name)
        if cause is not None:
            yield Problem((*path, "call"), cause)
        if cause == unsupported.FUNCTIONS.get(name, ""):
            return  # its arguments follow rules of their own
    arguments = task.get("with")
    yield from context.template(arguments, (*path, "with"), scopes.TASK)
    if isinstance(name, str) and name in ARGUMENTS and _unknown_function(context, name) is None:
        given = arguments if "with" in task else {}
        yield from check_shape(ARGUMENTS[name], given, (*path, "with")) if isinstance(given, dict) else ()
    if name != "http":
        return
    if "with" not in task:
        yield Problem((*path, "with"), "the key 'with' is missing")
    elif isinstance(arguments, dict):
        settled = {problem.path for problem in unsupported.in_task(task, path)}
        shape = check_shape(HttpArguments, arguments, (*path, "with"))
        yield from (problem for problem in shape if problem.path not in settled)
        endpoint = mapping(arguments.get("endpoint"))
        if "authentication" in endpoint:
            place, policy = (*path, "with", "endpoint"), endpoint["authentication"]
            yield from nulls({"authentication": policy}, place)
            yield from check_authentication(context, policy, (*place, "authentication"))


def check_authentication(
    context: Context, policy: object, path: Path, variables: frozenset[str] | None = None
) -> Iterator[Problem]:
    """Check what a policy refers to, and its expressions where nothing else does."""
    yield from nulls(policy, path)
    if variables is not None:
        yield from context.template(policy, path, variables)
    for key, value in mapping(policy).items():
        if key == "use":
            known = context.authentications
            yield from context.reference(value, known, (*path, key), "authentication {} in `use.authentications`")
        yield from context.secret(mapping(value).get("use"), (*path, key, "use"))


def _unknown_function(context: Context, name: str) -> str | None:
    """Return why a `call` can't name this function, None when it can."""
    if name == "http" or (context.functions is not None and name in context.functions):
        return None
    if name in context.own_functions:
        return None
    if name in unsupported.FUNCTIONS:
        return unsupported.FUNCTIONS[name]
    if "@" in name or "://" in name:
        return "functions from catalogs are not supported yet"
    if context.functions is None:
        return None
    return f"unknown function {name!r}{suggestion(name, ['http', *context.functions, *context.own_functions])}"
