"""Arguments of runtime expressions (dsl.md, "Runtime expression arguments")."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import attrs

from runner.interpreter.errors import ExpressionFailed
from runner.interpreter.execution_context import ExecutionContext, date_time
from runner.interpreter.lifecycle_events import TaskEvents

VARIABLES: Final = frozenset({"context", "input", "output", "secrets", "authorization", "task", "workflow", "runtime"})
"""Names that the DSL defines; which of them are set depends on the place of the expression."""


@attrs.define(eq=False, repr=False)
class ExpressionScope:
    """Arguments for the expressions of one task, or of the workflow itself (then `name` is empty).

    They are set as the task proceeds; until then they are absent. Lazy, because most expressions read few of them.
    """

    workflow: ExecutionContext
    context: Any = None
    instance: str = ""
    name: str = ""
    definition: Any = None
    raw: Any = None
    locals: Mapping[str, Any] | None = attrs.field(default=None, alias="variables")
    started_at_ms: int = 0  # known only if an expression reads it; see `clock_detection`
    skipped: bool = False
    tries: int = 1
    input: Any = None
    raw_output: Any = None
    output: Any = None
    authorization: Any = None
    events: TaskEvents | None = None  # None: without subscribers for events of tasks

    @property
    def now_ms(self) -> int:
        """Current time for expressions, in Unix ms: the start of the task if known, else that of the workflow."""
        return self.started_at_ms or self.workflow.started_at_ms

    @contextmanager
    def with_variables(self, variables: Mapping[str, Any]) -> Iterator[None]:
        before = self.locals
        self.locals = {**(before or {}), **variables}
        try:
            yield
        finally:
            self.locals = before

    def __contains__(self, name: str) -> bool:
        """Whether there is an argument of this name; variables of a jq program itself don't count."""
        return name in VARIABLES or (self.locals is not None and name in self.locals)

    def __getitem__(self, name: str) -> Any:
        if self.locals and name in self.locals:
            return self.locals[name]
        match name:
            case "context" | "input" | "output" | "authorization":
                return getattr(self, name)
            case "secrets":
                return self.workflow.secrets
            case "task":
                return self.task()
            case "workflow":
                return self.workflow.descriptor()
            case "runtime":
                return self.workflow.runtime()
        raise ExpressionFailed(f"${name} is not defined in this expression")

    def task(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "reference": self.instance,
            "definition": self.definition,
            "input": self.raw,
            "output": self.raw_output,
            "startedAt": date_time(self.now_ms),
        }
