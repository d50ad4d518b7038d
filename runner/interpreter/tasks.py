"""What tasks do, as generators that yield requests and are sent results.

A task that fails raises TaskFault through whatever encloses it, so that a `try` is a `try`. What all tasks share
(condition, input, output, export, where to go on) is in `run_block`; the order is that of dsl.md, "Data Flow".
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from flowhook.model import WorkflowError
from runner.interpreter import authentication
from runner.interpreter import data as json
from runner.interpreter.effects import PAUSE, Pause, Perform, Result
from runner.interpreter.errors import ExpressionFailed, Kind, SchemaViolated, TaskFault, error, fault, shorten
from runner.interpreter.observing import Observation, Observer
from runner.interpreter.program import (
    CONTINUE,
    END,
    EXIT,
    Block,
    CallNode,
    Case,
    DoNode,
    Node,
    Program,
    RaiseNode,
    SetNode,
    SwitchNode,
)
from runner.interpreter.scope import Scope, Workflow

Steps = Generator[Perform | Pause, Result | None, Any]
"""Yields requests, is sent the result of each Perform (None after a Pause), returns the output."""

TaskSteps = Generator[Perform | Pause, Result | None, tuple[Any, str]]
"""The same for one task; returns its output and the directive it was left by."""

MAX_TASKS: Final = 100_000
"""Tasks that one execution may run: a loop made of `then` has to end some day."""

TASKS_PER_TURN: Final = 50
"""Tasks after which an execution lets others run."""

_URI: Final = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*:\S+$")


@dataclass(slots=True)
class State:
    """What one execution carries from task to task.

    Attributes:
        variables: what enclosing tasks define for expressions, beside the DSL's own arguments.
        iterations: indexes of the enclosing loops; part of an effect's key.
        catching: how many enclosing tasks may catch an error.
        ending: a task said `end`: whatever encloses it completes, and nothing follows.
        observer: is told of each task when it ends.
    """

    workflow: Workflow
    context: Any = None
    tasks: int = 0
    visits: dict[str, int] = field(default_factory=dict)
    variables: Mapping[str, Any] | None = None
    iterations: tuple[int, ...] = ()
    catching: int = 0
    ending: bool = False
    observer: Observer | None = None

    def effect_key(self, pointer: str) -> str:
        """Return the identity of the effect that is about to happen at `pointer`: `/do/1/announce#0`."""
        place = pointer + "".join(f"[{index}]" for index in self.iterations)
        visit = self.visits.get(place, 0)
        self.visits[place] = visit + 1
        return f"{place}#{visit}"


def run_workflow(program: Program, state: State) -> Steps:
    """Run a whole workflow; returns its output."""
    scope = Scope(state.workflow)
    data = state.workflow.raw_input
    scope.instance = "/input"
    try:
        if program.input.schema is not None:
            program.input.schema(data, scope)
        if program.input.transform is not None:
            data = program.input.transform(data, scope)
    except (ExpressionFailed, SchemaViolated) as problem:
        raise _fault_of(problem, scope.instance) from None
    state.context = data
    data = yield from run_block(program.block, state, data)
    scope.context, scope.instance = state.context, "/output"
    try:
        if program.output.transform is not None:
            data = program.output.transform(data, scope)
        if program.output.schema is not None:
            program.output.schema(data, scope)
    except (ExpressionFailed, SchemaViolated) as problem:
        raise _fault_of(problem, scope.instance) from None
    return data


def run_block(block: Block, state: State, data: Any) -> Steps:
    """Run tasks one after another, as their directives say; returns the output of the last one."""
    nodes, position = block.nodes, 0
    while position < len(nodes):
        node = nodes[position]
        state.tasks += 1
        if state.tasks > MAX_TASKS:
            raise fault(Kind.RUNTIME, f"more than {MAX_TASKS} tasks in one execution", instance=node.pointer)
        if state.tasks % TASKS_PER_TURN == 0 or state.workflow.overdue():
            yield PAUSE
        scope = Scope(
            state.workflow,
            context=state.context,
            instance=node.pointer,
            name=node.name,
            definition=node.definition,
            raw=data,
            variables=state.variables,
        )
        try:
            steps = _run_task(node, state, scope, data)
            if state.observer is not None:
                steps = _observed(steps, state.observer, node, state, scope)
            data, directive = yield from steps
        except (ExpressionFailed, SchemaViolated) as problem:
            raise _fault_of(problem, node.pointer) from None
        except TaskFault as problem:
            raise problem.at(node.pointer) from None
        position = _follow(directive, block, position)
        if directive == END:
            state.ending = True
        if state.ending:
            break
    return data


def _follow(directive: str, block: Block, position: int) -> int:
    """Return the position of the task that comes next, beyond the last one when none does."""
    if directive == CONTINUE:
        return position + 1
    if directive in (EXIT, END):
        return len(block.nodes)
    return block.index[directive]


def _run_task(node: Node, state: State, scope: Scope, data: Any) -> TaskSteps:
    """Run one task; returns its output and where to go on.

    A task that is skipped hands on its raw input and goes on with the next one: its `then` is part of it.
    """
    if node.condition is not None and not _is_true(node.condition(data, scope)):
        scope.skipped = True
        return data, CONTINUE
    if not node.plain:
        data = yield from _transform_input(node, scope, data)
    scope.input = data
    directive = node.then
    match node:
        case SetNode():
            data = node.value(data, scope)
            json.encode_result(data, "the task's output")
        case SwitchNode():
            directive = _choose(node.cases, data, scope) or directive
        case CallNode():
            data = yield from _call(node, state, scope, data)
        case DoNode():
            data = yield from run_block(node.block, state, data)
            scope.context = state.context
        case RaiseNode():
            raise TaskFault(_raised(node, scope, data))
    if not node.plain:
        data = yield from _transform_output(node, state, scope, data)
    return data, directive


def _observed(steps: TaskSteps, observer: Observer, node: Node, state: State, scope: Scope) -> TaskSteps:
    """Run the steps of one task and tell the observer how it ended."""

    def observation(output: Any, then: str, error: WorkflowError | None = None) -> Observation:
        given = scope.raw if scope.input is None else scope.input
        return Observation(node, state.iterations, scope.skipped, given, output, state.context, then, error)

    try:
        output, then = yield from steps
    except (ExpressionFailed, SchemaViolated) as problem:
        observer(observation(None, "", _fault_of(problem, node.pointer).error))
        raise
    except TaskFault as problem:
        observer(observation(None, "", problem.at(node.pointer).error))
        raise
    observer(observation(output, then))
    return output, then


def _transform_input(node: Node, scope: Scope, data: Any) -> Steps:
    yield from _rest(scope)  # after the condition
    if node.input.schema is not None:
        node.input.schema(data, scope)
        yield from _rest(scope)
    if node.input.transform is not None:
        data = node.input.transform(data, scope)
        json.encode_result(data, "the task's input")
        yield from _rest(scope)
    return data


def _transform_output(node: Node, state: State, scope: Scope, data: Any) -> Steps:
    """Return the output of a task that is done, and export what it exports."""
    yield from _rest(scope)  # after the task itself
    scope.raw_output = data
    if node.output.transform is not None:
        data = node.output.transform(data, scope)
        json.encode_result(data, "the task's output")
        yield from _rest(scope)
    scope.output = data
    if node.output.schema is not None:
        node.output.schema(data, scope)
        yield from _rest(scope)
    if node.export.transform is not None:
        context = node.export.transform(data, scope)
        json.encode_result(context, "the exported context")
        scope.context = context
        yield from _rest(scope)
    if node.export.schema is not None:
        node.export.schema(scope.context, scope)
    state.context = scope.context
    return data


def _rest(scope: Scope) -> Iterator[Pause]:
    """Let others run when the expressions so far took their time: each may take seconds, and a task has many."""
    if scope.workflow.overdue():
        yield PAUSE


def _choose(cases: tuple[Case, ...], data: Any, scope: Scope) -> str | None:
    for case in cases:
        if case.when is None or _is_true(case.when(data, scope)):
            return case.then
    return None


def _call(node: CallNode, state: State, scope: Scope, data: Any) -> Steps:
    arguments = node.arguments(data, scope)
    if not isinstance(arguments, dict):
        raise fault(Kind.CONFIGURATION, "`with` is not an object")
    if node.endpoint is not None:
        uri, endpoint = node.endpoint(data), arguments["endpoint"]
        arguments = {**arguments, "endpoint": {**endpoint, "uri": uri} if isinstance(endpoint, dict) else uri}
    if node.authenticates:
        endpoint = arguments["endpoint"]
        policy, scope.authorization = authentication.resolve(endpoint["authentication"], state.workflow.secrets)
        arguments = {**arguments, "endpoint": {**endpoint, "authentication": policy}}
    result = yield Perform(
        key=state.effect_key(node.pointer),
        function=node.function,
        arguments=arguments,
        instance=node.pointer,
        catchable=state.catching > 0,
        discreet=bool(state.workflow.secrets),
        secrets=state.workflow.secrets,
    )
    if result is None:
        raise AssertionError("an effect was resumed without a result")
    if result.error is not None:
        raise TaskFault(result.error)
    return orjson.loads(result.output or b"null")


def _raised(node: RaiseNode, scope: Scope, data: Any) -> WorkflowError:
    """Return the error that a `raise` describes (dsl-reference.md, "Error")."""
    pointer, definition = node.pointer, node.value(data, scope)
    kind = definition["type"] if node.kind is None else node.kind(data)
    if not isinstance(kind, str) or not _URI.match(kind):
        return error(Kind.EXPRESSION, "the raised error's type is not a URI", instance=pointer)
    title, detail = definition.get("title"), definition.get("detail")
    return WorkflowError(
        kind,
        int(definition["status"]),
        shorten(title) if isinstance(title, str) else "",
        pointer,
        shorten(detail if isinstance(detail, str) else "" if detail is None else json.encode(detail).decode()),
    )


def _is_true(value: Any) -> bool:
    """Return whether jq takes a value for true: everything but false and null."""
    return value is not None and value is not False


def _fault_of(problem: ExpressionFailed | SchemaViolated, instance: str) -> TaskFault:
    kind = Kind.EXPRESSION if isinstance(problem, ExpressionFailed) else Kind.VALIDATION
    return fault(kind, str(problem), instance=instance)
