"""Tasks that are extended: others run before and after them.

An extension encloses the task, and the extensions that come after it in the document. When one ends by `exit` in its
`before`, what that puts out is the task's raw output, and nothing that it encloses runs. What extensions put out is
dropped otherwise. Expressions of extensions see the extended task as `$task`, with what it is written with.

Source: dsl-reference.md, "Extension".
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any

from runner.interpreter import dataflow, tasks
from runner.interpreter.nodes import EXIT, Block, Extension, Node
from runner.interpreter.requests import Request, Steps, TaskSteps
from runner.interpreter.retrying import is_true
from runner.interpreter.scope import Scope
from runner.interpreter.state import State


def run_extended(
    steps: TaskSteps, node: Node, state: State, scope: Scope, resumed: Mapping[str, Any] | None
) -> TaskSteps:
    """Run the steps of a task with what extends it; returns its output and where to go on.

    Args:
        steps: of the task itself, not begun.
        node: the task.
        state: of the list that it is in.
        scope: of the task.
        resumed: what a snapshot has of the task, if it is under way (`state.Inside`).
    """
    if resumed is not None:
        return (yield from _Extended(steps, node, state, scope, resumed["extended"]).go_on())
    shown = {"task": {**node.definition, **scope.task()}}
    with scope.naming(shown):
        chosen = [
            index
            for index, extension in enumerate(node.extensions)
            if extension.when is None or is_true(extension.when(scope.raw, scope))
        ]
    key = state.effect_key(node.pointer, ":extended")
    return (yield from _Extended(steps, node, state, scope, {"prefix": f"{key} ", "chosen": chosen}).run())


class _Extended:
    """A task and what extends it."""

    def __init__(self, steps: TaskSteps, node: Node, state: State, scope: Scope, kept: Mapping[str, Any]) -> None:
        self._steps = steps
        self._node = node
        self._state = state
        self._scope = scope
        self._kept = dict(kept)
        self._extensions: Sequence[Extension] = [node.extensions[index] for index in kept["chosen"]]

    def run(self) -> TaskSteps:
        """Run all of it."""
        for count, extension in enumerate(self._extensions):
            if extension.before is None:
                continue
            output, left_by = yield from self._run(extension.before, self._scope.raw)
            if self._state.ending or left_by == EXIT:
                self._steps.close()
                return (yield from self._follow(count, (yield from self._replaced(output)), self._node.then))
        return (yield from self.go_on())

    def go_on(self) -> TaskSteps:
        """Run the task, and what follows it."""
        if self._state.frame is not None:
            self._state.frame.extended = self._kept
        self._scope.context = self._state.shared.context
        output, then = yield from self._steps
        return (yield from self._follow(len(self._extensions), output, then))

    def _follow(self, count: int, output: Any, then: str) -> TaskSteps:
        """Run what follows the task in the first so many extensions, the innermost first."""
        for extension in reversed(self._extensions[:count]):
            if extension.after is not None and not self._state.ending:
                yield from self._run(extension.after, output)
        return output, then

    def _run(self, block: Block, data: Any) -> Generator[Request, Any, tuple[Any, str]]:
        """Run tasks of an extension; returns what they put out, and the directive that the last one was left by."""
        state, shown = self._state, {**self._node.definition, **self._scope.task()}
        inner = state.inside(
            prefix=self._kept["prefix"],
            variables={**(state.variables or {}), "task": shown},
            iterations=(),
            visits={},
            suffix="",
            frame=None,
            left_by="",
        )
        output = yield from tasks.run_block(block, inner, data)
        state.ending = inner.ending
        return output, inner.left_by

    def _replaced(self, output: Any) -> Steps:
        """Return what the task puts out when an extension stands in for it."""
        if self._state.ending:
            return output
        node, state, scope = self._node, self._state, self._scope
        scope.input, scope.context = scope.raw, state.shared.context
        return (yield from dataflow.transform_output(node.output, node.export, state, scope, output))
