"""Tasks that call nothing: `set`, `switch`, `raise`, `wait`, `do`, `for`, `fork`, and functions of `use.functions`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from flowhook import limits
from flowhook.model import FailedResponse, WorkflowError
from flowhook.model.error_types import TYPE_URI
from runner.interpreter import json_codec
from runner.interpreter.errors import Exhausted, ExpressionFailed, Kind, TaskFault, error, fault, shorten
from runner.interpreter.nodes import DoNode, ForkNode, ForNode, FunctionNode, RaiseNode, SetNode, SwitchNode, WaitNode
from runner.interpreter.requests import PAUSE, RunBranches, Sleep, Steps
from runner.interpreter.retry_policy import is_true, milliseconds
from runner.interpreter.scope import ExpressionScope
from runner.interpreter.state import BranchState, run_branch
from runner.interpreter.tasks import run_block

_STATUSES: Final = range(100, 600)  # that an error may have


def set_data(node: SetNode, scope: ExpressionScope, data: Any) -> tuple[Any, str]:
    output = node.value(data, scope)
    json_codec.encode_result(output, "the task's output")
    return output, node.then


def switch(node: SwitchNode, scope: ExpressionScope, data: Any) -> tuple[Any, str]:
    """Choose the flow directive of the first case whose condition is true."""
    for case in node.cases:
        if case.when is None or is_true(case.when(data, scope)):
            return data, case.then
    return data, node.then


def raise_error(node: RaiseNode, scope: ExpressionScope, data: Any) -> tuple[Any, str]:
    raise TaskFault(_raised(node, scope, data), raised_by=node.pointer)


def wait(node: WaitNode, state: BranchState, scope: ExpressionScope, data: Any, _progress: None) -> Steps:
    yield Sleep(state.effect_key(node.pointer, ":wait"), milliseconds(node.duration, data, scope))
    return data


def _raised(node: RaiseNode, scope: ExpressionScope, data: Any) -> WorkflowError:
    """Return the error that a `raise` describes (dsl-reference.md, "Error")."""
    pointer, definition = node.pointer, node.value(data, scope)
    if node.whole and not _is_error(definition):
        raise ExpressionFailed("`raise.error` must yield an object with `type`, a URI, and `status`, from 100 to 599")
    kind = definition["type"] if node.kind is None else node.kind(data)
    if not isinstance(kind, str) or not TYPE_URI.fullmatch(kind):
        return error(Kind.EXPRESSION, "the `type` of the raised error must be a URI", instance=pointer)
    title, detail = (_as_text(definition.get(member)) for member in ("title", "detail"))
    if node.whole:
        pointer = _as_text(definition.get("instance")) or pointer
    response = _answered(definition.get("response")) if node.whole else None
    return WorkflowError(kind, int(definition["status"]), title, pointer, detail, response)


def _answered(value: Any) -> FailedResponse | None:
    """Return the response in a caught error, within the limits of a real one; None if there is no valid one."""
    try:
        answer = FailedResponse(**value)
    except TypeError:
        return None
    numbers, texts = (answer.status, answer.size), (answer.url, answer.body)
    if not (all(type(number) is int for number in numbers) and all(isinstance(text, str) for text in texts)):
        return None
    if answer.status not in _STATUSES or not 0 <= answer.size <= limits.MAX_RESULT_BYTES:
        return None
    return answer._replace(url=shorten(answer.url), body=shorten(answer.body, limits.MAX_ERROR_BODY_BYTES))


def _is_error(value: Any) -> bool:
    if not isinstance(value, dict) or isinstance(value.get("status"), bool):
        return False
    return value.get("status") in _STATUSES and isinstance(value.get("type"), str)


def _as_text(value: Any) -> str:
    """Return a member of an error as a text, shortened; JSON if it is of another type, empty if it is null."""
    return shorten(value if isinstance(value, str) else "" if value is None else json_codec.encode(value).decode())


MAX_ITERATIONS: Final = 1_000_000  # items of one loop
ITERATIONS_PER_TURN: Final = 1000  # iterations, including empty ones, after which an execution lets others run


def run_do(node: DoNode, state: BranchState, _scope: ExpressionScope, data: Any, _progress: None) -> Steps:
    inner = state.nested()
    output = yield from run_block(node.block, inner, data)
    state.ending = inner.ending
    return output


def run_for(
    node: ForNode, state: BranchState, scope: ExpressionScope, data: Any, progress: dict[str, Any] | None
) -> Steps:
    """Run a block for each item, each time on the output of the iteration before.

    Its progress in a snapshot: the index of the current item; the remaining items, unless they can be evaluated again;
    the number of visits to places in the loop before it started, and by now.
    """
    saved = progress or {"index": 0, "before": state.visits_before(node.pointer)}
    first, before = saved["index"], saved["before"]
    items, offset = (saved["items"], first) if "items" in saved else (node.items(data, scope), 0)
    if not isinstance(items, list):
        raise ExpressionFailed("`for.in` must yield an array")
    if len(items) > MAX_ITERATIONS:
        raise Exhausted(error(Kind.RUNTIME, f"`for.in` has more than {MAX_ITERATIONS} items", instance=node.pointer))
    inner, index = state.nested(), first

    def report() -> dict[str, Any]:
        left = {} if node.items_are_constant else {"items": items[index - offset :]}
        return {"index": index, **left, "before": before, "visits": inner.visits}

    state.set_progress(report)
    for index, item in enumerate(items[first - offset :], first):
        if index % ITERATIONS_PER_TURN == ITERATIONS_PER_TURN - 1:
            yield PAUSE
        inner.variables = {**(state.variables or {}), node.each: item, node.at: index}
        visits = saved.get("visits", before) if index == first else before
        with state.iteration(inner, index, visits):
            resumed = progress is not None and index == first
            if node.while_condition is not None and not resumed:
                scope.context = state.shared.context
                with scope.with_variables(inner.variables):
                    continues = is_true(node.while_condition(data, scope))
                if not continues:
                    break
            data = yield from run_block(node.block, inner, data)
        if inner.ending:
            state.ending = True
            break
    return data


def run_fork(node: ForkNode, state: BranchState, _scope: ExpressionScope, data: Any, _progress: None) -> Steps:
    """Run branches concurrently, each on the same input; returns the winner's output, or those of all in order."""
    states = [replace(state, competing=state.competing or node.compete, frame=None) for _ in node.branches]
    outcomes = yield RunBranches(
        [run_branch(run_block(block, inner, data), inner) for block, inner in zip(node.branches, states, strict=True)],
        node.compete,
    )
    if any(outcome.ends for outcome in outcomes):
        state.ending = True
        return outcomes[-1].output
    if node.compete:
        return outcomes[0].output
    outputs = [outcome.output for outcome in outcomes]
    json_codec.encode_result(outputs, "the task's output")
    return outputs


def run_function(
    node: FunctionNode, state: BranchState, scope: ExpressionScope, data: Any, progress: dict[str, Any] | None
) -> Steps:
    """Run a function from `use.functions`. Its progress: the prefix of its keys, and the visits to its places."""
    arguments: Any = None
    if progress is None:
        arguments = node.arguments(data, scope)
        if not isinstance(arguments, dict):
            raise fault(Kind.CONFIGURATION, "`with` must be an object")
        progress = {"prefix": f"{state.effect_key(node.pointer)} ", "visits": {}}
    saved = progress
    state.set_progress(lambda: saved)
    inner = state.nested(variables=None, iterations=(), suffix="", **saved)
    output = yield from run_block(node.block, inner, arguments)
    state.ending = inner.ending
    return output
