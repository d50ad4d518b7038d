"""The names that a document defines, the variables of its expressions, and the reading of a tree of any shape."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from flowhook.document.definition import strings_in, value_at
from flowhook.document.diagnostics.problems import Code, Path, Problem, suggestion
from flowhook.expressions.jq_check import check_program, secret_names
from flowhook.expressions.paths import compile_accessor
from flowhook.expressions.syntax import InvalidExpression, is_expression, strip_markers


def mapping(value: object) -> dict[str, Any]:
    """Return a mapping as it is, and an empty one for anything else."""
    return value if isinstance(value, dict) else {}


class Part(NamedTuple):
    """A part of a document: its value, None where it is absent, and its path."""

    value: Any
    path: Path

    def at(self, *keys: str) -> Part:
        return Part(value_at(self.value, keys), (*self.path, *keys))

    def mapping_at(self, *keys: str) -> Part:
        part = self.at(*keys)
        return part._replace(value=mapping(part.value))

    @property
    def members(self) -> list[tuple[str, Part]]:
        return [(key, Part(item, (*self.path, key))) for key, item in mapping(self.value).items()]

    @property
    def named_items(self) -> list[tuple[str, Part]]:
        items = enumerate(self.value if isinstance(self.value, list) else ())
        return [Part(item, (*self.path, index)).members[0] for index, item in items if len(mapping(item)) == 1]

    def problem(self, code: Code, cause: str) -> Problem:
        return Problem(self.path, code, cause)

    def null_keys(self, *, within: bool = False) -> Iterator[Problem]:
        """Yield the keys of a mapping that have no value, and those of the mappings `within` it."""
        for _, member in self.members:
            if member.value is None:
                yield member.problem(Code.VALUE_MISSING, "has no value: give it one, or remove the key")
            elif within:
                yield from member.null_keys(within=True)


def repeated_names(items: Iterable[tuple[str, Part]], what: str) -> Iterator[Problem]:
    """Yield the named items whose name another one before them has."""
    seen: set[str] = set()
    for name, item in items:
        if name in seen:
            yield item.problem(Code.NAME_DUPLICATE, f"another {what} is called {name!r}: choose another name")
        seen.add(name)


def unsettled(problems: Iterable[Problem], rules: Iterable[Problem]) -> Iterator[Problem]:
    """Yield the problems of a shape at whose path no rule has reported one."""
    settled = {problem.path for problem in rules}
    return (problem for problem in problems if problem.path not in settled)


WORKFLOW_INPUT_VARIABLES: Final = frozenset({"secrets", "workflow", "runtime"})  # `input.from` of the workflow
WORKFLOW_OUTPUT_VARIABLES: Final = WORKFLOW_INPUT_VARIABLES | {"context"}  # `output.as` of the workflow
TASK_INPUT_VARIABLES: Final = WORKFLOW_OUTPUT_VARIABLES | {"task"}  # `if` and `input.from` of a task
TASK_VARIABLES: Final = TASK_INPUT_VARIABLES | {"input", "authorization"}  # the action of a task, and its `output.as`
TASK_EXPORT_VARIABLES: Final = TASK_VARIABLES | {"output"}  # `export.as` of a task

EXPECTATION_VARIABLES: Final = TASK_VARIABLES - {"secrets"}
"""`expect` of a correlation: the router stores its result, and compares events with it."""


MAX_PROGRAMS: Final = 1000
"""Different expressions of one flow that are more than paths: each takes a millisecond to compile."""

_SEVERAL: Final = r"""; only a whole string is an expression: write ${ "… \(.name) …" } to insert several values"""


class RuleContext:
    """The names that a document under check defines; `functions` are components, None: any."""

    def __init__(self, data: dict[str, Any], functions: Collection[str] | None) -> None:
        use = mapping(data.get("use"))
        self.data = data
        self.functions = functions
        self.callbacks = mapping(value_at(data, ("webhook", "callbacks")))
        self.catalogs = mapping(use.get("catalogs"))
        self.authentications = mapping(use.get("authentications"))
        self.errors = mapping(use.get("errors"))
        self.own_functions = mapping(use.get("functions"))
        self.retries = mapping(use.get("retries"))
        secrets = use.get("secrets")
        self.secrets = {name for name in (secrets if isinstance(secrets, list) else ()) if isinstance(name, str)}
        self.timeouts = mapping(use.get("timeouts"))
        self._named: frozenset[str] = frozenset()
        self._verdicts: dict[tuple[str, frozenset[str]], str] = {}

    @contextmanager
    def with_variables(self, *names: object) -> Iterator[None]:
        before = self._named
        self._named = before | {name for name in names if isinstance(name, str)}
        try:
            yield
        finally:
            self._named = before

    def template(self, part: Part, variables: frozenset[str]) -> Iterator[Problem]:
        """Check data in which the strings of the form `${ }` are expressions."""
        for path, text in strings_in(part.value, part.path):
            if is_expression(text):
                yield from self.expression(Part(text, path), variables)

    def expression(self, part: Part, variables: frozenset[str]) -> Iterator[Problem]:
        """Check one expression, with or without `${ }`."""
        if not isinstance(part.value, str):
            return
        program = strip_markers(part.value)
        verdict = self._verdict(program, variables | self._named if self._named else variables)
        if verdict:
            yield part.problem(Code.EXPRESSION_INVALID, f"{verdict}{_SEVERAL}" if "${" in program else verdict)
        elif "$secrets" in program:
            for name in sorted(secret_names(program)):
                yield from self.secret(part._replace(value=name))

    def secret(self, part: Part) -> Iterator[Problem]:
        if isinstance(part.value, str) and part.value not in self.secrets:
            hint = suggestion(part.value, self.secrets)
            cause = f"secret {part.value!r} is not listed in `use.secrets`{hint}"
            yield part.problem(Code.REFERENCE_UNKNOWN, cause)

    @staticmethod
    def reference(part: Part, known: Collection[str], what: str) -> Iterator[Problem]:
        """Check a reference to a definition in `use`; `what` describes it, as in "error {} in `use.errors`"."""
        if isinstance(part.value, str) and part.value not in known:
            cause = f"there is no {what.format(repr(part.value))}{suggestion(part.value, known)}"
            yield part.problem(Code.REFERENCE_UNKNOWN, cause)

    def _verdict(self, program: str, variables: frozenset[str]) -> str:
        """Return the error of a program, empty if it is valid; each program is compiled only once."""
        known = self._verdicts.get((program, variables))
        if known is not None:
            return known
        if _refusal(lambda: compile_accessor(program, variables=variables)) == "":
            return ""
        if len(self._verdicts) >= MAX_PROGRAMS:
            return f"a flow has at most {MAX_PROGRAMS} different expressions that are more than paths"
        verdict = self._verdicts[program, variables] = _refusal(lambda: check_program(program, variables))
        return verdict


def _refusal(check: Callable[[], object]) -> str:
    try:
        check()
    except InvalidExpression as error:
        return error.message
    return ""
