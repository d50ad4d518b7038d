"""Requests that tasks yield to `execution_machine`, and the answers to them."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from flowhook.model import EventFilter, Subscription, WorkflowError
from runner.interpreter.effects import Perform


@dataclass(frozen=True, slots=True)
class Pause:
    """Let other executions run. Answered with None."""


@dataclass(frozen=True, slots=True)
class Now:
    """Read the clock. Answered with Unix milliseconds, which are journaled."""

    key: str


@dataclass(slots=True)
class Sleep:
    """Wait for a duration; answered with its end in Unix ms, fixed and journaled at once so that no crash delays it."""

    key: str  # of the two journal entries: the deadline, and the end of the wait
    milliseconds: int  # shortest wait
    spread: int = 0  # upper bound of a random addition, in milliseconds
    # why what failed is tried again after the wait; None: the wait is not for a retry
    error: WorkflowError | None = None
    tries: int = 0  # how often that was tried so far
    follows: bool = False  # see `flowhook.model.Retry`
    ended_early: bool = False  # set at the end: whether that came before its time


class Directed(NamedTuple):
    """What a task returns that takes another directive than its `then`."""

    output: Any
    then: str


@dataclass(frozen=True, slots=True)
class BranchResult:
    """Result of a branch. `ends`: a task in it had the directive `end`."""

    output: Any
    ends: bool = False


@dataclass(frozen=True, slots=True)
class RunBranches:
    """Run branches concurrently. Answered with the list of their results, in order.

    A fault in one branch cancels the others and is raised. A branch that `ends` cancels the others, too, and is the
    answer, a list of one.
    """

    branches: Sequence[Steps]  # generators, not started, each of which returns a `BranchResult`
    # the first branch without a fault is the answer, a list of one; if all fault, the last fault is raised
    compete: bool = False


@dataclass(slots=True)
class WithTimeout:
    """Run one branch with a timeout. Answered with a list of its one result."""

    branch: Steps  # generator, not started, that returns a `BranchResult`
    key: str  # of the journal entries, as for `Sleep`
    milliseconds: int  # the timeout; when it expires, the branch is cancelled and a timeout error raised
    instance: str  # JSON Pointer of the part that the timeout applies to
    # the deadline in Unix milliseconds, once fixed; preset where the journal no longer has it
    until_ms: int | None = None

    def saved(self) -> dict[str, Any]:
        """Return all but the branch, as JSON."""
        names = ("key", "milliseconds", "instance", "until_ms")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True)
class ReceivedEvent:
    """A received event, as CloudEvents in JSON. `callback`: received by a callback of the flow rather than emitted."""

    event: Mapping[str, Any]
    callback: bool


@dataclass(frozen=True, slots=True)
class Listen:
    """Wait for an event. Answered with `ReceivedEvent`.

    Callbacks and emitted events have separate keys, so that nothing that a flow emits can pass for a callback. The
    request for the next event uses the same keys again.
    """

    key: str  # common prefix of these keys
    filters: tuple[EventFilter, ...]  # alternatives; at least one

    @property
    def subscriptions(self) -> tuple[Subscription, ...]:
        """Subscriptions for the router: at most one for emitted events and one for callbacks."""
        parts = ((f"{self.key}:{kind}", callback) for kind, callback in (("event", False), ("callback", True)))
        chosen = ((key, tuple(each for each in self.filters if each.callback is callback)) for key, callback in parts)
        return tuple(Subscription(key, filters) for key, filters in chosen if filters)


@dataclass(frozen=True, slots=True)
class AwaitCompletion:
    """Wait for the end of another execution. Answered with an `EffectResult`."""

    key: str
    execution_id: str

    @property
    def subscriptions(self) -> tuple[Subscription, ...]:
        return (Subscription(self.key, execution_id=self.execution_id),)


@dataclass(frozen=True, slots=True)
class GivenOutput:
    """Take the output that a replay gave to a task, from the held results. Answered with an `EffectResult`."""

    key: str


ExternalRequest = Perform | Now | Sleep | WithTimeout | Listen | AwaitCompletion | GivenOutput
"""Requests that are answered from outside."""

Request = ExternalRequest | Pause | RunBranches
Steps = Generator[Request, Any, Any]  # yields requests, receives the answers, returns a result

TaskSteps = Generator[Request, Any, tuple[Any, str]]
"""Steps of one task; returns its output and its final flow directive."""

PAUSE: Final = Pause()
