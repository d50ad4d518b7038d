"""Checks lists of tasks, their data flow, and the kinds of tasks that have no module of their own."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from flowhook.document.definition import DIRECTIVES, KINDS, kind_of, walk
from flowhook.document.diagnostics.problems import Code, Path, Problem, suggestion
from flowhook.document.diagnostics.rules import unsupported
from flowhook.document.diagnostics.rules.calls import check_call, check_run
from flowhook.document.diagnostics.rules.context import (
    TASK_EXPORT_VARIABLES,
    TASK_INPUT_VARIABLES,
    TASK_VARIABLES,
    RuleContext,
    mapping,
    named_items,
    null_keys,
    sequence,
)
from flowhook.document.diagnostics.rules.events import check_awaited, check_emit
from flowhook.document.diagnostics.rules.schemas import check_schema
from flowhook.document.diagnostics.rules.timing import check_duration, check_own_retry, check_retry, check_timeout
from flowhook.document.diagnostics.shapes import keys_of
from flowhook.document.models.calls import FUNCTION_ARGUMENTS
from flowhook.document.models.tasks import RETRIED, SwitchCase, models_of_tasks
from flowhook.expressions import is_expression


def _task_keys() -> frozenset[str]:
    return frozenset(keys_of(models_of_tasks().values()))


@dataclass(frozen=True, slots=True)
class ItemKind:
    """Kind of the items in a list."""

    noun: str  # word for an item in messages
    keys: frozenset[str]  # keys allowed below the name of an item
    telling: frozenset[str]  # those keys of which each identifies an item of this kind


TASKS: Final = ItemKind("task", _task_keys(), frozenset(KINDS))
CASES: Final = ItemKind("case", frozenset(keys_of([SwitchCase])), frozenset({"when", "then"}))


def check_items(items: object, path: Path, kind: ItemKind) -> Iterator[Problem]:
    """Yield a problem for each item, or value in place of the list, with a missing or misplaced name or hyphen."""
    if isinstance(items, dict) and items:
        if kind.telling & items.keys():
            advice = f"give the {kind.noun} a name, `- {_example(items, kind)}:`, and put it below that"
        else:
            advice = f"each begins with a hyphen, as in `- {next(iter(items))}:`"
        yield Problem(path, Code.ITEM_INVALID, f"expected a list of {kind.noun}s: {advice}", at=(next(iter(items)),))
    for index, item in enumerate(sequence(items)):
        cause, *at = _cause(mapping(item), kind)
        if cause:
            yield Problem((*path, index), Code.ITEM_INVALID, cause, at=tuple(at))


def _cause(item: dict[str, Any], kind: ItemKind) -> tuple[str, ...]:
    """Return the cause of a problem, empty if the item is valid, and the key that is wrong unless it is the first."""
    below = [key for key in item if key in kind.keys]
    names = [key for key in item if key not in kind.keys]
    if len(item) == 1:
        ((name, content),) = item.items()
        if name in kind.telling and not (isinstance(content, dict) and kind.telling & content.keys()):
            return (_nameless(name, item, kind),)
        return (f"{name!r} is empty: indent its content further than its name" if content is None else "",)
    if not item:
        return ("",)
    if not kind.telling.isdisjoint(below):
        if isinstance(item.get("name"), str) and "name" in names:
            return (f"the name of a {kind.noun} is its key: write `- {item['name']}:` and put the rest below it",)
        if not names:
            return (_nameless(below[0], item, kind),)
    if len(names) == 1 and below:
        return f"{_listed(below)} to be below {names[0]!r}: indent further", below[0]
    if len(names) == len(item):
        return f"each item is one {kind.noun}: make {names[1]!r} an item of its own, `- {names[1]}:`", names[1]
    return ("",)


def _nameless(key: str, item: dict[str, Any], kind: ItemKind) -> str:
    return f"a {kind.noun} needs a name: write `- {_example(item, kind)}:` and put {key!r} below it"


def _example(item: dict[str, Any], kind: ItemKind) -> str:
    """Return an example of a name for an item that has none."""
    return f"my-{kind_of(item)}" if kind is TASKS else "my-case"


def _listed(keys: list[str]) -> str:
    quoted = [repr(key) for key in keys]
    return f"{quoted[0]} has" if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]} have"


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
    if name in {*FUNCTION_ARGUMENTS, *unsupported.FUNCTIONS, *(context.functions or ())}:
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
            yield from context.template(value, (*path, key), TASK_VARIABLES)
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
    yield from context.expression(task.get("if"), (*path, "if"), TASK_INPUT_VARIABLES)
    yield from check_section(context, task, path, "input", TASK_INPUT_VARIABLES)
    yield from check_section(context, task, path, "output", TASK_VARIABLES)
    yield from check_section(context, task, path, "export", TASK_EXPORT_VARIABLES)
    yield from _target(task.get("then"), (*path, "then"), names)
    yield from check_timeout(context, task.get("timeout"), (*path, "timeout"), TASK_VARIABLES)
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
    yield from context.expression(loop.get("in"), (*path, "for", "in"), TASK_VARIABLES)
    names = {"each": loop.get("each", "item"), "at": loop.get("at", "index")}
    yield from _variables(names, (*path, "for"))
    with context.with_variables(*names.values()):
        yield from context.expression(task.get("while"), (*path, "while"), TASK_VARIABLES)
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
        yield from check_section(context, iterator, place, "output", TASK_VARIABLES)
        yield from check_section(context, iterator, place, "export", TASK_EXPORT_VARIABLES)


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
        yield from context.expression(catch.get("when"), (*path, "when"), TASK_VARIABLES)
        yield from context.expression(catch.get("exceptWhen"), (*path, "exceptWhen"), TASK_VARIABLES)
        yield from check_retry(context, catch.get("retry"), (*path, "retry"), name)
        yield from check_tasks(context, catch.get("do"), (*path, "do"))


def _wait(context: RuleContext, task: dict[str, Any], path: Path) -> Iterator[Problem]:
    yield from check_duration(context, task["wait"], (*path, "wait"), TASK_VARIABLES)


def _raise(context: RuleContext, task: dict[str, Any], path: Path) -> Iterator[Problem]:
    error = mapping(task["raise"]).get("error")
    if is_expression(error):
        yield from context.template(error, (*path, "raise", "error"), TASK_VARIABLES)
    elif isinstance(error, str):
        yield from context.reference(error, context.errors, (*path, "raise", "error"), "error {} in `use.errors`")
    else:
        yield from check_error(context, error, (*path, "raise", "error"))


def _set(context: RuleContext, task: dict[str, Any], path: Path) -> Iterator[Problem]:
    yield from context.template(task["set"], (*path, "set"), TASK_VARIABLES)


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
        yield from context.expression(case.get("when"), (*place, "when"), TASK_VARIABLES)
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
    elif name in TASK_EXPORT_VARIABLES:
        yield Problem(path, Code.NAME_DUPLICATE, f"${name} is defined already: choose another name")


def _depth(name: str, functions: dict[str, Any], above: tuple[str, ...]) -> int:
    """Return the depth of calls between functions; more than `MAX_FUNCTION_DEPTH` if they are recursive."""
    if name in above or len(above) > MAX_FUNCTION_DEPTH:
        return MAX_FUNCTION_DEPTH + 1
    called = {str(task.task.get("call")) for task in walk({"do": [{name: functions[name]}]})}
    inner = (_depth(other, functions, (*above, name)) for other in called if other in functions)
    return 1 + max(inner, default=0)
