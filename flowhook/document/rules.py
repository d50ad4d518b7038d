"""What a document has to meet beyond its shape: names that refer to something, expressions that compile.

The rules walk the plain tree, not the models, so that they find what there is to find in a document whose shape is
wrong elsewhere; what is of the wrong type they pass over, for `shape` tells of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any, Final

from flowhook.document import scopes, unsupported
from flowhook.document.builtins import ARGUMENTS
from flowhook.document.http import HttpArguments
from flowhook.document.problems import Path, Problem, suggestion
from flowhook.document.schemas import check_schema
from flowhook.document.shape import check_shape
from flowhook.document.tasks import DIRECTIVES, kind_of
from flowhook.document.timing import RetryPolicy
from flowhook.document.walk import walk
from flowhook.expressions import InvalidExpression, is_expression, strip
from flowhook.expressions.jq import check_program, secret_names
from flowhook.expressions.paths import compile_accessor

MAX_PROGRAMS: Final = 1000
"""Different expressions of one flow that are more than paths: a millisecond of compiling each."""


MAX_FUNCTION_DEPTH: Final = 8
"""How deep functions of a workflow may call one another."""

_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")

_DURATIONS: Final = (
    ("delay",),
    ("backoff", "linear", "increment"),
    ("limit", "attempt", "duration"),
    ("limit", "duration"),
    ("jitter", "from"),
    ("jitter", "to"),
)
"""Where a retry policy has durations."""


def check_rules(data: dict[str, Any], functions: Collection[str] | None) -> Iterator[Problem]:
    """Yield where a document breaks a rule.

    Args:
        data: the document.
        functions: what a `call` may name beside `http`; None: anything.
    """
    yield from _Rules(data, functions).workflow()


class _Rules:
    def __init__(self, data: dict[str, Any], functions: Collection[str] | None) -> None:
        use = _mapping(data.get("use"))
        self.data = data
        self.functions = functions
        self.errors = _mapping(use.get("errors"))
        self.authentications = _mapping(use.get("authentications"))
        self.secrets = {name for name in _list(use.get("secrets")) if isinstance(name, str)}
        self.own_functions = _mapping(use.get("functions"))
        self.retries = _mapping(use.get("retries"))
        self.timeouts = _mapping(use.get("timeouts"))
        self.named: frozenset[str] = frozenset()  # variables that the tasks around define
        self.verdicts: dict[tuple[str, frozenset[str]], str] = {}

    def workflow(self) -> Iterator[Problem]:
        data = self.data
        yield from unsupported.in_document(data)
        yield from _nulls(data, ())
        for key in ("document", "use"):
            yield from _nulls(data.get(key), (key,))
        yield from self.section(data, (), "input", "from", scopes.WORKFLOW_INPUT)
        for name, error in self.errors.items():
            yield from self.error(error, ("use", "errors", name))
        for name, policy in self.authentications.items():
            yield from self.authentication(policy, ("use", "authentications", name), scopes.TASK)
        for name, policy in self.retries.items():
            yield from self.retry(policy, ("use", "retries", name))
        for name, timeout in self.timeouts.items():
            yield from self.timeout(timeout, ("use", "timeouts", name), scopes.TASK)
        for name, task in self.own_functions.items():
            yield from self.function(name, task, ("use", "functions", name))
        yield from self.retry(_mapping(data.get("execution")).get("retry"), ("execution", "retry"))
        yield from self.timeout(data.get("timeout"), ("timeout",), scopes.WORKFLOW_OUTPUT)
        yield from self.tasks(data.get("do"), ("do",))
        yield from self.section(data, (), "output", "as", scopes.WORKFLOW_OUTPUT)

    def tasks(self, tasks: object, path: Path, *, linked: bool = True) -> Iterator[Problem]:
        """Check a list of tasks; `then` may name those of a list that is `linked`."""
        items = _named(tasks)
        names = {name for _, name, _ in items} if linked else set()
        seen: set[str] = set()
        for index, name, task in items:
            place = (*path, index, name)
            if name in seen:
                yield Problem(place, f"there is a task {name!r} in this list already")
            seen.add(name)
            if isinstance(task, dict):
                yield from self.task(task, place, names)

    def task(self, task: dict[str, Any], path: Path, names: Collection[str]) -> Iterator[Problem]:
        yield from unsupported.in_task(task, path)
        yield from _nulls(task, path)
        yield from self.expression(task.get("if"), (*path, "if"), scopes.TASK_INPUT)
        yield from self.section(task, path, "input", "from", scopes.TASK_INPUT)
        yield from self.section(task, path, "output", "as", scopes.TASK)
        yield from self.section(task, path, "export", "as", scopes.TASK_EXPORT)
        yield from self.target(task.get("then"), (*path, "then"), names)
        yield from self.timeout(task.get("timeout"), (*path, "timeout"), scopes.TASK)
        yield from self.own(task, path, names)

    def own(self, task: dict[str, Any], path: Path, names: Collection[str]) -> Iterator[Problem]:
        """Check what a task of its kind has."""
        match kind_of(task):
            case "call":
                yield from self.call(task, path)
                yield from self.call_retry(task, path)
            case "do":
                yield from self.tasks(task["do"], (*path, "do"))
            case "for":
                yield from self.loop(task, path)
            case "fork":
                yield from self.tasks(_mapping(task["fork"]).get("branches"), (*path, "fork", "branches"), linked=False)
            case "try":
                yield from self.tasks(task["try"], (*path, "try"))
                yield from self.catch(_mapping(task.get("catch")), (*path, "catch"))
            case "wait":
                yield from self.duration(task["wait"], (*path, "wait"), scopes.TASK)
            case "raise":
                yield from self.raised(task["raise"], (*path, "raise"))
            case "set":
                yield from self.template(task["set"], (*path, "set"), scopes.TASK)
            case "switch":
                yield from self.cases(task["switch"], (*path, "switch"), names)

    def loop(self, task: dict[str, Any], path: Path) -> Iterator[Problem]:
        loop = _mapping(task["for"])
        yield from _nulls(loop, (*path, "for"))
        yield from self.expression(loop.get("in"), (*path, "for", "in"), scopes.TASK)
        names = {"each": loop.get("each", "item"), "at": loop.get("at", "index")}
        for key, name in names.items():
            yield from _variable(name, (*path, "for", key))
        if names["each"] == names["at"]:
            yield Problem((*path, "for", "at"), "item and index need different names")
        with self.naming(*names.values()):
            yield from self.expression(task.get("while"), (*path, "while"), scopes.TASK)
            yield from self.tasks(task.get("do"), (*path, "do"))

    def catch(self, catch: dict[str, Any], path: Path) -> Iterator[Problem]:
        yield from _nulls(catch, path)
        for key, value in _mapping(_mapping(catch.get("errors")).get("with")).items():
            if is_expression(value):
                yield Problem((*path, "errors", "with", key), "a filter has no expressions: use `when`")
        name = catch.get("as", "error")
        yield from _variable(name, (*path, "as"))
        with self.naming(name):
            yield from self.expression(catch.get("when"), (*path, "when"), scopes.TASK)
            yield from self.expression(catch.get("exceptWhen"), (*path, "exceptWhen"), scopes.TASK)
            yield from self.retry(catch.get("retry"), (*path, "retry"), name)
            yield from self.tasks(catch.get("do"), (*path, "do"))

    def retry(self, policy: object, path: Path, name: object = "error") -> Iterator[Problem]:
        """Check a retry policy or the name of one; `name` is that of the error."""
        if isinstance(policy, str):
            if policy not in self.retries:
                hint = suggestion(policy, self.retries)
                yield Problem(path, f"there is no retry policy {policy!r} in `use.retries`{hint}")
            return
        parts = _mapping(policy)
        yield from _nulls(parts, path)
        with self.naming(name):
            for key in ("when", "exceptWhen"):
                yield from self.expression(parts.get(key), (*path, key), scopes.TASK)
        for place in _DURATIONS:
            value: object = parts
            for key in place:
                value = _mapping(value).get(key)
            yield from self.duration(value, (*path, *place), scopes.TASK)

    def call_retry(self, task: dict[str, Any], path: Path) -> Iterator[Problem]:
        metadata = _mapping(task.get("metadata"))
        if "retry" not in metadata:
            return
        place = (*path, "metadata", "retry")
        if isinstance(metadata["retry"], dict):
            yield from check_shape(RetryPolicy, metadata["retry"], place)
        elif not isinstance(metadata["retry"], str):
            yield Problem(place, "expected a retry policy, or the name of one in `use.retries`")
        yield from self.retry(metadata["retry"], place)

    def timeout(self, timeout: object, path: Path, variables: frozenset[str]) -> Iterator[Problem]:
        """Check a timeout or the name of one."""
        if isinstance(timeout, str):
            if timeout not in self.timeouts:
                hint = suggestion(timeout, self.timeouts)
                yield Problem(path, f"there is no timeout {timeout!r} in `use.timeouts`{hint}")
            return
        yield from _nulls(timeout, path)
        yield from self.duration(_mapping(timeout).get("after"), (*path, "after"), variables)

    def duration(self, value: object, path: Path, variables: frozenset[str]) -> Iterator[Problem]:
        if is_expression(value):
            yield from self.expression(value, path, variables)

    def function(self, name: str, task: object, path: Path) -> Iterator[Problem]:
        """Check one of `use.functions`."""
        if name == "http" or name in (self.functions or ()) or name in unsupported.FUNCTIONS:
            yield Problem(path, f"there is a function {name!r} already")
        if not isinstance(task, dict):
            return
        yield from self.task(task, path, ())
        if _depth(name, self.own_functions, ()) > MAX_FUNCTION_DEPTH:
            yield Problem(path, f"calls itself, or functions more than {MAX_FUNCTION_DEPTH} deep")

    @contextmanager
    def naming(self, *names: object) -> Iterator[None]:
        """Have tasks and expressions within know more variables."""
        before = self.named
        self.named = before | {name for name in names if isinstance(name, str)}
        try:
            yield
        finally:
            self.named = before

    def call(self, task: dict[str, Any], path: Path) -> Iterator[Problem]:
        name = task["call"]
        if isinstance(name, str):
            cause = self.unknown_function(name)
            if cause is not None:
                yield Problem((*path, "call"), cause)
            if cause == unsupported.FUNCTIONS.get(name, ""):
                return  # its arguments follow rules of their own
        arguments = task.get("with")
        yield from self.template(arguments, (*path, "with"), scopes.TASK)
        if isinstance(name, str) and name in ARGUMENTS and self.unknown_function(name) is None:
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
            endpoint = _mapping(arguments.get("endpoint"))
            if "authentication" in endpoint:
                place, policy = (*path, "with", "endpoint"), endpoint["authentication"]
                yield from _nulls({"authentication": policy}, place)
                yield from self.authentication(policy, (*place, "authentication"))

    def authentication(self, policy: object, path: Path, variables: frozenset[str] | None = None) -> Iterator[Problem]:
        """Check what a policy refers to, and its expressions where nothing else does."""
        yield from _nulls(policy, path)
        if variables is not None:
            yield from self.template(policy, path, variables)
        for key, value in _mapping(policy).items():
            if key == "use" and isinstance(value, str) and value not in self.authentications:
                hint = suggestion(value, self.authentications)
                yield Problem((*path, key), f"there is no authentication {value!r} in `use.authentications`{hint}")
            secret = _mapping(value).get("use")
            if isinstance(secret, str) and secret not in self.secrets:
                yield Problem((*path, key, "use"), f"secret {secret!r} is not listed in `use.secrets`")

    def unknown_function(self, name: str) -> str | None:
        """Return why a `call` can't name this function, None when it can."""
        if name == "http" or (self.functions is not None and name in self.functions):
            return None
        if name in self.own_functions:
            return None
        if name in unsupported.FUNCTIONS:
            return unsupported.FUNCTIONS[name]
        if "@" in name or "://" in name:
            return "functions from catalogs are not supported yet"
        if self.functions is None:
            return None
        return f"unknown function {name!r}{suggestion(name, ['http', *self.functions, *self.own_functions])}"

    def raised(self, configuration: object, path: Path) -> Iterator[Problem]:
        error = _mapping(configuration).get("error")
        if isinstance(error, str):
            if error not in self.errors:
                cause = f"there is no error {error!r} in `use.errors`{suggestion(error, self.errors)}"
                yield Problem((*path, "error"), cause)
        else:
            yield from self.error(error, (*path, "error"))

    def error(self, definition: object, path: Path) -> Iterator[Problem]:
        """Check an error, whose expressions are evaluated where it is raised."""
        yield from _nulls(definition, path)
        for key, value in _mapping(definition).items():
            if key != "status":
                yield from self.template(value, (*path, key), scopes.TASK)
        kind = _mapping(definition).get("type")
        if isinstance(kind, str) and not is_expression(kind) and "://" not in kind:
            yield Problem((*path, "type"), "expected a URI such as https://example.com/errors/out-of-stock")
        instance = _mapping(definition).get("instance")
        if isinstance(instance, str) and not is_expression(instance) and not instance.startswith("/"):
            yield Problem((*path, "instance"), "expected a JSON Pointer such as /do/0/announce")

    def cases(self, cases: object, path: Path, names: Collection[str]) -> Iterator[Problem]:
        seen: set[str] = set()
        defaults = 0
        for index, name, case in _named(cases):
            place = (*path, index, name)
            if name in seen:
                yield Problem(place, f"there is a case {name!r} in this switch already")
            seen.add(name)
            if not isinstance(case, dict):
                continue
            yield from _nulls(case, place)
            yield from self.expression(case.get("when"), (*place, "when"), scopes.TASK)
            yield from self.target(case.get("then"), (*place, "then"), names)
            defaults += "when" not in case
            if defaults > 1 and "when" not in case:
                yield Problem(place, "only one case can do without `when`")

    def target(self, target: object, path: Path, names: Collection[str]) -> Iterator[Problem]:
        if isinstance(target, str) and target not in DIRECTIVES and target not in names:
            hint = suggestion(target, [*names, *DIRECTIVES]) or ", and it is none of continue, exit and end"
            yield Problem(path, f"there is no task {target!r} in this list{hint}")

    def section(
        self, parent: dict[str, Any], path: Path, key: str, transformation: str, variables: frozenset[str]
    ) -> Iterator[Problem]:
        """Check an `input`, `output` or `export`."""
        section = parent.get(key)
        if not isinstance(section, dict):
            return
        place = (*path, key)
        yield from _nulls(section, place)
        yield from check_schema(section.get("schema"), (*place, "schema"))
        value = section.get(transformation)
        check = self.expression if isinstance(value, str) else self.template
        yield from check(value, (*place, transformation), variables)

    def template(self, value: object, path: Path, variables: frozenset[str]) -> Iterator[Problem]:
        """Check data in which the strings of the form `${ }` are expressions."""
        if isinstance(value, dict):
            for key, item in value.items():
                yield from self.template(item, (*path, key), variables)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                yield from self.template(item, (*path, index), variables)
        elif is_expression(value):
            yield from self.expression(value, path, variables)

    def expression(self, value: object, path: Path, variables: frozenset[str]) -> Iterator[Problem]:
        """Check one expression, with or without `${ }`."""
        if not isinstance(value, str):
            return
        program = strip(value)
        verdict = self.verdict(program, variables | self.named if self.named else variables)
        if verdict:
            yield Problem(path, verdict)
        elif "$secrets" in program:
            for name in sorted(secret_names(program) - self.secrets):
                yield Problem(path, f"secret {name!r} is not listed in `use.secrets`")

    def verdict(self, program: str, variables: frozenset[str]) -> str:
        """Return what is wrong with a program, each only once compiled; empty when nothing is."""
        known = self.verdicts.get((program, variables))
        if known is not None:
            return known
        if _refusal(lambda: compile_accessor(program, variables=variables)) == "":
            return ""
        if len(self.verdicts) >= MAX_PROGRAMS:
            return f"a flow has at most {MAX_PROGRAMS} different expressions that are more than paths"
        verdict = self.verdicts[program, variables] = _refusal(lambda: check_program(program, variables))
        return verdict


