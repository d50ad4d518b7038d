"""Compiles jq programs and JSON Schemas once and evaluates them under the guard's supervision.

The jq binding holds the GIL while a program runs, so each evaluation is first written to the shared record. Evaluations
for flows in quarantine are sent to a separate process (`ExecutionContext.remote_evaluator`). A template whose programs
are all plain runs as Python instead (`plain_programs`, the same results): these can neither loop nor allocate without
bound. Where Python does not decide, jq runs the whole template.

Measured: jq's cost is parsing its input (40 µs for 1 KB). A template is therefore compiled into one program, which gets
only the arguments that it mentions. Compiling takes 1 ms, hence the cache. Results leave jq as text (`tojson`) at the
same cost, because the binding converts all numbers to doubles, while jq itself preserves the literal form of numbers
that no computation touched.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, Final

import attrs
import orjson
from typing_extensions import override

from flowhook.document.definition import strings_in
from flowhook.expressions.paths import Accessor
from flowhook.expressions.plain_programs import Undecided, compile_plain
from flowhook.expressions.syntax import ExpressionTypeError, is_expression, strip_markers
from flowhook.json.schemas import first_violation
from runner.evaluation.jq_programs import PROGRAM_CACHE, JqProgramCache
from runner.evaluation.supervision import Result, Supervision
from runner.guard.evaluation_record import Activity
from runner.interpreter import json_codec
from runner.interpreter.clock_detection import calls_now
from runner.interpreter.errors import ExpressionFailed, SchemaViolated, TaskFault
from runner.interpreter.nodes import Compiler, Template, Validator
from runner.interpreter.redaction import MASK, Redactor
from runner.interpreter.scope import ExpressionScope

_NOW: Final = "__now"
_VARIABLE: Final = re.compile(r"\$\s*([A-Za-z_][A-Za-z0-9_]*)")
_VALUE_IN_MESSAGE: Final = re.compile(r"\(.*\)", re.DOTALL)


@attrs.define(eq=False, repr=False)
class Evaluator(Compiler):
    """Compiles the templates, expressions and schemas of documents, and evaluates them."""

    _supervision: Supervision | None = None  # None: evaluations are not supervised, which is for tests only
    _programs: JqProgramCache = attrs.field(init=False, factory=JqProgramCache)

    @override
    def template(self, value: Any) -> Template:
        if not any(is_expression(text) for _, text in strings_in(value)):
            return lambda _data, _scope: value
        return self._either(compile_plain(value), _source(value))

    @override
    def expression(self, value: Any) -> Template:
        if not isinstance(value, str):
            return self.template(value)
        source = strip_markers(value)
        return self._either(compile_plain(f"${{{source}}}"), source)

    @override
    def schema(self, document: Any) -> Validator:
        check = first_violation(document)

        def validate(data: Any, scope: ExpressionScope) -> None:
            remote = scope.workflow.remote_evaluator
            if remote is not None:
                problem = remote.violation(document, data, scope.instance)
            else:  # a regular expression may run as long as a program
                problem = self._guarded(scope, lambda: check(data))
            if problem is not None:
                raise SchemaViolated(problem)

        return validate

    def _either(self, plain: Accessor | None, source: str) -> Template:
        """Return a template that evaluates plain programs, if there are any, and jq where they are undecided."""
        names = tuple(dict.fromkeys(name for name in _VARIABLE.findall(source) if not name.startswith("__")))
        reads_clock = calls_now(source)

        def program(data: Any, scope: ExpressionScope) -> Any:
            bound = {name: scope[name] for name in names if name in scope}
            wrapped = _wrapped(source, tuple(bound), reads_clock=reads_clock)
            if reads_clock:
                bound[_NOW] = scope.now_ms / 1000
            return self._run(wrapped, bound, data, scope)

        if plain is None:
            return program

        def evaluate(data: Any, scope: ExpressionScope) -> Any:
            try:
                return plain(data, scope)
            except (Undecided, ExpressionTypeError, RecursionError):
                return program(data, scope)

        return evaluate

    def _run(self, program: str, bound: dict[str, Any], data: Any, scope: ExpressionScope) -> Any:
        """Return the first result of a program, None when it has none; raises ExpressionFailed if jq, or it, does."""
        remote = scope.workflow.remote_evaluator

        def first() -> Any:
            text = json_codec.encode([data, bound] if bound else [data]).decode()
            run = self._programs.first if remote is None else partial(remote.first, instance=scope.instance)
            result = run(program, text)
            return None if result is None else orjson.loads(result)

        try:
            return self._guarded(scope, first)  # input and result may be large: coding them is supervised, too
        except TaskFault as problem:
            raise ExpressionFailed(str(problem)) from None
        except orjson.JSONDecodeError:
            raise ExpressionFailed("the result is nested too deeply") from None
        except ValueError as problem:
            raise ExpressionFailed(_safe(str(problem), scope.workflow.redactor)) from None

    def _guarded(self, scope: ExpressionScope, evaluate: Callable[[], Result]) -> Result:
        if self._supervision is None or scope.workflow.remote_evaluator is not None:  # the other process can be killed
            return evaluate()
        return self._supervision.run(scope.workflow.flow_id, scope.instance, evaluate, Activity.EXPRESSION)


@lru_cache(PROGRAM_CACHE)
def _wrapped(source: str, names: tuple[str, ...], *, reads_clock: bool) -> str:
    """Return a program that takes the input `[data, variables]` and yields JSON text."""
    bindings = "".join(f"($__given.{name}) as ${name} | " for name in names)
    if reads_clock:  # `now` must return the same time in every replay
        bindings += f"def now: $__given.{_NOW}; "
    # the newlines end a comment in the author's last line
    given = f".[1] as $__given | {bindings}" if bindings else ""
    return f"{given}.[0] | (\n{source}\n) | tojson"


def _source(value: Any) -> str:
    """Return one jq program that builds a whole template.

    Each expression within a template yields exactly one value: its first result, or null. So a template has one result,
    not the Cartesian product of the results of its expressions.
    """
    if isinstance(value, dict):
        return "{" + ", ".join(f"{orjson.dumps(key).decode()}: {_source(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_source(item) for item in value) + "]"
    if is_expression(value):
        source = strip_markers(value)
        # a plain program has one result, unless it has a `?`, or fails
        is_single = "?" not in source and compile_plain(value) is not None
        return f"(\n{source}\n)" if is_single else f"([first((\n{source}\n))][0])"
    return orjson.dumps(value).decode()


def _safe(message: str, redactor: Redactor | None) -> str:
    """Return jq's message; if the flow has secrets, without the values that jq quotes in parentheses."""
    if redactor is None:
        return message
    return redactor.redact(_VALUE_IN_MESSAGE.sub(f"({MASK})", message))
