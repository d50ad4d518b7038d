"""Finds the types of errors that a `try` is meant for, and that none of its tasks can raise.

What cannot be known in advance counts as any type: errors of other flows, of components of others, and those that an
expression makes.

Source: dsl-reference.md, "Try", "Catch", "Retry", "Standard Error Types".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from flowhook.document.definition import PlacedTask, value_at, walk, walk_everywhere
from flowhook.document.diagnostics.problems import Code, Path, Problem, suggestion
from flowhook.document.models.calls import COMPONENT_ARGUMENTS, FUNCTION_ARGUMENTS
from flowhook.expressions.syntax import is_expression
from flowhook.model.error_types import ERROR_TYPE_BASE, NAMESPACES, Kind, is_standard, spellings, standard_type

_ANY: Final = "*"  # stands for any type at all
_STANDARD: Final = frozenset(ERROR_TYPE_BASE + kind for kind in Kind)
_OF_CALLS: Final = frozenset(
    ERROR_TYPE_BASE + kind for kind in (Kind.AUTHENTICATION, Kind.AUTHORIZATION, Kind.COMMUNICATION, Kind.TIMEOUT)
)
"""Standard types that only what reaches out of the flow raises; a timeout has other causes, too."""

_COMPARED: Final = re.compile(r'\.type\s*==\s*"([^"\\]*)"')


def unraised_types(definition: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield the types that a `catch` or a retry names, and that no task of its `try` can raise."""
    known = _RaisedTypes(definition)
    for placed in walk_everywhere(definition):
        named = list(_named(definition, placed)) if placed.kind == "try" else []
        raised = known.of_try(placed.task) if named else frozenset()
        for path, type_ in named:
            if type_.startswith(NAMESPACES) and not is_standard(type_) and path[-1] != "type":
                cause = f"the standard defines no error type {type_[:200]}: this is never true"
                yield Problem(path, Code.ERROR_NOT_RAISED, cause)
            elif not raised & {_ANY, standard_type(type_)}:
                alike = [each for own in raised for each in spellings(own)]
                meant = "" if is_standard(type_) else suggestion(type_, alike)
                yield Problem(path, Code.ERROR_NOT_RAISED, f"no task of this `try` can raise {type_[:200]}{meant}")


def _named(definition: Mapping[str, Any], placed: PlacedTask) -> Iterator[tuple[Path, str]]:
    """Yield the types that the `catch` of a `try` names, in its filter and in its conditions."""
    catch = placed.task.get("catch")
    type_ = value_at(catch, ("errors", "with", "type"))
    if isinstance(type_, str):
        yield (*placed.path, "catch", "errors", "with", "type"), type_
    retry = value_at(catch, ("retry",))
    shared = value_at(definition, ("use", "retries", retry)) if isinstance(retry, str) else None
    for condition, path in (
        (value_at(catch, ("when",)), ("when",)),
        (value_at(retry, ("when",)), ("retry", "when")),
        (value_at(shared, ("when",)), ("retry",)),
    ):
        # several alternatives: that one of them never comes is no mistake if others do
        found = _COMPARED.findall(condition) if isinstance(condition, str) else []
        if len(found) == 1:
            yield (*placed.path, "catch", *path), found[0]


class _RaisedTypes:
    """The types that tasks may raise; what functions raise is found once."""

    def __init__(self, definition: Mapping[str, Any]) -> None:
        self._definition = definition
        self._functions: Mapping[str, Any] = value_at(definition, ("use", "functions")) or {}
        self._known: dict[str, frozenset[str]] = {}

    def of_try(self, task: Mapping[str, Any]) -> frozenset[str]:
        if value_at(self._definition, ("use", "extensions")):
            return frozenset({_ANY})
        limited = {ERROR_TYPE_BASE + Kind.TIMEOUT} if _has_timeout(task) else frozenset()
        return self._of(task["try"]) | (_STANDARD - _OF_CALLS) | limited

    def _of(self, tasks: Any) -> frozenset[str]:
        return frozenset().union(*map(self._of_task, walk({"do": tasks})))

    def _of_function(self, name: str) -> frozenset[str]:
        if name not in self._known:
            self._known[name] = self._of([{name: self._functions[name]}])
        return self._known[name]

    def _of_task(self, placed: PlacedTask) -> frozenset[str]:
        task = placed.task
        match placed.kind:
            case "raise":
                return _of_raise(self._definition, value_at(task, ("raise", "error")))
            case "call" if task["call"] in self._functions:
                types = self._of_function(task["call"])
            case "call":
                # tasks for each message of a subscription are not looked at
                iterates = value_at(task, ("with", "subscription", "foreach")) is not None
                known = task["call"] in FUNCTION_ARGUMENTS or task["call"] in COMPONENT_ARGUMENTS
                types = _STANDARD if known and not iterates else frozenset({_ANY})
            case "run":
                types = _STANDARD if value_at(task, ("run", "workflow")) is None else frozenset({_ANY})
            case kind:
                types = _STANDARD if kind == "emit" else frozenset()
        return types | {ERROR_TYPE_BASE + Kind.TIMEOUT} if _has_timeout(task) else types


def _of_raise(definition: Mapping[str, Any], error: Any) -> frozenset[str]:
    if isinstance(error, str) and not is_expression(error):
        error = value_at(definition, ("use", "errors", error))
    type_ = value_at(error, ("type",))
    if not isinstance(type_, str) or is_expression(type_) or "{" in type_:
        return frozenset({_ANY})
    return frozenset({standard_type(type_)})


def _has_timeout(task: Mapping[str, Any]) -> bool:
    limit = value_at(task, ("catch", "retry", "limit", "attempt", "duration"))
    named = isinstance(value_at(task, ("catch", "retry")), str)
    return "timeout" in task or limit is not None or named