def _variable(name: object, path: Path) -> Iterator[Problem]:
    """Check the name of a variable that a task defines."""
    if not isinstance(name, str):
        return
    if not _VARIABLE.fullmatch(name) or name.startswith("__"):
        yield Problem(path, f"{name!r} is no name of a variable: expected letters, digits and underscores")
    elif name in scopes.TASK_EXPORT:
        yield Problem(path, f"${name} is there already")


def _depth(name: str, functions: dict[str, Any], above: tuple[str, ...]) -> int:
    """Return how deep functions call one another; more than is allowed where they do so in circles."""
    if name in above or len(above) > MAX_FUNCTION_DEPTH:
        return MAX_FUNCTION_DEPTH + 1
    called = {str(task.task.get("call")) for task in walk({"do": [{name: functions[name]}]})}
    inner = (_depth(other, functions, (*above, name)) for other in called if other in functions)
    return 1 + max(inner, default=0)


def _refusal(check: Callable[[], object]) -> str:
    try:
        check()
    except InvalidExpression as error:
        return error.message
    return ""


def _nulls(value: object, path: Path) -> Iterator[Problem]:
    for key, item in _mapping(value).items():
        if item is None:
            yield Problem((*path, key), "has no value: give it one, or remove the key")


def _named(items: object) -> list[tuple[int, str, Any]]:
    """Return position, name and content of the items of a list that are mappings of one name."""
    return [(index, *next(iter(item.items()))) for index, item in enumerate(_list(items)) if len(_mapping(item)) == 1]


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
