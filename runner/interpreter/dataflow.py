"""What surrounds each task: its input and output are checked and transformed, and something of it is exported.

Source: dsl.md, "Data Flow".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from runner.interpreter import data as json
from runner.interpreter.nodes import Flow, Node
from runner.interpreter.requests import PAUSE, Pause, Steps
from runner.interpreter.scope import Scope
from runner.interpreter.state import State


def transform_input(node: Node, scope: Scope, data: Any) -> Steps:
    """Return the input of a task, checked and transformed."""
    yield from _rest(scope)  # after the condition
    if node.input.schema is not None:
        node.input.schema(data, scope)
        yield from _rest(scope)
    if node.input.transform is not None:
        data = node.input.transform(data, scope)
        json.encode_result(data, "the task's input")
        yield from _rest(scope)
    return data


def transform_output(output: Flow, export: Flow, state: State, scope: Scope, data: Any) -> Steps:
    """Return the output of what is done, and export what it exports."""
    yield from _rest(scope)  # after the task itself
    scope.raw_output = data
    if output.transform is not None:
        data = output.transform(data, scope)
        json.encode_result(data, "the task's output")
        yield from _rest(scope)
    scope.output = data
    if output.schema is not None:
        output.schema(data, scope)
        yield from _rest(scope)
    if export.transform is not None:
        context = export.transform(data, scope)
        json.encode_result(context, "the exported context")
        scope.context = context
        yield from _rest(scope)
    if export.schema is not None:
        export.schema(scope.context, scope)
    state.shared.context = scope.context
    return data


def _rest(scope: Scope) -> Iterator[Pause]:
    """Let others run when the expressions so far took their time: each may take seconds, and a task has many."""
    if scope.workflow.overdue():
        yield PAUSE
