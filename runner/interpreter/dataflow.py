"""Data flow around a task: validation and transformation of input and output, and export to `$context`.

Between two stages the execution pauses if its time slice is used up: an expression may take seconds.

Source: dsl.md, "Data Flow".
"""

from __future__ import annotations

from typing import Any

from runner.interpreter import json_codec
from runner.interpreter.nodes import DataFlowStage, Node
from runner.interpreter.requests import PAUSE, Steps
from runner.interpreter.scope import ExpressionScope
from runner.interpreter.state import BranchState


def transform_input(node: Node, scope: ExpressionScope, data: Any) -> Steps:
    """Return the input of a task, validated and transformed."""
    must_yield = scope.workflow.must_yield
    if must_yield():  # after the condition
        yield PAUSE
    if node.input.schema is not None:
        node.input.schema(data, scope)
        if must_yield():
            yield PAUSE
    if node.input.transform is not None:
        data = node.input.transform(data, scope)
        json_codec.encode_result(data, "the task's input")
        if must_yield():
            yield PAUSE
    return data


def transform_output(
    output: DataFlowStage, export: DataFlowStage, state: BranchState, scope: ExpressionScope, data: Any
) -> Steps:
    """Return the output, transformed and validated, and export to `$context`."""
    must_yield = scope.workflow.must_yield
    if must_yield():  # after the task itself
        yield PAUSE
    scope.raw_output = data
    if output.transform is not None:
        data = output.transform(data, scope)
        json_codec.encode_result(data, "the task's output")
        if must_yield():
            yield PAUSE
    scope.output = data
    if output.schema is not None:
        output.schema(data, scope)
        if must_yield():
            yield PAUSE
    if export.transform is not None:
        context = export.transform(data, scope)
        json_codec.encode_result(context, "the exported context")
        scope.context = context
        if must_yield():
            yield PAUSE
    if export.schema is not None:
        export.schema(scope.context, scope)
    state.shared.context = scope.context
    return data
