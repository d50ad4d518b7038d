"""What the interpreter asks of whoever evaluates expressions and schemas; `runner.evaluator` provides it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from runner.interpreter.scope import Scope


class Template(Protocol):
    """A value of a document, compiled: with its expressions evaluated it becomes data."""

    def __call__(self, data: Any, scope: Scope) -> Any:
        """Evaluate on `data` (jq's `.`) with the arguments of `scope`.

        Blocking. The first result counts; none at all is null.

        Raises:
            ExpressionFailed: the evaluation failed.
        """
        ...


Duration = int | Template
"""Milliseconds, or what evaluates to a duration as the DSL writes them."""

Validator = Callable[[Any, Scope], None]
"""Checks data; raises SchemaViolated."""


class Compiler(Protocol):
    """Makes templates and validators; both may be kept for as long as the process lives."""

    def template(self, value: Any) -> Template:
        """Compile a value in which strings of the form `${ ... }` are expressions."""
        ...

    def expression(self, value: Any) -> Template:
        """Compile a value that is an expression even without `${ }` when it is a string, else a template."""
        ...

    def schema(self, document: Any) -> Validator:
        """Compile a JSON Schema."""
        ...
