"""Checks lists of tasks, their data flow, and the kinds of tasks that have no module of their own."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final

from flowhook.document import unsupported, variable_scopes
from flowhook.document.calls import ARGUMENTS
from flowhook.document.codes import Code
from flowhook.document.problems import Path, Problem, suggestion
from flowhook.document.rules.calls import check_call, check_run
from flowhook.document.rules.context import RuleContext
from flowhook.document.rules.events import check_awaited, check_emit
from flowhook.document.rules.items import CASES, TASKS, check_items
from flowhook.document.rules.timing import check_duration, check_own_retry, check_retry, check_timeout
from flowhook.document.rules.tree import mapping, named_items, null_keys
from flowhook.document.schemas import check_schema
from flowhook.document.task_kinds import DIRECTIVES, kind_of
from flowhook.document.tasks import RETRIED
from flowhook.document.walk import walk
from flowhook.expressions import is_expression

MAX_FUNCTION_DEPTH: Final = 8
"""Maximum depth of calls between functions of a workflow."""

_TRANSFORMATIONS: Final = {"input": "from", "output": "as", "export": "as"}
"""Key of the transformation in each section."""

_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


def check_tasks(context: RuleContext, tasks: object, path: Path, *, linked: bool = True) -> Iterator[Problem]:
    """Check a list of tasks; `then` may name tasks of the list only if it is `linked`."""
    yield from check_items(tasks, path, TASKS)
    items = named_items(tasks)
    names = {name for _, name, _ in items} if linked else set()
    seen: set[str] = set()
    for index, name, task in items:
        place = (*path, index, name)
        if name in seen:
            yield Problem(
                place, Code.NAME_DUPLICATE, f"another task in this list is called {name!r}: choose another name"
            )
        seen.add(name)
        if isinstance(task, dict):
            yield from _task(context, task, place, names)


def check_function(context: RuleContext, name: str, task: object, path: Path) -> Iterator[Problem]:
    """Check one of `use.functions`."""
    if name in {*ARGUMENTS, *unsupported.FUNCTIONS, *(context.functions or ())}:
        yield Problem(path, Code.NAME_DUPLICATE, f"the function {name!r} exists already: choose another name")
    if not isinstance(task, dict):
        return
    yield from _task(context, task, path, ())
    if _depth(name, context.own_functions, ()) > MAX_FUNCTION_DEPTH:
        yield Problem(
            path, Code.FUNCTION_DEPTH, f"calls itself, or calls functions more than {MAX_FUNCTION_DEPTH} levels deep"
        )


def check_section(
    context: RuleContext, parent: dict[str, Any], path: Path, key: str, variables: frozenset[str]
) -> Iterator[Problem]:
    """Check the section of `parent` at a key: `input`, `output` or `export`."""
    section = parent.get(key)
    if not isinstance(section, dict):
        return
    place = (*path, key)
    transformation = _TRANSFORMATIONS[key]
    yield from null_keys(section, place)
    yield from check_schema(section.get("schema"), (*place, "schema"))
    value = section.get(transformation)
    check = context.expression if isinstance(value, str) else context.template
    yield from check(value, (*place, transformation), variables)


def check_error(context: RuleContext, definition: object, path: Path) -> Iterator[Problem]:
    """Check an error, whose expressions are evaluated where it is raised."""
    yield from null_keys(definition, path)
    for key, value in mapping(definition).items():
        if key != "status":
            yield from context.template(value, (*path, key), variable_scopes.TASK)
    kind = mapping(definition).get("type")
    if isinstance(kind, str) and not is_expression(kind) and "://" not in kind:
        yield Problem(
            (*path, "type"),
            Code.URI_INVALID,
            "expected a URI with `://`, such as https://example.com/errors/out-of-stock",
        )
    instance = mapping(definition).get("instance")
    if isinstance(instance, str) and not is_expression(instance) and not instance.startswith("/"):
        yield Problem((*path, "instance"), Code.VALUE_FORMAT, "expected a JSON Pointer such as /do/0/announce")


def _task(context: RuleContext, task: dict[str, Any], path: Path, names: Collection[str]) -> Iterator[Problem]:
    yield from null_keys(task, path)
    yield from context.expression(task.get("if"), (*path, "if"), variable_scopes.TASK_INPUT)
    yield from check_section(context, task, path, "input", variable_scopes.TASK_INPUT)
    yield from check_section(context, task, path, "output", variable_scopes.TASK)
    yield from check_section(context, task, path, "export", variable_scopes.TASK_EXPORT)
    yield from _target(task.get("then"), (*path, "then"), names)
    yield from check_timeout(context, task.get("timeout"), (*path, "timeout"), variable_scopes.TASK)
    kind = kind_of(task) or ""
    if kind == "switch":
        yield from _cases(context, task["switch"], (*path, "switch"), names)
    elif kind in _CHECKS:
        yield from _CHECKS[kind](context, task, path)
    if kind in RETRIED:
        yield from check_own_retry(context, task, path)


def _do(context: RuleContext, task: dict[str, Any], path: Path) -> Iterator[Problem]:
    yield from check_tasks(context, task["do"], (*path, "do"))


def _fork(context: RuleContext, task: dict[str, Any], path: Path) -> Iterator[Problem]:
    branches = mapping(task["fork"]).get("branches")
    yield from check_tasks(context, branches, (*path, "fork", "branches"), linked=False)


def _for(context: RuleContext, task: dict[str, Any], path: Path) -> Iterator[Problem]:
    loop = mapping(task["for"])
    yield from null_keys(loop, (*path, "for"))
    yield from context.expression(loop.get("in"), (*path, "for", "in"), variable_scopes.TASK)
    names = {"each": loop.get("each", "item"), "at": loop.get("at", "index")}
    yield from _variables(names, (*path, "for"))
    with context.with_variables(*names.values()):
        yield from context.expression(task.get("while"), (*path, "while"), variable_scopes.TASK)
        yield from check_tasks(context, task.get("do"), (*path, "do"))


def _listen(context: RuleContext, task: dict[str, Any], path: Path) -> Iterator[Problem]:
    listen = mapping(task["listen"])
    yield from null_keys(listen, (*path, "listen"))
    yield from check_awaited(context, listen.get("to"), (*path, "listen", "to"))
    iterator = mapping(task.get("foreach"))
    place = (*path, "foreach")
    yield from null_keys(iterator, place)
    names = {"item": iterator.get("item", "item"), "at": iterator.get("at", "index")}
    yield from _variables(names, place)
    with context.with_variables(*names.values()):
        yield from check_tasks(context, iterator.get("do"), (*place, "do"))
        yield from check_section(context, iterator, place, "output", variable_scopes.TASK)
        yield from check_section(context, iterator, place, "export", variable_scopes.TASK_EXPORT)


def _try(context: RuleContext, task: dict[str, Any], path: Path) -> Iterator[Problem]:
    yield from check_tasks(context, task["try"], (*path, "try"))
    catch, path = mapping(task.get("catch")), (*path, "catch")
    yield from null_keys(catch, path)
    for key, value in mapping(mapping(catch.get("errors")).get("with")).items():
        if is_expression(value):
            cause = "an error filter can't have expressions: use `when`"
            yield Problem((*path, "errors", "with", key), Code.EXPRESSION_NOT_ALLOWED, cause)
    name = catch.get("as", "error")
    yield from _variable(name, (*path, "as"))
    with context.with_variables(name):
        yield from context.expression(catch.get("when"), (*path, "when"), variable_scopes.TASK)
        yield from context.expression(catch.get("exceptWhen"), (*path, "exceptWhen"), variable_scopes.TASK)
        yield from check_retry(context, catch.get("retry"), (*path, "retry"), name)
        yield from check_tasks(context, catch.get("do"), (*path, "do"))


def _wait(context: RuleContext, task: dict[str, Any], path: Path) -> Iterator[Problem]:
    yield from check_duration(context, task["wait"], (*path, "wait"), variable_scopes.TASK)


def _raise(context: RuleContext, task: dict[str, Any], path: Path) -> Iterator[Problem]:
    error = mapping(task["raise"]).get("error")
    if is_expression(error):
        yield from context.template(error, (*path, "raise", "error"), variable_scopes.TASK)
    elif isinstance(error, str):
        yield from context.reference(error, context.errors, (*path, "raise", "error"), "error {} in `use.errors`")
    else:
        yield from check_error(context, error, (*path, "raise", "error"))


def _set(context: RuleContext, task: dict[str, Any], path: Path) -> Iterator[Problem]:
    yield from context.template(task["set"], (*path, "set"), variable_scopes.TASK)


_CHECKS: Final[Mapping[str, Callable[[RuleContext, dict[str, Any], Path], Iterator[Problem]]]] = {
    "call": check_call,
    "do": _do,
    "emit": check_emit,
    "for": _for,
    "fork": _fork,
    "listen": _listen,
    "raise": _raise,
    "run": check_run,
    "set": _set,
    "try": _try,
    "wait": _wait,
}
"""Check by kind of task; `switch` is not among them, because its check also needs the list that contains the task."""


def _cases(context: RuleContext, cases: object, path: Path, names: Collection[str]) -> Iterator[Problem]:
    yield from check_items(cases, path, CASES)
    seen: set[str] = set()
    defaults = 0
    for index, name, case in named_items(cases):
        place = (*path, index, name)
        if name in seen:
            yield Problem(
                place, Code.NAME_DUPLICATE, f"another case of this switch is called {name!r}: choose another name"
            )
        seen.add(name)
        if isinstance(case, str):
            cause = f"expected a mapping with `when` and `then`: {{then: {case[:40]}}}"
            yield Problem(place[:-1], Code.ITEM_INVALID, cause)
        if not isinstance(case, dict):
            continue
        yield from null_keys(case, place)
        yield from context.expression(case.get("when"), (*place, "when"), variable_scopes.TASK)
        yield from _target(case.get("then"), (*place, "then"), names)
        defaults += "when" not in case
        if defaults > 1 and "when" not in case:
            yield Problem(place, Code.KEY_MISSING, "only one case can be without `when`")


def _target(target: object, path: Path, names: Collection[str]) -> Iterator[Problem]:
    if isinstance(target, str) and target not in DIRECTIVES and target not in names:
        hint = suggestion(target, [*names, *DIRECTIVES]) or ": expected the name of one, or continue, exit or end"
        yield Problem(path, Code.REFERENCE_UNKNOWN, f"there is no task {target!r} in this list{hint}")


def _variables(names: dict[str, object], path: Path) -> Iterator[Problem]:
    """Check the variable names of item and index in a loop, by their keys; `at` is the index."""
    for key, name in names.items():
        yield from _variable(name, (*path, key))
    if len(set(map(str, names.values()))) < len(names):
        yield Problem((*path, "at"), Code.NAME_DUPLICATE, "item and index need different names")


def _variable(name: object, path: Path) -> Iterator[Problem]:
    """Check the name of a variable that a task defines."""
    if not isinstance(name, str):
        return
    if not _VARIABLE.fullmatch(name) or name.startswith("__"):
        cause = f"{name!r} is not a valid name of a variable: use letters, digits and underscores"
        yield Problem(path, Code.NAME_INVALID, cause)
    elif name in variable_scopes.TASK_EXPORT:
        yield Problem(path, Code.NAME_DUPLICATE, f"${name} is defined already: choose another name")


def _depth(name: str, functions: dict[str, Any], above: tuple[str, ...]) -> int:
    """Return the depth of calls between functions; more than `MAX_FUNCTION_DEPTH` if they are recursive."""
    if name in above or len(above) > MAX_FUNCTION_DEPTH:
        return MAX_FUNCTION_DEPTH + 1
    called = {str(task.task.get("call")) for task in walk({"do": [{name: functions[name]}]})}
    inner = (_depth(other, functions, (*above, name)) for other in called if other in functions)
    return 1 + max(inner, default=0)
