"""Tasks that run others: `for`, `fork`, `try`, and calls of the workflow's own functions.

Source: dsl-reference.md, "For", "Fork", "Try", "Use" (functions).
"""

from __future__ import annotations

from typing import Any, Final

from flowhook.model import WorkflowError
from runner.interpreter import data as json
from runner.interpreter import tasks
from runner.interpreter.errors import (
    Exhausted,
    ExpressionFailed,
    Kind,
    TaskFault,
    error,
    fault,
    standard_type,
)
from runner.interpreter.nodes import Catch, ForkNode, ForNode, FunctionNode, TryNode
from runner.interpreter.requests import PAUSE, Fork, Steps, Within
from runner.interpreter.retrying import Attempts, is_true, milliseconds
from runner.interpreter.scope import Scope
from runner.interpreter.state import State, branch

MAX_ITERATIONS: Final = 1_000_000
"""Items of one loop."""

ITERATIONS_PER_TURN: Final = 1000
"""Iterations, empty ones even, after which an execution lets others run."""


def run_for(node: ForNode, state: State, scope: Scope, data: Any) -> Steps:
    """Run a block for each item, each on the output of the one before."""
    items = node.items(data, scope)
    if not isinstance(items, list):
        raise ExpressionFailed("`for.in` is not an array")
    if len(items) > MAX_ITERATIONS:
        problem = error(Kind.RUNTIME, f"a loop has at most {MAX_ITERATIONS} iterations", instance=node.pointer)
        raise Exhausted(problem)
    inner = state.inside()
    for index, item in enumerate(items):
        if index % ITERATIONS_PER_TURN == ITERATIONS_PER_TURN - 1:
            yield PAUSE
        inner.variables = {**(state.variables or {}), node.each: item, node.at: index}
        inner.iterations = (*state.iterations, index)
        if node.going is not None:
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
    states = [state.inside(competing=state.competing or node.compete) for _ in node.branches]
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


def run_try(node: TryNode, state: State, scope: Scope, data: Any) -> Steps:
    """Run a block; catch what it raises, and try again or do something else.

    A retry goes through the block again, as if it came there for the first time: its effects keep their keys.
    An error for which there is no retry left, and no `do`, is raised again.
    """
    catch = node.catch

    def catches(problem: WorkflowError) -> bool:
        return _catches(catch, problem, data, scope)

    inner = state.inside(catchers=(*state.catchers, catches))
    attempts = None if catch.retry is None else Attempts(catch.retry)
    place = f"{state.prefix}{node.pointer}/try/"
    visits = _visits(state, place) if attempts is not None else {}
    while True:
        try:
            return (yield from _attempt(node, inner, state, scope, data))
        except Exhausted:
            raise
        except TaskFault as raised:
            problem = raised
        scope.context = state.shared.context
        if not catches(problem.error):
            raise problem
        named = problem.error.as_dict()
        if attempts is not None:
            key = state.effect_key(node.pointer)
            wait = problem.retry_after_ms
            if (yield from attempts.again(key, data, scope, named, catch.name, at_least=wait)):
                for counted in _visits(state, place):
                    del state.shared.visits[counted]
                state.shared.visits.update(visits)
                continue
        if catch.block is None and attempts is not None:
            raise problem
        return (yield from _handle(catch, state, named, data))


def _handle(catch: Catch, state: State, named: dict[str, Any], data: Any) -> Steps:
    """Do what is to be done about an error; without anything, the input is the output."""
    if catch.block is None:
        return data
    handler = state.inside(variables={**(state.variables or {}), catch.name: named})
    output = yield from tasks.run_block(catch.block, handler, data)
    state.ending = handler.ending
    return output


def _attempt(node: TryNode, inner: State, state: State, scope: Scope, data: Any) -> Steps:
    """Run the block of a `try` once, for as long as its policy lets an attempt take."""
    retry = node.catch.retry
    if retry is None or retry.attempt_duration is None:
        output = yield from tasks.run_block(node.block, inner, data)
    else:
        limit = milliseconds(retry.attempt_duration, data, scope)
        steps = branch(tasks.run_block(node.block, inner, data), inner)
        (outcome,) = yield Within(steps, state.effect_key(node.pointer, ":attempt"), limit, node.pointer)
        output = outcome.output
    state.ending = inner.ending
    return output


def run_function(node: FunctionNode, state: State, scope: Scope, data: Any) -> Steps:
    """Run a function of the workflow's own: its input are the arguments, its output is the call's."""
    arguments = node.arguments(data, scope)
    if not isinstance(arguments, dict):
        raise fault(Kind.CONFIGURATION, "`with` is not an object")
    inner = state.inside(prefix=f"{state.effect_key(node.pointer)} ", variables=None, iterations=())
    output = yield from tasks.run_block(node.block, inner, arguments)
    state.ending = inner.ending
    return output


def _visits(state: State, place: str) -> dict[str, int]:
    return {counted: visits for counted, visits in state.shared.visits.items() if counted.startswith(place)}


def _catches(catch: Catch, problem: WorkflowError, data: Any, scope: Scope) -> bool:
    """Whether a `catch` takes an error."""
    members = {**problem.as_dict(), "type": standard_type(problem.type)}
    if any(members.get(name) != value for name, value in catch.filters.items()):
        return False
    if catch.when is None and catch.except_when is None:
        return True
    with scope.naming({catch.name: problem.as_dict()}):
        if catch.when is not None and not is_true(catch.when(data, scope)):
            return False
        return catch.except_when is None or not is_true(catch.except_when(data, scope))
