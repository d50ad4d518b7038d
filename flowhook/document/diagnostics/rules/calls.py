"""Checks calls and their authentication, and the processes that tasks run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from flowhook.document.definition import POLICIES
from flowhook.document.diagnostics.problems import Code, Path, Problem, suggestion
from flowhook.document.diagnostics.rules import unsupported
from flowhook.document.diagnostics.rules.context import (
    TASK_VARIABLES,
    RuleContext,
    mapping,
    null_keys,
    null_keys_within,
)
from flowhook.document.diagnostics.shapes import check_shape, keys_of
from flowhook.document.models import calls
from flowhook.document.models.tasks import CallTask

_BESIDE: Final = frozenset(keys_of([CallTask])) - {"with"}
"""Keys allowed beside the arguments of a call."""


def check_call(context: RuleContext, task: dict[str, Any], path: Path) -> Iterator[Problem]:
    """Check the function of a `call` task and its arguments."""
    name = task["call"]
    cause = _unknown_function(context, name) if isinstance(name, str) else None
    if cause is not None:
        yield Problem((*path, "call"), *cause)
        if name in unsupported.FUNCTIONS:
            return  # its arguments follow rules of their own
    arguments, place = task.get("with"), (*path, "with")
    yield from context.template(arguments, place, TASK_VARIABLES)
    if not isinstance(name, str):
        return
    if name in calls.FUNCTION_ARGUMENTS:
        if "with" not in task:
            yield Problem(place, Code.KEY_MISSING, "the key 'with' is missing")
        elif isinstance(arguments, dict):
            policies = list(_policies(context, name, arguments, place))
            yield from policies
            settled = {problem.path for problem in policies}
            shape = check_shape(calls.FUNCTION_ARGUMENTS[name], arguments, place, around=_BESIDE)
            yield from (problem for problem in shape if problem.path not in settled)
    elif name in calls.COMPONENT_ARGUMENTS and cause is None:
        given = arguments if "with" in task else {}
        yield from (
            check_shape(calls.COMPONENT_ARGUMENTS[name], given, place, around=_BESIDE)
            if isinstance(given, dict)
            else ()
        )


def check_authentication(context: RuleContext, policy: object, path: Path) -> Iterator[Problem]:
    """Check the references of an authentication policy."""
    yield from null_keys_within(policy, path)
    for key, value in mapping(policy).items():
        if key in unsupported.AUTHENTICATIONS:
            yield Problem((*path, key), Code.UNSUPPORTED, unsupported.AUTHENTICATIONS[key])
        elif key == "use":
            known = context.authentications
            yield from context.reference(value, known, (*path, key), "authentication {} in `use.authentications`")
        else:
            yield from context.secret(mapping(value).get("use"), (*path, key, "use"))


def _policies(context: RuleContext, function: str, arguments: dict[str, Any], path: Path) -> Iterator[Problem]:
    """Check the authentication policies of a call, and the mappings that contain them."""
    for place in POLICIES[function]:
        node, where = arguments, path
        for key in place[:-1]:
            node, where = mapping(node.get(key)), (*where, key)
            yield from null_keys(node, where)
        written, where = node.get(place[-1]), (*where, place[-1])
        if isinstance(written, str) and written in context.authentications:
            yield Problem(where, Code.VALUE_TYPE, f"expected a mapping: {{use: {written}}}")
        policy = mapping(written)
        yield from check_authentication(context, policy, where)
        if place == ("service", "authentication"):
            named = policy.get("use")
            known = mapping(context.authentications.get(named)) if isinstance(named, str) else {}
            if "digest" in policy or "digest" in known:
                cause = "digest authentication works with HTTP only: use basic, bearer, oauth2 or oidc"
                yield Problem((*where, "digest" if "digest" in policy else "use"), Code.AUTH_INVALID, cause)


def _unknown_function(context: RuleContext, name: str) -> tuple[Code, str] | None:
    """Return why a `call` can't name this function, as a code and a cause; None if it can."""
    known = {*calls.FUNCTION_ARGUMENTS, *(context.functions or ()), *context.own_functions}
    if name in known:
        return None
    if name in unsupported.FUNCTIONS:
        return Code.UNSUPPORTED, unsupported.FUNCTIONS[name]
    if "@" in name or "://" in name:
        return Code.UNSUPPORTED, unsupported.CATALOGS
    if context.functions is None:
        return None
    return Code.FUNCTION_UNKNOWN, f"unknown function {name!r}{suggestion(name, known)}"


def check_run(context: RuleContext, task: dict[str, Any], path: Path) -> Iterator[Problem]:
    """Check the process of a `run` task."""
    run, place = mapping(task["run"]), (*path, "run")
    yield from null_keys(run, place)
    for key, cause in unsupported.PROCESSES.items():
        if key in run:
            yield Problem((*place, key), Code.UNSUPPORTED, cause)
            return
    yield from context.template(run, place, TASK_VARIABLES)
    for key, process in run.items():
        yield from null_keys(process, (*place, key))
        yield from null_keys(mapping(process).get("environment"), (*place, key, "environment"))
    source = mapping(mapping(run.get("script")).get("source"))
    endpoint = mapping(source.get("endpoint"))
    place = (*place, "script", "source", "endpoint")
    yield from null_keys(endpoint, place)
    yield from check_authentication(context, endpoint.get("authentication"), (*place, "authentication"))
