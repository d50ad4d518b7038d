"""Execution of a whole workflow: input, tasks, timeout and output.

Source: dsl.md, "Data Flow"; dsl-reference.md, "Workflow".
"""

from __future__ import annotations

from typing import Any

from runner.interpreter import snapshot
from runner.interpreter.errors import ExpressionFailed, SchemaViolated, fault_of
from runner.interpreter.nodes import Program
from runner.interpreter.ports import Duration
from runner.interpreter.requests import Now, Steps, WithTimeout
from runner.interpreter.retry_policy import milliseconds
from runner.interpreter.scope import ExpressionScope
from runner.interpreter.state import BlockFrame, BranchState, SharedState, run_branch
from runner.interpreter.tasks import run_block


def run_workflow(program: Program, shared: SharedState) -> Steps:
    """Run a whole workflow, from its last snapshot if there is one; returns its output."""
    restored = snapshot.restore(shared)
    state = BranchState(shared, visits=shared.visits, frame=BlockFrame())
    scope = ExpressionScope(shared.workflow)
    data = (yield from _enter(program, state, scope)) if restored is None else None
    if program.timeout is None:
        data = yield from run_block(program.block, state, data)
    else:
        branch = run_branch(run_block(program.block, state, data), state)
        shared.limit = _limited(branch, program.timeout, scope, data, restored)
        (result,) = yield shared.limit
        data = result.output
    scope.context, scope.instance = shared.context, "/output"
    if program.output_reads_clock:
        scope.started_at_ms = yield Now(state.effect_key("/output", ":now"))
    try:
        if program.output.transform is not None:
            data = program.output.transform(data, scope)
        if program.output.schema is not None:
            program.output.schema(data, scope)
    except (ExpressionFailed, SchemaViolated) as problem:
        raise fault_of(problem, scope.instance) from None
    return data


def _enter(program: Program, state: BranchState, scope: ExpressionScope) -> Steps:
    """Return the input of the workflow, validated and transformed."""
    data = state.shared.workflow.raw_input
    scope.instance = "/input"
    if program.input_reads_clock:
        scope.started_at_ms = yield Now(state.effect_key("/input", ":now"))
    try:
        if program.input.schema is not None:
            program.input.schema(data, scope)
        if program.input.transform is not None:
            data = program.input.transform(data, scope)
    except (ExpressionFailed, SchemaViolated) as problem:
        raise fault_of(problem, scope.instance) from None
    state.shared.context = data
    return data


def _limited(
    branch: Steps, timeout: Duration, scope: ExpressionScope, data: Any, restored: dict[str, Any] | None
) -> WithTimeout:
    """Return the request to run the tasks within the timeout of the workflow."""
    if restored is not None:
        return WithTimeout(branch, **restored["limit"])
    try:
        return WithTimeout(branch, "/timeout#0", milliseconds(timeout, data, scope), "/do")
    except ExpressionFailed as problem:
        raise fault_of(problem, "/timeout") from None
