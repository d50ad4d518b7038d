"""Tasks that run others: `for`, `fork`, and calls of the workflow's own functions.

Source: dsl-reference.md, "For", "Fork", "Use" (functions).
"""

from __future__ import annotations

from typing import Any, Final

from runner.interpreter import data as json
from runner.interpreter import tasks
from runner.interpreter.errors import (
    Exhausted,
    ExpressionFailed,
    Kind,
    error,
    fault,
)
from runner.interpreter.nodes import ForkNode, ForNode, FunctionNode
from runner.interpreter.requests import PAUSE, Fork, Steps
from runner.interpreter.retrying import is_true
from runner.interpreter.scope import Scope
from runner.interpreter.state import State, branch

MAX_ITERATIONS: Final = 1_000_000
"""Items of one loop."""

ITERATIONS_PER_TURN: Final = 1000
"""Iterations, empty ones even, after which an execution lets others run."""


def run_for(node: ForNode, state: State, scope: Scope, data: Any, progress: dict[str, Any] | None) -> Steps:
    """Run a block for each item, each on the output of the one before.

    Its progress: the items that are left, the present one first, and the index of that.
    """
    index, items = (0, node.items(data, scope)) if progress is None else (progress["index"], progress["items"])
    if not isinstance(items, list):
        raise ExpressionFailed("`for.in` is not an array")
    if len(items) > MAX_ITERATIONS:
        problem = error(Kind.RUNTIME, f"a loop has at most {MAX_ITERATIONS} iterations", instance=node.pointer)
        raise Exhausted(problem)
    inner, first = state.nested(), index
    state.progress(lambda: {"index": index, "items": items[index - first :]})
    for index, item in enumerate(items, first):
        if index % ITERATIONS_PER_TURN == ITERATIONS_PER_TURN - 1:
            yield PAUSE
        inner.variables = {**(state.variables or {}), node.each: item, node.at: index}
        inner.iterations = (*state.iterations, index)
        resumed = progress is not None and index == first
        if node.going is not None and not resumed:
            scope.locals, scope.context = inner.variables, state.shared.context
            going = node.going(data, scope)
            scope.locals = state.variables
            if not is_true(going):
                break
        data = yield from tasks.run_block(node.block, inner, data)
        if inner.ending:
            state.ending = True
            break
    return data


def run_fork(node: ForkNode, state: State, data: Any) -> Steps:
    """Run branches concurrently, each on the same input; returns the winner's output, or those of all in order."""
    states = [state.inside(competing=state.competing or node.compete, frame=None) for _ in node.branches]
    outcomes = yield Fork(
        [
            branch(tasks.run_block(block, inner, data), inner)
            for block, inner in zip(node.branches, states, strict=True)
        ],
        node.compete,
    )
    if any(outcome.ends for outcome in outcomes):
        state.ending = True
        return outcomes[-1].output
    if node.compete:
        return outcomes[0].output
    outputs = [outcome.output for outcome in outcomes]
    json.encode_result(outputs, "the task's output")
    return outputs


def run_function(node: FunctionNode, state: State, scope: Scope, data: Any, progress: dict[str, Any] | None) -> Steps:
    """Run a function of the workflow's own: its input are the arguments, its output is the call's.

    Its progress: the prefix of all keys in it.
    """
    arguments: Any = None
    if progress is None:
        arguments = node.arguments(data, scope)
        if not isinstance(arguments, dict):
            raise fault(Kind.CONFIGURATION, "`with` is not an object")
        progress = {"prefix": f"{state.effect_key(node.pointer)} "}
    kept = progress
    state.progress(lambda: kept)
    inner = state.nested(prefix=kept["prefix"], variables=None, iterations=())
    output = yield from tasks.run_block(node.block, inner, arguments)
    state.ending = inner.ending
    return output
