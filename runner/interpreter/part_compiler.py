"""Compiler for the parts that kinds of tasks share: data flow, durations, timeouts, retry policies, switch cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flowhook.document.duration import parse_duration
from flowhook.expressions import is_expression
from runner.interpreter.nodes import CONTINUE, DataFlowStage
from runner.interpreter.ports import Compiler, Duration, Template
from runner.interpreter.retry_policy import CompiledRetryPolicy
from runner.interpreter.task_nodes import Case


class PartCompiler:
    """Compiles the parts of one document, and looks up named ones in its `use`."""

    def __init__(self, use: Mapping[str, Any], compiler: Compiler) -> None:
        self._use = use
        self._compiler = compiler

    def flow(self, declared: Mapping[str, Any] | None, key: str) -> DataFlowStage:
        """Compile an `input`, `output` or `export` whose transformation is under `key`."""
        if not declared:
            return DataFlowStage()
        transform, schema = declared.get(key), declared.get("schema")
        return DataFlowStage(
            None if transform is None else self._compiler.expression(transform),
            None if schema is None else self._compiler.schema(schema["document"]),
        )

    def optional(self, expression: Any) -> Template | None:
        """Compile an optional expression."""
        return None if expression is None else self._compiler.expression(expression)

    def duration(self, duration: Any) -> Duration:
        """Compile a duration."""
        if is_expression(duration):
            return self._compiler.expression(duration)
        return round(parse_duration(duration) * 1000)

    def timeout(self, timeout: Mapping[str, Any] | str | None) -> Duration | None:
        """Compile a timeout, or the name of one."""
        if timeout is None:
            return None
        named: Mapping[str, Any] = self._use["timeouts"][timeout] if isinstance(timeout, str) else timeout
        return self.duration(named["after"])

    def retry(self, given: Mapping[str, Any] | str) -> CompiledRetryPolicy:
        """Compile a retry policy, or the name of one."""
        policy: Mapping[str, Any] = self._use["retries"][given] if isinstance(given, str) else given
        limit, jitter, backoff = policy.get("limit") or {}, policy.get("jitter"), policy.get("backoff") or {}
        attempt = limit.get("attempt") or {}
        increment = (backoff.get("linear") or {}).get("increment")
        return CompiledRetryPolicy(
            when=self.optional(policy.get("when")),
            except_when=self.optional(policy.get("exceptWhen")),
            delay=self.duration(policy.get("delay", {"seconds": 0})),
            backoff=next(iter(backoff), "constant"),
            increment=None if increment is None else self.duration(increment),
            jitter=None if jitter is None else (self.duration(jitter["from"]), self.duration(jitter["to"])),
            count=attempt.get("count"),
            attempt_duration=None if "duration" not in attempt else self.duration(attempt["duration"]),
            duration=None if "duration" not in limit else self.duration(limit["duration"]),
        )

    def cases(self, items: Sequence[Mapping[str, Any]]) -> tuple[Case, ...]:
        """Compile the cases of a switch; the default one comes last."""
        cases = []
        for item in items:
            (case,) = item.values()
            cases.append(Case(self.optional(case.get("when")), case.get("then") or CONTINUE))
        return tuple(sorted(cases, key=lambda case: case.when is None))
