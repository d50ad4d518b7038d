"""Mutable state of an execution: shared, per branch, and per block."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from flowhook.model import WorkflowError
from runner.interpreter.errors import ExpressionFailed, SchemaViolated, TaskFault, fault_of
from runner.interpreter.execution_context import ExecutionContext
from runner.interpreter.journal import Journal
from runner.interpreter.lifecycle_events import LifecycleEmitter
from runner.interpreter.nodes import Node
from runner.interpreter.requests import BranchResult, Request, Steps, TaskSteps, WithTimeout
from runner.interpreter.scope import ExpressionScope
from runner.interpreter.tracing import Observer

_LOOP: Final = "[]"

Evaluate = Callable[[Any, ExpressionScope, Any], tuple[Any, str]]
"""Takes the node of a task, its scope and its input; returns the output and the flow directive."""

Execute = Callable[[Any, "BranchState", ExpressionScope, Any, Any], Steps]
"""Takes node, state of the block, scope, input, and progress in a snapshot or None; the steps return the output."""

Extend = Callable[[TaskSteps, Node, "BranchState", ExpressionScope, dict[str, Any] | None], TaskSteps]
"""Wraps the steps of a task that has extensions; the last argument is its state in a snapshot, or None."""


class TaskHandlers(NamedTuple):
    """The implementations of all kinds of tasks."""

    evaluate: Mapping[type[Node], Evaluate]  # by class of node, for the kinds that only evaluate expressions
    execute: Mapping[type[Node], Execute]  # by class of node, for all other kinds
    extend: Extend  # for tasks that have extensions


@dataclass(slots=True)
class SharedState:
    """State that all branches of an execution share."""

    workflow: ExecutionContext
    journal: Journal
    handlers: TaskHandlers
    observer: Observer | None = None  # called with each task that ends
    emitter: LifecycleEmitter | None = None  # emits lifecycle events; None: there are no subscribers
    # whether something happens at the start or the end of tasks: there is an observer or an emitter, or a replay gave a
    # task its output
    is_observed: bool = False
    context: Any = None  # `$context`; branches that export change it one after another
    tasks: int = 0  # number of tasks started so far
    # number of visits to each place outside of loops and functions
    visits: dict[str, int] = field(default_factory=dict)
    limit: WithTimeout | None = None  # timeout of the workflow, while it runs
    # frames of a snapshot whose blocks have not resumed yet, the outermost first
    resuming: list[dict[str, Any]] = field(default_factory=list)

    def update_observed(self) -> None:
        observed = self.observer is not None or self.emitter is not None
        self.is_observed = observed or bool(self.journal.given_outputs)


@dataclass(slots=True)
class TaskProgress:
    """State that a running task needs to resume."""

    input: Any  # its transformed input
    began_ms: int  # its start in Unix milliseconds, if it requested the time; else 0
    limit: WithTimeout | None = None  # its timeout
    progress: Callable[[], Any] | None = None  # returns the progress that is specific to the kind of task, as JSON


@dataclass(slots=True)
class BlockFrame:
    """Progress within a block; with the frames around it, all that is needed to resume without concurrent branches."""

    parent: BlockFrame | None = None  # of the enclosing block
    position: int = 0  # position of the next or the running task
    data: Any = None  # raw input of that task
    running: TaskProgress | None = None  # state that it needs to resume, once it is running
    extended: dict[str, Any] | None = None  # its extensions, whose `after` blocks are still to run; see `extensions`
    number: int = 0  # its number among all tasks that the execution runs


@dataclass(slots=True)
class BranchState:
    """State of one branch of an execution."""

    shared: SharedState
    # variables that enclosing tasks define for expressions, besides the DSL's own arguments
    variables: Mapping[str, Any] | None = None
    iterations: tuple[int, ...] = ()  # indexes of the enclosing loops
    # number of visits to each place in this iteration or function; others have keys of their own. For iterations that
    # have ended, a place with `[]` appended has the highest number in any of them.
    visits: dict[str, int] = field(default_factory=dict)
    prefix: str = ""  # prefix of all keys: within a function, the call
    suffix: str = ""  # suffix of all places in keys: the indexes of the enclosing loops
    # one function for each enclosing `try`, which returns whether it catches an error
    catchers: tuple[Callable[[WorkflowError], bool], ...] = ()
    competing: bool = False  # whether the flow may continue although this branch faults
    # None: another branch runs concurrently, or the block cannot resume from a snapshot
    frame: BlockFrame | None = None
    ending: bool = False  # whether a task had the directive `end`: all enclosing tasks complete, and no task follows
    last_directive: str = ""  # flow directive of the last task that ran in the block

    @property
    def catchable(self) -> bool:
        """Whether the flow may continue although an effect fails."""
        return self.competing or bool(self.catchers)

    def is_caught(self, error: WorkflowError) -> bool:
        return any(catches(error) for catches in self.catchers)

    def nested(self, **changes: Any) -> BranchState:
        return replace(self, frame=None if self.frame is None else BlockFrame(self.frame), **changes)

    def set_progress(self, report: Callable[[], Any]) -> None:
        if self.frame is not None and self.frame.running is not None:
            self.frame.running.progress = report

    def visits_before(self, pointer: str) -> dict[str, int]:
        """Return the highest numbers of visits to places in a loop, before the loop starts again."""
        before = {place: times for place, times in self.visits.items() if place.endswith(_LOOP)}
        return {place.removesuffix(_LOOP): times for place, times in before.items() if place.startswith(f"{pointer}/")}

    @contextmanager
    def iteration(self, inner: BranchState, index: int, visits: Mapping[str, int]) -> Iterator[None]:
        """Use `inner` as the state of an iteration of a loop, with earlier `visits` to places in it."""
        inner.iterations = (*self.iterations, index)
        inner.suffix = f"{self.suffix}[{index}]"
        inner.visits = dict(visits)
        try:
            yield
        finally:
            for place, times in inner.visits.items():
                known = self.visits.get(place + _LOOP, 0)
                self.visits[place + _LOOP] = max(known, times)

    def visit(self, pointer: str, what: str = "") -> int:
        """Count a visit to a place; returns the number of visits before."""
        place = pointer + what
        visits = self.visits.get(place, 0)
        self.visits[place] = visits + 1
        return visits

    def effect_key(self, pointer: str, what: str = "") -> str:
        """Return the key of the next effect or wait at `pointer`: `/do/1/announce#0`, `/do/2/pause#0:wait`."""
        return f"{self.prefix}{pointer}{self.suffix}#{self.visit(pointer, what)}{what}"


def run_branch(
    steps: Generator[Request, Any, Any], state: BranchState, instance: str = ""
) -> Generator[Request, Any, BranchResult]:
    """Run steps as a branch: failures become faults at `instance`, and the result says whether the branch `ends`."""
    try:
        output = yield from steps
    except (ExpressionFailed, SchemaViolated, TaskFault) as problem:
        raise fault_of(problem, instance) from None
    return BranchResult(output, state.ending)
