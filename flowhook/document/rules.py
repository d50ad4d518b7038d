"""What a document has to meet beyond its shape: names that refer to something, expressions that compile.

The rules walk the plain tree, not the models, so that they find what there is to find in a document whose shape is
wrong elsewhere; what is of the wrong type they pass over, for `shape` tells of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any, Final

from flowhook.document import scopes, unsupported
from flowhook.document.builtins import ARGUMENTS
from flowhook.document.http import HttpArguments
from flowhook.document.problems import Path, Problem, suggestion
from flowhook.document.schemas import check_schema
from flowhook.document.shape import check_shape
from flowhook.document.tasks import DIRECTIVES, kind_of
from flowhook.expressions import InvalidExpression, is_expression, strip
from flowhook.expressions.jq import check_program, secret_names
from flowhook.expressions.paths import compile_accessor

MAX_PROGRAMS: Final = 1000
"""Different expressions of one flow that are more than paths: a millisecond of compiling each."""


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
        yield from self.tasks(data.get("do"), ("do",))
        yield from self.section(data, (), "output", "as", scopes.WORKFLOW_OUTPUT)

    def tasks(self, tasks: object, path: Path) -> Iterator[Problem]:
        items = _named(tasks)
        names = {name for _, name, _ in items}
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
        match kind_of(task):
            case "call":
                yield from self.call(task, path)
            case "do":
                yield from self.tasks(task["do"], (*path, "do"))
            case "raise":
                yield from self.raised(task["raise"], (*path, "raise"))
            case "set":
                yield from self.template(task["set"], (*path, "set"), scopes.TASK)
            case "switch":
                yield from self.cases(task["switch"], (*path, "switch"), names)

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
        if name in unsupported.FUNCTIONS:
            return unsupported.FUNCTIONS[name]
        if name in self.own_functions:
            return unsupported.KEYS["use", "functions"]
        if "@" in name or "://" in name:
            return "functions from catalogs are not supported yet"
        if self.functions is None:
            return None
        return f"unknown function {name!r}{suggestion(name, ['http', *self.functions])}"

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
        verdict = self.verdict(program, variables)
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
