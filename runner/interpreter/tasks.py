"""Execution of blocks of tasks, as generators that yield requests and receive the answers.

`run_block` implements what all tasks share (condition, input, output, export, flow directive), in the order of dsl.md,
"Data Flow". How each kind of task is executed stands in the table of handlers, which is part of the state.
A task that fails raises TaskFault through the enclosing tasks, so that a `try` task uses Python's `try`.

Between two stages of data flow the execution pauses if its time slice is used up: an expression may take seconds.

Source: dsl.md, "Data Flow"; dsl-reference.md, "Workflow".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import orjson

from flowhook.model import WorkflowError
from runner.interpreter import json_codec, snapshot
from runner.interpreter.effects import EffectResult
from runner.interpreter.errors import Exhausted, ExpressionFailed, Kind, SchemaViolated, TaskFault, error, fault_of
from runner.interpreter.history import BRANCHED_PREFIX, CANCELLED, COMPLETED, FAULTED_PREFIX, SKIPPED, WITHOUT_CLOCK
from runner.interpreter.lifecycle_events import TaskEvents
from runner.interpreter.nodes import CONTINUE, END, EXIT, Block, DataFlowStage, Node, Program
from runner.interpreter.requests import PAUSE, Directed, GivenOutput, Now, Steps, TaskSteps, WithTimeout
from runner.interpreter.retry_policy import is_true, milliseconds
from runner.interpreter.scope import ExpressionScope
from runner.interpreter.state import BlockFrame, BranchState, SharedState, TaskProgress, run_branch
from runner.interpreter.tracing import Observation, Observer, TaskStart


def transform_input(node: Node, scope: ExpressionScope, data: Any) -> Steps:
    workflow = scope.workflow
    if workflow.must_yield():  # after the condition
        yield PAUSE
    if node.input.schema is not None:
        node.input.schema(data, scope)
        if workflow.must_yield():
            yield PAUSE
    if node.input.transform is not None:
        data = node.input.transform(data, scope)
        json_codec.encode_result(data, "the task's input")
        if workflow.must_yield():
            yield PAUSE
    return data


def transform_output(
    output: DataFlowStage, export: DataFlowStage, state: BranchState, scope: ExpressionScope, data: Any
) -> Steps:
    """Return the output, transformed and validated, and export to `$context`."""
    workflow = scope.workflow
    if workflow.must_yield():  # after the task itself
        yield PAUSE
    scope.raw_output = data
    if output.transform is not None:
        data = output.transform(data, scope)
        json_codec.encode_result(data, "the task's output")
        if workflow.must_yield():
            yield PAUSE
    scope.output = data
    if output.schema is not None:
        output.schema(data, scope)
        if workflow.must_yield():
            yield PAUSE
    if export.transform is not None:
        context = export.transform(data, scope)
        json_codec.encode_result(context, "the exported context")
        scope.context = context
        if workflow.must_yield():
            yield PAUSE
    if export.schema is not None:
        export.schema(scope.context, scope)
    state.shared.context = scope.context
    return data


MAX_TASKS: Final = 1_000_000  # tasks that one execution may run: a loop made of `then` must end eventually
TASKS_PER_TURN: Final = 50  # tasks after which an execution lets others run


def run_block(block: Block, state: BranchState, data: Any) -> Steps:
    """Run a block's tasks in the order of their directives, from a snapshot or on `data`; returns the last output."""
    nodes, shared, frame = block.nodes, state.shared, state.frame
    workflow, journal, history = shared.workflow, shared.journal, shared.journal.history
    evaluate = shared.handlers.evaluate
    position, data, resumed = (0, data, None) if frame is None else snapshot.resume(shared, data)
    while position < len(nodes):
        node = nodes[position]
        if frame is not None and (journal.size or not node.instant):  # else no snapshot is taken before it has ended
            frame.position, frame.data, frame.running, frame.extended = position, data, None, None
            frame.number = shared.tasks + 1
            if journal.size:
                snapshot.compact(shared, frame, node, resumes=resumed is not None)
        shared.tasks += 1
        if shared.tasks > MAX_TASKS:
            detail = f"the execution has run more than {MAX_TASKS} tasks"
            raise Exhausted(error(Kind.RUNTIME, detail, instance=node.pointer))
        if shared.tasks % TASKS_PER_TURN == 0 or workflow.must_yield():
            yield PAUSE
        scope = ExpressionScope(  # by position: with names it takes a third longer
            workflow, shared.context, node.pointer, node.name, node.definition, data, state.variables
        )
        number = shared.tasks if resumed is None else resumed["number"]
        key = f"{state.prefix}{node.pointer}{state.suffix}" if state.prefix or state.suffix else node.pointer
        clocked = not node.instant
        started = history.begin(number, key, replaying=journal.replaying) if clocked else (number, key, WITHOUT_CLOCK)
        outcome = CANCELLED
        try:
            if node.instant and node.plain and not shared.is_observed:  # most tasks: nothing is requested
                scope.input = data
                data, directive = evaluate[type(node)](node, scope, data)
            else:
                steps = _run_task(node, state, scope, data, resumed)
                if shared.is_observed:
                    steps = _reported(steps, node, state, scope, resumed)
                data, directive = yield from steps
            outcome = SKIPPED if scope.skipped else COMPLETED if node.then == directive else BRANCHED_PREFIX + directive
        except (ExpressionFailed, SchemaViolated, TaskFault) as failure:
            raised = fault_of(failure, node.pointer)
            shown = workflow.redacted(raised)
            outcome = f"{FAULTED_PREFIX}{shown.status} {shown.title}: {shown.detail}".rstrip(": ")
            raise raised from None
        finally:
            history.end(started, outcome, scope.tries, replaying=journal.replaying)
        position, resumed = _follow(directive, block, position), None
        state.last_directive = directive
        state.ending = state.ending or directive == END
        if state.ending:
            break
    return data


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

    `resumed` is its state in a snapshot (`TaskProgress`), if it resumes from one.

    A skipped task passes on its raw input and continues with the next task: its `then` is skipped, too.
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
    if scope.events is not None and resumed is None:
        scope.events.created()
    if node.extensions:
        steps = state.shared.handlers.extend(steps, node, state, scope, resumed)
    return (yield from steps)


