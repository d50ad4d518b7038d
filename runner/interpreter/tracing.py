"""Observation of tasks for people who try out a flow, or look at a past execution; not used in production."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from flowhook.model import WorkflowError
from runner.interpreter.nodes import Node
from runner.interpreter.scope import ExpressionScope


@dataclass(frozen=True, slots=True)
class TaskStart:
    """A task that is about to start."""

    node: Node
    number: int  # ordinal among all task runs of the execution, from 1
    key: str  # its pointer with the indexes of the enclosing loops; within a function, after the key of its call
    # of its expressions; `raw` is its input before `input.from`, `input` the one after it, once evaluated
    scope: ExpressionScope
    context: Any  # `$context` before it


@dataclass(frozen=True, slots=True)
class Observation:
    """A task that has just ended."""

    node: Node
    number: int  # see `TaskStart`
    iterations: tuple[int, ...]  # indexes of the enclosing loops, the outermost first
    skipped: bool  # whether its condition was not true; then the output is the input
    input: Any  # its input, after `input.from` if that was evaluated
    output: Any  # its output, after `output.as`; None when it faulted
    context: Any  # `$context` after it
    then: str  # its final flow directive: `continue`, `exit`, `end` or the name of a task; empty when it faulted
    scope: ExpressionScope  # of its expressions
    error: WorkflowError | None = None


class Observer(Protocol):
    """Called with each task; must not change values. An exception it raises ends the run, past every `try`."""

    def task_started(self, started: TaskStart) -> None:
        """Take note of a task that is about to start, or resumes from a snapshot."""
        ...

    def task_ended(self, seen: Observation) -> None:
        """Take note of a task that has ended; not called for one that is cancelled."""
        ...

    def task_cancelled(self, number: int) -> None:
        """Take note of a task that was cancelled, or whose execution was given up; see `TaskStart` for its number."""
        ...
