"""Extensions: tasks that run before and after other tasks.

An extension encloses the task, and the extensions that follow it in the document. If its `before` ends with `exit`, the
output of `before` is the task's raw output, and nothing that the extension encloses runs. Otherwise the output of
extensions is discarded. Expressions of extensions see the extended task as `$task`, with the members of its definition.

Source: dsl-reference.md, "Extension".
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

import attrs

from runner.interpreter import tasks
from runner.interpreter.nodes import EXIT, Block, CompiledExtension, Node
from runner.interpreter.requests import Request, Steps, TaskSteps
from runner.interpreter.retry_policy import is_true
from runner.interpreter.scope import ExpressionScope
from runner.interpreter.state import BranchState
from runner.interpreter.tasks import run_block


def run_extended(
    steps: TaskSteps, node: Node, state: BranchState, scope: ExpressionScope, resumed: dict[str, Any] | None
) -> TaskSteps:
    """Run the steps of a task, not started, with its extensions; returns its output and flow directive.

    `resumed` is the state of the task in a snapshot (`state.TaskProgress`), if the task resumes from one.
    """
    if resumed is not None:
        return (yield from _Extended(steps, node, state, scope, dict(resumed["extended"])).run_task())
    with scope.with_variables({"task": {**node.definition, **scope.task()}}):
        chosen = [
            index
            for index, extension in enumerate(node.extensions)
            if extension.when is None or is_true(extension.when(scope.raw, scope))
        ]
    key = state.effect_key(node.pointer, ":extended")
    return (yield from _Extended(steps, node, state, scope, {"prefix": f"{key} ", "chosen": chosen}).run())


@attrs.define(eq=False, repr=False)
class _Extended:
    _steps: TaskSteps
    _node: Node
    _state: BranchState
    _scope: ExpressionScope
    _saved: dict[str, Any]

    @property
    def _extensions(self) -> list[CompiledExtension]:
        return [self._node.extensions[index] for index in self._saved["chosen"]]

    def run(self) -> TaskSteps:
        for count, extension in enumerate(self._extensions):
            if extension.before is None:
                continue
            output, directive = yield from self._run(extension.before, self._scope.raw)
            if self._state.ending or directive == EXIT:
                self._steps.close()
                return (yield from self._follow(count, (yield from self._replaced(output)), self._node.then))
        return (yield from self.run_task())

    def run_task(self) -> TaskSteps:
        """Run the task and the `after` blocks."""
        if self._state.frame is not None:
            self._state.frame.extended = self._saved
        self._scope.context = self._state.shared.context
        output, then = yield from self._steps
        return (yield from self._follow(len(self._extensions), output, then))

    def _follow(self, count: int, output: Any, then: str) -> TaskSteps:
        for extension in reversed(self._extensions[:count]):
            if extension.after is not None and not self._state.ending:
                yield from self._run(extension.after, output)
        return output, then

    def _run(self, block: Block, data: Any) -> Generator[Request, Any, tuple[Any, str]]:
        state, task_variable = self._state, {**self._node.definition, **self._scope.task()}
        inner = replace(
            state,
            prefix=self._saved["prefix"],
            variables={**(state.variables or {}), "task": task_variable},
            iterations=(),
            visits={},
            suffix="",
            frame=None,
            last_directive="",
        )
        output = yield from run_block(block, inner, data)
        state.ending = inner.ending
        return output, inner.last_directive

    def _replaced(self, output: Any) -> Steps:
        if self._state.ending:
            return output
        node, state, scope = self._node, self._state, self._scope
        scope.input, scope.context = scope.raw, state.shared.context
        return (yield from tasks.transform_output(node.output, node.export, state, scope, output))