def _act(
    node: Node, state: BranchState, scope: ExpressionScope, data: Any, resumed: dict[str, Any] | None
) -> TaskSteps:
    if scope.events is not None and resumed is None:
        scope.events.started()
    if resumed is not None:
        data = resumed["input"]
    elif not node.plain:
        data = yield from transform_input(node, scope, data)
    scope.input = data
    evaluate = state.shared.handlers.evaluate.get(type(node))
    if evaluate is not None:
        data, directive = evaluate(node, scope, data)
    else:
        data, directive = (yield from _execute(node, state, scope, data, resumed or {})), node.then
        if type(data) is Directed:
            data, directive = data
    if not node.plain:
        scope.context = state.shared.context  # other branches may have changed it
        data = yield from transform_output(node.output, node.export, state, scope, data)
    return data, directive


def _with_given_output(key: str, node: Node, state: BranchState, scope: ExpressionScope) -> TaskSteps:
    """Take the raw output that a replay gave to a task, in place of `_run_task`: neither it nor its extensions run.

    Its condition and the transformation of its input are not evaluated. A `switch` takes none of its cases.
    """
    state.visit(node.pointer)  # as if it had run: later runs have the keys that they would have otherwise
    if scope.events is not None:
        scope.events.created()
        scope.events.started()
    if node.reads_clock:
        scope.started_at_ms = yield Now(state.effect_key(node.pointer, ":now"))
    scope.input = scope.raw
    given: EffectResult = yield GivenOutput(key)
    scope.context = state.shared.context
    raw = orjson.loads(given.output or b"null")
    return (yield from transform_output(node.output, node.export, state, scope, raw)), node.then


