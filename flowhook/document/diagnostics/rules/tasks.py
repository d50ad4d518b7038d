"""Checks lists of tasks, their data flow, their times, and the kinds of tasks that have no module of their own."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from flowhook.document.catalogs import is_cataloged
from flowhook.document.definition import DIRECTIVES, KINDS, RETRY_PRESETS, is_subscription, kind_of, walk
from flowhook.document.diagnostics.problems import Code, Path, Problem, suggestion
from flowhook.document.diagnostics.rules import unsupported
from flowhook.document.diagnostics.rules.calls import check_call, check_cataloged_function, check_run
from flowhook.document.diagnostics.rules.context import (
    TASK_EXPORT_VARIABLES,
    TASK_INPUT_VARIABLES,
    TASK_VARIABLES,
    Part,
    RuleContext,
    mapping,
    repeated_names,
    unsettled,
)
from flowhook.document.diagnostics.rules.events import check_awaited, check_emit
from flowhook.document.diagnostics.shapes import check_shape, keys_of
from flowhook.document.models.base import RetryPolicy
from flowhook.document.models.calls import FUNCTION_ARGUMENTS, AsyncApiSubscription
from flowhook.document.models.tasks import RETRIED, SubscriptionIterator, SwitchCase, models_of_tasks
from flowhook.document.quantities import UNITS, guess_duration, parse_duration
from flowhook.errors import InvalidError
from flowhook.expressions.syntax import is_expression
from flowhook.model.error_types import ERROR_TYPE_BASE, NAMESPACES, TYPE_URI, Kind, is_standard


@dataclass(frozen=True, slots=True)
class ItemKind:
    """Kind of the items in a list."""

    noun: str  # word for an item in messages
    keys: frozenset[str]  # keys allowed below the name of an item
    telling: frozenset[str]  # those keys of which each identifies an item of this kind


TASKS: Final = ItemKind("task", frozenset(keys_of(models_of_tasks().values())), frozenset(KINDS))
CASES: Final = ItemKind("case", frozenset(keys_of([SwitchCase])), frozenset({"when", "then"}))


def check_items(items: Part, kind: ItemKind) -> Iterator[Problem]:
    """Yield a problem for each item, or value in place of the list, with a missing or misplaced name or hyphen."""
    written = items.value
    if isinstance(written, dict) and written:
        first = next(iter(written))
        if kind.telling & written.keys():
            advice = f"give the {kind.noun} a name, `- {_example(written, kind)}:`, and put it below that"
        else:
            advice = f"each begins with a hyphen, as in `- {first}:`"
        cause = f"expected a list of {kind.noun}s: {advice}"
        yield Problem(items.path, Code.ITEM_INVALID, cause, at=(first,))
    for index, item in enumerate(written if isinstance(written, list) else ()):
        cause, *at = _cause(mapping(item), kind)
        if cause:
            yield Problem((*items.path, index), Code.ITEM_INVALID, cause, at=tuple(at))


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
    return f"my-{kind_of(item)}" if kind is TASKS else "my-case"


def _listed(keys: list[str]) -> str:
    quoted = [repr(key) for key in keys]
    return f"{quoted[0]} has" if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]} have"


MAX_FUNCTION_DEPTH: Final = 8  # maximum depth of calls between functions of a workflow
_TRANSFORMATIONS: Final = {"input": "from", "output": "as", "export": "as"}  # key of the transformation in each section

_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


def check_tasks(context: RuleContext, tasks: Part, *, linked: bool = True) -> Iterator[Problem]:
    """Check a list of tasks; `then` may name tasks of the list only if it is `linked`."""
    yield from check_items(tasks, TASKS)
    items = tasks.named_items
    names = {name for name, _ in items} if linked else set()
    yield from repeated_names(items, "task in this list")
    for _, task in items:
        if isinstance(task.value, dict):
            yield from _task(context, task, names)


def check_function(context: RuleContext, name: str, task: Part) -> Iterator[Problem]:
    if name in {*FUNCTION_ARGUMENTS, *unsupported.FUNCTIONS, *(context.functions or ())}:
        yield task.problem(Code.NAME_DUPLICATE, f"the function {name!r} exists already: choose another name")
    if not isinstance(task.value, dict):
        return
    yield from _task(context, task, ())
    if is_cataloged(name):
        yield from check_cataloged_function(name, task)
    if _depth(name, context.own_functions, ()) > MAX_FUNCTION_DEPTH:
        cause = f"calls itself, or calls functions more than {MAX_FUNCTION_DEPTH} levels deep"
        yield task.problem(Code.FUNCTION_DEPTH, cause)


def check_section(context: RuleContext, parent: Part, key: str, variables: frozenset[str]) -> Iterator[Problem]:
    """Check the section of `parent` at a key: `input`, `output` or `export`."""
    section, transformation = parent.at(key), parent.at(key, _TRANSFORMATIONS[key])
    yield from section.null_keys()
    yield from check_schema(section.at("schema"))
    check = context.expression if isinstance(transformation.value, str) else context.template
    yield from check(transformation, variables)


def check_error(context: RuleContext, definition: Part) -> Iterator[Problem]:
    yield from definition.null_keys()
    for key, member in definition.members:
        if key != "status":
            yield from context.template(member, TASK_VARIABLES)
    kind, instance = definition.at("type"), definition.at("instance")
    yield from _error_type(kind)
    if isinstance(kind.value, str) and not is_expression(kind.value) and not TYPE_URI.fullmatch(kind.value):
        cause = "expected a URI such as https://example.com/errors/out-of-stock or urn:example:out-of-stock"
        yield kind.problem(Code.URI_INVALID, cause)
    if isinstance(instance.value, str) and not is_expression(instance.value) and not instance.value.startswith("/"):
        yield instance.problem(Code.VALUE_FORMAT, "expected a JSON Pointer such as /do/0/announce")


def _error_type(kind: Part) -> Iterator[Problem]:
    """Report a type in a namespace of the standard that the standard does not define: nothing would ever match it."""
    written = kind.value
    if isinstance(written, str) and written.startswith(NAMESPACES) and not is_standard(written):
        meant = suggestion(written.rstrip("/").rpartition("/")[2], Kind)
        hint = f", did you mean {ERROR_TYPE_BASE}{meant.split(chr(39))[1]}?" if meant else ""
        yield kind.problem(Code.ERROR_TYPE_UNKNOWN, f"the standard defines no error type {written[:200]}{hint}")


def _task(context: RuleContext, task: Part, names: Collection[str]) -> Iterator[Problem]:
    yield from task.null_keys()
    yield from context.expression(task.at("if"), TASK_INPUT_VARIABLES)
    yield from check_section(context, task, "input", TASK_INPUT_VARIABLES)
    yield from check_section(context, task, "output", TASK_VARIABLES)
    yield from check_section(context, task, "export", TASK_EXPORT_VARIABLES)
    yield from _target(task.at("then"), names)
    yield from check_timeout(context, task.at("timeout"), TASK_VARIABLES)
    kind = kind_of(task.value) or ""
    if kind == "switch":
        yield from _cases(context, task.at("switch"), names)
    elif kind == "try":
        yield from _try(context, task)
        yield from _target(task.mapping_at("catch").at("then"), names)
    elif kind in _CHECKS:
        yield from _CHECKS[kind](context, task)
    if kind in RETRIED:
        yield from check_own_retry(context, task)


def _for(context: RuleContext, task: Part) -> Iterator[Problem]:
    loop = task.mapping_at("for")
    yield from loop.null_keys()
    items = loop.at("in")
    yield from (context.expression if isinstance(items.value, str) else context.template)(items, TASK_VARIABLES)
    names = {"each": loop.value.get("each", "item"), "at": loop.value.get("at", "index")}
    yield from _variables(loop, names)
    with context.with_variables(*names.values()):
        yield from context.expression(task.at("while"), TASK_VARIABLES)
        yield from check_tasks(context, task.at("do"))


def _call(context: RuleContext, task: Part) -> Iterator[Problem]:
    yield from check_call(context, task)
    if is_subscription(task.value):
        subscription = task.at("with", "subscription")
        yield from subscription.null_keys()
        yield from subscription.at("consume").null_keys()
        yield from context.expression(subscription.at("filter"), TASK_VARIABLES)
        yield from context.expression(subscription.at("consume", "while"), TASK_VARIABLES)
        yield from context.expression(subscription.at("consume", "until"), TASK_VARIABLES)
        yield from check_duration(context, subscription.at("consume", "for"), TASK_VARIABLES)
        foreach = subscription.at("foreach")
        if isinstance(foreach.value, dict):
            around = frozenset(keys_of([AsyncApiSubscription]))
            yield from check_shape(SubscriptionIterator, foreach.value, foreach.path, around=around)
            yield from _foreach(context, foreach)


def _listen(context: RuleContext, task: Part) -> Iterator[Problem]:
    yield from task.at("listen").null_keys()
    yield from check_awaited(context, task.at("listen", "to"))
    yield from _foreach(context, task.mapping_at("foreach"))


def _foreach(context: RuleContext, iterator: Part) -> Iterator[Problem]:
    yield from iterator.null_keys()
    names = {"item": iterator.value.get("item", "item"), "at": iterator.value.get("at", "index")}
    yield from _variables(iterator, names)
    with context.with_variables(*names.values()):
        yield from check_tasks(context, iterator.at("do"))
        yield from check_section(context, iterator, "output", TASK_VARIABLES)
        yield from check_section(context, iterator, "export", TASK_EXPORT_VARIABLES)


def _try(context: RuleContext, task: Part) -> Iterator[Problem]:
    yield from check_tasks(context, task.at("try"))
    catch = task.mapping_at("catch")
    yield from catch.null_keys()
    for _, member in catch.at("errors", "with").members:
        if is_expression(member.value):
            yield member.problem(Code.EXPRESSION_NOT_ALLOWED, "an error filter can't have expressions: use `when`")
    yield from _error_type(catch.at("errors", "with", "type"))
    name = catch.value.get("as", "error")
    yield from _variable(Part(name, (*catch.path, "as")))
    with context.with_variables(name):
        yield from context.expression(catch.at("when"), TASK_VARIABLES)
        yield from context.expression(catch.at("exceptWhen"), TASK_VARIABLES)
        yield from check_retry(context, catch.at("retry"), name)
        yield from check_tasks(context, catch.at("do"))


def _raise(context: RuleContext, task: Part) -> Iterator[Problem]:
    error = task.at("raise", "error")
    if is_expression(error.value):
        yield from context.template(error, TASK_VARIABLES)
    elif isinstance(error.value, str):
        yield from context.reference(error, context.errors, "error {} in `use.errors`")
    else:
        yield from check_error(context, error)


_CHECKS: Final[Mapping[str, Callable[[RuleContext, Part], Iterator[Problem]]]] = {
    "call": _call,
    "do": lambda context, task: check_tasks(context, task.at("do")),
    "emit": check_emit,
    "for": _for,
    "fork": lambda context, task: check_tasks(context, task.at("fork", "branches"), linked=False),
    "listen": _listen,
    "raise": _raise,
    "run": check_run,
    "set": lambda context, task: context.template(task.at("set"), TASK_VARIABLES),
    "wait": lambda context, task: check_duration(context, task.at("wait"), TASK_VARIABLES),
}
"""Check by kind of task; not of `switch` and `try`, whose checks need the list that contains the task, too."""


def _cases(context: RuleContext, cases: Part, names: Collection[str]) -> Iterator[Problem]:
    yield from check_items(cases, CASES)
    yield from repeated_names(cases.named_items, "case of this switch")
    defaults = 0
    for _, case in cases.named_items:
        if isinstance(case.value, str):
            cause = f"expected a mapping with `when` and `then`: {{then: {case.value[:40]}}}"
            yield Problem(case.path[:-1], Code.ITEM_INVALID, cause)
        if not isinstance(case.value, dict):
            continue
        yield from case.null_keys()
        yield from context.expression(case.at("when"), TASK_VARIABLES)
        yield from _target(case.at("then"), names)
        defaults += "when" not in case.value
        if defaults > 1 and "when" not in case.value:
            yield case.problem(Code.KEY_MISSING, "only one case can be without `when`")


def _target(then: Part, names: Collection[str]) -> Iterator[Problem]:
    target = then.value
    if isinstance(target, str) and target not in DIRECTIVES and target not in names:
        hint = suggestion(target, [*names, *DIRECTIVES]) or ": expected the name of one, or continue, exit or end"
        yield then.problem(Code.REFERENCE_UNKNOWN, f"there is no task {target!r} in this list{hint}")


def _variables(loop: Part, names: dict[str, object]) -> Iterator[Problem]:
    """Check the variable names of item and index in a loop, by their keys; `at` is the index."""
    for key, name in names.items():
        yield from _variable(Part(name, (*loop.path, key)))
    if len(set(map(str, names.values()))) < len(names):
        yield loop.at("at").problem(Code.NAME_DUPLICATE, "item and index need different names")


def _variable(written: Part) -> Iterator[Problem]:
    name = written.value
    if not isinstance(name, str):
        return
    if not _VARIABLE.fullmatch(name) or name.startswith("__"):
        cause = f"{name!r} is not a valid name of a variable: use letters, digits and underscores"
        yield written.problem(Code.NAME_INVALID, cause)
    elif name in TASK_EXPORT_VARIABLES:
        yield written.problem(Code.NAME_DUPLICATE, f"${name} is defined already: choose another name")


def _depth(name: str, functions: dict[str, Any], above: tuple[str, ...]) -> int:
    """Return the depth of calls between functions; more than `MAX_FUNCTION_DEPTH` if they are recursive."""
    if name in above or len(above) > MAX_FUNCTION_DEPTH:
        return MAX_FUNCTION_DEPTH + 1
    called = {str(task.task.get("call")) for task in walk({"do": [{name: functions[name]}]})}
    inner = (_depth(other, functions, (*above, name)) for other in called if other in functions)
    return 1 + max(inner, default=0)


FORMATS: Final = frozenset({"json", "json:2020-12"})

_OF_SCHEMAS: Final = frozenset({"$schema", "type", "properties", "required", "items"})
"""Keys by which a mapping is recognised as a JSON Schema."""

_MAX_QUOTED: Final = 200


def check_schema(schema: Part) -> Iterator[Problem]:
    """Yield the problems of the value of a key `schema` that its model does not detect."""
    written, document, schema_format = mapping(schema.value), schema.at("document"), schema.at("format")
    if "resource" in written:
        cause = "external schemas (`resource`) are not supported yet: write the schema inline, as `document`"
        yield schema.problem(Code.UNSUPPORTED, cause)
    elif "document" not in written and written.keys() & _OF_SCHEMAS:
        yield schema.problem(Code.KEY_MISSING, "write the schema below the key `document`")
    if isinstance(schema_format.value, str) and schema_format.value not in FORMATS:
        cause = f"schemas of format {schema_format.value!r} are not supported yet: use json"
        yield schema_format.problem(Code.UNSUPPORTED, cause)
    elif isinstance(document.value, dict | bool):
        yield from _check_document(document.value, document.path)


def _check_document(document: Any, path: Path) -> Iterator[Problem]:
    # 15 MB of code, which few flow files need
    from flowhook.json.schemas import fault_of  # noqa: PLC0415 - see above

    missing = False
    identifiers = {node["$id"] for _, node in _objects(document, ()) if isinstance(node.get("$id"), str)}
    for place, node in _objects(document, path):
        reference = node.get("$ref")
        if isinstance(reference, str) and not _is_inside(reference, document, identifiers):
            cause = f"{_shorten(reference)} is not defined in this schema, and other schemas are not fetched"
            yield Problem((*place, "$ref"), Code.SCHEMA_INVALID, cause)
            missing = True
    if not missing and (fault := fault_of(document)):
        yield Problem((*path, *fault[0]), Code.SCHEMA_INVALID, fault[1])


def _is_inside(reference: str, document: Any, identifiers: set[str]) -> bool:
    base, _, fragment = reference.partition("#")
    if base:
        return base in identifiers
    if identifiers or not fragment.startswith("/"):
        return True  # an anchor, or relative to a base inside the schema: left to the validator
    node = document
    for step in fragment[1:].split("/"):
        key = step.replace("~1", "/").replace("~0", "~")
        if isinstance(node, dict) and key in node:
            node = node[key]
        elif isinstance(node, list) and key.isdecimal() and int(key) < len(node):
            node = node[int(key)]
        else:
            return False
    return True


def _objects(value: Any, path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    if isinstance(value, dict):
        yield path, value
        for key, item in value.items():
            yield from _objects(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _objects(item, (*path, index))


def _shorten(text: str) -> str:
    return text if len(text) <= _MAX_QUOTED else text[: _MAX_QUOTED - 1] + "…"


_DURATIONS: Final = (
    ("delay",),
    ("backoff", "linear", "increment"),
    ("backoff", "linear", "maxDelay"),
    ("backoff", "exponential", "maxDelay"),
    ("limit", "attempt", "duration"),
    ("limit", "duration"),
    ("jitter", "from"),
    ("jitter", "to"),
)
"""Paths of the durations in a retry policy."""


def check_duration(context: RuleContext, duration: Part, variables: frozenset[str]) -> Iterator[Problem]:
    if is_expression(duration.value):
        yield from context.expression(duration, variables)


def check_timeout(
    context: RuleContext, timeout: Part, variables: frozenset[str], *, may_be_named: bool = True
) -> Iterator[Problem]:
    """Yield the problems of a timeout: a duration below `after` or, if it `may_be_named`, the name of a timeout."""
    written = timeout.value
    if isinstance(written, dict):
        if "after" not in written and written.keys() & UNITS:
            units = ", ".join(f"{unit}: {count}" for unit, count in written.items())
            yield timeout.problem(Code.KEY_MISSING, f"write the duration below `after`: {{after: {{{units[:40]}}}}}")
        yield from timeout.null_keys()
        yield from check_duration(context, timeout.at("after"), variables)
        return
    meant = _guess_timeout(written)
    if isinstance(written, str) and may_be_named and (written in context.timeouts or not meant):
        yield from context.reference(timeout, context.timeouts, "timeout {} in `use.timeouts`")
    elif written is not None:
        named = ", or the name of one in `use.timeouts`" if may_be_named else ""
        yield timeout.problem(Code.VALUE_TYPE, f"expected a timeout: {{after: {meant or 'PT30S'}}}{named}")


def check_retry(
    context: RuleContext,
    policy: Part,
    name: object = "error",
    *,
    may_be_named: bool = True,
    presets: Collection[str] = (),
) -> Iterator[Problem]:
    """Check a retry policy or, if it `may_be_named`, the name of one; `name` is the variable with the error.

    `presets` are names that need no definition in `use.retries`.
    """
    if isinstance(policy.value, str) and may_be_named:
        yield from context.reference(policy, (*context.retries, *presets), "retry policy {} in `use.retries`")
        return
    if not isinstance(policy.value, dict | None):
        named = ", or the name of one in `use.retries`" if may_be_named else ""
        example = f"{{delay: PT1S, limit: {{attempt: {_count(policy.value)}}}}}"
        yield policy.problem(Code.VALUE_TYPE, f"expected a retry policy: {example}{named}")
        return
    yield from policy.null_keys()
    yield from _misshapen(policy)
    with context.with_variables(name):
        for key in ("when", "exceptWhen"):
            yield from context.expression(policy.at(key), TASK_VARIABLES)
    for place in _DURATIONS:
        yield from check_duration(context, policy.at(*place), TASK_VARIABLES)
    least, most = (_seconds(policy.at("jitter", key).value) for key in ("from", "to"))
    if least is not None and most is not None and least > most:
        yield policy.at("jitter").problem(Code.VALUE_RANGE, "expected `from` to be no longer than `to`")


def _misshapen(policy: Part) -> Iterator[Problem]:
    """Yield the parts of a policy that lack the mapping around them."""
    limit, attempt, backoff = policy.at("limit"), policy.at("limit", "attempt"), policy.at("backoff")
    if isinstance(limit.value, int | str):
        yield limit.problem(Code.VALUE_TYPE, f"expected a mapping: {{attempt: {_count(limit.value)}}}")
    if isinstance(attempt.value, int | str):
        yield attempt.problem(Code.VALUE_TYPE, f"expected a mapping: {_count(attempt.value)}")
    if backoff.value in ("constant", "exponential", "linear"):
        yield backoff.problem(Code.VALUE_TYPE, f"expected a mapping: {{{backoff.value}: {{}}}}")


def _count(written: object) -> str:
    return f"{{count: {written if isinstance(written, int) and not isinstance(written, bool) else 3}}}"


def _guess_timeout(value: object) -> str:
    if not isinstance(value, str):
        return ""
    return value if _seconds(value) is not None else guess_duration(value[:40])


def _seconds(duration: object) -> float | None:
    try:
        return parse_duration(duration)
    except InvalidError:
        return None


def check_own_retry(context: RuleContext, task: Part) -> Iterator[Problem]:
    policy = task.at("metadata", "retry")
    if "retry" not in mapping(task.at("metadata").value):
        return
    if policy.value is None:
        yield policy.problem(Code.VALUE_MISSING, "expected a retry policy, or the name of one in `use.retries`")
    rules = list(check_retry(context, policy, presets=RETRY_PRESETS))
    yield from rules
    if isinstance(policy.value, dict):
        yield from unsettled(check_shape(RetryPolicy, policy.value, policy.path), rules)
