"""The names that a document defines, the variables of its expressions, and the reading of a tree of any shape."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any, Final

from flowhook.document.diagnostics.problems import Code, Path, Problem, suggestion
from flowhook.expressions import InvalidExpression, is_expression, strip_markers
from flowhook.expressions.jq_check import check_program, secret_names
from flowhook.expressions.paths import compile_accessor


def mapping(value: object) -> dict[str, Any]:
    """Return a mapping as it is, and an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def sequence(value: object) -> list[Any]:
    """Return a list as it is, and an empty one for anything else."""
    return value if isinstance(value, list) else []


def named_items(items: object) -> list[tuple[int, str, Any]]:
    """Return index, name and content of the items of a list that are mappings with exactly one key."""
    return [(index, *next(iter(item.items()))) for index, item in enumerate(sequence(items)) if len(mapping(item)) == 1]


def null_keys(value: object, path: Path) -> Iterator[Problem]:
    """Yield the keys of a mapping that have no value."""
    for key, item in mapping(value).items():
        if item is None:
            yield Problem((*path, key), Code.VALUE_MISSING, "has no value: give it one, or remove the key")


def null_keys_within(value: object, path: Path) -> Iterator[Problem]:
    """Yield the keys of a mapping that have no value, and those of the mappings in it."""
    yield from null_keys(value, path)
    for key, item in mapping(value).items():
        yield from null_keys_within(item, (*path, key))


WORKFLOW_INPUT_VARIABLES: Final = frozenset({"secrets", "workflow", "runtime"})
"""`input.from` of the workflow."""

WORKFLOW_OUTPUT_VARIABLES: Final = WORKFLOW_INPUT_VARIABLES | {"context"}
"""`output.as` of the workflow."""

TASK_INPUT_VARIABLES: Final = WORKFLOW_OUTPUT_VARIABLES | {"task"}
"""`if` and `input.from` of a task."""

TASK_VARIABLES: Final = TASK_INPUT_VARIABLES | {"input", "authorization"}
"""The action of a task, and its `output.as`."""

TASK_EXPORT_VARIABLES: Final = TASK_VARIABLES | {"output"}
"""`export.as` of a task."""

EXPECTATION_VARIABLES: Final = TASK_VARIABLES - {"secrets"}
"""`expect` of a correlation: the router stores its result, and compares events with it."""


MAX_PROGRAMS: Final = 1000
"""Different expressions of one flow that are more than paths: each takes a millisecond to compile."""

_SEVERAL: Final = r"""; only a whole string is an expression: write ${ "… \(.name) …" } to insert several values"""


class RuleContext:
    """A document under check.

    Attributes:
        data: the document.
        functions: components that a `call` may name besides the functions of the DSL; None: any.
        secrets: names that expressions may read.
        callbacks: callbacks of the webhook, by name.
        authentications, errors, own_functions, retries, timeouts: definitions in `use`, by name.
    """

    def __init__(self, data: dict[str, Any], functions: Collection[str] | None) -> None:
        use = mapping(data.get("use"))
        self.data = data
        self.functions = functions
        self.callbacks = mapping(mapping(data.get("webhook")).get("callbacks"))
        self.authentications = mapping(use.get("authentications"))
        self.errors = mapping(use.get("errors"))
        self.own_functions = mapping(use.get("functions"))
        self.retries = mapping(use.get("retries"))
        self.secrets = {name for name in sequence(use.get("secrets")) if isinstance(name, str)}
        self.timeouts = mapping(use.get("timeouts"))
        self._named: frozenset[str] = frozenset()
        self._verdicts: dict[tuple[str, frozenset[str]], str] = {}

    @contextmanager
    def with_variables(self, *names: object) -> Iterator[None]:
        """Define more variables for expressions, inside the `with` block."""
        before = self._named
        self._named = before | {name for name in names if isinstance(name, str)}
        try:
            yield
        finally:
            self._named = before

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
        program = strip_markers(value)
        verdict = self._verdict(program, variables | self._named if self._named else variables)
        if verdict:
            yield Problem(path, Code.EXPRESSION_INVALID, f"{verdict}{_SEVERAL}" if "${" in program else verdict)
        elif "$secrets" in program:
            for name in sorted(secret_names(program) - self.secrets):
                yield self.unlisted_secret(name, path)

    def secret(self, name: object, path: Path) -> Iterator[Problem]:
        """Check a secret that is named outside of an expression."""
        if isinstance(name, str) and name not in self.secrets:
            yield self.unlisted_secret(name, path)

    def unlisted_secret(self, name: str, path: Path) -> Problem:
        """Return the problem for a secret that is not listed in `use.secrets`."""
        return Problem(
            path,
            Code.REFERENCE_UNKNOWN,
            f"secret {name!r} is not listed in `use.secrets`{suggestion(name, self.secrets)}",
        )

    @staticmethod
    def reference(name: object, known: Collection[str], path: Path, what: str) -> Iterator[Problem]:
        """Check a reference to a definition in `use`; `what` describes it, as in "error {} in `use.errors`"."""
        if isinstance(name, str) and name not in known:
            cause = f"there is no {what.format(repr(name))}{suggestion(name, known)}"
            yield Problem(path, Code.REFERENCE_UNKNOWN, cause)

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