def _execute(node: Node, state: BranchState, scope: ExpressionScope, data: Any, resumed: dict[str, Any]) -> Steps:
    running = None
    if state.frame is not None and node.resumes:
        running = state.frame.running = TaskProgress(data, scope.started_at_ms)
        if resumed:
            state.frame.number = resumed["number"]
    steps = state.shared.handlers.execute[type(node)](node, state, scope, data, resumed.get("progress"))
    if node.timeout is None or not node.may_request:
        return (yield from steps)
    branch = run_branch(steps, state, node.pointer)
    if resumed:
        limited = WithTimeout(branch, **resumed["limit"])
    else:
        limit = milliseconds(node.timeout, data, scope)
        limited = WithTimeout(branch, state.effect_key(node.pointer, ":timeout"), limit, node.pointer)
    if running is not None:
        running.limit = limited
    (result,) = yield limited
    return result.output


def _reported(
    steps: TaskSteps, node: Node, state: BranchState, scope: ExpressionScope, resumed: Mapping[str, Any] | None
) -> TaskSteps:
    """Report the steps of a task that starts, or is `resumed`; they are replaced where a replay gave its output."""
    shared = state.shared
    number = shared.tasks if resumed is None else resumed["number"]
    if shared.journal.given_outputs and resumed is None:
        given = shared.journal.take_given_output(f"{state.prefix}{node.pointer}{state.suffix}", number)
        if given is not None:
            steps = _with_given_output(given, node, state, scope)
    if shared.emitter is not None:
        scope.events = events = TaskEvents(shared.emitter, node.pointer, number, created=resumed is not None)
        steps = events.run(steps)
    return steps if shared.observer is None else _observed(steps, shared.observer, number, node, state, scope)


def _observed(  # noqa: PLR0917
    steps: TaskSteps, observer: Observer, number: int, node: Node, state: BranchState, scope: ExpressionScope
) -> TaskSteps:
    key = f"{state.prefix}{node.pointer}{state.suffix}"
    observer.task_started(TaskStart(node, number, key, scope, state.shared.context))

    def observation(output: Any, then: str, error: WorkflowError | None = None) -> Observation:
        given = scope.raw if scope.input is None else scope.input
        context = state.shared.context
        return Observation(node, number, state.iterations, scope.skipped, given, output, context, then, scope, error)

    try:
        output, then = yield from steps
    except (ExpressionFailed, SchemaViolated, TaskFault) as problem:
        observer.task_ended(observation(None, "", fault_of(problem, node.pointer).error))
        raise
    except GeneratorExit:
        observer.task_cancelled(number)
        raise
    observer.task_ended(observation(output, then))
    return output, then


def run_workflow(program: Program, shared: SharedState) -> Steps:
    """Run a whole workflow, from its last snapshot if there is one; returns its output."""
    restored = snapshot.restore(shared)
    state = BranchState(shared, visits=shared.visits, frame=BlockFrame())
    scope = ExpressionScope(shared.workflow)
    data = None
    if restored is None:
        if program.input_reads_clock:
            scope.started_at_ms = yield Now(state.effect_key("/input", ":now"))
        data = shared.context = _read_input(program, scope)
    steps = run_block(program.block, state, data)
    if program.timeout is None:
        data = yield from steps
    else:
        branch = run_branch(steps, state)
        if restored is not None:
            shared.limit = WithTimeout(branch, **restored["limit"])
        else:
            with _faults_at("/timeout"):
                limit = milliseconds(program.timeout, data, scope)
            shared.limit = WithTimeout(branch, "/timeout#0", limit, "/do")
        (result,) = yield shared.limit
        data = result.output
    scope.context, scope.instance = shared.context, "/output"
    if program.output_reads_clock:
        scope.started_at_ms = yield Now(state.effect_key("/output", ":now"))
    if program.output.transform is None and program.output.schema is None:
        return data
    with _faults_at("/output"):
        if program.output.transform is not None:
            data = program.output.transform(data, scope)
        if program.output.schema is not None:
            program.output.schema(data, scope)
    return data


def _read_input(program: Program, scope: ExpressionScope) -> Any:
    data, read = scope.workflow.raw_input, program.input
    scope.instance = "/input"
    if read.schema is None and read.transform is None:
        return data
    with _faults_at("/input"):
        if read.schema is not None:
            read.schema(data, scope)
        return data if read.transform is None else read.transform(data, scope)


@contextmanager
def _faults_at(instance: str) -> Iterator[None]:
    try:
        yield
    except (ExpressionFailed, SchemaViolated) as problem:
        raise fault_of(problem, instance) from None
