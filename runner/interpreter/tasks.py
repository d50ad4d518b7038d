"""Execution of tasks, as generators that yield requests and receive the answers.

A task that fails raises TaskFault through the enclosing tasks, so that a `try` task uses Python's `try`. `run_block`
implements what all tasks share (condition, input, output, export, flow directive), in the order of dsl.md, "Data Flow".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from flowhook import limits
from flowhook.model import FailedResponse, WorkflowError
from runner.interpreter import composite_tasks, dataflow, effect_tasks, extensions, listen_task, snapshot, try_task
from runner.interpreter import json_codec as json
from runner.interpreter.errors import (
    Exhausted,
    ExpressionFailed,
    Kind,
    SchemaViolated,
    TaskFault,
    error,
    fault_of,
    shorten,
)
from runner.interpreter.history import BRANCHED_PREFIX, CANCELLED, COMPLETED, FAULTED_PREFIX, SKIPPED, WITHOUT_CLOCK
from runner.interpreter.lifecycle_events import TaskEvents
from runner.interpreter.nodes import (
    CONTINUE,
    END,
    EXIT,
    Block,
    CallNode,
    Case,
    DoNode,
    EmitNode,
    ForkNode,
    ForNode,
    FunctionNode,
    ListenNode,
    Node,
    Program,
    RaiseNode,
    RunNode,
    SetNode,
    SwitchNode,
    TryNode,
    WaitNode,
)
from runner.interpreter.requests import PAUSE, Now, Sleep, Steps, TaskSteps, WithTimeout
from runner.interpreter.retry_policy import is_true, milliseconds
from runner.interpreter.scope import ExpressionScope
from runner.interpreter.state import BlockFrame, BranchState, SharedState, TaskProgress, run_branch
from runner.interpreter.tracing import Observation, Observer

MAX_TASKS: Final = 1_000_000
"""Tasks that one execution may run: a loop made of `then` must end eventually."""

TASKS_PER_TURN: Final = 50
"""Tasks after which an execution lets others run."""

_STATUSES: Final = range(100, 600)
"""Statuses that an error may have."""

_URI: Final = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*:\S+$")


def run_workflow(program: Program, shared: SharedState) -> Steps:
    """Run a whole workflow, from its last snapshot if there is one; returns its output."""
    restored = snapshot.restore(shared)
    state = BranchState(shared, visits=shared.visits, frame=BlockFrame())
    scope = ExpressionScope(shared.workflow)
    data = (yield from _enter(program, state, scope)) if restored is None else None
    if program.timeout is None:
        data = yield from run_block(program.block, state, data)
    else:
        data = yield from _run_in_time(program, state, scope, data, restored)
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


def _run_in_time(
    program: Program, state: BranchState, scope: ExpressionScope, data: Any, restored: dict[str, Any] | None
) -> Steps:
    """Run the tasks of a workflow that has a timeout."""
    steps = run_branch(run_block(program.block, state, data), state)
    if restored is not None:
        within = WithTimeout(steps, **restored["limit"])
    else:
        try:
            within = WithTimeout(steps, "/timeout#0", milliseconds(program.timeout or 0, data, scope), "/do")
        except ExpressionFailed as problem:
            raise fault_of(problem, "/timeout") from None
    state.shared.limit = within
    (outcome,) = yield within
    return outcome.output


def run_block(block: Block, state: BranchState, data: Any) -> Steps:
    """Run the tasks of a block in the order of their flow directives; returns the output of the last one.

    If a snapshot was taken within the block, it resumes from there and ignores `data`.
    """
    nodes, shared, frame = block.nodes, state.shared, state.frame
    workflow, journal, history = shared.workflow, shared.journal, shared.journal.history
    position, data, resumed = (0, data, None) if frame is None else snapshot.resume(shared, data)
    while position < len(nodes):
        node = nodes[position]
        if frame is not None:
            frame.position, frame.data, frame.inside, frame.extended = position, data, None, None
            frame.number = shared.tasks + 1
            snapshot.take(shared, frame, node)
        shared.tasks += 1
        if shared.tasks > MAX_TASKS:
            problem = error(Kind.RUNTIME, f"more than {MAX_TASKS} tasks in one execution", instance=node.pointer)
            raise Exhausted(problem)
        if shared.tasks % TASKS_PER_TURN == 0 or workflow.must_yield():
            yield PAUSE
        scope = ExpressionScope(
            workflow,
            context=shared.context,
            instance=node.pointer,
            name=node.name,
            definition=node.definition,
            raw=data,
            variables=state.variables,
        )
        number = shared.tasks if resumed is None else resumed["number"]
        key = f"{state.prefix}{node.pointer}{state.suffix}" if state.prefix or state.suffix else node.pointer
        noted = (
            (number, key, WITHOUT_CLOCK) if node.instant else history.begin(number, key, replaying=journal.replaying)
        )
        left = CANCELLED
        try:
            steps = _run_task(node, state, scope, data, resumed)
            if shared.is_observed:
                steps = _attended(steps, node, state, scope, resumed)
            data, directive = yield from steps
            left = SKIPPED if scope.skipped else COMPLETED if node.then == directive else BRANCHED_PREFIX + directive
        except (ExpressionFailed, SchemaViolated, TaskFault) as problem_:
            raised = _fault_at(problem_, node.pointer)
            left = _told(workflow.redacted(raised))
            raise raised from None
        finally:
            history.end(noted, left, scope.tries, replaying=journal.replaying)
        position, resumed = _follow(directive, block, position), None
        state.last_directive = directive
        if directive == END:
            state.ending = True
        if state.ending:
            break
    return data


def _fault_at(problem: ExpressionFailed | SchemaViolated | TaskFault, pointer: str) -> TaskFault:
    return problem.at(pointer) if isinstance(problem, TaskFault) else fault_of(problem, pointer)


def _told(shown: WorkflowError) -> str:
    """Return the outcome of a task for the history, from its error."""
    return f"{FAULTED_PREFIX}{shown.status} {shown.title}: {shown.detail}".rstrip(": ")


def _follow(directive: str, block: Block, position: int) -> int:
    """Return the position of the next task; beyond the last one if there is none."""
    if directive == CONTINUE:
        return position + 1
    if directive in (EXIT, END):
        return len(block.nodes)
    return block.index[directive]


def _run_task(
    node: Node, state: BranchState, scope: ExpressionScope, data: Any, resumed: dict[str, Any] | None
) -> TaskSteps:
    """Run one task; returns its output and flow directive.

    A skipped task passes on its raw input and continues with the next task: its `then` is skipped, too.

    Args:
        node: the task.
        state: state of the block that contains it.
        scope: scope of the task.
        data: its raw input.
        resumed: its state in a snapshot (`TaskProgress`), if it resumes from one.
    """
    if resumed is not None:
        scope.started_at_ms = resumed["began_ms"]
    elif not node.plain:
        if node.reads_clock:
            scope.started_at_ms = yield Now(state.effect_key(node.pointer, ":now"))
        if node.condition is not None and not is_true(node.condition(data, scope)):
            scope.skipped = True
            return data, CONTINUE
    steps = _act(node, state, scope, data, resumed)
    if scope.telling is not None and resumed is None:
        scope.telling.created()
        steps = scope.telling.run_started(steps)
    if node.extensions:
        steps = extensions.run_extended(steps, node, state, scope, resumed)
    return (yield from steps)


def _act(
    node: Node, state: BranchState, scope: ExpressionScope, data: Any, resumed: dict[str, Any] | None
) -> TaskSteps:
    """Execute a task with its data flow; see `_run_task`."""
    if resumed is not None:
        data = resumed["input"]
    elif not node.plain:
        data = yield from dataflow.transform_input(node, scope, data)
    scope.input = data
    if isinstance(node, SetNode):
        data, directive = node.value(data, scope), node.then
        json.encode_result(data, "the task's output")
    elif isinstance(node, SwitchNode):
        directive = _choose(node.cases, data, scope) or node.then
    else:
        data, directive = yield from _execute(node, state, scope, data, resumed or {})
    if not node.plain:
        scope.context = state.shared.context  # other branches may have changed it
        data = yield from dataflow.transform_output(node.output, node.export, state, scope, data)
    return data, directive


def _execute(node: Node, state: BranchState, scope: ExpressionScope, data: Any, resumed: dict[str, Any]) -> TaskSteps:
    """Execute a task that may yield requests, within its timeout."""
    inside = None
    if state.frame is not None and node.resumes:
        inside = state.frame.inside = TaskProgress(data, scope.started_at_ms)
        if resumed:
            state.frame.number = resumed["number"]
    steps = _do(node, state, scope, data, resumed.get("progress"))
    if node.timeout is None or not node.asks:
        return (yield from steps)
    limited = run_branch(steps, state, node.pointer)
    if resumed:
        within = WithTimeout(limited, **resumed["limit"])
    else:
        limit = milliseconds(node.timeout, data, scope)
        within = WithTimeout(limited, state.effect_key(node.pointer, ":timeout"), limit, node.pointer)
    if inside is not None:
        inside.limit = within
    (outcome,) = yield within
    output, directive = outcome.output
    return output, directive


def _do(node: Node, state: BranchState, scope: ExpressionScope, data: Any, progress: Any) -> TaskSteps:
    """Execute a task without data flow and timeout; `progress` is its progress in a snapshot."""
    match node:
        case CallNode():
            data = yield from effect_tasks.call(node, state, scope, data)
        case EmitNode():
            data = yield from effect_tasks.emit(node, state, scope, data)
        case RunNode():
            data = yield from effect_tasks.run(node, state, scope, data)
        case RaiseNode():
            raise TaskFault(_raised(node, scope, data), raised_by=node.pointer)
        case WaitNode():
            yield Sleep(state.effect_key(node.pointer, ":wait"), milliseconds(node.duration, data, scope))
        case _:
            data = yield from _run_others(node, state, scope, data, progress)
    return data, node.then


def _run_others(node: Node, state: BranchState, scope: ExpressionScope, data: Any, progress: Any) -> Steps:
    """Execute a task that runs other tasks; returns its output."""
    match node:
        case DoNode():
            inner = state.nested()
            data = yield from run_block(node.block, inner, data)
            state.ending = inner.ending
        case ForNode():
            data = yield from composite_tasks.run_for(node, state, scope, data, progress)
        case TryNode():
            data = yield from try_task.run_try(node, state, scope, data, progress)
        case ForkNode():
            data = yield from composite_tasks.run_fork(node, state, data)
        case ListenNode():
            data = yield from listen_task.run_listen(node, state, scope, data, progress)
        case FunctionNode():
            data = yield from composite_tasks.run_function(node, state, scope, data, progress)
    return data


def _attended(
    steps: TaskSteps, node: Node, state: BranchState, scope: ExpressionScope, resumed: Mapping[str, Any] | None
) -> TaskSteps:
    """Wrap the steps of a task that starts, or is `resumed`, to report them to subscribers and to the observer."""
    shared = state.shared
    if shared.emitter is not None:
        number = shared.tasks if resumed is None else resumed["number"]
        scope.telling = TaskEvents(shared.emitter, node.pointer, number, begun=resumed is not None)
        steps = scope.telling.run(steps, scope)
    return steps if shared.observer is None else _observed(steps, shared.observer, node, state, scope)


def _observed(
    steps: TaskSteps, observer: Observer, node: Node, state: BranchState, scope: ExpressionScope
) -> TaskSteps:
    """Run the steps of one task and report its end to the observer."""

    def observation(output: Any, then: str, error: WorkflowError | None = None) -> Observation:
        given = scope.raw if scope.input is None else scope.input
        return Observation(node, state.iterations, scope.skipped, given, output, state.shared.context, then, error)

    try:
        output, then = yield from steps
    except (ExpressionFailed, SchemaViolated) as problem:
        observer(observation(None, "", fault_of(problem, node.pointer).error))
        raise
    except TaskFault as problem:
        observer(observation(None, "", problem.at(node.pointer).error))
        raise
    observer(observation(output, then))
    return output, then


def _choose(cases: tuple[Case, ...], data: Any, scope: ExpressionScope) -> str | None:
    for case in cases:
        if case.when is None or is_true(case.when(data, scope)):
            return case.then
    return None


def _raised(node: RaiseNode, scope: ExpressionScope, data: Any) -> WorkflowError:
    """Return the error that a `raise` describes (dsl-reference.md, "Error")."""
    pointer, definition = node.pointer, node.value(data, scope)
    if node.whole and not _is_error(definition):
        raise ExpressionFailed("`raise.error` yields no error: an object with `type`, a URI, and `status`, 100 to 599")
    kind = definition["type"] if node.kind is None else node.kind(data)
    if not isinstance(kind, str) or not _URI.match(kind):
        return error(Kind.EXPRESSION, "the raised error's type is not a URI", instance=pointer)
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
    """Whether data has the members that every error has."""
    if not isinstance(value, dict) or isinstance(value.get("status"), bool):
        return False
    return value.get("status") in _STATUSES and isinstance(value.get("type"), str)


def _as_text(value: Any) -> str:
    """Return a member of an error as a text, shortened; JSON if it is of another type, empty if it is null."""
    return shorten(value if isinstance(value, str) else "" if value is None else json.encode(value).decode())
