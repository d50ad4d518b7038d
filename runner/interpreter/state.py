"""What an execution carries from task to task."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

from flowhook.model import WorkflowError
from runner.interpreter.errors import ExpressionFailed, Kind, SchemaViolated, TaskFault, fault
from runner.interpreter.journal import Journal
from runner.interpreter.observing import Observer
from runner.interpreter.requests import Branch, Request, Within
from runner.interpreter.scope import Workflow
from runner.interpreter.telling import Teller

_LOOP: Final = "[]"


@dataclass(slots=True)
class Shared:
    """What all branches of an execution have in common.

    Attributes:
        observer: is told of each task when it ends.
        teller: tells others of tasks, if anybody wants to know.
        attended: there is an observer or a teller.
        context: `$context`; branches that export change it one after another.
        tasks: that ran so far.
        visits: how often each place outside of loops and functions was come to.
        limit: the timeout of the workflow, while it runs.
        resuming: what a snapshot holds of the lists of tasks that are to go on, the outermost first, until they do.
    """

    workflow: Workflow
    journal: Journal
    observer: Observer | None = None
    teller: Teller | None = None
    attended: bool = False
    context: Any = None
    tasks: int = 0
    visits: dict[str, int] = field(default_factory=dict)
    limit: Within | None = None
    resuming: deque[dict[str, Any]] = field(default_factory=deque)


@dataclass(slots=True)
class Inside:
    """What a task that is under way needs to go on.

    Attributes:
        input: what it works on.
        began_ms: when it began, where it asked.
        limit: its timeout.
        progress: tells how far it has come in what is its own, as JSON.
    """

    input: Any
    began_ms: int
    limit: Within | None = None
    progress: Callable[[], Any] | None = None


@dataclass(slots=True)
class Frame:
    """How far a list of tasks has come: with those around it, it is all there is to go on, if nothing runs beside them.

    Attributes:
        parent: of the list around it.
        position: of the task that comes next, or is under way.
        data: what that is given.
        inside: what it needs to go on, if it is under way.
        extended: by what it is extended, and is yet to be followed; see `extending`.
        number: the how manieth it is of all tasks that the execution runs.
    """

    parent: Frame | None = None
    position: int = 0
    data: Any = None
    inside: Inside | None = None
    extended: dict[str, Any] | None = None
    number: int = 0


@dataclass(slots=True)
class State:
    """What one branch of an execution has.

    Attributes:
        variables: what enclosing tasks define for expressions, beside the DSL's own arguments.
        iterations: indexes of the enclosing loops.
        visits: how often each place was come to, in this iteration or function: others have keys of their own. Of the
            iterations that have ended their places are there with `[]`: how often at the most in any of them.
        prefix: of all keys: the call, within a function.
        suffix: of all places in keys: the indexes of the enclosing loops.
        catchers: of the enclosing tasks, whether they catch an error.
        competing: whether the flow may go on although this branch faults.
        frame: of the list of tasks that it is for; None: something runs beside it, or it can't go on from a snapshot.
        ending: a task said `end`: whatever encloses it completes, and nothing follows.
        left_by: directive of the last task that ran in the list that it is for.
    """

    shared: Shared
    variables: Mapping[str, Any] | None = None
    iterations: tuple[int, ...] = ()
    visits: dict[str, int] = field(default_factory=dict)
    prefix: str = ""
    suffix: str = ""
    catchers: tuple[Callable[[WorkflowError], bool], ...] = ()
    competing: bool = False
    frame: Frame | None = None
    ending: bool = False
    left_by: str = ""

    @property
    def catchable(self) -> bool:
        """Whether the flow may go on although an effect fails."""
        return self.competing or bool(self.catchers)

    def is_caught(self, error: WorkflowError) -> bool:
        """Whether an enclosing task catches an error."""
        return any(catches(error) for catches in self.catchers)

    def inside(self, **changes: Any) -> State:
        """Return the state for a part of the flow that differs in something."""
        return replace(self, **changes)

    def nested(self, **changes: Any) -> State:
        """Return the state for a list of tasks within the present task."""
        return replace(self, frame=None if self.frame is None else Frame(self.frame), **changes)

    def progress(self, tell: Callable[[], Any]) -> None:
        """Have the present task say how far it has come when a snapshot is taken."""
        if self.frame is not None and self.frame.inside is not None:
            self.frame.inside.progress = tell

    def visits_before(self, pointer: str) -> dict[str, int]:
        """Return how often places in a loop were come to at the most, before the loop begins once more."""
        before = {place: times for place, times in self.visits.items() if place.endswith(_LOOP)}
        return {place.removesuffix(_LOOP): times for place, times in before.items() if place.startswith(f"{pointer}/")}

    @contextmanager
    def iteration(self, inner: State, index: int, visits: Mapping[str, int]) -> Iterator[None]:
        """Have `inner` be the state of an iteration of a loop, in which places were come to so often before."""
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
        """Come to a place; returns how often that was the case before."""
        place = pointer + what
        visits = self.visits.get(place, 0)
        self.visits[place] = visits + 1
        return visits

    def effect_key(self, pointer: str, what: str = "") -> str:
        """Return the identity of what is about to happen at `pointer`: `/do/1/announce#0`, `/do/2/pause#0:wait`."""
        return f"{self.prefix}{pointer}{self.suffix}#{self.visit(pointer, what)}{what}"


def branch(steps: Generator[Request, Any, Any], state: State, instance: str = "") -> Generator[Request, Any, Branch]:
    """Make a branch of what tasks do: what fails in it is a fault at `instance`, and it says whether it `ends`."""
    try:
        output = yield from steps
    except ExpressionFailed as problem:
        raise fault(Kind.EXPRESSION, str(problem), instance=instance) from None
    except SchemaViolated as problem:
        raise fault(Kind.VALIDATION, str(problem), instance=instance) from None
    except TaskFault as problem:
        raise problem.at(instance) from None
    return Branch(output, state.ending)
