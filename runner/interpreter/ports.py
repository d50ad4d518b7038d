"""Interfaces for evaluating expressions and schemas, implemented by `runner.evaluation.evaluator`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from runner.interpreter.scope import ExpressionScope


class Template(Protocol):
    """A compiled value of a document; evaluating its expressions yields data."""

    def __call__(self, data: Any, scope: ExpressionScope) -> Any:
        """Evaluate on `data` (jq's `.`) with the arguments of `scope`.

        Blocking. Returns the first result; null if there is none.

        Raises:
            ExpressionFailed: the evaluation failed.
        """
        ...


Duration = int | Template
"""Milliseconds, or a template that yields a duration in the DSL's format."""

Validator = Callable[[Any, ExpressionScope], None]
"""Checks data; raises SchemaViolated."""


class Compiler(Protocol):
    """Creates templates and validators; both may be cached for the life of the process."""

    def template(self, value: Any) -> Template:
        """Compile a value in which strings of the form `${ ... }` are expressions."""
        ...

    def expression(self, value: Any) -> Template:
        """Compile a value that is an expression even without `${ }` when it is a string, else a template."""
        ...

    def schema(self, document: Any) -> Validator:
        """Compile a JSON Schema."""
        ...
