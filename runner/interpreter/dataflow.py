"""Data flow around a task: validation and transformation of input and output, and export to `$context`.

Source: dsl.md, "Data Flow".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from runner.interpreter import json_codec
from runner.interpreter.nodes import DataFlowStage, Node
from runner.interpreter.requests import PAUSE, Pause, Steps
from runner.interpreter.scope import ExpressionScope
from runner.interpreter.state import BranchState


def transform_input(node: Node, scope: ExpressionScope, data: Any) -> Steps:
    """Return the input of a task, validated and transformed."""
    yield from _rest(scope)  # after the condition
    if node.input.schema is not None:
        node.input.schema(data, scope)
        yield from _rest(scope)
    if node.input.transform is not None:
        data = node.input.transform(data, scope)
        json_codec.encode_result(data, "the task's input")
        yield from _rest(scope)
    return data


def transform_output(
    output: DataFlowStage, export: DataFlowStage, state: BranchState, scope: ExpressionScope, data: Any
) -> Steps:
    """Return the output, transformed and validated, and export to `$context`."""
    yield from _rest(scope)  # after the task itself
    scope.raw_output = data
    if output.transform is not None:
        data = output.transform(data, scope)
        json_codec.encode_result(data, "the task's output")
        yield from _rest(scope)
    scope.output = data
    if output.schema is not None:
        output.schema(data, scope)
        yield from _rest(scope)
    if export.transform is not None:
        context = export.transform(data, scope)
        json_codec.encode_result(context, "the exported context")
        scope.context = context
        yield from _rest(scope)
    if export.schema is not None:
        export.schema(scope.context, scope)
    state.shared.context = scope.context
    return data


def _rest(scope: ExpressionScope) -> Iterator[Pause]:
    """Yield to other executions if the time slice is used up: an expression may take seconds, and a task has many."""
    if scope.workflow.must_yield():
        yield PAUSE
