"""What tasks ask of the machine that runs them: what `tasks` and its kin yield, and `run` answers."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from flowhook.model import EventFilter, Subscription
from runner.interpreter.effects import Perform


@dataclass(frozen=True, slots=True)
class Pause:
    """Let other executions run. Answered with None."""


@dataclass(frozen=True, slots=True)
class Now:
    """Look at the clock. Answered with Unix milliseconds, which are journaled."""

    key: str


@dataclass(frozen=True, slots=True)
class Sleep:
    """Let time pass. Answered with the Unix milliseconds at which it was over.

    The moment is fixed, and journaled, when this is asked, so that a crash does not lengthen the wait.

    Attributes:
        key: of the two entries in the journal: when it will be over, that it was over.
        milliseconds: at least.
        spread: up to so many milliseconds more, by chance.
    """

    key: str
    milliseconds: int
    spread: int = 0


@dataclass(frozen=True, slots=True)
class Branch:
    """What a branch comes to. `ends`: a task in it said `end`."""

    output: Any
    ends: bool = False


@dataclass(frozen=True, slots=True)
class Fork:
    """Run branches concurrently. Answered with the outputs of all, in order.

    A fault of one cancels the others and is thrown. A branch that `ends` cancels the others, too, and is the answer.

    Attributes:
        branches: generators, not started, each of which returns a `Branch`.
        compete: the first that does not fault is the answer, a list of one; when all fault, the last fault is thrown.
    """

    branches: Sequence[Steps]
    compete: bool = False


@dataclass(slots=True)
class Within:
    """Run one branch for a limited time. Answered with a list of what it comes to.

    Attributes:
        branch: generator, not started, that returns a `Branch`.
        key: of the entries in the journal, as for `Sleep`.
        milliseconds: that it may take; then it is cancelled and a timeout thrown.
        instance: JSON Pointer of what is limited.
        until_ms: when that is, once fixed; given, where the journal has it no more.
    """

    branch: Steps
    key: str
    milliseconds: int
    instance: str
    until_ms: int | None = None

    def saved(self) -> dict[str, Any]:
        """Return all but the branch, as JSON."""
        return {
            "key": self.key,
            "milliseconds": self.milliseconds,
            "instance": self.instance,
            "until_ms": self.until_ms,
        }


@dataclass(frozen=True, slots=True)
class Arrived:
    """An event that came: CloudEvents in JSON. `callback`: by one of the flow's callbacks, and not emitted."""

    event: Mapping[str, Any]
    callback: bool


@dataclass(frozen=True, slots=True)
class Listen:
    """Wait for an event. Answered with what `Arrived`.

    Callbacks and emitted events are asked for under keys of their own: so nothing that a flow emits can pass for a
    callback. Asked again, for the next event, the keys are the same.

    Attributes:
        key: what these keys begin with.
        filters: alternatives; at least one.
    """

    key: str
    filters: tuple[EventFilter, ...]

    @property
    def subscriptions(self) -> tuple[Subscription, ...]:
        """What to wait for."""
        parts = ((f"{self.key}:{kind}", callback) for kind, callback in (("event", False), ("callback", True)))
        chosen = ((key, tuple(each for each in self.filters if each.callback is callback)) for key, callback in parts)
        return tuple(Subscription(key, filters) for key, filters in chosen if filters)


@dataclass(frozen=True, slots=True)
class AwaitEnd:
    """Wait for the end of another execution. Answered with a `Result`."""

    key: str
    execution_id: str

    @property
    def subscriptions(self) -> tuple[Subscription, ...]:
        """What to wait for."""
        return (Subscription(self.key, execution_id=self.execution_id),)


Request = Perform | Pause | Now | Sleep | Fork | Within | Listen | AwaitEnd
Steps = Generator[Request, Any, Any]
"""Yields requests, is sent the answers, returns what it comes to."""

TaskSteps = Generator[Request, Any, tuple[Any, str]]
"""The steps of one task; returns its output and the directive it was left by."""

PAUSE: Final = Pause()
